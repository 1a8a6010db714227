"""The bytes of rtnetlink messages, as pyroute2 reads them."""

from __future__ import annotations

import errno
import socket
from _socket import AF_BRIDGE
from typing import Any

import pytest
from pyroute2.netlink.rtnl import ifaddrmsg, ifinfmsg, rtmsg

from netlab.net.netlink import Message, NetlinkError
from netlab.net.route import addresses, links, routes
from netlab.net.route.socket import Rtnetlink


def decoded(message: Message, kind: Any) -> Any:
    data = message.pack(7)
    parsed = kind(data)
    parsed.decode()
    assert parsed["header"]["length"] == len(data)
    assert parsed["header"]["sequence_number"] == 7
    return parsed


def test_bridge() -> None:
    parsed = decoded(links.bridge("cni0", bytes.fromhex("0a5801020304"), 1450), ifinfmsg.ifinfmsg)
    assert (parsed.get("ifname"), parsed.get("address"), parsed.get("mtu")) == ("cni0", "0a:58:01:02:03:04", 1450)
    assert parsed.get("linkinfo").get("kind") == "bridge"
    assert parsed["flags"] == parsed["change"] == links.IFF_UP


def test_veth_with_its_peer_in_a_namespace() -> None:
    parsed = decoded(links.veth("vethx", 4, "eth0", 9, bytes(6), 1450), ifinfmsg.ifinfmsg)
    assert (parsed.get("ifname"), parsed.get("master"), parsed.get("mtu")) == ("vethx", 4, 1450)
    peer = parsed.get("linkinfo").get("data").get("veth_info_peer")
    assert (peer.get("ifname"), peer.get("net_ns_fd"), peer.get("mtu")) == ("eth0", 9, 1450)
    assert peer["flags"] == 0, "a peer cannot be made up at once"


@pytest.mark.parametrize(
    ("text", "length", "flags"), [("10.244.1.2", 24, 0), ("fd00::2", 64, 0x02)], ids=["ipv4", "ipv6 without DAD"]
)
def test_address(text: str, length: int, flags: int) -> None:
    packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    parsed = decoded(addresses.addition("eth0", 2, packed, length), ifaddrmsg.ifaddrmsg)
    assert (parsed.get("local"), parsed.get("address"), parsed["prefixlen"]) == (text, text, length)
    assert (parsed["index"], parsed["flags"]) == (2, flags)


@pytest.mark.parametrize(
    ("length", "gateway", "scope"), [(0, "10.0.0.1", 0), (24, "10.0.0.1", 0), (24, "", 253)], ids=str
)
def test_route(length: int, gateway: str, scope: int) -> None:
    packed = socket.inet_aton("192.0.2.0" if length else "0.0.0.0")
    parsed = decoded(
        routes.addition("there", packed, length, 2, socket.inet_aton(gateway) if gateway else b""), rtmsg.rtmsg
    )
    assert (parsed.get("oif"), parsed.get("gateway")) == (2, gateway or None)
    assert (parsed.get("dst"), parsed["dst_len"], parsed["scope"]) == ("192.0.2.0" if length else None, length, scope)


def test_route_with_all_that_a_cni_result_can_say_of_it() -> None:
    packed = socket.inet_aton("192.0.2.0")
    message = routes.addition("there", packed, 24, 2, mtu=1300, advmss=1200, priority=7, table=1000, scope=254)
    parsed = decoded(message, rtmsg.rtmsg)
    assert (parsed.get("priority"), parsed.get("table"), parsed["table"], parsed["scope"]) == (7, 1000, 0, 254)
    assert (parsed.get("metrics").get("mtu"), parsed.get("metrics").get("advmss")) == (1300, 1200)
    assert decoded(routes.addition("there", packed, 24, 2, table=7), rtmsg.rtmsg)["table"] == 7


def test_alias() -> None:
    parsed = decoded(links.alias("vethx", "net/c/eth0"), ifinfmsg.ifinfmsg)
    assert (parsed.get("ifname"), parsed.get("IFLA_IFALIAS"), parsed["index"]) == ("vethx", "net/c/eth0", 0)


@pytest.mark.parametrize(("hairpin", "isolated"), [(True, False), (False, True)])
def test_bridge_port(hairpin: bool, isolated: bool) -> None:
    message = links.bridge_port("vethx", 4, hairpin=hairpin, isolated=isolated)
    parsed = decoded(message, ifinfmsg.ifinfmsg)
    assert (parsed["family"], parsed["index"]) == (AF_BRIDGE, 4)
    port = parsed.get("IFLA_PROTINFO")
    assert (port.get("IFLA_BRPORT_MODE"), port.get("IFLA_BRPORT_ISOLATED")) == (hairpin, isolated)


def test_asking_and_being_refused_need_no_privilege() -> None:
    kernel = Rtnetlink()
    lo = kernel.link("lo")
    assert lo is not None
    assert (lo.index, lo.kind) == (1, "")
    assert kernel.link("no-such-link") is None
    with pytest.raises(NetlinkError, match=r"^link no-such-link: \w+") as caught:
        kernel.send(links.deletion("no-such-link"))
    assert caught.value.errno in {errno.ENODEV, errno.EPERM}
    kernel.close()
