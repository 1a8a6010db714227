"""Routes: added, replaced, deleted and read. Constants are the kernel's (include/uapi/linux/rtnetlink.h)."""

from __future__ import annotations

from _socket import AF_INET
from _struct import Struct

from netlab.net.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    attribute,
    attributes,
    nested,
    number,
    u32,
)
from netlab.net.route import family_of
from netlab.net.route.addresses import SCOPE_LINK, SCOPE_UNIVERSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.net.route.socket import Rtnetlink

_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 8, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_RTNH_F_ONLINK = 4
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST, _SCOPE_NOWHERE = 254, 4, 1, 255

_ROUTE = Struct("=BBBBBBBBI")  # rtmsg: family, dst len, src len, tos, table, protocol, scope, type, flags
_U32 = Struct("=I")


class Route:
    """A route of any table: `gateway` is empty for a route on the link, `priority` is ip(8)'s `metric`."""

    __slots__ = ("gateway", "index", "length", "packed", "priority", "scope", "table", "type")

    def __init__(self, payload: bytes) -> None:
        family, self.length, _, _, table, _, self.scope, self.type, _ = _ROUTE.unpack_from(payload)
        found = dict(attributes(payload, _ROUTE.size))
        self.packed = found.get(_RTA_DST, bytes(4 if family == AF_INET else 16))
        self.gateway = found.get(_RTA_GATEWAY, b"")
        self.index, self.priority = (number(found, kind) for kind in (_RTA_OIF, _RTA_PRIORITY))
        self.table = number(found, _RTA_TABLE, table)


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
) -> Message:
    """Add a route through a link, via `gateway` if there is one; `destination` is for the error.

    0 is the kernel's default: the main `table`, and for IPv6 the `priority` 1024. Without a `scope`, the route gets
    that of a gateway's routes, or of the link's.
    """
    attributes = u32(_RTA_OIF, index)
    if length:
        attributes += attribute(_RTA_DST, packed)
    if gateway:
        attributes += attribute(_RTA_GATEWAY, gateway)
    if priority:
        attributes += u32(_RTA_PRIORITY, priority)
    if mtu or advmss:
        metrics = (u32(kind, value) for kind, value in ((_RTAX_MTU, mtu), (_RTAX_ADVMSS, advmss)) if value)
        attributes += nested(_RTA_METRICS, b"".join(metrics))
    if table:
        attributes += u32(_RTA_TABLE, table)
    if scope is None:
        scope = SCOPE_UNIVERSE if gateway or len(packed) == 16 else SCOPE_LINK
    short = (table or _RT_TABLE_MAIN) if table < 256 else 0  # RT_TABLE_UNSPEC: the attribute tells
    return Message(
        f"route to {destination}",
        _RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_EXCL,
        _ROUTE.pack(family_of(packed), length, 0, 0, short, _RTPROT_STATIC, scope, _RTN_UNICAST, 0) + attributes,
    )


def replacement(destination: str, packed: bytes, length: int, index: int, gateway: bytes, *, onlink: bool) -> Message:
    """A route by way of a gateway, in place of any other to the destination.

    With `onlink` the kernel accepts a gateway that no address of the link covers.
    """
    made = addition(destination, packed, length, index, gateway)
    made.flags = NLM_F_CREATE | NLM_F_REPLACE
    if onlink:
        made.payload = made.payload[: _ROUTE.size - 4] + _U32.pack(_RTNH_F_ONLINK) + made.payload[_ROUTE.size :]
    return made


def deletion(destination: str, packed: bytes, length: int, index: int) -> Message:
    """Remove a route of the main table through a link."""
    return Message(
        f"route to {destination}",
        _RTM_DELROUTE,
        0,
        # From everywhere (RTN_UNSPEC, RTPROT_UNSPEC) and of any scope (RT_SCOPE_NOWHERE).
        _ROUTE.pack(family_of(packed), length, 0, 0, _RT_TABLE_MAIN, 0, _SCOPE_NOWHERE, 0, 0)
        + (attribute(_RTA_DST, packed) if length else b"")
        + u32(_RTA_OIF, index),
    )


def routes_of(kernel: Rtnetlink, family: int) -> list[Route]:
    """The routes of every table of `AF_INET` or `AF_INET6`. Raises `NetlinkError`."""
    request = Message("routes", _RTM_GETROUTE, NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
    return [Route(payload) for payload in kernel.ask(request)]
