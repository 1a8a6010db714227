"""Reads from a network namespace, by rtnetlink and sock_diag, everything that decides where its packets go.

Constants are the kernel's (include/uapi/linux: rtnetlink.h, if_link.h, fib_rules.h, neighbour.h, netconf.h,
inet_diag.h).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import AF_BRIDGE, AF_INET, AF_INET6
from typing import NamedTuple

from netlab.capture.headers import TCP, UDP, address_text
from netlab.net.netlink import NLM_F_DUMP, Message, Netlink, NetlinkError, attribute, attributes
from netlab.net.route import addresses, links
from netlab.net.route.links import IFF_UP
from netlab.net.route.socket import Rtnetlink
from netlab.trace import state
from netlab.trace.state import Namespace

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE, _RTM_GETNEIGH, _RTM_GETRULE, _RTM_GETNETCONF = 18, 22, 26, 30, 34, 82
_IFLA_LINKINFO, _INFO_DATA, _INFO_SLAVE_DATA, _BRPORT_STATE, _FORWARDING = 18, 2, 5, 1, 3
_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS = 29, 0x8
_VXLAN_ID, _VXLAN_LINK, _VXLAN_LOCAL, _VXLAN_PORT, _VXLAN_LOCAL6 = 1, 3, 4, 15, 17
_IFF_LOOPBACK, _IFF_LOWER_UP = 0x8, 0x10000
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_RTA_PREFSRC, _RTA_METRICS, _RTA_MULTIPATH, _RTA_TABLE = 7, 8, 9, 15
_RTAX_MTU, _RTM_F_CLONED = 2, 0x200
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY = 1, 2, 3, 6
_FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME = 10, 15, 16, 17
_NDA_DST, _NDA_LLADDR, _NDA_MASTER, _NUD_PERMANENT = 1, 2, 9, 0x80
_NETCONFA_IFINDEX, _NETCONFA_FORWARDING, _NETCONFA_RP_FILTER, _IFINDEX_ALL = 1, 2, 3, -1

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=HBBi")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_U32, _S32 = struct.Struct("=I"), struct.Struct("=i")

_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}
_ROUTES: dict[int, state.RouteKind] = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
_ACTIONS = {1: "lookup", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_STATES = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}
_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/icmp_echo_ignore_all",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
)
_WAITING: dict[state.Protocol, tuple[int, int]] = {"tcp": (TCP, 10), "udp": (UDP, 7)}
"""Protocol numbers, and the states of sockets that accept new peers: TCP_LISTEN for TCP, TCP_CLOSE for an unconnected
UDP socket."""
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _INET_DIAG_SKV6ONLY = 4, 20, 11
_DIAG_REQUEST = struct.Struct("=BBxxI48x")
_DIAG_ANSWER = struct.Struct("!4xH2x16s")
_DIAG_ANSWER_SIZE = 72


class Observed(NamedTuple):
    """What was read from a namespace; `peers` has (namespace id, interface index) by a veth's name."""

    namespace: Namespace
    indexes: Mapping[int, str]
    peers: Mapping[str, tuple[int | None, int]]


def observe(owner: str, machine: str) -> Observed:
    """What the current network namespace has. Raises `NetlinkError`."""
    with Rtnetlink() as kernel:
        payloads = kernel.ask(
            Message(
                "links",
                _RTM_GETLINK,
                NLM_F_DUMP,
                _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, _U32.pack(_RTEXT_FILTER_SKIP_STATS)),
            )
        )
        told = [(links.Link(payload), payload) for payload in payloads]
        names = {link.index: link.name for link, _ in told}
        namespace = Namespace(
            owner=owner,
            machine=machine,
            links=tuple(_link(link, payload, names) for link, payload in told),
            addresses=tuple(_addresses(kernel, names)),
            routes=tuple(_routes(kernel, names)),
            rules=tuple(_rules(kernel)),
            neighbours=tuple(_neighbour_entries(kernel, names)),
            forwarding=tuple(_forwarding(kernel, names)),
            listeners=tuple(_listeners()),
            sysctls=dict(_sysctls(kernel, names)),
        )
    peers = {link.name: (link.peer_namespace, link.peer) for link, _ in told if link.kind == "veth"}
    return Observed(namespace, names, peers)


def _link(link: links.Link, payload: bytes, names: Mapping[int, str]) -> state.Link:
    info = dict(attributes(dict(attributes(payload, _LINK.size)).get(_IFLA_LINKINFO, b"")))
    port = dict(attributes(info.get(_INFO_SLAVE_DATA, b"")))
    return state.Link(
        name=link.name,
        kind="loopback" if link.flags & _IFF_LOOPBACK else link.kind,
        mac=link.mac,
        mtu=link.mtu,
        up=bool(link.flags & IFF_UP),
        carrier=bool(link.flags & _IFF_LOWER_UP) or not link.flags & IFF_UP,
        alias=link.alias,
        vxlan=_vxlan(dict(attributes(info.get(_INFO_DATA, b""))), names) if link.kind == "vxlan" else None,
        master=names.get(link.master, ""),
        hairpin=link.hairpin,
        isolated=link.isolated,
        blocked=_BRPORT_STATE in port and port[_BRPORT_STATE][0] != _FORWARDING,
    )


def _vxlan(data: Mapping[int, bytes], names: Mapping[int, str]) -> state.Vxlan:
    local = data.get(_VXLAN_LOCAL) or data.get(_VXLAN_LOCAL6, b"")
    link = names.get(_U32.unpack(data[_VXLAN_LINK])[0], "") if _VXLAN_LINK in data else ""
    port = int.from_bytes(data[_VXLAN_PORT], "big")
    return state.Vxlan(_U32.unpack(data[_VXLAN_ID])[0], address_text(local) if local else "", port, link)


def _addresses(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[state.Address]:
    for payload in kernel.ask(Message("addresses", _RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, 0))):
        found = addresses.Address(payload)
        scope = _SCOPES.get(payload[3], str(payload[3]))
        yield state.Address(address_text(found.packed), found.length, names.get(found.index, ""), scope)


def _routes(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[state.Route]:
    for family in (AF_INET, AF_INET6):
        for payload in kernel.ask(
            Message("routes", _RTM_GETROUTE, NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        ):
            _, length, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(payload)
            if flags & _RTM_F_CLONED or kind not in _ROUTES:
                continue
            found = dict(attributes(payload, _ROUTE.size))
            packed = found.get(_RTA_DST, bytes(4 if family == AF_INET else 16))
            metrics = dict(attributes(found.get(_RTA_METRICS, b"")))
            yield state.Route(
                destination=f"{address_text(packed)}/{length}",
                kind=_ROUTES[kind],
                hops=tuple(_next_hops(found, names)),
                table=_number(found, _RTA_TABLE, table),
                metric=_number(found, _RTA_PRIORITY),
                source=address_text(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else "",
                mtu=_number(metrics, _RTAX_MTU),
            )


def _next_hops(found: Mapping[int, bytes], names: Mapping[int, str]) -> Iterator[state.NextHop]:
    if _RTA_MULTIPATH not in found:
        if _RTA_OIF in found:
            yield _next_hop(found, _number(found, _RTA_OIF), names)
        return
    payload, offset = found[_RTA_MULTIPATH], 0
    while offset + _NEXT_HOP.size <= len(payload):
        length, _, _, index = _NEXT_HOP.unpack_from(payload, offset)
        yield _next_hop(dict(attributes(payload[offset : offset + length], _NEXT_HOP.size)), index, names)
        offset += length + 3 & ~3


def _next_hop(found: Mapping[int, bytes], index: int, names: Mapping[int, str]) -> state.NextHop:
    return state.NextHop(address_text(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else "", names.get(index, ""))


def _rules(kernel: Rtnetlink) -> Iterator[state.Rule]:
    for family, version in ((AF_INET, 4), (AF_INET6, 6)):
        try:
            payloads = kernel.ask(
                Message("rules", _RTM_GETRULE, NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
            )
        except NetlinkError:  # a kernel without policy routing of this family
            continue
        for payload in payloads:
            _, to, source, _, table, _, _, action, _ = _ROUTE.unpack_from(payload)
            found = dict(attributes(payload, _ROUTE.size))
            yield state.Rule(
                priority=_number(found, _FRA_PRIORITY),
                table=_number(found, _FRA_TABLE, table),
                action=_ACTIONS.get(action, "other"),  # type: ignore[arg-type]
                source=f"{address_text(found[_FRA_SRC])}/{source}" if _FRA_SRC in found else "",
                destination=f"{address_text(found[_FRA_DST])}/{to}" if _FRA_DST in found else "",
                incoming=found.get(_FRA_IIFNAME, b"").rstrip(b"\0").decode(),
                outgoing=found.get(_FRA_OIFNAME, b"").rstrip(b"\0").decode(),
                mark=_number(found, _FRA_FWMARK),
                mask=_number(found, _FRA_FWMASK),
                version=version,
            )


def _entries(kernel: Rtnetlink, family: int) -> Iterator[tuple[int, int, dict[int, bytes]]]:
    """The entries of a family's neighbour table: index, state and attributes of each."""
    request = Message("neighbours", _RTM_GETNEIGH, NLM_F_DUMP, _NEIGHBOUR.pack(family, 0, 0, 0, 0))
    for payload in kernel.ask(request):
        _, index, nud, _, _ = _NEIGHBOUR.unpack_from(payload)
        yield index, nud, dict(attributes(payload, _NEIGHBOUR.size))


def _neighbour_entries(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[state.Neighbour]:
    for family in (AF_INET, AF_INET6):
        for index, nud, found in _entries(kernel, family):
            if _NDA_DST in found and index in names:
                mac = found.get(_NDA_LLADDR, b"").hex(":")
                yield state.Neighbour(address_text(found[_NDA_DST]), names[index], mac, _STATES.get(nud, "none"))


def _forwarding(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[state.Forwarding]:
    for index, nud, found in _entries(kernel, AF_BRIDGE):
        destination = address_text(found[_NDA_DST]) if _NDA_DST in found else ""
        # Entries of neither a bridge nor a tunnel are the multicast groups that a link listens to.
        if index in names and (destination or _NDA_MASTER in found):
            local = bool(nud & _NUD_PERMANENT) and not destination
            yield state.Forwarding(found[_NDA_LLADDR].hex(":"), names[index], destination, local)


def _sysctls(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[tuple[str, int]]:
    for name in _SYSCTLS:
        with contextlib.suppress(OSError, ValueError):
            yield name, int(Path("/proc/sys", name).read_text(encoding="ascii"))
    for family, version in ((AF_INET, "ipv4"), (AF_INET6, "ipv6")):
        for payload in kernel.ask(Message("settings", _RTM_GETNETCONF, NLM_F_DUMP, bytes([family, 0, 0, 0]))):
            found = dict(attributes(payload, 4))
            index = _S32.unpack(found[_NETCONFA_IFINDEX])[0]
            name = "all" if index == _IFINDEX_ALL else names.get(index, "")
            for kind, setting in ((_NETCONFA_FORWARDING, "forwarding"), (_NETCONFA_RP_FILTER, "rp_filter")):
                if name and kind in found:
                    yield f"net/{version}/conf/{name}/{setting}", _S32.unpack(found[kind])[0]


def _listeners() -> Iterator[state.Listener]:
    """The sockets that accept new peers; an IPv6 socket that also takes IPv4 is listed twice."""
    with Netlink(_NETLINK_SOCK_DIAG) as kernel:
        for protocol, (number, waiting) in _WAITING.items():
            for family in (AF_INET, AF_INET6):
                request = _DIAG_REQUEST.pack(family, number, 1 << waiting)
                for answer in kernel.ask(Message("sockets", _SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request)):
                    port, source = _DIAG_ANSWER.unpack_from(answer)
                    address = address_text(source[:4] if family == AF_INET else source)
                    yield state.Listener(protocol, address, port)
                    only = dict(attributes(answer, _DIAG_ANSWER_SIZE)).get(_INET_DIAG_SKV6ONLY, b"\1")[0]
                    if address == "::" and not only:
                        yield state.Listener(protocol, "0.0.0.0", port)  # noqa: S104  # read, not listened at


def _number(found: Mapping[int, bytes], kind: int, otherwise: int = 0) -> int:
    return int(_U32.unpack(found[kind])[0]) if kind in found else otherwise
