"""Links: made, changed, deleted and read. Constants are the kernel's (include/uapi/linux/if_link.h)."""

from __future__ import annotations

from _socket import AF_BRIDGE, AF_INET6
from _struct import Struct

from netlab.net import netlink as nl

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
IFF_UP, IFF_LOOPBACK, IFF_PROMISC, IFF_LOWER_UP = 0x1, 0x8, 0x100, 0x10000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_PROTINFO, _IFLA_TXQLEN, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 12, 13, 18, 20, 26, 28
_IFLA_EXT_MASK, _IFLA_PROMISCUITY, _IFLA_LINK_NETNSID = 29, 30, 37
_RTEXT_FILTER_SKIP_STATS = 0x8
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_DATA, _VETH_INFO_PEER = 1, 2, 5, 1
_IFLA_BRPORT_STATE, _IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED, _FORWARDING = 1, 4, 33, b"\3"

_LINK = Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_S32 = Struct("=i")

_QUEUE_PACKETS = 1000
"""For an ifb: HTB's direct queue is as long as its link's, by default 32 for an ifb and 1000 for a veth."""


class Link:
    """A link as the kernel describes it: `kind` is that of `ip link add type` and empty for hardware.

    `peer` is the index of a veth's other end in its own namespace, whose number here is `peer_namespace` (None: this
    one). `hairpin`, `isolated` and `blocked` (by spanning tree) are those of a bridge port; `promiscuity` counts who
    asked for it; `data` is the kind's own, packed. What a link does not have is 0, False or empty.
    """

    __slots__ = (
        "alias",
        "blocked",
        "data",
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
        found = dict(nl.attributes(payload, _LINK.size))
        info = dict(nl.attributes(found.get(_IFLA_LINKINFO, b"")))
        self.name = nl.text(found[_IFLA_IFNAME])
        self.mac = found.get(_IFLA_ADDRESS, b"").hex(":")
        self.alias = nl.text(found.get(_IFLA_IFALIAS, b""))
        self.master, self.mtu, self.peer, self.promiscuity = (
            nl.number(found, kind) for kind in (_IFLA_MASTER, _IFLA_MTU, _IFLA_LINK, _IFLA_PROMISCUITY)
        )
        numbered = found.get(_IFLA_LINK_NETNSID)
        self.peer_namespace: int | None = None if numbered is None else _S32.unpack(numbered)[0]
        self.kind = nl.text(info.get(_IFLA_INFO_KIND, b""))
        self.data = info.get(_IFLA_INFO_DATA, b"")
        port = dict(nl.attributes(info.get(_IFLA_INFO_SLAVE_DATA, b"")))
        self.blocked = port.get(_IFLA_BRPORT_STATE, _FORWARDING) != _FORWARDING
        self.hairpin = port.get(_IFLA_BRPORT_MODE) == b"\1"
        self.isolated = port.get(_IFLA_BRPORT_ISOLATED) == b"\1"


def _link_attributes(name: str, mac: bytes, mtu: int) -> bytes:
    attributes = nl.string(_IFLA_IFNAME, name)
    if mac:
        attributes += nl.attribute(_IFLA_ADDRESS, mac)
    if mtu:
        attributes += nl.u32(_IFLA_MTU, mtu)
    return attributes


def creation(kind: str, name: str, mac: bytes = b"", mtu: int = 0, more: bytes = b"", data: bytes = b"") -> nl.Message:
    """Make a link, down, with `more` attributes and a kind's own `data`. EEXIST: there is a link with that name."""
    info = nl.string(_IFLA_INFO_KIND, kind) + (nl.nested(_IFLA_INFO_DATA, data) if data else b"")
    return nl.Message(
        f"{kind} {name}",
        _RTM_NEWLINK,
        nl.NLM_F_CREATE | nl.NLM_F_EXCL,
        _LINK.pack(0, 0, 0, 0, 0) + _link_attributes(name, mac, mtu) + more + nl.nested(_IFLA_LINKINFO, info),
    )


def bridge(name: str, mac: bytes = b"", mtu: int = 0) -> nl.Message:
    """Make a bridge, up. With a MAC address of its own it does not take its lowest port's."""
    made = creation("bridge", name, mac, mtu)
    made.payload = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + made.payload[_LINK.size :]
    return made


def veth(name: str, master: int, peer: str, peer_netns: int, peer_mac: bytes = b"", mtu: int = 0) -> nl.Message:
    """Make a veth pair, down: `name` here, a port of the bridge `master` if not 0, and `peer` in that namespace."""
    other = _LINK.pack(0, 0, 0, 0, 0) + _link_attributes(peer, peer_mac, mtu) + nl.u32(_IFLA_NET_NS_FD, peer_netns)
    return creation(
        "veth",
        name,
        mtu=mtu,
        more=nl.u32(_IFLA_MASTER, master) if master else b"",
        data=nl.nested(_VETH_INFO_PEER, other),
    )


def ifb(name: str, mtu: int) -> nl.Message:
    """Make an intermediate functional block device, down: what is redirected to it goes on where it came from."""
    return creation("ifb", name, mtu=mtu, more=nl.u32(_IFLA_TXQLEN, _QUEUE_PACKETS))


def flags(name: str, index: int, changed: int) -> nl.Message:
    """Set flags of a link, such as `IFF_UP`; other flags stay as they are."""
    return nl.Message(f"link {name}", _RTM_NEWLINK, 0, _LINK.pack(0, 0, index, changed, changed))


def master(name: str, index: int, bridge: int) -> nl.Message:
    """Make a link a port of the bridge with that index."""
    return nl.Message(f"link {name}", _RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + nl.u32(_IFLA_MASTER, bridge))


def no_ipv6_address(name: str, index: int) -> nl.Message:
    """Stop a link from giving itself an IPv6 link-local address when it comes up (Linux 3.16).

    The answer is EAFNOSUPPORT if IPv6 is disabled altogether.
    """
    mode = nl.attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))
    spec = nl.nested(_IFLA_AF_SPEC, nl.nested(AF_INET6, mode))
    return nl.Message(f"link {name}", _RTM_SETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + spec)


def hardware_address(name: str, index: int, mac: bytes) -> nl.Message:
    """Set a link's hardware address for good; a bridge's otherwise follows its ports (NET_ADDR_SET)."""
    return nl.Message(f"link {name}", _RTM_SETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + nl.attribute(_IFLA_ADDRESS, mac))


def alias(name: str, said: str) -> nl.Message:
    """Set a link's alias, at most 255 bytes, which `ip link` shows. Not possible in the message that creates a link."""
    return nl.Message(
        f"link {name}",
        _RTM_SETLINK,
        0,
        _LINK.pack(0, 0, 0, 0, 0) + nl.string(_IFLA_IFNAME, name) + nl.attribute(_IFLA_IFALIAS, said.encode()),
    )


def bridge_port(name: str, index: int, *, hairpin: bool = False, isolated: bool = False) -> nl.Message:
    """Set how a bridge treats a port.

    `hairpin` lets it send a frame back out of the port it came in by: a pod that reaches itself through a Service.
    `isolated` keeps frames away from every other isolated port (Linux 4.18).
    """
    options = nl.attribute(_IFLA_BRPORT_MODE, bytes([hairpin])) + nl.attribute(_IFLA_BRPORT_ISOLATED, bytes([isolated]))
    return nl.Message(
        f"bridge port {name}",
        _RTM_SETLINK,
        0,
        _LINK.pack(AF_BRIDGE, 0, index, 0, 0) + nl.nested(_IFLA_PROTINFO, options),
    )


def gone(kind: int, payload: bytes) -> str:
    """The name of the link that a notice to the group of links says is gone; empty if it says something else."""
    if kind != _RTM_DELLINK or payload[0] == AF_BRIDGE:  # a port left its bridge
        return ""
    return Link(payload).name


def deletion(name: str) -> nl.Message:
    """Delete a link, and with a veth its peer."""
    return nl.Message(f"link {name}", _RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + nl.string(_IFLA_IFNAME, name))


def request(name: str) -> nl.Message:
    """The request for the link with that name: ENODEV if there is none."""
    return nl.Message(f"link {name}", _RTM_GETLINK, 0, _WITHOUT_STATISTICS + nl.string(_IFLA_IFNAME, name))


def dump() -> nl.Message:
    """The request for all links of a namespace."""
    return nl.Message("links", _RTM_GETLINK, nl.NLM_F_DUMP, _WITHOUT_STATISTICS)


_WITHOUT_STATISTICS = _LINK.pack(0, 0, 0, 0, 0) + nl.u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
