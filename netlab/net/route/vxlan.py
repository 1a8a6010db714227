"""VXLAN devices: made and read. Constants are the kernel's (include/uapi/linux/if_link.h)."""

from __future__ import annotations

from _struct import Struct

from netlab.net.netlink import Message, attribute, attributes, number, u32
from netlab.net.route import links

_ID, _LINK, _LOCAL, _LEARNING, _PORT, _LOCAL6 = 1, 3, 4, 7, 15, 17
_U16 = Struct("!H")

VXLAN_PORT = 4789
"""IANA's (RFC 7348), so that every packet tool decodes it by default; the kernel's default is the older 8472."""

VXLAN_OVERHEAD = {4: 50, 6: 70}
"""Bytes before the packet inside, by the underlay's IP version: Ethernet 14, VXLAN 8, UDP 8, IP 20 or 40 (RFC 7348)."""


class Vxlan:
    """What a VXLAN device has besides other links, from its link's `data`.

    `link` is the index of the underlay, 0 if none was named, and `local` the packed address there, empty if none.
    """

    __slots__ = ("link", "local", "port", "vni")

    def __init__(self, data: bytes) -> None:
        found = dict(attributes(data))
        self.vni, self.link = number(found, _ID), number(found, _LINK)
        self.local = found.get(_LOCAL) or found.get(_LOCAL6, b"")
        self.port = int(_U16.unpack(found[_PORT])[0])


def vxlan(name: str, vni: int, port: int, local: bytes, underlay: int, mac: bytes = b"", mtu: int = 0) -> Message:
    """Make a VXLAN device, down, that does not learn: its peers are given as FDB entries.

    EEXIST: there is a link with that name, or another device with that VNI on that port.
    """
    data = (
        u32(_ID, vni)
        + attribute(_PORT, _U16.pack(port))
        + attribute(_LEARNING, b"\0")
        + u32(_LINK, underlay)
        + attribute(_LOCAL if len(local) == 4 else _LOCAL6, local)
    )
    return links.creation("vxlan", name, mac, mtu, data=data)
