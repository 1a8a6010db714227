"""The plugin netlab-bandwidth behind a main plugin: real qdiscs, and what then passes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.plugins.bandwidth import commands as bandwidth
from netlab.cni.plugins.request import Request
from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.configurations import NetworkList
from netlab.cni.spec import errors
from netlab.cni.spec.versions import VERSIONS
from netlab.net.netlink import Message, NetlinkError
from netlab.net.route.addresses import addresses_of
from netlab.net.route.socket import Rtnetlink
from netlab.net.route.traffic_control import TrafficControl
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import GO_PLUGINS, PLUGINS, runtime, sandboxes

pytestmark = pytest.mark.usefixtures("way")

RATE = 1_000_000
"""Bits per second: hundreds of times less than a veth pair lets pass."""
BURST = 80_000
AMOUNT = 1 << 21
"""Bytes, for which the rate would take longer than anybody waits here."""
PATIENCE = 15
"""Seconds."""
INGRESS = {"ingressRate": RATE, "ingressBurst": BURST}
EGRESS = {"egressRate": RATE, "egressBurst": BURST}


def chain(tmp_path: Path, limits: dict[str, Any], *, version: str = "1.1.0", **main: Any) -> NetworkList:
    net = pods.network(tmp_path, version=version, **main)
    behind = {"type": "netlab-bandwidth", "capabilities": {"bandwidth": True}, **limits}
    return dataclasses.replace(net, plugins=(*net.plugins, behind))


def execute(command: str, config: dict[str, Any], *wrapper: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CNI_COMMAND": command,
        "CNI_PATH": str(PLUGINS),
        **variables,
    }
    stdin = json.dumps({"cniVersion": "1.1.0", "name": "net", "type": "netlab-bandwidth", **config})
    return subprocess.run(
        [*wrapper, PLUGINS / "netlab-bandwidth"],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def check(
    net: NetworkList, netns: str, container: str, result: dict[str, Any], version: str = "1.1.0", **runtime: Any
) -> str:
    """What the plugin answers to CHECK of a network's container; nothing if all is well."""
    config = {**net.plugins[1], "prevResult": result, "cniVersion": version, "runtimeConfig": runtime}
    return execute("CHECK", config, CNI_CONTAINERID=container, CNI_IFNAME="eth0", CNI_NETNS=netns).stdout


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def state() -> list[str]:
    """Links, qdiscs and filters of this namespace, without counters."""
    names = sorted(pods.links())
    qdiscs = re.sub(r"direct_packets_stat \d+", "", run("tc", "qdisc", "show"))
    filters = [run("tc", "filter", "show", "dev", name, at) for name in names for at in ("root", "ingress")]
    return [*names, qdiscs, *filters]


def devices() -> set[str]:
    return {name for name in pods.links() if name.startswith("bwp")}


def send(client: str | None, server: str | None, address: str, *, limited: bool) -> None:
    """Send by TCP as fast as it goes, and see that it is as fast as a limit allows, or faster.

    A machine that is busy with other things cannot make it fail: a limit holds for however long it takes, and what is
    to be faster has a hundred times as long as it needs.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def entered(netns: str | None, make: Callable[[], socket.socket]) -> socket.socket:
        if netns is None:
            return make()
        with pods.inside(netns):
            return make()

    started = time.monotonic()
    listener = entered(server, lambda: socket.create_server((address, 0), family=family))
    port = listener.getsockname()[1]
    sender = entered(client, lambda: socket.create_connection((address, port), timeout=10))
    receiver, _ = listener.accept()
    received, elapsed = 0, 0.0
    with listener, sender, receiver:
        sender.setblocking(False)
        receiver.setblocking(False)
        while received < AMOUNT and elapsed < PATIENCE and not (limited and received and elapsed > 0.5):
            ready, writable, _ = select.select([receiver], [sender], [], 0.1)
            if ready:
                received += len(receiver.recv(1 << 16))
            if writable:
                sender.send(bytes(1 << 16))
            elapsed = time.monotonic() - started
    if limited:
        # Beyond the burst, one packet of up to 64 KiB may pass before its time has come.
        assert 0 < received < RATE / 8 * elapsed + BURST / 8 + 2 * 65536
    else:
        assert received >= AMOUNT


MAINS: dict[str, dict[str, Any]] = {
    "netlab": {},
    "routed": {"mode": "routed", "bridge": None, "isDefaultGateway": None, "hairpinMode": None},
    "Go bridge": {"type": "bridge"},
}


@pytest.mark.parametrize("main", MAINS)
@isolated
def test_each_direction_has_its_own_limit(tmp_path: Path, main: str) -> None:
    if main == "Go bridge" and not (GO_PLUGINS / "bridge").exists():
        pytest.skip("containernetworking-plugins not installed")
    keys = dict(MAINS[main])
    if main == "routed":
        keys["ipam"] = {
            **pods.network(tmp_path).plugins[0]["ipam"],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        }
    if main == "Go bridge":
        keys["ipam"] = {"type": "host-local", "dataDir": str(tmp_path), "ranges": pods.FAMILIES["dual"]}
    before = pods.links()
    node = give_node_addresses()
    for limits, ingress, egress in ((INGRESS, True, False), (EGRESS, False, True)):
        net, subject = chain(tmp_path, limits, version="1.0.0", **keys), runtime(tmp_path)
        with sandboxes(1) as (one,):
            attachment = Attachment("one", one)
            result = subject.add(net, attachment)
            for ip, outside in zip(result["ips"], node, strict=True):
                send(None, one, ip["address"].split("/")[0], limited=ingress)
                send(one, None, outside, limited=egress)
            subject.delete(net, attachment)
        assert pods.links() <= before | {"cni0"}


def give_node_addresses() -> list[str]:
    """Addresses of the node's that are in no container's subnet: IPv4, IPv6."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    run("ip", "address", "add", "2001:db8::1/128", "dev", "lo", "nodad")
    return ["192.0.2.1", "2001:db8::1"]


def node_address(peer: str) -> str:
    """The node's own address on the way to a container."""
    family = "-6" if ":" in peer else "-4"
    (route,) = json.loads(run("ip", "-json", family, "route", "get", peer))
    return str(route["prefsrc"])


@pytest.mark.parametrize("key", ["unshapedSubnets", "shapedSubnets"])
@isolated
def test_subnets_are_those_of_the_other_side(tmp_path: Path, key: str) -> None:
    """The node has an address in the subnets, and one outside."""
    limits = INGRESS | EGRESS | {key: ["10.244.1.0/24", "fd00:10:244:1::/64"]}
    net, subject = chain(tmp_path, limits), runtime(tmp_path)
    with sandboxes(1) as (one,):
        result = subject.add(net, Attachment("one", one))
        for ip, outside in zip(result["ips"], give_node_addresses(), strict=True):
            inside = node_address(ip["address"].split("/")[0])
            send(one, None, inside, limited=(key == "shapedSubnets"))
            send(one, None, outside, limited=(key == "unshapedSubnets"))
            # What comes back to the container, from the same two addresses.
            send(None, one, ip["address"].split("/")[0], limited=(key == "shapedSubnets"))
        assert check(net, one, "one", result) == ""


@pytest.mark.parametrize("version", VERSIONS)
@isolated
def test_the_result_passes_with_the_device_appended(tmp_path: Path, version: str) -> None:
    net, subject = chain(tmp_path, {}, version=version), runtime(tmp_path)
    plain = dataclasses.replace(net, plugins=net.plugins[:1])
    limited = {"bandwidth": INGRESS | EGRESS}
    with sandboxes(2) as (one, two):
        unlimited = subject.add(net, Attachment("one", one))
        assert [item["name"] for item in unlimited["interfaces"]][-1] == "eth0"
        assert devices() == set()
        attachment = Attachment("two", two, runtime_config=limited)
        result = subject.add(net, attachment)
        assert result["cniVersion"] == version
        device = result["interfaces"][-1]
        assert {device["name"]} == devices()
        assert len(result["interfaces"]) == len(unlimited["interfaces"]) + 1
        assert result["ips"][0]["interface"] == unlimited["ips"][0]["interface"]
        if version != "0.3.1":
            assert check(net, two, "two", result, version, **limited) == ""
        for _ in range(2):
            subject.delete(net, attachment)
            assert devices() == set()
        subject.delete(plain, Attachment("one", one))


BREAKAGES = {
    "tc qdisc delete dev HOST root": "link HOST: its qdisc htb 1: is missing",
    "tc qdisc replace dev HOST root handle 2: htb default 7": "link HOST: its qdisc htb 1: is missing",
    "tc qdisc del dev HOST root; tc qdisc add dev HOST root handle 1: htb": "default class is 1:0, not 1:30",
    "tc class change dev HOST classid 1:30 htb rate 2mbit burst 10kb": "rate is 2000000 bit/s, not 1000000",
    "tc class change dev HOST classid 1:30 htb rate 1mbit burst 20kb": "burst is 163840 bits, not 80000",
    "tc filter delete dev HOST parent 1: pref 16": "link HOST: its filter for 192.0.2.0/24 is missing",
    "tc filter add dev HOST parent 1: protocol ip u32 match u32 0 0 flowid 1:": "has 3 filters, not 2",
    "tc qdisc delete dev HOST ingress": "the filter that redirects what it receives to DEVICE is missing",
    "tc filter delete dev HOST parent ffff:": "the filter that redirects what it receives to DEVICE is missing",
    "ip link delete DEVICE": "link DEVICE: missing",
    "ip link set DEVICE down": "link DEVICE: down",
    "ip link set DEVICE alias other": "link DEVICE: it is not the ifb device of net/one/eth0",
    "tc qdisc delete dev DEVICE root": "link DEVICE: its qdisc htb 1: is missing",
}


@isolated
def test_check_names_what_was_broken(tmp_path: Path) -> None:
    limits = INGRESS | EGRESS | {"unshapedSubnets": ["192.0.2.0/24", "2001:db8::/32"]}
    net, subject = chain(tmp_path, limits), runtime(tmp_path)
    with sandboxes(1) as (one,):
        attachment = Attachment("one", one)
        for command, said in BREAKAGES.items():
            result = subject.add(net, attachment)
            names = {"HOST": result["interfaces"][1]["name"], "DEVICE": result["interfaces"][-1]["name"]}

            def named(text: str, names: dict[str, str] = names) -> str:
                return text.replace("HOST", names["HOST"]).replace("DEVICE", names["DEVICE"])

            assert check(net, one, "one", result) == ""
            for part in named(command).split(";"):
                run(*part.split())
            answer = json.loads(check(net, one, "one", result))
            assert answer["code"] == errors.CHECK_FAILED
            assert named(said) in answer["msg"], command
            if "alias" in command:
                run(*named("ip link delete DEVICE").split())  # nobody's now
            subject.delete(net, attachment)


def succeeds(add: Callable[[], object]) -> bool:
    """Whether it does; if not, it fails as it was made to."""
    try:
        add()
    except NetlinkError as error:
        if error.strerror == "injected":
            return False
        raise
    return True


def fail(message: Message) -> None:
    raise NetlinkError(5, "injected", message.subject)


def interfere(
    monkeypatch: pytest.MonkeyPatch, number: int, how: Callable[[Message], None], *, whole: bool
) -> list[str]:
    """From now on, call `how` in the place of what is sent to the kernel as that number; returns what is sent.

    It counts messages, or with `whole` what is sent at once.
    """
    sent: list[str] = []

    def send(self: TrafficControl, *messages: Message, tolerate: int = 0) -> list[bool]:
        done = []
        for group in [messages] if whole else [(message,) for message in messages]:
            sent.append(group[0].subject)
            if len(sent) == number + 1:
                how(group[0])
            done += Rtnetlink.send(self, *group, tolerate=tolerate)
        return done

    monkeypatch.setattr(TrafficControl, "send", send)
    return sent


@isolated
def test_an_add_that_fails_at_any_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = chain(tmp_path, INGRESS | EGRESS | {"unshapedSubnets": ["192.0.2.0/24"]})
    plain = dataclasses.replace(net, plugins=net.plugins[:1])
    with sandboxes(1) as (one,):
        result = runtime(tmp_path).add(plain, Attachment("one", one))
        environment = {"CNI_CONTAINERID": "one", "CNI_IFNAME": "eth0", "CNI_NETNS": one, "CNI_PATH": str(PLUGINS)}
        config = {**net.plugins[1], "name": "net", "cniVersion": "1.1.0", "prevResult": result}
        before = state()
        for fatal in range(100):
            steps = interfere(monkeypatch, fatal, fail, whole=False)
            if succeeds(lambda: bandwidth.add(Request("ADD", environment, config))):
                break
            assert state() == before, steps
        assert len(steps) == fatal > 10


@isolated
def test_a_delete_cleans_up_after_an_add_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, subject = chain(tmp_path, INGRESS | EGRESS), runtime(tmp_path)
    plain = dataclasses.replace(net, plugins=net.plugins[:1])
    environment = {"CNI_CONTAINERID": "one", "CNI_IFNAME": "eth0", "CNI_PATH": str(PLUGINS)}
    status = 9
    for fatal in range(100):
        with sandboxes(1) as (one,):
            result = subject.add(plain, Attachment("one", one))
            config = {**net.plugins[1], "name": "net", "cniVersion": "1.1.0", "prevResult": result}
            request = Request("ADD", {**environment, "CNI_NETNS": one}, config)
            child = os.fork()
            if child == 0:
                # As a SIGKILL would: the kernel works off what was sent at once.
                interfere(monkeypatch, fatal, lambda _: os._exit(9), whole=True)
                bandwidth.add(request)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert execute("DEL", config, **environment).stdout == ""
            assert devices() == set()
            subject.delete(plain, Attachment("one", one))
            assert pods.links() == {"lo", "cni0"}
        if status == 0:
            break
    assert status == 0
    assert fatal > 5


@isolated
def test_somebody_elses_qdisc_is_kept(tmp_path: Path) -> None:
    net, subject = chain(tmp_path, INGRESS | EGRESS), runtime(tmp_path)
    plain = dataclasses.replace(net, plugins=net.plugins[:1])
    with sandboxes(1) as (one,):
        result = subject.add(plain, Attachment("one", one))
        host = result["interfaces"][1]["name"]
        variables = {"CNI_CONTAINERID": "one", "CNI_IFNAME": "eth0", "CNI_NETNS": one}
        config = {**net.plugins[1], "prevResult": result}
        for theirs in (["root", "handle", "1:", "htb"], ["ingress"]):
            run("tc", "qdisc", "add", "dev", host, *theirs)
            before = state()
            answer = json.loads(execute("ADD", config, **variables).stdout)
            assert answer["code"] == errors.KERNEL_REFUSED
            assert f"of {host}: File exists" in answer["msg"]
            assert state() == before
            run("tc", "qdisc", "del", "dev", host, theirs[0])


@isolated
def test_an_interface_without_a_host_end_is_refused(tmp_path: Path) -> None:
    runtime(tmp_path)
    with sandboxes(1) as (one,):
        run("ip", "link", "add", "veth-other", "type", "veth", "peer", "name", "veth-peer")
        with pods.inside(one):
            run("ip", "link", "add", "eth0", "type", "ifb")
        variables = {"CNI_CONTAINERID": "one", "CNI_NETNS": one}
        result = {"interfaces": [{"name": "veth-other"}, {"name": "eth0", "sandbox": one}]}
        before = state()
        for ifname, code, said in (
            ("eth0", errors.INVALID_CONFIG, "prevResult.interfaces: no host end of eth0"),
            ("eth7", errors.INVALID_ENVIRONMENT, "CNI_IFNAME: eth7 is not in"),
        ):
            answer = execute("ADD", {**INGRESS, "prevResult": result}, CNI_IFNAME=ifname, **variables)
            error = json.loads(answer.stdout)
            assert (error["code"], error["msg"][: len(said)]) == (code, said)
        assert state() == before


@isolated
def test_a_delete_needs_nothing_but_names(tmp_path: Path) -> None:
    net, subject = chain(tmp_path, EGRESS), runtime(tmp_path)
    with sandboxes(1) as (one,):
        subject.add(net, Attachment("one", one))
    (device,) = devices()
    variables = {"CNI_CONTAINERID": "one", "CNI_IFNAME": "eth0"}
    run("ip", "link", "set", device, "alias", "somebody else's")
    assert execute("DEL", {}, **variables).returncode == 0
    assert devices() == {device}
    run("ip", "link", "set", device, "alias", "net/one/eth0")
    for config in ({}, EGRESS, {"prevResult": {"interfaces": "nonsense"}}):
        assert execute("DEL", config, **variables).stdout == ""
        assert devices() == set()


@isolated
def test_garbage_is_what_the_runtime_does_not_know(tmp_path: Path) -> None:
    net, subject = chain(tmp_path, EGRESS), runtime(tmp_path)
    other = dataclasses.replace(chain(tmp_path, EGRESS), name="net-other")
    with sandboxes(3) as (one, two, three):
        kept = [subject.add(net, Attachment("one", one)), subject.add(other, Attachment("three", three))]
        subject.add(net, Attachment("two", two))
        run("ip", "link", "add", "bwp0", "type", "ifb")
        expected = {result["interfaces"][-1]["name"] for result in kept} | {"bwp0"}
        assert len(devices()) == 4
        valid = [{"containerID": "one", "ifname": "eth0"}, {"containerID": "two", "ifname": "eth1"}]
        answer = execute("GC", {"cni.dev/valid-attachments": valid})
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
        assert devices() == expected


@isolated
def test_status_tells_whether_the_kernel_and_the_user_can(tmp_path: Path, way: str) -> None:
    runtime(tmp_path)
    before = state()
    answer = execute("STATUS", INGRESS)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert json.loads(execute("STATUS", {"ingressRate": 1}).stdout)["code"] == errors.INVALID_CONFIG
    if way == "one-shot":
        answer = execute("STATUS", {}, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
        error = json.loads(answer.stdout)
        assert error["code"] == errors.NOT_AVAILABLE
        assert "Operation not permitted; it needs CAP_SYS_ADMIN" in error["msg"]
    assert state() == before


@isolated
def test_the_device_is_marked_with_its_owner_and_has_no_address(tmp_path: Path) -> None:
    with sandboxes(1) as (one,):
        runtime(tmp_path).add(chain(tmp_path, EGRESS), Attachment("one", one))
        kernel = Rtnetlink()
        (device,) = [link for link in kernel.links() if link.kind == "ifb"]
        assert (device.alias, device.mtu) == ("net/one/eth0", 1450)
        assert addresses_of(kernel, device.index) == []
        kernel.close()
