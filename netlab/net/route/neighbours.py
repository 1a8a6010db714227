"""Neighbours and forwarding entries: made and deleted.

Constants are the kernel's (include/uapi/linux/neighbour.h).
"""

from __future__ import annotations

import socket
from struct import Struct

from netlab.net.netlink import NLM_F_CREATE, NLM_F_REPLACE, Message, attribute
from netlab.net.route import family_of

_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_PERMANENT = 0x80
_NTF_SELF = 0x02
_NEIGHBOUR = Struct("=BxxxiHBB")  # ndmsg: family, index, state, flags, type


def replacement(address: str, mac: str, link: str, index: int) -> Message:
    """A permanent ARP or NDP entry, in place of any other for the address."""
    packed = packed_address(address)
    return Message(
        f"neighbour {address} on {link}",
        _RTM_NEWNEIGH,
        NLM_F_CREATE | NLM_F_REPLACE,
        _NEIGHBOUR.pack(family_of(packed), index, _NUD_PERMANENT, 0, 0)
        + attribute(_NDA_DST, packed)
        + attribute(_NDA_LLADDR, _mac(mac)),
    )


def deletion(address: str, link: str, index: int) -> Message:
    """Remove an ARP or NDP entry."""
    packed = packed_address(address)
    payload = _NEIGHBOUR.pack(family_of(packed), index, 0, 0, 0) + attribute(_NDA_DST, packed)
    return Message(f"neighbour {address} on {link}", _RTM_DELNEIGH, 0, payload)


def forwarding(mac: str, endpoint: str, link: str, index: int) -> Message:
    """Frames for `mac` leave the VXLAN device to the tunnel endpoint."""
    return Message(
        f"forwarding entry {mac} on {link}",
        _RTM_NEWNEIGH,
        NLM_F_CREATE | NLM_F_REPLACE,
        _NEIGHBOUR.pack(socket.AF_BRIDGE, index, _NUD_PERMANENT, _NTF_SELF, 0) + _tunnel(mac, endpoint),
    )


def forwarding_deletion(mac: str, endpoint: str, link: str, index: int) -> Message:
    """Remove a forwarding entry of a VXLAN device."""
    payload = _NEIGHBOUR.pack(socket.AF_BRIDGE, index, 0, _NTF_SELF, 0) + _tunnel(mac, endpoint)
    return Message(f"forwarding entry {mac} on {link}", _RTM_DELNEIGH, 0, payload)


def packed_address(text: str) -> bytes:
    """An address in network byte order; a tenth of what ipaddress takes."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _tunnel(mac: str, endpoint: str) -> bytes:
    return attribute(_NDA_DST, packed_address(endpoint)) + attribute(_NDA_LLADDR, _mac(mac))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
