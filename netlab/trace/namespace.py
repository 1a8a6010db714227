"""Reads from a network namespace, by rtnetlink and sock_diag, everything that decides where its packets go.

Constants are the kernel's (include/uapi/linux: rtnetlink.h, fib_rules.h, neighbour.h).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import AF_BRIDGE, AF_INET, AF_INET6
from typing import NamedTuple

from netlab.capture.headers import TCP, UDP
from netlab.net.addresses import address_text
from netlab.net.netlink import NETLINK_SOCK_DIAG, Netlink, NetlinkError
from netlab.net.route.addresses import addresses_of
from netlab.net.route.links import IFF_LOOPBACK, IFF_LOWER_UP, IFF_UP, Link
from netlab.net.route.neighbours import NUD_PERMANENT, neighbours_of
from netlab.net.route.routes import RTM_F_CLONED, routes_of
from netlab.net.route.rules import rules_of
from netlab.net.route.settings import ALL, settings_of
from netlab.net.route.socket import Rtnetlink
from netlab.net.route.vxlan import Vxlan
from netlab.net.sock_diag import waiting
from netlab.trace import state
from netlab.trace.state import Namespace

_FAMILIES = {AF_INET: 4, AF_INET6: 6}
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
_NUMBERS: dict[state.Protocol, int] = {"tcp": TCP, "udp": UDP}


class Observed(NamedTuple):
    """What was read from a namespace; `peers` has (namespace id, interface index) by a veth's name."""

    namespace: Namespace
    indexes: Mapping[int, str]
    peers: Mapping[str, tuple[int | None, int]]


def observe(owner: str, machine: str) -> Observed:
    """What the current network namespace has. Raises `NetlinkError`."""
    with Rtnetlink() as kernel:
        found = kernel.links()
        names = {link.index: link.name for link in found}
        namespace = Namespace(
            owner=owner,
            machine=machine,
            links=tuple(_link(link, names) for link in found),
            addresses=tuple(_addresses(kernel, names)),
            routes=tuple(_routes(kernel, names)),
            rules=tuple(_rules(kernel)),
            neighbours=tuple(_neighbour_entries(kernel, names)),
            forwarding=tuple(_forwarding(kernel, names)),
            listeners=tuple(_listeners()),
            sysctls=dict(_sysctls(kernel, names)),
        )
    peers = {link.name: (link.peer_namespace, link.peer) for link in found if link.kind == "veth"}
    return Observed(namespace, names, peers)


def _link(link: Link, names: Mapping[int, str]) -> state.Link:
    return state.Link(
        name=link.name,
        kind="loopback" if link.flags & IFF_LOOPBACK else link.kind,
        mac=link.mac,
        mtu=link.mtu,
        up=bool(link.flags & IFF_UP),
        carrier=bool(link.flags & IFF_LOWER_UP) or not link.flags & IFF_UP,
        alias=link.alias,
        vxlan=_vxlan(Vxlan(link.data), names) if link.kind == "vxlan" else None,
        master=names.get(link.master, ""),
        hairpin=link.hairpin,
        isolated=link.isolated,
        blocked=link.blocked,
    )


def _vxlan(device: Vxlan, names: Mapping[int, str]) -> state.Vxlan:
    return state.Vxlan(device.vni, _text(device.local), device.port, names.get(device.link, ""))


def _addresses(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[state.Address]:
    for found in addresses_of(kernel, 0):
        scope = _SCOPES.get(found.scope, str(found.scope))
        yield state.Address(address_text(found.packed), found.length, names.get(found.index, ""), scope)


def _routes(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[state.Route]:
    for route in (each for family in _FAMILIES for each in routes_of(kernel, family)):
        if route.flags & RTM_F_CLONED or route.type not in _ROUTES:
            continue
        yield state.Route(
            destination=f"{address_text(route.packed)}/{route.length}",
            kind=_ROUTES[route.type],
            hops=tuple(state.NextHop(_text(gateway), names.get(index, "")) for gateway, index in route.hops),
            table=route.table,
            metric=route.priority,
            source=_text(route.source),
            mtu=route.mtu,
        )


def _rules(kernel: Rtnetlink) -> Iterator[state.Rule]:
    for family, version in _FAMILIES.items():
        with contextlib.suppress(NetlinkError):  # a kernel without policy routing of this family
            for rule in rules_of(kernel, family):
                yield state.Rule(
                    priority=rule.priority,
                    table=rule.table,
                    action=_ACTIONS.get(rule.action, "other"),  # type: ignore[arg-type]
                    source=_subnet(rule.source),
                    destination=_subnet(rule.destination),
                    incoming=rule.incoming,
                    outgoing=rule.outgoing,
                    mark=rule.mark,
                    mask=rule.mask,
                    version=version,
                )


def _neighbour_entries(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[state.Neighbour]:
    for entry in (each for family in _FAMILIES for each in neighbours_of(kernel, family)):
        if entry.packed and entry.index in names:
            nud = _STATES.get(entry.state, "none")
            yield state.Neighbour(address_text(entry.packed), names[entry.index], entry.mac, nud)


def _forwarding(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[state.Forwarding]:
    for entry in neighbours_of(kernel, AF_BRIDGE):
        # What is neither a bridge's nor a tunnel's are the groups that a link listens to.
        if entry.index in names and (entry.packed or entry.master):
            local = bool(entry.state & NUD_PERMANENT) and not entry.packed
            yield state.Forwarding(entry.mac, names[entry.index], _text(entry.packed), local)


def _sysctls(kernel: Rtnetlink, names: Mapping[int, str]) -> Iterator[tuple[str, int]]:
    for name in _SYSCTLS:
        with contextlib.suppress(OSError, ValueError):
            yield name, int(Path("/proc/sys", name).read_text(encoding="ascii"))
    for family, version in _FAMILIES.items():
        for index, setting, value in settings_of(kernel, family):
            name = "all" if index == ALL else names.get(index, "")
            if name:
                yield f"net/ipv{version}/conf/{name}/{setting}", value


def _listeners() -> Iterator[state.Listener]:
    """The sockets that accept new peers; an IPv6 socket that also takes IPv4 is listed twice."""
    with Netlink(NETLINK_SOCK_DIAG) as kernel:
        for protocol, number in _NUMBERS.items():
            for source, port, only in (each for family in _FAMILIES for each in waiting(kernel, family, number)):
                address = address_text(source)
                yield state.Listener(protocol, address, port)
                if address == "::" and not only:
                    yield state.Listener(protocol, "0.0.0.0", port)  # noqa: S104  # read, not listened at


def _subnet(subnet: tuple[bytes, int] | None) -> str:
    return f"{address_text(subnet[0])}/{subnet[1]}" if subnet else ""


def _text(packed: bytes) -> str:
    return address_text(packed) if packed else ""
