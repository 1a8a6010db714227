"""netlab trace in labs of every network, with both proxies and both families: what was foretold is what is seen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.e2e.conftest import Netlab, eventually

_POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}}}}}
spec:
  nodeName: {node}
  containers: [{{name: server, image: agnhost, args: [netexec]}}]
---
"""
_SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: {type}
  {policy}
  ipFamilyPolicy: PreferDualStack
  selector: {{app: {app}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: echo, port: 81, protocol: UDP, targetPort: 8081}}]
---
"""
_OBJECTS = "".join(
    [
        _POD.format(name="client", app="client", node="node-1"),
        _POD.format(name="near", app="near", node="node-1"),
        _POD.format(name="far", app="far", node="node-2"),
        _SERVICE.format(name="near", app="near", type="ClusterIP", policy=""),
        _SERVICE.format(name="far", app="far", type="NodePort", policy=""),
        _SERVICE.format(name="local", app="far", type="NodePort", policy="externalTrafficPolicy: Local"),
        _SERVICE.format(name="empty", app="nobody", type="ClusterIP", policy=""),
    ]
)
_LABS = [("vxlan", "nftables"), ("routed", "iptables"), ("bridge", "nftables")]
_FAMILIES = ["IPv4", "IPv6"]

any_lab = pytest.mark.parametrize("lab", _LABS[:1], indirect=True, ids="-".join)
"""For what has nothing to do with the kind of network."""


class Lab:
    """A lab with the objects above."""

    def __init__(self, netlab: Netlab, network: str) -> None:
        self.netlab = netlab
        self.network = network
        self.name = network
        self._pods = {pod["metadata"]["name"]: pod["status"] for pod in self._get("pods")}
        self._services = {service["metadata"]["name"]: service["spec"] for service in self._get("services")}

    def _get(self, kind: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.netlab.json("get", kind, "--name", self.name)["items"]
        return listed

    def target(self, text: str, family: str) -> str:
        """A destination: `{POD}`, `{svc/NAME}`, `{node-N}` stand for their addresses, `{NAME port}` for a NodePort."""

        def address(match: re.Match[str]) -> str:
            name = match[1]
            if name.endswith(" port"):
                return str(self._services[name.removesuffix(" port")]["ports"][0]["nodePort"])
            if name.startswith("svc/"):
                listed = self._services[name.removeprefix("svc/")]["clusterIPs"]
            elif name.startswith("node-"):
                number = name.removeprefix("node-")
                listed = [f"192.0.2.{number}", f"2001:db8::{number}"]
            else:
                listed = [each["ip"] for each in self._pods[name]["podIPs"]]
            found: str = listed[_FAMILIES.index(family)]
            return f"[{found}]" if family == "IPv6" and f"{match[0]}:" in text else found

        return re.sub(r"{([^}]*)}", address, text)

    def trace(self, status: int, source: str, destination: str, *options: str) -> dict[str, Any]:
        """What a trace tells; that it ends so."""
        done = self.netlab.run("trace", "--name", self.name, source, destination, *options, "-o", "json")
        assert done.returncode == status, (
            f"{source} -> {destination} {options}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def on(self, node: str, *argv: str) -> None:
        """Run a command on a node."""
        self.netlab.ok("exec", "--name", self.name, f"node/{node}", "--", *argv)

    def sandbox(self) -> str:
        """The network of the one pod of node-2, as nsenter(1) takes it."""
        (name,) = self.netlab.ok("exec", "--name", self.name, "node/node-2", "--", "ls", "/run/netns").split()
        return f"--net=/run/netns/{name}"


@pytest.fixture(scope="module", params=_LABS, ids="-".join)
def lab(netlab: Netlab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    network, proxy = request.param
    netlab.ok("up", "--name", network, "--nodes", "2", "--network", network, "--proxy", proxy, "--dual-stack")
    netlab.ok("apply", "--name", network, "-f", "-", stdin=_OBJECTS)

    def settled() -> bool:
        pods = netlab.json("get", "pods", "--name", network)["items"]
        ready = [c["status"] for pod in pods for c in pod["status"].get("conditions", []) if c["type"] == "Ready"]
        return ready == ["True"] * 3 and netlab.run("proxy", "diff", "--name", network).returncode == 0

    eventually(settled)
    yield Lab(netlab, network)
    netlab.ok("down", "--name", network)


def _by(found: dict[str, Any], way: str = "hops") -> list[str]:
    return [text for hop in found[way] for text in hop["by"]]


_DELIVERED = [
    ("client", "{near}:8080", "tcp", "default/near"),
    ("client", "{far}:8080", "tcp", "default/far"),
    ("client", "{far}:8081", "udp", "default/far"),
    ("client", "{far}", "icmp", "default/far"),
    ("client", "{svc/near}:80", "tcp", "default/near"),
    ("client", "{svc/far}:80", "tcp", "default/far"),
    ("client", "{svc/far}:81", "udp", "default/far"),
    ("near", "{svc/near}:80", "tcp", "default/near"),
    ("node/node-1", "{svc/far}:80", "tcp", "default/far"),
    ("outside", "{node-1}:{far port}", "tcp", "default/far"),
    ("outside", "{node-2}:{local port}", "tcp", "default/far"),
    ("client", "{node-2}", "icmp", "node-2"),
]


@pytest.mark.parametrize("family", _FAMILIES)
def test_a_packet_that_arrives_is_seen_where_it_was_foretold(lab: Lab, family: str) -> None:
    for source, destination, protocol, owner in _DELIVERED:
        found = lab.trace(0, source, lab.target(destination, family), "--proto", protocol)
        assert found["agrees"]
        assert not found["differences"]
        assert found["verdict"]["outcome"] == "delivered"
        first, last, back = found["hops"][0], found["hops"][-1], found["reply"][-1]
        assert last["owner"] == owner, destination
        assert (back["owner"], back["interface"]) == (first["owner"], first["interface"])
        # A node's own packets are translated before their first tap.
        assert source.startswith("node/") or (back["src"], back["sport"], back["dst"], back["dport"]) == (
            first["dst"], first["dport"], first["src"], first["sport"],
        )  # fmt: skip
        times = [hop["nanoseconds"] for hop in (*found["hops"], *found["reply"])]
        assert times[0] == 0
        assert times == sorted(times)


@pytest.mark.parametrize("family", _FAMILIES)
def test_who_translated_a_packet_is_named(lab: Lab, family: str) -> None:
    found = lab.trace(0, "client", lab.target("{svc/far}:80", family))
    service = "Service default/far:http, internalTrafficPolicy Cluster: one of 1 endpoint"
    assert service in _by(found)
    assert any(rule.startswith("rule of ip") for rule in _by(found))
    assert f"connection tracking of node-1, which undoes: {service}" in _by(found, "reply")
    found = lab.trace(0, "outside", lab.target("{node-1}:{far port}", family))
    assert "Service default/far:http, externalTrafficPolicy Cluster: masqueraded" in _by(found)
    service = "default/far:http"
    for way in (found, found["predicted"][0]):
        translations = [(c["kind"], c["service"]) for hop in way["hops"] for c in hop["changed"] if "NAT" in c["kind"]]
        assert translations == [("DNAT", service), ("SNAT", service)]
        undone = [(c["kind"], c["service"]) for hop in way["reply"] for c in hop["changed"] if "NAT" in c["kind"]]
        assert sorted(undone) == [("un-DNAT", service), ("un-SNAT", service)]
    found = lab.trace(0, "outside", lab.target("{node-2}:{local port}", family))
    assert not any("masqueraded" in text for text in _by(found))
    assert (
        "Service default/near:http, internalTrafficPolicy Cluster: masqueraded, a pod that reaches itself (hairpin)"
        in (_by(lab.trace(0, "near", lab.target("{svc/near}:80", family))))
    )
    tunnels = {
        hop["encapsulation"].partition(" ")[0]
        for hop in lab.trace(0, "client", lab.target("{far}:8080", family))["hops"]
    }
    assert tunnels == ({"", "VXLAN"} if lab.network == "vxlan" else {""})


_LOST = [
    ("client", "{svc/empty}:80", "tcp", "rejected", "node-1", "internalTrafficPolicy Cluster: there are no endpoints"),
    ("client", "{svc/far}:99", "tcp", "rejected", "node-1", "is a Service's address, and it has no port 99/tcp"),
    ("client", "{far}:99", "tcp", "refused", "node-2", "nothing listens at"),
    ("client", "{far}:99", "udp", "refused", "node-2", "nothing listens at"),
    ("outside", "{node-1}:{local port}", "tcp", "dropped", "node-1", "there are endpoints, but none on this node"),
]  # fmt: skip


@pytest.mark.parametrize("family", _FAMILIES)
def test_a_packet_that_is_lost_is_lost_where_and_why_it_was_foretold(lab: Lab, family: str) -> None:
    for source, destination, protocol, outcome, node, reason in _LOST:
        options = ("--proto", protocol, "--timeout", "0.7")
        found = lab.trace(11, source, lab.target(destination, family), *options)
        assert found["agrees"]
        assert (found["verdict"]["outcome"], found["verdict"]["node"]) == (outcome, node), found["verdict"]
        assert reason in found["verdict"]["reason"]


def test_a_packet_that_is_too_large_dies_at_the_link_that_cannot_take_it(lab: Lab) -> None:
    link = {"vxlan": "vxlan0", "routed": "eth0"}.get(lab.network)
    if link is None:
        return  # one segment: no router is there that could say so
    mtu = {"vxlan": 1450, "routed": 1500}[lab.network]
    for protocol, destination in (("icmp", "{far}"), ("udp", "{far}:8081")):
        options = ("--proto", protocol, "--size", "1400")
        lab.trace(0, "client", lab.target(destination, "IPv4"), *options)
        lab.on("node-1", "ip", "link", "set", link, "mtu", "1380")
        try:
            found = lab.trace(11, "client", lab.target(destination, "IPv4"), *options)
        finally:
            lab.on("node-1", "ip", "link", "set", link, "mtu", str(mtu))
        assert found["verdict"]["outcome"] == "rejected"
        assert found["verdict"]["reason"].startswith(f"1400 bytes exceed the MTU 1380 of {link}")
        assert "ICMP packet too big for MTU 1380" in _by(found, "reply")


def test_what_the_kernel_forgets_in_silence_is_told_by_the_state(lab: Lab) -> None:
    source = lab.target("{far}", "IPv4")
    if lab.network == "bridge":
        return  # the node is no router between pods
    to = ("far", lab.target("{client}:8080", "IPv4"), "--timeout", "0.3")
    lab.trace(0, *to[:2])
    lab.on("node-2", "sysctl", "-wq", "net.ipv4.conf.cni0.rp_filter=1")
    lab.on("node-2", "ip", "route", "add", f"{source}/32", "dev", "eth0")
    try:
        found = lab.trace(11, *to)
        # Whom it does not believe, the node does not tell its MAC address either.
        lab.on("node-2", "nsenter", lab.sandbox(), "ip", "neigh", "flush", "dev", "eth0")
        unsent = lab.trace(11, *to)
    finally:
        lab.on("node-2", "ip", "route", "del", f"{source}/32", "dev", "eth0")
        lab.on("node-2", "sysctl", "-wq", "net.ipv4.conf.cni0.rp_filter=0")
    assert found["verdict"]["reason"].startswith("rp_filter 1 of cni0: the route back")
    assert found["hops"][-1]["interface"] == "cni0"
    assert "node-2 does not answer: rp_filter 1 of cni0: the route back" in unsent["verdict"]["reason"]
    assert unsent["hops"] == []
    lab.trace(0, *to[:2])


def test_an_entry_that_is_missing_in_the_fdb_is_named(lab: Lab) -> None:
    if lab.network != "vxlan":
        return
    listed = lab.netlab.ok("exec", "--name", lab.name, "node/node-1", "--", "bridge", "fdb", "show", "dev", "vxlan0")
    mac = next(line.split()[0] for line in listed.splitlines() if "dst 192.0.2.2" in line)
    entry = (mac, "dev", "vxlan0", "dst", "192.0.2.2")
    lab.on("node-1", "bridge", "fdb", "del", *entry)
    try:
        found = lab.trace(11, "client", lab.target("{svc/far}:80", "IPv4"), "--timeout", "0.3")
    finally:
        lab.on("node-1", "bridge", "fdb", "append", *entry, "self", "permanent")
    assert found["verdict"]["reason"].startswith(f"no FDB entry for {mac} on vxlan0")
    assert (found["hops"][-1]["interface"], found["reply"]) == ("vxlan0", [])


def test_a_rule_that_nobody_foretold_is_a_difference_that_names_it(lab: Lab) -> None:
    lab.on(
        "node-2",
        "nft",
        "add table inet mine; add chain inet mine c { type filter hook prerouting priority 0; }; "
        'add rule inet mine c meta l4proto tcp th dport 8080 counter drop comment "closed today"; '
        "add rule inet mine c udp dport 4789 @th,432,32 & 0 == 0 counter accept",
    )
    try:
        found = lab.trace(10, "client", lab.target("{far}:8080", "IPv4"), "--timeout", "0.3")
        line = lab.netlab.fails(
            10, "trace", "--name", lab.name, "client", lab.target("{far}:8080", "IPv4"), "--timeout", "0.3"
        )
    finally:
        lab.on("node-2", "nft", "delete table inet mine")
    assert not found["agrees"]
    assert found["verdict"]["node"] == "node-2"
    assert found["verdict"]["reason"].startswith("rule 'closed today' of inet mine c: ")
    assert line.startswith("netlab: not as predicted: hop ")


def test_a_rule_that_keeps_others_from_translating_is_named(lab: Lab) -> None:
    pod = lab.target("{near}", "IPv4")
    rule = f'ip saddr {pod} ip daddr {pod} snat to {pod} comment "as it is"'
    chain = "type nat hook postrouting priority srcnat - 10;"
    lab.on("node-1", "nft", f"add table ip mine; add chain ip mine c {{ {chain} }}; add rule ip mine c {rule}")
    try:
        line = lab.netlab.fails(10, "trace", "--name", lab.name, "near", "svc/near:http", "--timeout", "0.3")
    finally:
        lab.on("node-1", "nft", "delete table ip mine")
    assert "rule 'as it is' of ip mine c" in line


def test_an_answer_that_finds_no_way_out_is_told_by_the_state(lab: Lab) -> None:
    if lab.network == "bridge":
        return  # one segment: no route is needed
    sandbox = lab.sandbox()
    route = lab.netlab.ok("exec", "--name", lab.name, "far", "--", "ip", "-4", "route", "show", "default").split()
    lab.on("node-2", "nsenter", sandbox, "ip", "route", "del", *route)
    try:
        found = lab.trace(11, "client", lab.target("{far}:8080", "IPv4"), "--timeout", "0.3")
    finally:
        lab.on("node-2", "nsenter", sandbox, "ip", "route", "add", *route)
    assert (found["verdict"]["node"], found["reply"]) == ("node-2", [])
    assert ", but the answer is lost: no route to " in found["verdict"]["reason"]


@any_lab
def test_nothing_stays_behind_and_the_report_is_whole(lab: Lab, tmp_path: Path) -> None:
    page = tmp_path / "trace.html"
    text = lab.netlab.ok("trace", "--name", lab.name, "client", "svc/far:http", "--report", str(page))
    assert text.startswith("pod default/client -> svc/far:http (")
    assert "\n\nreply  " in text
    # On a bridge, what neighbours are known by makes a difference to the way.
    assert re.search(r"\nas predicted(, one of \d+ ways that the state allows)?\n$", text)
    assert page.read_text().startswith("<!DOCTYPE html>")
    drawn = tmp_path / "trace.svg"
    lab.netlab.ok("trace", "--name", lab.name, "client", "svc/far:http", "--report", str(drawn))
    assert ElementTree.fromstring(drawn.read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    for node in ("node-1", "node-2"):
        tables = lab.netlab.ok("exec", "--name", lab.name, f"node/{node}", "--", "nft", "list", "tables")
        assert "netlab-trace" not in tables


_RESTLESS = "while :; do nft 'add table ip restless'; nft 'delete table ip restless'; echo changed; done"


@any_lab
def test_a_probe_that_meets_a_change_is_sent_again_and_says_so(lab: Lab) -> None:
    argv = lab.netlab.argv("exec", "--name", lab.name, "node/node-1", "--", "sh", "-c", _RESTLESS)
    with subprocess.Popen(argv, env=lab.netlab.environment, stdout=subprocess.PIPE, text=True) as restless:
        try:
            assert restless.stdout is not None
            assert restless.stdout.readline() == "changed\n"
            found = lab.trace(11, "client", lab.target("{svc/empty}:80", "IPv4"), "--timeout", "0.3")
        finally:
            restless.terminate()
    again = [note for note in found["notes"] if note.endswith("it was sent again")]
    assert len(again) == 2
    assert all("the rules of node-1 changed" in note for note in found["notes"])
    assert found["notes"][-1].endswith("try again when the lab has settled")
    assert lab.trace(11, "client", lab.target("{svc/empty}:80", "IPv4"), "--timeout", "0.3")["notes"] == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("fa",), ["far"]),
        (("n",), ["node/node-1", "node/node-2", "near"]),
        (("client", "svc/f"), ["svc/far:80"]),
        (("--proto", "udp", "client", "svc/f"), ["svc/far:81"]),
        (("--proto", "icmp", "client", "svc/f"), ["svc/far"]),
        (("client", "o"), ["outside"]),
        (("--name", "none", "cl"), []),
    ],
)
@any_lab
def test_ends_are_completed(lab: Lab, words: tuple[str, ...], offered: list[str]) -> None:
    line = ["netlab", "trace", "--name", lab.name, *words]
    asked = {"_NETLAB_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
    program = Path(sys.executable).with_name("netlab")
    done = subprocess.run([program], env=lab.netlab.environment | asked, capture_output=True, text=True, check=False)
    assert [each.partition(",")[2] for each in done.stdout.split()] == offered


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (3, ("nobody", "svc/far:80"), "there is no pod 'nobody' in namespace default"),
        (3, ("client", "svc/faar:80"), "there is no Service 'faar' in namespace default; did you mean far?"),
        (3, ("client", "local:80"), "there is no pod 'local' in namespace default; did you mean svc/local?"),
        (2, ("client", "10.96.0.1"), "must be ADDRESS:PORT"),
        (2, ("client", "far"), "which port? Write far:PORT, or in `netlab trace` --proto icmp"),
        (2, ("203.0.113.9", "svc/near:80"), "nothing in the lab has this address"),
        (2, ("client", "far:8080", "--size", "1000"), "TCP chooses the sizes of its packets itself"),
        (2, ("client", "far:8080", "--proto", "icmp"), "ICMP has no ports"),
        (3, ("--name", "none", "client", "far:80"), "there is no lab 'none'"),
    ],
)
@any_lab
def test_what_cannot_be_traced_is_said_in_one_line(
    lab: Lab, status: int, arguments: tuple[str, ...], message: str
) -> None:
    assert message in lab.netlab.fails(status, "trace", "--name", lab.name, *arguments)
