"""Neighbours, and forwarding entries of bridges and VXLAN devices: made, deleted and read.

Constants are the kernel's (include/uapi/linux/neighbour.h).
"""

from __future__ import annotations

from _socket import AF_BRIDGE
from _struct import Struct

from netlab.net import netlink as nl
from netlab.net.addresses import packed
from netlab.net.route import family_of, packed_mac

_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NDA_DST, _NDA_LLADDR, _NDA_IFINDEX, _NDA_MASTER = 1, 2, 8, 9
NUD_PERMANENT = 0x80
_NTF_SELF = 0x02
_NEIGHBOUR = Struct("=BxxxiHBB")  # ndmsg: family, index, state, flags, type


class Neighbour:
    """An ARP or NDP entry of a link, or a forwarding entry, with its `state` (NUD_*).

    `packed` is the neighbour's address, or the tunnel endpoint that frames for `mac` leave to; `master` is the index of
    a forwarding entry's bridge. What an entry does not have is 0 or empty.
    """

    __slots__ = ("index", "mac", "master", "packed", "state")

    def __init__(self, payload: bytes) -> None:
        _, self.index, self.state, _, _ = _NEIGHBOUR.unpack_from(payload)
        found = dict(nl.attributes(payload, _NEIGHBOUR.size))
        self.packed = found.get(_NDA_DST, b"")
        self.mac = found.get(_NDA_LLADDR, b"").hex(":")
        self.master = nl.number(found, _NDA_MASTER)


def neighbours_of(kernel: nl.Netlink, family: int, index: int = 0) -> list[Neighbour]:
    """The neighbours of a family, or with AF_BRIDGE the forwarding entries; of one link only if its index is given.

    Raises `NetlinkError`.
    """
    payload = _NEIGHBOUR.pack(family, 0, 0, 0, 0) + (nl.u32(_NDA_IFINDEX, index) if index else b"")
    return [Neighbour(answer) for answer in kernel.ask(nl.Message("neighbours", _RTM_GETNEIGH, nl.NLM_F_DUMP, payload))]


def replacement(address: str, mac: str, link: str, index: int) -> nl.Message:
    """A permanent ARP or NDP entry, in place of any other for the address."""
    to = packed(address)
    return nl.Message(
        f"neighbour {address} on {link}",
        _RTM_NEWNEIGH,
        nl.NLM_F_CREATE | nl.NLM_F_REPLACE,
        _NEIGHBOUR.pack(family_of(to), index, NUD_PERMANENT, 0, 0)
        + nl.attribute(_NDA_DST, to)
        + nl.attribute(_NDA_LLADDR, packed_mac(mac)),
    )


def deletion(address: str, link: str, index: int) -> nl.Message:
    """Remove an ARP or NDP entry."""
    to = packed(address)
    payload = _NEIGHBOUR.pack(family_of(to), index, 0, 0, 0) + nl.attribute(_NDA_DST, to)
    return nl.Message(f"neighbour {address} on {link}", _RTM_DELNEIGH, 0, payload)


def forwarding(mac: str, endpoint: str, link: str, index: int) -> nl.Message:
    """Frames for `mac` leave the VXLAN device to the tunnel endpoint."""
    return nl.Message(
        f"forwarding entry {mac} on {link}",
        _RTM_NEWNEIGH,
        nl.NLM_F_CREATE | nl.NLM_F_REPLACE,
        _NEIGHBOUR.pack(AF_BRIDGE, index, NUD_PERMANENT, _NTF_SELF, 0) + _tunnel(mac, endpoint),
    )


def forwarding_deletion(mac: str, endpoint: str, link: str, index: int) -> nl.Message:
    """Remove a forwarding entry of a VXLAN device."""
    payload = _NEIGHBOUR.pack(AF_BRIDGE, index, 0, _NTF_SELF, 0) + _tunnel(mac, endpoint)
    return nl.Message(f"forwarding entry {mac} on {link}", _RTM_DELNEIGH, 0, payload)


def _tunnel(mac: str, endpoint: str) -> bytes:
    return nl.attribute(_NDA_DST, packed(endpoint)) + nl.attribute(_NDA_LLADDR, packed_mac(mac))
