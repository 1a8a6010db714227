"""Mode `bridge`: the keys of the Go plugin, one by one, and what they do to links and packets."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.chain import Runtime
from netlab.cni.runtime.configurations import NetworkList
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.route import links
from netlab.net.route.links import Link
from netlab.net.route.socket import Rtnetlink
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import inside, runtime, sandboxes

pytestmark = pytest.mark.usefixtures("way")

MAC = "02:00:00:00:00:42"


def network(data_dir: Path, **more: Any) -> NetworkList:
    return pods.network(data_dir, **{"version": "1.1.0", "hairpinMode": False, **more})


def link(name: str) -> Link:
    with Rtnetlink() as kernel:
        found = kernel.link(name)
    assert found is not None
    return found


def host_end(result: dict[str, Any]) -> Link:
    return link(result["interfaces"][1]["name"])


def works(net: NetworkList, subject: Runtime, one: str, **more: Any) -> dict[str, Any]:
    """What ADD answers, when CHECK agrees."""
    attachment = Attachment("one", one, **more)
    result = subject.add(net, attachment)
    subject.check(net, attachment)
    return result


@pytest.mark.parametrize("ipam", [{}, None], ids=["empty", "none"])
@isolated
def test_without_ipam_it_is_layer_2_only(tmp_path: Path, ipam: dict[str, Any] | None) -> None:
    net, subject = network(tmp_path, ipam=ipam, isDefaultGateway=False), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        result = works(net, subject, one)
        assert (result.get("ips", []), result.get("routes", [])) == ([], [])
        subject.add(net, Attachment("two", two))
        for path, address in ((one, "192.0.2.1"), (two, "192.0.2.2")):
            with inside(path):
                assert link("eth0").flags & links.IFF_UP
                pods.ip("address", "add", f"{address}/24", "dev", "eth0")
        assert pods.reaches(one, two, "192.0.2.2") == "192.0.2.1"
        subject.delete(net, Attachment("one", one))
        subject.delete(net, Attachment("two", two))
    assert pods.links() == {"lo", "cni0"}


@isolated
def test_addresses_that_nobody_can_give_are_refused(tmp_path: Path) -> None:
    net = network(tmp_path, ipam={}, args={"cni": {"ips": ["10.0.0.2"]}})
    with (
        sandboxes(1) as (one,),
        pytest.raises(CniError, match=r"ips: \['10.0.0.2'\]: there are no addresses without ipam.type") as caught,
    ):
        runtime(tmp_path).add(net, Attachment("one", one))
    assert caught.value.code == errors.UNSUPPORTED_FIELD


@isolated
def test_a_container_interface_that_is_to_stay_down(tmp_path: Path) -> None:
    net = network(tmp_path, ipam={}, isDefaultGateway=False, disableContainerInterface=True)
    with sandboxes(1) as (one,):
        works(net, runtime(tmp_path), one)
        with inside(one):
            assert not link("eth0").flags & links.IFF_UP


@isolated
def test_flags_of_bridge_and_port(tmp_path: Path) -> None:
    subject = runtime(tmp_path)
    with sandboxes(3) as (one, two, three):
        result = works(network(tmp_path, promiscMode=True), subject, one)
        assert link("cni0").promiscuity == 1
        assert (host_end(result).hairpin, host_end(result).isolated) == (False, False)
        result = subject.add(network(tmp_path, hairpinMode=True, isDefaultGateway=True), Attachment("two", two))
        assert (host_end(result).hairpin, host_end(result).isolated) == (True, False)
        result = subject.add(network(tmp_path, portIsolation=True), Attachment("three", three))
        assert (host_end(result).hairpin, host_end(result).isolated) == (False, True)
        assert host_end(result).alias == "net/three/eth0"
    assert Path("/proc/sys/net/ipv6/conf/cni0/accept_ra").read_text().strip() == "0"


@isolated
def test_isolated_ports_reach_the_node_and_not_each_other(tmp_path: Path) -> None:
    net, subject = network(tmp_path, portIsolation=True), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        subject.add(net, Attachment("one", one))
        (target, _) = pods.addresses(subject.add(net, Attachment("two", two)))
        assert pods.reaches(None, two, target) == "10.244.1.1"
        with inside(two):
            listener = socket.create_server((target, 0))
        with listener, inside(one), pytest.raises(OSError, match=r"timed out|No route"):
            socket.create_connection((target, listener.getsockname()[1]), timeout=0.5)


@pytest.mark.parametrize(("configured", "of_bridge", "expected"), [(0, 0, 1500), (0, 1400, 1400), (9000, 0, 9000)])
@isolated
def test_mtu(tmp_path: Path, configured: int, of_bridge: int, expected: int) -> None:
    if of_bridge:
        pods.ip("link", "add", "cni0", "mtu", str(of_bridge), "type", "bridge")
    with sandboxes(1) as (one,):
        result = works(network(tmp_path, mtu=configured), runtime(tmp_path), one)
        assert [interface["mtu"] for interface in result["interfaces"]] == [expected] * 3
        assert (link("cni0").mtu, host_end(result).mtu) == (expected, expected)


@pytest.mark.parametrize(
    ("more", "attachment"),
    [
        ({"args": {"cni": {"mac": MAC}}}, {}),
        ({}, {"args": {"MAC": MAC}}),
        ({"capabilities": {"mac": True}}, {"runtime_config": {"mac": MAC}}),
    ],
    ids=["args", "CNI_ARGS", "runtimeConfig"],
)
@isolated
def test_a_mac_address_that_was_asked_for(tmp_path: Path, more: dict[str, Any], attachment: dict[str, Any]) -> None:
    with sandboxes(1) as (one,):
        result = works(network(tmp_path, **more), runtime(tmp_path), one, **attachment)
        assert result["interfaces"][2]["mac"] == MAC
        with inside(one):
            assert link("eth0").mac == MAC


@isolated
def test_routes_with_all_that_a_result_can_say_of_them(tmp_path: Path) -> None:
    routes = [
        {"dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1200, "priority": 7},
        {"dst": "198.51.100.0/24", "table": 1000},
        {"dst": "203.0.113.0/24", "gw": "10.244.1.9", "table": 7},
        {"dst": "2001:db8::/32", "priority": 9},
    ]
    base = network(tmp_path)
    net = network(tmp_path, ipam={**base.plugins[0]["ipam"], "routes": routes})
    with sandboxes(1) as (one,):
        result = works(net, runtime(tmp_path), one)
        assert result["routes"][0] == {**routes[0], "gw": "10.244.1.1"}
        with inside(one):
            told = "via 10.244.1.1 dev eth0 proto static metric 7 mtu 1300 advmss 1200"
            assert told in pods.ip("route", "show", "192.0.2.0/24")
            assert "198.51.100.0/24 via 10.244.1.1" in pods.ip("route", "show", "table", "1000")
            assert "203.0.113.0/24 via 10.244.1.9" in pods.ip("route", "show", "table", "7")
            assert "metric 9" in pods.ip("-6", "route", "show", "2001:db8::/32")


@isolated
def test_dns_is_the_configurations_before_ipams(tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.1\n")
    ipam = {**network(tmp_path).plugins[0]["ipam"], "resolvConf": str(resolv)}
    with sandboxes(2) as (one, two):
        result = works(network(tmp_path, ipam=ipam), runtime(tmp_path), one)
        assert result["dns"] == {"nameservers": ["192.0.2.1"]}
        dns = {"nameservers": ["192.0.2.2"], "search": ["a.example"]}
        result = runtime(tmp_path).add(network(tmp_path, ipam=ipam, dns=dns), Attachment("two", two))
        assert result["dns"] == dns


def send_from(netns: str, source: str, count: int = 3) -> None:
    """Send broadcast frames of an experimental type from an address."""
    with inside(netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        for _ in range(count):
            sender.send(b"\xff" * 6 + bytes.fromhex(source.replace(":", "")) + b"\x88\xb5" + bytes(46))


@isolated
def test_a_container_sends_from_its_own_address_only(tmp_path: Path) -> None:
    net, subject = network(tmp_path, macspoofchk=True), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        own = works(net, subject, one)["interfaces"][2]["mac"]
        plain = network(tmp_path, ipam={}, isDefaultGateway=False)
        plain = dataclasses.replace(plain, name="plain")  # a container that is not checked, on the same bridge
        subject.add(plain, Attachment("two", two))
        with inside(two):
            receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
            receiver.bind(("eth0", 0x88B5))
            receiver.settimeout(10)
        with receiver:
            send_from(one, MAC)
            send_from(one, own, 1)
            assert receiver.recv(100)[6:12].hex(":") == own, "the others would have come before"
        with inside(one):
            seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
            seen.bind(("eth0", 0x88B5))
            seen.settimeout(10)
        with seen:
            send_from(two, MAC, 1)
            assert seen.recv(100)[6:12].hex(":") == MAC, "it was not asked to be checked"
        subject.delete(net, Attachment("one", one))
        assert "comment" not in pods.ruleset()


@isolated
def test_duplicate_addresses_are_detected_where_asked_for(tmp_path: Path) -> None:
    net, subject = network(tmp_path, enabledad=True, ranges=[pods.V6]), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        (address,) = pods.addresses(works(net, subject, one))
        with inside(one):
            assert "tentative" not in pods.ip("address", "show", "dev", "eth0")
            # The next container's address is one that this one has taken by itself.
            pods.ip("address", "add", address[:-1] + "3/64", "dev", "eth0", "nodad")
        with pytest.raises(CniError, match=r"link eth0: address fd00:.*::3 is also in use elsewhere"):
            subject.add(net, Attachment("two", two))
        with inside(two):
            assert pods.links() == {"lo"}


@isolated
def test_anywhere_in_a_chain_results_are_merged(tmp_path: Path) -> None:
    runtime(tmp_path)
    net = network(tmp_path)
    before = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "host0"}, {"name": "net0", "sandbox": "/proc/1/ns/net", "mac": MAC}],
        "ips": [{"address": "192.0.2.7/24", "interface": 1}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"nameservers": ["192.0.2.1"]},
    }
    with sandboxes(1) as (one,):
        variables = {"CNI_CONTAINERID": "one", "CNI_IFNAME": "eth0", "CNI_NETNS": one}
        config = {**net.plugins[0], "name": "net", "cniVersion": "1.1.0", "prevResult": before}
        status, result = pods.execute("netlab", "ADD", config, **variables)
        assert status == 0
        assert [interface["name"] for interface in result["interfaces"][:3]] == ["host0", "net0", "cni0"]
        assert [ip.get("interface") for ip in result["ips"]] == [1, 4, 4]
        assert result["interfaces"][4] | {"mac": "", "mtu": 0} == {"name": "eth0", "mac": "", "mtu": 0, "sandbox": one}
        assert result["routes"][0] == {"dst": "192.0.2.0/24"}
        assert result["dns"] == before["dns"]
        # The chain's result is what CHECK is given, whichever plugin it is for.
        with inside(one):
            pods.ip("route", "add", "192.0.2.0/24", "dev", "eth0")
        assert pods.execute("netlab", "CHECK", {**config, "prevResult": result}, **variables) == (0, None)


@isolated
def test_a_container_on_two_networks_keeps_the_routes_of_the_first(tmp_path: Path) -> None:
    first, subject = network(tmp_path), runtime(tmp_path)
    ranges = [[{"subnet": "10.244.2.0/24"}], [{"subnet": "fd00:10:244:2::/64"}]]
    second = dataclasses.replace(network(tmp_path, bridge="cni1", ranges=ranges), name="second")
    with sandboxes(1) as (one,):
        result = works(first, subject, one)
        assert [route["dst"] for route in result["routes"]] == ["0.0.0.0/0", "::/0"]
        result = subject.add(second, Attachment("one", one, "net1"))
        assert result.get("routes", []) == [], "a result tells the routes that are its own"
        subject.check(second, Attachment("one", one, "net1"))
        subject.check(first, Attachment("one", one))
        with inside(one):
            assert pods.ip("route", "show", "default") == "default via 10.244.1.1 dev eth0 proto static \n"


@isolated
def test_a_gateway_keeps_its_address_whatever_ports_come(tmp_path: Path) -> None:
    pods.ip("link", "add", "cni0", "type", "bridge")
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(3) as paths:
        results = [subject.add(net, Attachment(f"c{number}", path)) for number, path in enumerate(paths)]
    assert {result["interfaces"][0]["mac"] for result in results} == {link("cni0").mac}


@isolated
def test_an_interface_is_added_once(tmp_path: Path) -> None:
    net, other = network(tmp_path), dataclasses.replace(network(tmp_path, bridge="cni1", ipam={}), name="other")
    subject = runtime(tmp_path)
    with sandboxes(1) as (one,):
        result = works(net, subject, one)
        variables = {"CNI_CONTAINERID": "one", "CNI_IFNAME": "eth0", "CNI_NETNS": one}
        status, said = pods.execute(
            "netlab", "ADD", {**net.plugins[0], "name": "net", "cniVersion": "1.1.0"}, **variables
        )
        assert (status, said["code"]) == (1, errors.INVALID_ENVIRONMENT)
        assert said["msg"] == "CNI_CONTAINERID: one is already on network net as eth0; DEL it first"
        with pytest.raises(CniError, match=f"CNI_IFNAME: eth0 already exists in {one}"):
            subject.add(other, Attachment("one", one))
        subject.check(net, Attachment("one", one))
        assert pods.links() == {"lo", "cni0", host_end(result).name}


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
@isolated
def test_a_delete_of_what_never_was_is_a_success(tmp_path: Path, version: str) -> None:
    runtime(tmp_path)
    net = network(tmp_path, ipMasq=True, macspoofchk=True)
    extra: dict[str, Any]
    for extra in ({}, {"prevResult": {}}, {"prevResult": None}, {"prevResult": {"cniVersion": version, "ips": []}}):
        config = {**net.plugins[0], "name": "net", "cniVersion": version, **extra}
        for variables in ({}, {"CNI_NETNS": "/nonexistent"}, {"CNI_NETNS": ""}):
            said = pods.execute("netlab", "DEL", config, CNI_CONTAINERID="one", CNI_IFNAME="eth0", **variables)
            assert said == (0, None), (json.dumps(extra), variables)
    assert pods.links() == {"lo"}
    assert not re.search("netlab", pods.ruleset())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/proc/{pid}/ns/mnt", "is not a network namespace"),
        ("/proc/{pid}/ns/user", "is not a network namespace"),
        ("/etc/hostname", "is not a network namespace"),
        ("/nonexistent", "No such file or directory"),
    ],
)
@isolated
def test_what_is_no_network_namespace_is_refused_and_nothing_is_left(tmp_path: Path, path: str, said: str) -> None:
    subject = runtime(tmp_path)
    with pytest.raises(CniError, match=said) as caught:
        subject.add(network(tmp_path), Attachment("one", path.format(pid=os.getpid())))
    assert caught.value.code == errors.INVALID_ENVIRONMENT
    assert pods.links() == {"lo"}
