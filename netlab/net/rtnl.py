"""Raw rtnetlink for the few messages that a CNI plugin needs.

Messages are built by pure functions and sent by `Rtnetlink`, several at once if they do not depend on each other's
answers. Constants are the kernel's (include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h).
"""

from __future__ import annotations

from _struct import Struct

from netlab.net.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLMSG_ERROR,
    Message,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    nested,
    refusal,
)

AF_INET, AF_INET6, AF_BRIDGE = 2, 10, 7
NLM_F_REPLACE = 0x100
_NETLINK_ROUTE = 0
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_GETNSID = 90

IFF_UP, IFF_PROMISC = 0x1, 0x100
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_PROTINFO, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 12, 18, 20, 26, 28
_IFLA_EXT_MASK, _IFLA_PROMISCUITY, _IFLA_LINK_NETNSID = 29, 30, 37
_NETNSA_NSID, _NETNSA_FD, _NETNSA_NSID_NOT_ASSIGNED = 1, 3, -1
_RTEXT_FILTER_SKIP_STATS = 0x8
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_DATA, _VETH_INFO_PEER = 1, 2, 5, 1
_IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED = 4, 33
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x02, 0x08, 0x40
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 8, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_RTNH_F_ONLINK = 4
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST = 254, 4, 1
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST, _SCOPE_NOWHERE = 0, 253, 254, 255

_LINK = Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS = Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = Struct("=BBBBBBBBI")  # rtmsg: family, dst len, src len, tos, table, protocol, scope, type, flags
_U32 = Struct("=I")
_S32 = Struct("=i")


class Link:
    """A link as the kernel describes it: `kind` is that of `ip link add type` and empty for hardware.

    `peer` is the index of a veth's other end in its own namespace, whose number here is `peer_namespace` (None: this
    one). `hairpin` and `isolated` are those of a bridge port; `promiscuity` counts who asked for it. What a link does
    not have is 0, False or empty.
    """

    __slots__ = (
        "alias",
        "flags",
        "hairpin",
        "index",
        "isolated",
        "kind",
        "mac",
        "master",
        "mtu",
        "name",
        "peer",
        "peer_namespace",
        "promiscuity",
    )

    def __init__(self, payload: bytes) -> None:
        _, _, self.index, self.flags, _ = _LINK.unpack_from(payload)
        found = dict(attributes(payload, _LINK.size))
        info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
        self.name = found[_IFLA_IFNAME].rstrip(b"\0").decode()
        self.mac = found.get(_IFLA_ADDRESS, b"").hex(":")
        self.alias = found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace")
        self.master, self.mtu, self.peer, self.promiscuity = (
            int(_U32.unpack(found[kind])[0]) if kind in found else 0
            for kind in (_IFLA_MASTER, _IFLA_MTU, _IFLA_LINK, _IFLA_PROMISCUITY)
        )
        number = found.get(_IFLA_LINK_NETNSID)
        self.peer_namespace: int | None = None if number is None else _S32.unpack(number)[0]
        self.kind = info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
        port = dict(attributes(info.get(_IFLA_INFO_SLAVE_DATA, b"")))
        self.hairpin = port.get(_IFLA_BRPORT_MODE) == b"\1"
        self.isolated = port.get(_IFLA_BRPORT_ISOLATED) == b"\1"


class Address:
    """An address of a link: `packed` in network byte order, its prefix length, and its flags (`IFA_F_*`)."""

    __slots__ = ("flags", "index", "length", "packed")

    def __init__(self, payload: bytes) -> None:
        _, self.length, self.flags, _, self.index = _ADDRESS.unpack_from(payload)
        found = dict(attributes(payload, _ADDRESS.size))
        self.packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]


class Route:
    """A route of any table: `gateway` is empty for a route on the link, `priority` is ip(8)'s `metric`."""

    __slots__ = ("gateway", "index", "length", "packed", "priority", "scope", "table", "type")

    def __init__(self, payload: bytes) -> None:
        family, self.length, _, _, table, _, self.scope, self.type, _ = _ROUTE.unpack_from(payload)
        found = dict(attributes(payload, _ROUTE.size))
        self.packed = found.get(_RTA_DST, bytes(4 if family == AF_INET else 16))
        self.gateway = found.get(_RTA_GATEWAY, b"")
        self.index, self.priority = (
            int(_U32.unpack(found[kind])[0]) if kind in found else 0 for kind in (_RTA_OIF, _RTA_PRIORITY)
        )
        self.table = int(_U32.unpack(found[_RTA_TABLE])[0]) if _RTA_TABLE in found else table


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def _name(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _link_attributes(name: str, mac: bytes, mtu: int) -> bytes:
    attributes = _name(_IFLA_IFNAME, name)
    if mac:
        attributes += attribute(_IFLA_ADDRESS, mac)
    if mtu:
        attributes += _number(_IFLA_MTU, mtu)
    return attributes


def bridge(name: str, mac: bytes, mtu: int = 0) -> Message:
    """Make a bridge, up, with a MAC address of its own, so that it does not take its lowest port's."""
    return Message(
        f"bridge {name}",
        _RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _LINK.pack(0, 0, 0, IFF_UP, IFF_UP)
        + _link_attributes(name, mac, mtu)
        + nested(_IFLA_LINKINFO, _name(_IFLA_INFO_KIND, "bridge")),
    )


def veth(name: str, master: int, peer: str, peer_netns: int, peer_mac: bytes = b"", mtu: int = 0) -> Message:
    """Make a veth pair, down: `name` here, a port of the bridge `master` if not 0, and `peer` in that namespace."""
    other = _LINK.pack(0, 0, 0, 0, 0) + _link_attributes(peer, peer_mac, mtu) + _number(_IFLA_NET_NS_FD, peer_netns)
    info = _name(_IFLA_INFO_KIND, "veth") + nested(_IFLA_INFO_DATA, nested(_VETH_INFO_PEER, other))
    return Message(
        f"veth {name}",
        _RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _LINK.pack(0, 0, 0, 0, 0)
        + _link_attributes(name, b"", mtu)
        + (_number(_IFLA_MASTER, master) if master else b"")
        + nested(_IFLA_LINKINFO, info),
    )


def link_flags(name: str, index: int, flags: int) -> Message:
    """Set flags of a link, such as `IFF_UP`; other flags stay as they are."""
    return Message(f"link {name}", _RTM_NEWLINK, 0, _LINK.pack(0, 0, index, flags, flags))


def no_ipv6_address(name: str, index: int) -> Message:
    """Stop a link from giving itself an IPv6 link-local address when it comes up (Linux 3.16).

    The answer is EAFNOSUPPORT if IPv6 is disabled altogether.
    """
    mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))
    spec = nested(_IFLA_AF_SPEC, nested(AF_INET6, mode))
    return Message(f"link {name}", _RTM_SETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + spec)


def link_address(name: str, index: int, mac: bytes) -> Message:
    """Set a link's hardware address for good; a bridge's otherwise follows its ports (NET_ADDR_SET)."""
    return Message(f"link {name}", _RTM_SETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_ADDRESS, mac))


def link_alias(name: str, alias: str) -> Message:
    """Set a link's alias, at most 255 bytes, which `ip link` shows. Not possible in the message that creates a link."""
    return Message(
        f"link {name}",
        _RTM_SETLINK,
        0,
        _LINK.pack(0, 0, 0, 0, 0) + _name(_IFLA_IFNAME, name) + attribute(_IFLA_IFALIAS, alias.encode()),
    )


def bridge_port(name: str, index: int, *, hairpin: bool = False, isolated: bool = False) -> Message:
    """Set how a bridge treats a port.

    `hairpin` lets it send a frame back out of the port it came in by: a pod that reaches itself through a Service.
    `isolated` keeps frames away from every other isolated port (Linux 4.18).
    """
    options = attribute(_IFLA_BRPORT_MODE, bytes([hairpin])) + attribute(_IFLA_BRPORT_ISOLATED, bytes([isolated]))
    return Message(
        f"bridge port {name}",
        _RTM_SETLINK,
        0,
        _LINK.pack(AF_BRIDGE, 0, index, 0, 0) + nested(_IFLA_PROTINFO, options),
    )


def link_deletion(name: str) -> Message:
    """Delete a link, and with a veth its peer."""
    return Message(f"link {name}", _RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _name(_IFLA_IFNAME, name))


def _family(packed: bytes) -> int:
    return AF_INET if len(packed) == 4 else AF_INET6


def _address(
    kind: int, flags: int, link: str, index: int, packed: bytes, length: int, bits: int = 0, scope: int = SCOPE_UNIVERSE
) -> Message:
    return Message(
        f"address on {link}",
        kind,
        flags,
        _ADDRESS.pack(_family(packed), length, bits, scope, index)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed),
    )


def address(
    link: str, index: int, packed: bytes, length: int, *, detect: bool = False, scope: int = SCOPE_UNIVERSE
) -> Message:
    """Add an address, usable at once unless `detect` has IPv6 look for duplicates first: IPAM has made sure.

    With a `scope` other than the universe's, the kernel does not use it as the source for anything beyond; the scope
    of an IPv6 address follows from the address itself.
    """
    bits = 0 if detect or len(packed) == 4 else _IFA_F_NODAD
    return _address(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link, index, packed, length, bits, scope)


def address_deletion(link: str, index: int, packed: bytes, length: int) -> Message:
    """Remove an address."""
    return _address(_RTM_DELADDR, 0, link, index, packed, length)


def route(
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
    attributes = _number(_RTA_OIF, index)
    if length:
        attributes += attribute(_RTA_DST, packed)
    if gateway:
        attributes += attribute(_RTA_GATEWAY, gateway)
    if priority:
        attributes += _number(_RTA_PRIORITY, priority)
    if mtu or advmss:
        metrics = (_number(kind, value) for kind, value in ((_RTAX_MTU, mtu), (_RTAX_ADVMSS, advmss)) if value)
        attributes += nested(_RTA_METRICS, b"".join(metrics))
    if table:
        attributes += _number(_RTA_TABLE, table)
    if scope is None:
        scope = SCOPE_UNIVERSE if gateway or len(packed) == 16 else SCOPE_LINK
    short = (table or _RT_TABLE_MAIN) if table < 256 else 0  # RT_TABLE_UNSPEC: the attribute tells
    return Message(
        f"route to {destination}",
        _RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_EXCL,
        _ROUTE.pack(_family(packed), length, 0, 0, short, _RTPROT_STATIC, scope, _RTN_UNICAST, 0) + attributes,
    )


def gateway_route(destination: str, packed: bytes, length: int, index: int, gateway: bytes, *, onlink: bool) -> Message:
    """A route by way of a gateway, in place of any other to the destination.

    With `onlink` the kernel accepts a gateway that no address of the link covers.
    """
    made = route(destination, packed, length, index, gateway)
    made.flags = NLM_F_CREATE | NLM_F_REPLACE
    if onlink:
        made.payload = made.payload[: _ROUTE.size - 4] + _U32.pack(_RTNH_F_ONLINK) + made.payload[_ROUTE.size :]
    return made


def route_deletion(destination: str, packed: bytes, length: int, index: int) -> Message:
    """Remove a route of the main table through a link."""
    return Message(
        f"route to {destination}",
        _RTM_DELROUTE,
        0,
        # From everywhere (RTN_UNSPEC, RTPROT_UNSPEC) and of any scope (RT_SCOPE_NOWHERE).
        _ROUTE.pack(_family(packed), length, 0, 0, _RT_TABLE_MAIN, 0, _SCOPE_NOWHERE, 0, 0)
        + (attribute(_RTA_DST, packed) if length else b"")
        + _number(_RTA_OIF, index),
    )


class Rtnetlink(Netlink):
    """A socket to the kernel in the network namespace where it was opened. Every method raises `NetlinkError`."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)

    def send(self, *messages: Message, tolerate: int = 0) -> list[bool]:
        """Send the messages at once; the kernel handles them in order. Returns True for each that succeeded.

        The kernel goes on after a failure; the first failure is raised when all are answered. Messages that fail with
        the errno `tolerate` do not count as failures.
        """
        first, self._sequence = self._sequence, self._sequence + len(messages)
        self._socket.send(b"".join([message.pack(first + n, NLM_F_ACK) for n, message in enumerate(messages)]))
        done = [False] * len(messages)
        failure: NetlinkError | None = None
        waiting = len(messages)
        while waiting:
            for kind, flags, sequence, payload in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence < self._sequence:
                    continue
                waiting -= 1
                error = refusal(flags, payload, messages[sequence - first].subject)
                done[sequence - first] = error is None
                if error is not None and error.errno != tolerate and failure is None:
                    failure = error
        if failure is not None:
            raise failure
        return done

    def link(self, name: str) -> Link | None:
        """The link with that name."""
        request = Message(f"link {name}", _RTM_GETLINK, 0, _WITHOUT_STATISTICS + _name(_IFLA_IFNAME, name))
        try:
            return Link(self.ask(request)[0])
        except NetlinkError as error:
            if error.errno == _ENODEV:
                return None
            raise

    def links(self) -> list[Link]:
        """All links of the namespace."""
        request = Message("links", _RTM_GETLINK, NLM_F_DUMP, _WITHOUT_STATISTICS)
        return [Link(payload) for payload in self.ask(request)]

    def namespace_number(self, descriptor: int) -> int | None:
        """This namespace's number for the one behind `descriptor`; None if nothing here leads there."""
        payload = _U32.pack(0) + _number(_NETNSA_FD, descriptor)  # rtgenmsg, padded
        (answer,) = self.ask(Message("namespace", _RTM_GETNSID, 0, payload))
        number: int = _S32.unpack(dict(attributes(answer, _U32.size))[_NETNSA_NSID])[0]
        return None if number == _NETNSA_NSID_NOT_ASSIGNED else number

    def addresses(self, index: int) -> list[Address]:
        """The addresses of a link, both families."""
        request = Message(f"addresses of link {index}", _RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, index))
        return [Address(payload) for payload in self.ask(request)]

    def routes(self, family: int) -> list[Route]:
        """The routes of every table of `AF_INET` or `AF_INET6`."""
        request = Message("routes", _RTM_GETROUTE, NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        return [Route(payload) for payload in self.ask(request)]


_ENODEV = 19
_WITHOUT_STATISTICS = _LINK.pack(0, 0, 0, 0, 0) + _number(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
