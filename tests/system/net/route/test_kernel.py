"""What the kernel makes of messages, as pyroute2 reads it, and what it answers, as it is read here."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute

from netlab.net import overlay
from netlab.net.addresses import packed, packed_network
from netlab.net.multicast import RTNLGRP_LINK, Notices
from netlab.net.netlink import NETLINK_ROUTE, NetlinkError
from netlab.net.overlay import Overlay
from netlab.net.route import addresses, links, neighbours, routes
from netlab.net.route.addresses import addresses_of
from netlab.net.route.neighbours import NUD_PERMANENT, neighbours_of
from netlab.net.route.routes import RTN_LOCAL, route_to, routes_of
from netlab.net.route.socket import Rtnetlink
from netlab.net.route.vxlan import Vxlan, vxlan
from tests.sandbox import isolated

MAC, OTHER = "0e:00:00:00:00:02", "0e:00:00:00:00:03"
UNDERLAY = {"IPv4": ("192.0.2.1", "192.0.2.2"), "IPv6": ("2001:db8::1", "2001:db8::2")}


def host(kernel: Rtnetlink) -> int:
    """A host with an eth0, whose other end is here too; eth0's index."""
    with open("/proc/thread-self/ns/net", "rb") as here:  # noqa: PTH123
        kernel.send(links.veth("eth0", 0, "end", here.fileno(), mtu=1500))
    for name in ("end", "eth0"):  # an address of their own would come some time later
        kernel.send(links.no_ipv6_address(name, kernel.existing(name).index))
    kernel.set_up("end")
    index: int = kernel.set_up("eth0").index
    for own in ("192.0.2.1/24", "2001:db8::1/64"):
        kernel.send(addresses.addition("eth0", index, *packed_network(own)))
    return index


def attributes(found: Any, *names: str) -> tuple[Any, ...]:
    return tuple(found.get(name) for name in names)


@pytest.mark.parametrize("family", UNDERLAY)
@isolated
def test_a_vxlan_device_has_what_was_asked_for_and_reads_back(family: str) -> None:
    local = UNDERLAY[family][0]
    with Rtnetlink() as kernel, IPRoute() as witness:
        underlay = host(kernel)
        kernel.send(vxlan("vxlan7", 7, 4789, packed(local), underlay, bytes.fromhex(MAC.replace(":", "")), 1400))
        (seen,) = witness.link("get", ifname="vxlan7")
        assert attributes(seen, "address", "mtu") == (MAC, 1400)
        data = seen.get("linkinfo").get("data")
        assert attributes(data, "vxlan_id", "vxlan_port", "vxlan_link", "vxlan_learning") == (7, 4789, underlay, 0)
        assert data.get("vxlan_local" if family == "IPv4" else "vxlan_local6") == local
        link = kernel.existing("vxlan7")
        device = Vxlan(link.data)
        assert (device.vni, device.port, device.link, device.local) == (7, 4789, underlay, packed(local))
        with pytest.raises(NetlinkError, match="vxlan vxlan8: ") as caught:
            kernel.send(vxlan("vxlan8", 7, 4789, packed(local), underlay))
        assert caught.value.errno == errno.EEXIST


@isolated
def test_a_link_is_set_up_as_a_port_and_one_that_is_missing_is_named() -> None:
    with Rtnetlink() as kernel, IPRoute() as witness:
        host(kernel)
        kernel.send(links.bridge("cni0", mtu=1400))
        assert kernel.existing("cni0").mtu == 1400
        assert kernel.set_up("eth0", master="cni0").master == 0, "as it was before"
        (bridge,), (port,) = (witness.link("get", ifname=name) for name in ("cni0", "eth0"))
        assert port.get("master") == bridge["index"] == kernel.existing("eth0").master
        assert (bridge["state"], port["state"]) == ("up", "up")
        for name, master in (("eth7", ""), ("eth0", "eth7")):
            with pytest.raises(NetlinkError, match=r"^link eth7: no such link$"):
                kernel.set_up(name, master=master)


@isolated
def test_neighbours_and_forwarding_entries_are_made_replaced_read_and_deleted() -> None:
    with Rtnetlink() as kernel, IPRoute() as witness:
        underlay = host(kernel)
        kernel.send(vxlan("vxlan7", 7, 4789, packed("192.0.2.1"), underlay))
        index = kernel.set_up("vxlan7").index

        def seen(family: int) -> set[tuple[str, str]]:
            found = witness.get_neighbours(family=family, ifindex=index)
            return {attributes(each, "dst", "lladdr") for each in found if each.get("dst") and each["state"] & 0x80}

        def ours(family: int) -> set[tuple[bytes, str]]:
            found = neighbours_of(kernel, family, index)
            return {(each.packed, each.mac) for each in found if each.packed and each.state & NUD_PERMANENT}

        for mac in (MAC, OTHER):
            kernel.send(*(neighbours.replacement(to, mac, "vxlan7", index) for to in ("10.244.2.0", "fd00::")))
            kernel.send(neighbours.forwarding(MAC, "192.0.2.2", "vxlan7", index))
            for family, to in ((socket.AF_INET, "10.244.2.0"), (socket.AF_INET6, "fd00::")):
                assert seen(family) == {(to, mac)}
                assert ours(family) == {(packed(to), mac)}
        assert seen(socket.AF_BRIDGE) == {("192.0.2.2", MAC)}
        assert ours(socket.AF_BRIDGE) == {(packed("192.0.2.2"), MAC)}
        assert {each.index for each in neighbours_of(kernel, socket.AF_INET)} == {index}
        assert not [each for each in neighbours_of(kernel, socket.AF_INET, underlay) if each.state & NUD_PERMANENT]
        kernel.send(*(neighbours.deletion(to, "vxlan7", index) for to in ("10.244.2.0", "fd00::")))
        kernel.send(neighbours.forwarding_deletion(MAC, "192.0.2.2", "vxlan7", index))
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_BRIDGE):
            assert seen(family) == set()
            assert ours(family) == set()


WAYS = {
    "one gateway": ("10.1.0.0/16", ["192.0.2.2"]),
    "several gateways": ("10.1.0.0/16", ["192.0.2.2", "192.0.2.3"]),
    "default": ("0.0.0.0/0", ["192.0.2.2"]),
    "IPv6": ("fd00:1::/64", ["2001:db8::2"]),
    "IPv6, several gateways": ("fd00:1::/64", ["2001:db8::2", "2001:db8::3"]),
    "IPv6 default": ("::/0", ["2001:db8::2"]),
}


def hops(found: Any) -> Iterator[tuple[str, int]]:
    for each in found.get("multipath") or [found]:
        yield each.get("gateway"), each.get("oif") or each["oif"]


@pytest.mark.parametrize("case", WAYS)
@isolated
def test_a_route_takes_the_place_of_another_reads_back_and_goes(case: str) -> None:
    to, gateways = WAYS[case]
    subnet, length = packed_network(to)
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    before = "2001:db8::9" if ":" in to else "192.0.2.9"
    with Rtnetlink() as kernel, IPRoute() as witness:
        index = host(kernel)

        def ours() -> list[routes.Route]:
            return [r for r in routes_of(kernel, family) if (r.packed, r.length, r.table) == (subnet, length, 254)]

        for ways in ([before], gateways):
            kernel.send(routes.replacement(to, subnet, length, index, [packed(each) for each in ways]))
            dumped = [
                r
                for r in witness.get_routes(family=family, table=254)
                if (r.get("dst") or to.split("/")[0], r["dst_len"]) == (to.split("/")[0], length)
            ]
            assert sorted(hop for r in dumped for hop in hops(r)) == sorted((each, index) for each in ways)
            (route,) = ours()
            assert sorted(route.hops) == sorted((packed(each), index) for each in ways)
            assert (route.gateway, route.index) == ((packed(ways[0]), index) if len(ways) == 1 else (b"", 0))
        kernel.send(routes.deletion(to, subnet, length, index if len(gateways) == 1 else 0))
        assert ours() == []


@isolated
def test_a_gateway_that_no_address_covers_must_be_said_to_be_on_the_link() -> None:
    with Rtnetlink() as kernel:
        index = host(kernel)
        asked = ("10.2.0.0/16", *packed_network("10.2.0.0/16"), index)
        for ways in ([packed("10.9.9.9")], [packed("10.9.9.9"), packed("10.9.9.8")]):
            with pytest.raises(NetlinkError, match=r"route to 10\.2\.0\.0/16: "):
                kernel.send(routes.replacement(*asked, ways))
            kernel.send(routes.replacement(*asked, ways, onlink=True))


@isolated
def test_the_way_to_an_address() -> None:
    with Rtnetlink() as kernel:
        kernel.set_up("lo")
        index = host(kernel)
        kernel.send(routes.replacement("0.0.0.0/0", *packed_network("0.0.0.0/0"), index, [packed("192.0.2.2")]))
        for kind, to in (("blackhole", "198.51.100.1"), ("prohibit", "198.51.100.2")):
            subprocess.run(["ip", "route", "add", kind, to], check=True)
        own = route_to(kernel, packed("192.0.2.1"))
        assert own.type == RTN_LOCAL
        near, far = route_to(kernel, packed("192.0.2.7")), route_to(kernel, packed("203.0.113.7"))
        assert (near.gateway, near.index, far.gateway, far.index) == (b"", index, packed("192.0.2.2"), index)
        for to, number in (
            ("198.51.100.1", errno.EINVAL),
            ("198.51.100.2", errno.EACCES),
            ("2001:db8:1::1", errno.ENETUNREACH),
        ):
            with pytest.raises(NetlinkError) as caught:
                route_to(kernel, packed(to))
            assert caught.value.errno == number, to


@isolated
def test_addresses_are_those_of_one_link_or_of_all() -> None:
    with Rtnetlink() as kernel, IPRoute() as witness:
        kernel.set_up("lo")
        index = host(kernel)
        for link in (index, 0):
            seen = {
                (each["index"], packed(each.get("address")), each["prefixlen"], each["scope"])
                for each in witness.get_addr()
                if link in (0, each["index"])
            }
            found = addresses_of(kernel, link)
            assert {(each.index, each.packed, each.length, each.scope) for each in found} == seen
            assert found


@isolated
def test_an_overlay_becomes_what_is_wanted_and_leaves_routes_of_others_alone() -> None:
    first = Overlay(
        frozenset({(MAC, "192.0.2.2"), (OTHER, "192.0.2.3")}),
        frozenset({("10.244.2.0", MAC), ("fd00:2::", MAC), ("10.244.3.0", OTHER)}),
        frozenset({("10.244.2.0/24", "10.244.2.0"), ("fd00:2::/64", "fd00:2::"), ("10.244.3.0/24", "10.244.3.0")}),
    )
    moved = Overlay(
        frozenset({(MAC, "192.0.2.22")}),
        frozenset({("10.244.2.0", MAC)}),
        frozenset({("10.244.2.0/24", "10.244.2.0")}),
    )
    with Rtnetlink() as kernel:
        underlay = host(kernel)
        kernel.send(vxlan("vxlan7", 7, 4789, packed("192.0.2.1"), underlay))
        index = kernel.set_up("vxlan7").index
        for own in ("10.244.1.0/32", "fd00:1::/128"):
            kernel.send(addresses.addition("vxlan7", index, *packed_network(own)))
        for wanted in (first, moved, Overlay(), first):
            overlay.apply(kernel, "vxlan7", wanted)
            assert overlay.read(kernel, "vxlan7") == wanted
        kernel.send(routes.addition("10.244.9.0/24", *packed_network("10.244.9.0/24"), underlay))
        taken = Overlay(routes=frozenset({("10.244.9.0/24", "10.244.9.0")}))
        with pytest.raises(NetlinkError, match=r"route to 10\.244\.9\.0/24: it already leads to eth0, not to vxlan7"):
            overlay.apply(kernel, "vxlan7", taken)
        assert overlay.read(kernel, "vxlan7") == first
        with pytest.raises(NetlinkError, match="link vxlan8: no such link"):
            overlay.apply(kernel, "vxlan8", taken)


@isolated
def test_a_new_link_is_heard_of() -> None:
    with Notices(NETLINK_ROUTE, [RTNLGRP_LINK]) as notices, Rtnetlink() as kernel:
        assert notices.datagrams() == []
        kernel.send(links.bridge("cni0"))
        assert any(b"cni0\0" in each for each in notices.datagrams())
        assert notices.lost == 0
