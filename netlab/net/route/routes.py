"""Routes: added, replaced, deleted, read and asked for. Constants are the kernel's (include/uapi/linux/rtnetlink.h)."""

from __future__ import annotations

from _socket import AF_INET
from _struct import Struct

from netlab.net import netlink as nl
from netlab.net.route import SCOPE_LINK, SCOPE_UNIVERSE, family_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_RTA_METRICS, _RTA_MULTIPATH, _RTA_TABLE = 8, 9, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_RTNH_F_ONLINK = 4
RT_TABLE_MAIN, RTN_UNICAST, RTN_LOCAL, RTM_F_CLONED = 254, 1, 2, 0x200
_RTPROT_STATIC, _SCOPE_NOWHERE = 4, 255

_ROUTE = Struct("=BBBBBBBBI")  # rtmsg: family, dst len, src len, tos, table, protocol, scope, type, flags
_HOP = Struct("=HBBi")  # rtnexthop: length, flags, hops, index


class Route:
    """A route of any table, of a `type` (RTN_*): `priority` is ip(8)'s `metric`, `source` the address to send from.

    `hops` are its gateways (empty: on the link) and links; `gateway` and `index` are those of the only one. What a
    route does not have is 0 or empty.
    """

    __slots__ = (
        "flags",
        "gateway",
        "hops",
        "index",
        "length",
        "mtu",
        "packed",
        "priority",
        "scope",
        "source",
        "table",
        "type",
    )

    def __init__(self, payload: bytes) -> None:
        family, self.length, _, _, table, _, self.scope, self.type, self.flags = _ROUTE.unpack_from(payload)
        found = dict(nl.attributes(payload, _ROUTE.size))
        self.packed = found.get(_RTA_DST, bytes(4 if family == AF_INET else 16))
        self.gateway, self.source = found.get(_RTA_GATEWAY, b""), found.get(_RTA_PREFSRC, b"")
        self.index, self.priority = nl.number(found, _RTA_OIF), nl.number(found, _RTA_PRIORITY)
        self.table = nl.number(found, _RTA_TABLE, table)
        self.mtu = nl.number(dict(nl.attributes(found.get(_RTA_METRICS, b""))), _RTAX_MTU)
        self.hops = list(_hops(found[_RTA_MULTIPATH])) if _RTA_MULTIPATH in found else []
        if self.index:
            self.hops.append((self.gateway, self.index))


def _hops(payload: bytes) -> Iterator[tuple[bytes, int]]:
    offset = 0
    while offset + _HOP.size <= len(payload):
        length, _, _, index = _HOP.unpack_from(payload, offset)
        yield dict(nl.attributes(payload[offset : offset + length], _HOP.size)).get(_RTA_GATEWAY, b""), index
        offset += length + 3 & ~3


def routes_of(kernel: nl.Netlink, family: int) -> list[Route]:
    """The routes of every table of `AF_INET` or `AF_INET6`. Raises `NetlinkError`."""
    request = nl.Message("routes", _RTM_GETROUTE, nl.NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
    return [Route(answer) for answer in kernel.ask(request)]


def route_to(kernel: nl.Netlink, packed: bytes) -> Route:
    """The route that a packet to an address takes, as `ip route get` finds it.

    Raises `NetlinkError`: ENETUNREACH or EHOSTUNREACH if there is none, EACCES or EINVAL if it is a `prohibit` or a
    `blackhole` one.
    """
    header = _ROUTE.pack(family_of(packed), 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    (answer,) = kernel.ask(nl.Message("route", _RTM_GETROUTE, 0, header + nl.attribute(_RTA_DST, packed)))
    return Route(answer)


def addition(
    destination: str,
    packed: bytes,
    length: int,
    index: int,
    gateway: bytes = b"",
    *,
    mtu: int = 0,
    advmss: int = 0,
    priority: int = 0,
    table: int = 0,
    scope: int | None = None,
) -> nl.Message:
    """Add a route through a link, via `gateway` if there is one; `destination` is for the error.

    0 is the kernel's default: the main `table`, and for IPv6 the `priority` 1024. Without a `scope`, the route gets
    that of a gateway's routes, or of the link's.
    """
    attributes = nl.u32(_RTA_OIF, index)
    if gateway:
        attributes += nl.attribute(_RTA_GATEWAY, gateway)
    if priority:
        attributes += nl.u32(_RTA_PRIORITY, priority)
    if mtu or advmss:
        metrics = (nl.u32(kind, value) for kind, value in ((_RTAX_MTU, mtu), (_RTAX_ADVMSS, advmss)) if value)
        attributes += nl.nested(_RTA_METRICS, b"".join(metrics))
    if table:
        attributes += nl.u32(_RTA_TABLE, table)
    if scope is None:
        scope = SCOPE_UNIVERSE if gateway or len(packed) == 16 else SCOPE_LINK
    short = (table or RT_TABLE_MAIN) if table < 256 else 0  # RT_TABLE_UNSPEC: the attribute tells
    return _made(destination, packed, length, nl.NLM_F_CREATE | nl.NLM_F_EXCL, attributes, scope=scope, table=short)


def replacement(
    destination: str, packed: bytes, length: int, index: int, gateways: Sequence[bytes], *, onlink: bool = False
) -> nl.Message:
    """A route of the main table by way of gateways, by flow if there are several, in place of any to the destination.

    With `onlink` the kernel accepts a gateway that no address of the link covers.
    """
    flags = _RTNH_F_ONLINK if onlink else 0
    if len(gateways) == 1:
        way = nl.u32(_RTA_OIF, index) + nl.attribute(_RTA_GATEWAY, gateways[0])
    else:
        way = nl.attribute(_RTA_MULTIPATH, b"".join([_packed_hop(gateway, index, flags) for gateway in gateways]))
        flags = 0
    return _made(destination, packed, length, nl.NLM_F_CREATE | nl.NLM_F_REPLACE, way, flags=flags)


def _packed_hop(gateway: bytes, index: int, flags: int) -> bytes:
    via = nl.attribute(_RTA_GATEWAY, gateway)
    return _HOP.pack(_HOP.size + len(via), flags, 0, index) + via


def _made(
    destination: str,
    packed: bytes,
    length: int,
    how: int,
    way: bytes,
    *,
    flags: int = 0,
    scope: int = SCOPE_UNIVERSE,
    table: int = RT_TABLE_MAIN,
) -> nl.Message:
    header = _ROUTE.pack(family_of(packed), length, 0, 0, table, _RTPROT_STATIC, scope, RTN_UNICAST, flags)
    to = nl.attribute(_RTA_DST, packed) if length else b""
    return nl.Message(f"route to {destination}", _RTM_NEWROUTE, how, header + to + way)


def deletion(destination: str, packed: bytes, length: int, index: int) -> nl.Message:
    """Remove a route of the main table through a link."""
    return nl.Message(
        f"route to {destination}",
        _RTM_DELROUTE,
        0,
        # From everywhere (RTN_UNSPEC, RTPROT_UNSPEC) and of any scope (RT_SCOPE_NOWHERE).
        _ROUTE.pack(family_of(packed), length, 0, 0, RT_TABLE_MAIN, 0, _SCOPE_NOWHERE, 0, 0)
        + (nl.attribute(_RTA_DST, packed) if length else b"")
        + nl.u32(_RTA_OIF, index),
    )
