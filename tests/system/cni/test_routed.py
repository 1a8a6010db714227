"""Mode `routed`: between pods, with the node, and with the world outside it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.configurations import NetworkList, parse_network
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import NODE, OUTSIDE, addresses, inside, outside, runtime, sandboxes, version

pytestmark = pytest.mark.usefixtures("way")

GATEWAYS = {4: "169.254.1.1", 6: "fe80::1"}


def network(data_dir: Path, family: str = "dual", **more: Any) -> NetworkList:
    ranges = pods.FAMILIES[family]
    return pods.network(data_dir, ranges=ranges, mode="routed", **{"version": "1.1.0", **more})


@pytest.mark.parametrize("family", pods.FAMILIES)
@isolated
def test_pods_reach_each_other_and_the_node_and_the_outside_and_are_reached(tmp_path: Path, family: str) -> None:
    net, subject = network(tmp_path, family), runtime(tmp_path)
    with outside(knows_pods=True) as world, sandboxes(2) as (one, two):
        first, second = Attachment("one", one), Attachment("two", two)
        result, other = subject.add(net, first), subject.add(net, second)
        for source, target in zip(addresses(result), addresses(other), strict=True):
            number = version(target)
            assert pods.reaches(one, two, target) == source
            assert pods.reaches(None, two, target) == NODE[number], "the node is known by its own address"
            assert pods.reaches(one, world, OUTSIDE[number]) == source
            assert pods.reaches(world, two, target) == OUTSIDE[number]
        assert pods.reaches(one, world, OUTSIDE[version(addresses(result)[0])]) == addresses(result)[0]
        for attachment in (first, second):
            subject.check(net, attachment)
            subject.delete(net, attachment)
            subject.delete(net, attachment)
        assert pods.links() == {"lo", "eth0"}
        with IPRoute() as ip:
            assert not [route for route in ip.get_routes(table=254) if str(route.get("dst")).startswith(("10.", "fd"))]


@isolated
def test_masquerading_is_for_the_outside(tmp_path: Path) -> None:
    net, subject = network(tmp_path, ipMasq=True), runtime(tmp_path)
    with outside(knows_pods=True) as world, sandboxes(2) as (one, two):
        first = Attachment("one", one)
        result, other = subject.add(net, first), subject.add(net, Attachment("two", two))
        for source, target in zip(addresses(result), addresses(other), strict=True):
            assert pods.reaches(one, two, target) == source
            assert pods.reaches(one, world, OUTSIDE[version(target)]) == NODE[version(target)]
        subject.check(net, first)
        subject.delete(net, first)


@isolated
def test_the_result_tells_the_host_end_and_the_gateways(tmp_path: Path) -> None:
    routes = [{"dst": "192.0.2.0/24"}, {"dst": "198.51.100.0/24", "gw": "10.244.1.1"}]
    plugin_ipam = {**network(tmp_path).plugins[0]["ipam"], "routes": routes}
    with sandboxes(1) as (one,):
        result = runtime(tmp_path).add(
            network(tmp_path, ipam=plugin_ipam, isDefaultGateway=True), Attachment("one", one)
        )
        host, pod = result["interfaces"]
        assert host["name"] in pods.links()
        assert "sandbox" not in host
        assert (pod["name"], pod["sandbox"], pod["mtu"]) == ("eth0", one, 1450)
        assert result["ips"] == [
            {"address": "10.244.1.2/32", "gateway": "169.254.1.1", "interface": 1},
            {"address": "fd00:10:244:1::2/128", "gateway": "fe80::1", "interface": 1},
        ]
        assert result["routes"] == [
            {"dst": "169.254.1.1/32", "scope": 253},
            {"dst": "192.0.2.0/24", "gw": "169.254.1.1"},
            {"dst": "198.51.100.0/24", "gw": "169.254.1.1"},
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
            {"dst": "::/0", "gw": "fe80::1"},
        ]
        assert Path(f"/proc/sys/net/ipv4/conf/{host['name']}/rp_filter").read_text().strip() == "1"
        assert Path(f"/proc/sys/net/ipv6/conf/{host['name']}/accept_ra").read_text().strip() == "0"


@pytest.mark.parametrize("cni_version", ["0.4.0", "1.0.0"])
@isolated
def test_an_older_result_is_enough_to_check_by(tmp_path: Path, cni_version: str) -> None:
    net, subject = network(tmp_path, version=cni_version), runtime(tmp_path)
    with sandboxes(1) as (one,):
        subject.add(net, Attachment("one", one))
        subject.check(net, Attachment("one", one))


@isolated
def test_a_published_port_leads_to_a_routed_container(tmp_path: Path) -> None:
    plain = network(tmp_path)
    chain = [dict(plain.plugins[0]), {"type": "netlab-portmap", "capabilities": {"portMappings": True}}]
    net = parse_network(json.dumps({"cniVersion": "1.1.0", "name": "net", "plugins": chain}).encode(), "test")
    published = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    subject = runtime(tmp_path)
    with outside(knows_pods=True) as world, sandboxes(1) as (one,):
        attachment = Attachment("one", one, runtime_config=published)
        subject.add(net, attachment)
        subject.check(net, attachment)
        with inside(one):
            server = socket.create_server(("", 80))
        with server:
            for client, address in ((world, NODE[4]), (one, NODE[4]), (None, NODE[4]), (None, "127.0.0.1")):
                with inside(client) if client else contextlib.nullcontext():
                    socket.create_connection((address, 8080), timeout=10).close()
                server.settimeout(10)
                server.accept()[0].close()
        subject.delete(net, attachment)


@isolated
def test_garbage_collection_takes_the_host_ends_of_what_is_gone(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        kept = subject.add(net, Attachment("kept", one))["interfaces"][0]["name"]
        subject.add(net, Attachment("gone", two))
        runtime(tmp_path / "another cache").collect_garbage(net, [("kept", "eth0")])
        assert pods.links() == {"lo", kept}
        subject.check(net, Attachment("kept", one))


@isolated
def test_an_address_of_another_network_is_never_given_twice(tmp_path: Path) -> None:
    one_address = [[{"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.7", "rangeEnd": "10.244.1.7"}]]
    nets = [
        network(tmp_path / "one", ipam={"type": "netlab-ipam", "dataDir": str(tmp_path / name), "ranges": one_address})
        for name in ("one", "other")
    ]
    subject = runtime(tmp_path)
    with sandboxes(2) as (one, two):
        host = subject.add(nets[0], Attachment("one", one))["interfaces"][0]["name"]
        with pytest.raises(CniError, match=r"address 10\.244\.1\.7: this node has a route to it already"):
            subject.add(nets[1], Attachment("two", two))
        assert pods.links() == {"lo", host}
        with inside(two):
            assert pods.links() == {"lo"}
        subject.delete(nets[0], Attachment("one", one))
        subject.add(nets[1], Attachment("two", two))


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"promiscMode": True, "hairpinMode": False}, errors.UNSUPPORTED_FIELD, "promiscMode: True"),
    ({"macspoofchk": True}, errors.UNSUPPORTED_FIELD, "macspoofchk: True"),
    ({"portIsolation": True}, errors.UNSUPPORTED_FIELD, "portIsolation: True"),
    ({"ipam": {}}, errors.INVALID_CONFIG, "ipam.type"),
    (
        {
            "ipam": {
                "type": "netlab-ipam",
                "subnet": "10.1.0.0/24",
                "routes": [{"dst": "10.2.0.0/16", "gw": "10.1.0.9"}],
            }
        },
        errors.UNSUPPORTED_FIELD,
        "ipam.routes: gw '10.1.0.9'",
    ),
]


@pytest.mark.parametrize(("change", "code", "said"), REFUSED, ids=lambda value: str(value)[:20])
@isolated
def test_what_a_router_cannot_do_is_refused(tmp_path: Path, change: dict[str, Any], code: int, said: str) -> None:
    if change.get("ipam"):
        change = {"ipam": {**change["ipam"], "dataDir": str(tmp_path)}}
    with sandboxes(1) as (one,):
        with pytest.raises(CniError, match=said) as caught:
            runtime(tmp_path).add(network(tmp_path, **change), Attachment("one", one))
        assert caught.value.code == code
        assert pods.links() == {"lo"}


@dataclasses.dataclass(frozen=True)
class Broken:
    """One thing broken by hand, with the host end's name, and what CHECK says of it (`HOST` stands for that name)."""

    by: Callable[[IPRoute, int, str], Any]
    said: str


BROKEN: dict[str, Broken] = {
    "down": Broken(lambda ip, index, _: ip.link("set", index=index, state="down"), "link HOST: down"),
    "gateway": Broken(
        lambda ip, index, _: ip.addr("del", index=index, address="169.254.1.1", prefixlen=32),
        "link HOST: missing address 169.254.1.1/32",
    ),
    "IPv6 gateway": Broken(
        lambda ip, index, _: ip.addr("del", index=index, address="fe80::1", prefixlen=64),
        "link HOST: missing address fe80::1/64",
    ),
    "route": Broken(
        lambda ip, index, _: ip.route("del", dst="10.244.1.2/32", oif=index, scope=253),
        "route to 10.244.1.2/32 through HOST: missing",
    ),
    "IPv6 route": Broken(
        lambda ip, index, _: ip.route("del", dst="fd00:10:244:1::2/128", oif=index),
        "route to fd00:10:244:1::2/128 through HOST: missing",
    ),
    "forwarding": Broken(
        lambda _, __, host: Path(f"/proc/sys/net/ipv4/conf/{host}/forwarding").write_text("0"),
        "sysctl net/ipv4/conf/HOST/forwarding: must be 1",
    ),
}


@isolated
def test_check_names_what_was_broken(tmp_path: Path) -> None:
    only = {"10.244.1.2": "10.244.1.0/24", "fd00:10:244:1::2": "fd00:10:244:1::/64"}
    ranges = [[{"subnet": net, "rangeStart": one, "rangeEnd": one}] for one, net in only.items()]
    plugin_ipam = {"type": "netlab-ipam", "dataDir": str(tmp_path), "ranges": ranges}
    net, subject = network(tmp_path, ipam=plugin_ipam), runtime(tmp_path)
    with sandboxes(1) as (one,), IPRoute() as ip:
        for broken in BROKEN.values():
            attachment = Attachment("one", one)
            host = subject.add(net, attachment)["interfaces"][0]["name"]
            subject.check(net, attachment)
            broken.by(ip, ip.link_lookup(ifname=host)[0], host)
            with pytest.raises(CniError) as caught:
                subject.check(net, attachment)
            assert broken.said.replace("HOST", host) in caught.value.msg
            assert caught.value.code == errors.CHECK_FAILED
            subject.delete(net, attachment)
