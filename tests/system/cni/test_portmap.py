"""Ports of the node that lead to containers: behind our main plugin and behind Go's, in both ways, by live traffic."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from netlab.cni.plugins import nft
from netlab.cni.plugins.portmap import commands as portmap
from netlab.cni.plugins.portmap import flows, localhost
from netlab.cni.plugins.request import Request
from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.chain import Runtime
from netlab.cni.runtime.configurations import NetworkList, parse_network
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.conntrack.flows import Conntrack
from netlab.net.nftables.socket import Nfnetlink
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import GO_PLUGINS, inside, sandboxes

pytestmark = pytest.mark.usefixtures("way")

NODE = {4: "192.0.2.1", 6: "2001:db8::1"}
OUTSIDE = {4: "192.0.2.9", 6: "2001:db8::9"}
GATEWAY = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
TABLE = "inet netlab_cni_portmap"
TCP: list[dict[str, Any]] = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
UDP: list[dict[str, Any]] = [{"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]

MAINS: dict[str, dict[str, Any]] = {
    "netlab": {"type": "netlab", "ipam": {"type": "netlab-ipam"}},
    "go": {"type": "bridge", "isGateway": True, "ipam": {"type": "host-local"}},
}


def chain(
    tmp_path: Path,
    main: str = "netlab",
    version: str = "1.1.0",
    name: str = "net",
    first: dict[str, Any] | None = None,
    **keys: Any,
) -> NetworkList:
    """A main plugin and netlab-portmap; `first` are keys of the former, `keys` the latter's."""
    plugin = MAINS[main]
    ipam = {**plugin["ipam"], "dataDir": str(tmp_path / "ipam"), "ranges": pods.FAMILIES["dual"]}
    if main == "go" and not (GO_PLUGINS / "bridge").exists():
        pytest.skip("the Go plugins are not installed (containernetworking-plugins)")
    before = {"bridge": "cni0", "isDefaultGateway": True, "hairpinMode": True, **plugin, "ipam": ipam, **(first or {})}
    if "mode" in before:
        before = {key: before[key] for key in ("type", "ipam", "mode", "ipMasq")}
    second = {"type": "netlab-portmap", "capabilities": {"portMappings": True}, **keys}
    text = json.dumps({"cniVersion": version, "name": name, "plugins": [before, second]})
    return parse_network(text.encode(), "test")


def attachment(netns: str, mappings: list[dict[str, Any]], container: str = "one") -> Attachment:
    return Attachment(container, netns, runtime_config={"portMappings": mappings})


def node(outside: str | None = None) -> None:
    """Addresses of the node, and a host outside that it is connected to."""
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")
        ip.link("add", ifname="uplink", kind="veth", peer={"ifname": "eth0"})
        index, peer = (ip.link_lookup(ifname=name)[0] for name in ("uplink", "eth0"))
        for address, length in ((NODE[4], 24), (NODE[6], 64)):
            ip.addr("add", index=index, address=address, prefixlen=length, flags=2)
        ip.link("set", index=index, state="up")
        if outside is None:
            return
        with open(outside) as file:  # noqa: PTH123
            ip.link("set", index=peer, net_ns_fd=file.fileno())
    with inside(outside), IPRoute() as ip:
        index = ip.link_lookup(ifname="eth0")[0]
        for address, length in ((OUTSIDE[4], 24), (OUTSIDE[6], 64)):
            ip.addr("add", index=index, address=address, prefixlen=length, flags=2)
        ip.link("set", index=index, state="up")


def inside_or_here(netns: str | None) -> contextlib.AbstractContextManager[None]:
    return inside(netns) if netns else contextlib.nullcontext()


@contextlib.contextmanager
def listening(netns: str | None, port: int, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """A server of both families there."""
    with inside_or_here(netns):
        server = socket.socket(socket.AF_INET6, kind)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", port))
        if kind != socket.SOCK_DGRAM:
            server.listen()
    with server:
        server.settimeout(10)
        yield server


def seen(client: str | None, address: str, port: int, server: socket.socket) -> str:
    """Connect by TCP; the client's address as the server sees it."""
    with inside_or_here(client), socket.create_connection((address, port), timeout=10) as connection:
        accepted, peer = server.accept()
        with accepted:
            accepted.sendall(b"x")
            assert connection.recv(1) == b"x"
        return str(peer[0]).removeprefix("::ffff:")


def refused(client: str | None, address: str, port: int) -> bool:
    with inside_or_here(client):
        try:
            socket.create_connection((address, port), timeout=0.5).close()
        except OSError:
            return True
        return False


def table() -> str:
    """The table as nft lists it; empty if there is none."""
    return subprocess.run(["nft", "list", "table", *TABLE.split()], check=False, capture_output=True, text=True).stdout


def owners() -> set[str]:
    """Those whose elements are there."""
    return set(re.findall(r'comment "([^"]*)"', table()))


def fails(call: Callable[[], object], code: int, said: str) -> None:
    with pytest.raises(CniError, match=said) as caught:
        call()
    assert caught.value.code == code, caught.value


# --- Traffic -------------------------------------------------------------------------------------------------------

CHAINS = [("netlab", version) for version in ("0.3.1", "0.4.0", "1.0.0", "1.1.0")] + [("go", "0.4.0"), ("go", "1.0.0")]


@pytest.mark.parametrize("bridged", [True, False], ids=["bridges call netfilter", "bridges do not"])
@pytest.mark.parametrize(("main", "version"), CHAINS)
@isolated
def test_everybody_reaches_a_host_port(tmp_path: Path, main: str, version: str, bridged: bool) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path, main, version)
    for name in ("iptables", "ip6tables"):
        with contextlib.suppress(FileNotFoundError):  # br_netfilter is not loaded: they do not
            Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}").write_text(str(int(bridged)))
    with sandboxes(3) as (outside, one, two):
        node(outside)
        result = subject.add(net, attachment(one, TCP))
        assert result["cniVersion"] == version
        assert [ip["address"] for ip in result["ips"]] == ["10.244.1.2/24", "fd00:10:244:1::2/64"]
        subject.add(net, attachment(two, [], "two"))
        with listening(one, 80) as server:
            for family in (4, 6):
                here, masqueraded = NODE[family], GATEWAY[family]
                assert seen(outside, here, 8080, server) == OUTSIDE[family], "its address is not translated"
                assert seen(None, here, 8080, server) == here
                for pod in (one, two):
                    for dialled in (here, masqueraded):
                        assert seen(pod, dialled, 8080, server) == masqueraded
            assert seen(None, "127.0.0.1", 8080, server) == GATEWAY[4]
            assert seen(None, "127.1.2.3", 8080, server) == GATEWAY[4]
            assert seen(two, "10.244.1.2", 80, server) == "10.244.1.3", "what did not dial a host port is left alone"
        if version != "0.3.1":
            subject.check(net, attachment(one, TCP))
        subject.delete(net, attachment(one, TCP))
        subject.delete(net, attachment(one, TCP))
        assert owners() == set()
        assert refused(outside, NODE[4], 8080)


@pytest.mark.parametrize("first", [{}, {"mode": "routed"}], ids=["bridge", "routed"])
@isolated
def test_beside_the_main_plugins_masquerade(tmp_path: Path, first: dict[str, Any]) -> None:
    """What comes in by a host port keeps its source; what the container sends out is the node's."""
    subject, net = pods.runtime(tmp_path), chain(tmp_path, first={**first, "ipMasq": True})
    with sandboxes(2) as (outside, one):
        node(outside)
        subject.add(net, attachment(one, TCP))
        with listening(one, 80) as server, listening(outside, 80) as world:
            for family in (4, 6):
                assert seen(outside, NODE[family], 8080, server) == OUTSIDE[family]
                assert seen(one, OUTSIDE[family], 80, world) == NODE[family]
                assert seen(one, NODE[family], 8080, server)
            assert seen(None, "127.0.0.1", 8080, server)
        subject.check(net, attachment(one, TCP))
        subject.delete(net, attachment(one, TCP))


@isolated
def test_ports_of_the_loopback_addresses_stay_the_nodes_own(tmp_path: Path) -> None:
    """With route_localnet a container could reach what listens at 127.0.0.1 (CVE-2020-8558)."""
    subject = pods.runtime(tmp_path)
    with sandboxes(1) as (one,):
        node()
        subject.add(chain(tmp_path), attachment(one, TCP))
        with inside(one):
            subprocess.run(["ip", "route", "add", "127.9.9.9/32", "via", GATEWAY[4]], check=True)
        with socket.create_server(("127.9.9.9", 7000)):
            assert refused(one, "127.9.9.9", 7000)
            assert not refused(None, "127.9.9.9", 7000)


@isolated
def test_the_nodes_own_server_keeps_the_port_at_the_other_loopback_address(tmp_path: Path) -> None:
    subject = pods.runtime(tmp_path)
    with sandboxes(1) as (one,):
        node()
        subject.add(chain(tmp_path), attachment(one, TCP))
        with listening(None, 8080) as server:
            assert seen(None, "::1", 8080, server) == "::1"


@isolated
def test_host_addresses_limit_and_come_first(tmp_path: Path) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    mapping = TCP[0]
    with sandboxes(3) as (outside, one, two):
        node(outside)
        subject.add(net, attachment(one, [{**mapping, "hostIP": NODE[4]}, {**mapping, "hostIP": "127.0.0.1"}]))
        subject.add(net, attachment(two, [{**mapping, "hostIP": "0.0.0.0"}], "two"))
        with listening(one, 80) as first, listening(two, 80) as second:
            assert seen(outside, NODE[4], 8080, first) == OUTSIDE[4]
            assert seen(one, NODE[4], 8080, first) == GATEWAY[4]
            assert seen(None, "127.0.0.1", 8080, first) == GATEWAY[4]
            assert seen(None, GATEWAY[4], 8080, second) == GATEWAY[4]
            assert refused(outside, NODE[6], 8080)


@pytest.mark.parametrize(
    ("keys", "from_outside"),
    [({"masqAll": True}, GATEWAY), ({"markMasqBit": 21}, OUTSIDE), ({"backend": "iptables"}, OUTSIDE)],
    ids=str,
)
@isolated
def test_masquerading(tmp_path: Path, keys: dict[str, Any], from_outside: dict[int, str]) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path, **keys)
    with sandboxes(3) as (outside, one, two):
        node(outside)
        subject.add(net, attachment(one, TCP))
        subject.add(net, attachment(two, [], "two"))
        with listening(one, 80) as server:
            assert {family: seen(outside, NODE[family], 8080, server) for family in NODE} == from_outside
            assert seen(two, NODE[4], 8080, server) == GATEWAY[4]
        subject.check(net, attachment(one, TCP))


@isolated
def test_networks_with_marks_of_their_own_share_the_table(tmp_path: Path) -> None:
    subject = pods.runtime(tmp_path)
    nets = [chain(tmp_path, markMasqBit=bit) for bit in (13, 21)]
    with sandboxes(2) as paths:
        node()
        ports = [[{**TCP[0], "hostPort": port}] for port in (8080, 8081)]
        for net, path, mappings in zip(nets, paths, ports, strict=True):
            subject.add(net, attachment(path, mappings, f"c{mappings[0]['hostPort']}"))
        for net, path, mappings in zip(nets, paths, ports, strict=True):
            subject.check(net, attachment(path, mappings, f"c{mappings[0]['hostPort']}"))
            with listening(path, 80) as server:
                assert seen(path, NODE[6], mappings[0]["hostPort"], server) == GATEWAY[6]


@isolated
def test_without_snat_nobody_is_masqueraded(tmp_path: Path) -> None:
    subject = pods.runtime(tmp_path)
    with sandboxes(2) as (outside, one):
        node(outside)
        subject.add(chain(tmp_path, snat=False), attachment(one, TCP))
        with listening(one, 80) as server:
            assert seen(outside, NODE[6], 8080, server) == OUTSIDE[6]
        assert "jump mark-" not in table()
        assert Path("/proc/sys/net/ipv4/conf/cni0/route_localnet").read_text() == "0\n"


@isolated
def test_a_host_port_wins_over_a_service_of_the_same_port(tmp_path: Path) -> None:
    """kube-proxy's chains are at dstnat, and may have been there first."""
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    service = "type nat hook prerouting priority dstnat; tcp dport { 8080, 8081 } dnat to 10.244.1.3:80;"
    with sandboxes(3) as (outside, one, two):
        node(outside)
        subprocess.run(["nft", f"table ip kube-proxy {{ chain services {{ {service} }}; }}"], check=True)
        subject.add(net, attachment(one, TCP))
        subject.add(net, attachment(two, [], "two"))
        with listening(one, 80) as first, listening(two, 80) as second:
            assert seen(outside, NODE[4], 8080, first) == OUTSIDE[4]
            assert seen(outside, NODE[4], 8081, second) == OUTSIDE[4]


@pytest.mark.parametrize("family", [4, 6])
@isolated
def test_a_udp_client_that_never_falls_silent_follows_the_port(tmp_path: Path, family: int) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    with sandboxes(3) as (outside, one, two):
        node(outside)
        # Tracking begins with the first table that translates.
        subject.add(net, attachment(one, TCP, "other"))
        subject.delete(net, attachment(one, TCP, "other"))
        with inside(outside):
            client = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(10)
        client.connect((NODE[family], 5353))
        with client:
            client.send(b"to nobody")
            with pytest.raises(ConnectionRefusedError):
                client.recv(10)
            for netns, container in ((one, "one"), (two, "two")):
                subject.add(net, attachment(netns, UDP, container))
                with listening(netns, 53, socket.SOCK_DGRAM) as server:
                    client.send(b"ping")
                    data, peer = server.recvfrom(10)
                    assert data == b"ping"
                    server.sendto(b"pong", peer)
                    assert client.recv(10) == b"pong"
                subject.delete(net, attachment(netns, UDP, container))


@isolated
def test_a_udp_flow_through_the_node_to_the_same_port_elsewhere_goes_on(tmp_path: Path) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    with sandboxes(2) as (outside, one):
        node(outside)
        with inside(outside):
            subprocess.run(["ip", "route", "add", "10.244.1.0/24", "via", NODE[4]], check=True)
        subject.add(net, attachment(one, TCP))
        with listening(outside, 5353, socket.SOCK_DGRAM) as server, inside(one):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with client:
                client.sendto(b"x", (OUTSIDE[4], 5353))
                server.recvfrom(10)
        with Conntrack() as conntrack:
            assert len(conntrack.udp_flows(socket.AF_INET, 5353)) == 1
            flows.forget([(32, b"", 5353), (128, b"", 5353)])
            assert len(conntrack.udp_flows(socket.AF_INET, 5353)) == 1
            flows.forget([(32, socket.inet_aton(OUTSIDE[4]), 5353)])
            assert conntrack.udp_flows(socket.AF_INET, 5353) == []


@isolated
def test_sctp_is_mapped(tmp_path: Path) -> None:
    subject, mapping = pods.runtime(tmp_path), [{"hostPort": 9, "containerPort": 7, "protocol": "SCTP"}]
    with sandboxes(1) as (one,):
        node()
        subject.add(chain(tmp_path), attachment(one, mapping))
        assert re.search(r'sctp \. 9 comment "net/one/eth0" : 10\.244\.1\.2 \. 7', table())


# --- Conflicts, failures, clean-up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted", [TCP, [*UDP, *TCP], [{**TCP[0], "hostIP": "::"}], [{**TCP[0], "containerPort": 1}]], ids=len
)
@isolated
def test_a_port_that_another_container_has_is_refused_by_its_name(tmp_path: Path, wanted: list[dict[str, Any]]) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    with sandboxes(2) as (one, two):
        node()
        subject.add(net, attachment(one, TCP))
        before = table()
        path = rf"portMappings\[{len(wanted) - 1}\]: host port 8080/tcp of any IPv[46] address"
        fails(
            lambda: subject.add(net, attachment(two, wanted, "two")),
            errors.ALREADY_RESERVED,
            rf": runtimeConfig\.{path} is taken by net/one/eth0",
        )
        assert table() == before
        with inside(two):
            assert pods.links() == {"lo"}
        subject.delete(net, attachment(one, TCP))
        subject.add(net, attachment(two, wanted, "two"))


@isolated
def test_the_number_of_chains_and_rules_does_not_grow(tmp_path: Path) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)

    def terse() -> str:
        return subprocess.run(["nft", "-t", "list", "ruleset"], check=True, capture_output=True, text=True).stdout

    with sandboxes(2) as (one, two):
        node()
        subject.add(net, attachment(one, TCP))
        before = terse()
        subject.add(net, attachment(two, [{**TCP[0], "hostPort": 81}, *UDP], "two"))
        assert terse() == before


@isolated
def test_a_flushed_ruleset_is_made_again_by_the_next_add(tmp_path: Path) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    with sandboxes(2) as (one, two):
        node()
        subject.add(net, attachment(one, TCP))
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        fails(lambda: subject.check(net, attachment(one, TCP)), errors.CHECK_FAILED, "netlab_cni_portmap: missing")
        subject.add(net, attachment(two, TCP, "two"))
        with listening(two, 80) as server:
            assert seen(None, NODE[4], 8080, server) == NODE[4]
        subject.delete(net, attachment(one, TCP))
        assert owners() == {"net/two/eth0"}


@isolated
def test_a_delete_needs_neither_the_namespace_nor_the_result_nor_the_mappings(tmp_path: Path) -> None:
    net = chain(tmp_path)
    with sandboxes(1) as (one,):
        node()
        pods.runtime(tmp_path).add(net, attachment(one, TCP))
    assert owners() == {"net/one/eth0"}
    pods.runtime(tmp_path / "another cache").delete(net, Attachment("one", ""))
    assert owners() == set()


@isolated
def test_garbage_is_what_no_attachment_of_this_network_owns(tmp_path: Path) -> None:
    subject = pods.runtime(tmp_path)
    nets = [chain(tmp_path), chain(tmp_path, name="net2")]
    with sandboxes(3) as paths:
        node()
        for number, (path, net) in enumerate(zip(paths, [*nets, nets[0]], strict=True)):
            subject.add(net, attachment(path, [{**TCP[0], "hostPort": 8080 + number}], f"c{number}"))
    assert owners() == {"net/c0/eth0", "net2/c1/eth0", "net/c2/eth0"}
    config = {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "netlab-portmap",
        "cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}],
    }
    assert execute("GC", config) == (0, {})
    assert owners() == {"net2/c1/eth0", "net/c2/eth0"}


def execute(command: str, config: dict[str, Any], **variables: str) -> tuple[int, Any]:
    """Call the executable itself: its exit status and its answer."""
    done = subprocess.run(
        [pods.PLUGINS / "netlab-portmap"],
        input=json.dumps(config).encode(),
        env={"CNI_COMMAND": command, "CNI_PATH": str(pods.PLUGINS), "PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
@isolated
def test_without_mappings_the_previous_result_passes_and_nothing_is_done(tmp_path: Path, version: str) -> None:
    pods.runtime(tmp_path)
    result: dict[str, Any] = {
        "cniVersion": version,
        "interfaces": [{"name": "dummy0", "mac": "0a:58:00:00:00:01"}],
        "ips": [{"address": "192.0.2.7/24"} | ({"version": "4"} if version < "1.0.0" else {})],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    config = {"cniVersion": version, "name": "net", "type": "netlab-portmap", "prevResult": result}
    with sandboxes(1) as (one,):
        variables = {"CNI_CONTAINERID": "one", "CNI_NETNS": one, "CNI_IFNAME": "eth0"}
        assert execute("ADD", config, **variables) == (0, result)
        del config["prevResult"]
        status, answer = execute("ADD", config, **variables)
        assert (status, answer["code"]) == (1, errors.INVALID_CONFIG)
        assert answer["msg"].startswith("prevResult: missing")
        assert execute("DEL", config, **variables) == (0, {})
    assert table() == ""


@isolated
def test_status_says_whether_ports_can_be_mapped(tmp_path: Path) -> None:
    pods.runtime(tmp_path)
    config: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "netlab-portmap"}
    assert execute("STATUS", config) == (0, {})
    status, answer = execute("STATUS", {**config, "conditionsV4": ["-d", "192.0.2.1"]})
    assert (status, answer["code"]) == (1, errors.UNSUPPORTED_FIELD)


BROKEN: dict[str, tuple[str, str]] = {
    "a mapping": ("delete element {} ports4 {{ tcp . 8080 }}", "8080/tcp of any IPv4 .* of map ports4 is missing"),
    "a mapping led elsewhere": (
        "delete element {0} ports6 {{ tcp . 8080 }}; add element {0} ports6 "
        '{{ tcp . 8080 comment "net/one/eth0" : fd00::9 . 80 }}',
        "8080/tcp of any IPv6 .* of map ports6 differs",
    ),
    "a mapping of somebody else": (
        "delete element {0} ports4 {{ tcp . 8080 }}; add element {0} ports4 "
        '{{ tcp . 8080 comment "net/two/eth0" : 10.244.1.2 . 80 }}',
        "map ports4 has it as net/two/eth0's",
    ),
    "the clients to masquerade": ("flush map {} clients-of-ports4", "element of map clients-of-ports4 is missing"),
    "the rule that masquerades": ("flush chain {} masquerade-13", "chain masquerade-13: 'meta mark .*' is missing"),
    "a chain": ("flush chain {0} output; delete chain {0} output", "chain output is missing"),
    "the guard": ("flush chain {} guard", "chain guard: 'ip daddr 127.0.0.0/8 .*' is missing"),
    "a rule too many": ("add rule {} guard drop", "chain guard: it has extra"),
    "the table": ("delete table {}", "netlab_cni_portmap: missing"),
}


@pytest.mark.parametrize("what", BROKEN)
@isolated
def test_check_names_what_is_broken(tmp_path: Path, what: str) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    commands, said = BROKEN[what]
    with sandboxes(1) as (one,):
        node()
        subject.add(net, attachment(one, TCP))
        subject.check(net, attachment(one, TCP))
        subprocess.run(["nft", commands.format(TABLE)], check=True)
        fails(lambda: subject.check(net, attachment(one, TCP)), errors.CHECK_FAILED, said)
        subject.delete(net, attachment(one, TCP))


@isolated
def test_check_names_the_sysctl(tmp_path: Path) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    with sandboxes(1) as (one,):
        node()
        subject.add(net, attachment(one, TCP))
        Path("/proc/sys/net/ipv4/conf/cni0/route_localnet").write_text("0")
        fails(lambda: subject.check(net, attachment(one, TCP)), errors.CHECK_FAILED, "cni0/route_localnet: not 1")


@pytest.mark.parametrize("step", ["table", "record", "elements", "sysctl", "flows"])
@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=repr)
@isolated
def test_an_add_that_fails_at_any_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    steps: dict[str, tuple[Any, str]] = {
        "table": (nft, "nft"),
        "record": (Nfnetlink, "commit"),
        "elements": (Nfnetlink, "commit"),
        "sysctl": (localhost, "allow"),
        "flows": (flows, "forget"),
    }
    where, name = steps[step]
    original = getattr(where, name)
    calls: list[object] = []

    def fail(*arguments: Any, **options: Any) -> object:
        if calls:  # the undo
            return original(*arguments, **options)
        calls.append(arguments)
        raise failure

    result = {"ips": [{"address": "10.244.1.2/24"}, {"address": "fd00::2/64"}]}
    config = {"name": "net", "cniVersion": "1.1.0", "prevResult": result, "runtimeConfig": {"portMappings": UDP}}
    environment = {"CNI_CONTAINERID": "one", "CNI_IFNAME": "eth0"}
    if step == "elements":  # then the table is there, and its record
        portmap.add(Request("ADD", environment, config))
        portmap.delete(Request("DEL", environment, config))
    monkeypatch.setattr(where, name, fail)
    with pytest.raises(type(failure)):
        portmap.add(Request("ADD", environment, config))
    assert len(calls) == 1
    assert owners() == set()
    assert portmap.add(Request("ADD", environment, config)) == result
    assert owners() == {"net/one/eth0"}


@isolated
def test_adds_that_race_for_the_first_table_and_for_a_port(tmp_path: Path) -> None:
    subject, net = pods.runtime(tmp_path), chain(tmp_path)
    with sandboxes(6) as paths, concurrent.futures.ThreadPoolExecutor(6) as pool:
        node()
        wanted = [
            attachment(path, [{**TCP[0], "hostPort": 8000 + number // 2}], f"c{number}")
            for number, path in enumerate(paths)
        ]

        def refusal(one: Attachment, subject: Runtime = subject) -> int:
            try:
                subject.add(net, one)
            except CniError as error:
                return error.code
            return 0

        refusals = list(pool.map(refusal, wanted))
        assert set(refusals) <= {0, errors.ALREADY_RESERVED, errors.TRY_AGAIN}
        won = [code == 0 for code in refusals]
        assert [won[0] + won[1], won[2] + won[3], won[4] + won[5]] == [1, 1, 1]
        assert owners() == {f"net/c{number}/eth0" for number in range(6) if won[number]}
