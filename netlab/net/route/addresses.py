"""Addresses of links: added, deleted and read. Constants are the kernel's (include/uapi/linux/if_addr.h)."""

from __future__ import annotations

from _struct import Struct

from netlab.net.netlink import NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Message, Netlink, attribute, attributes
from netlab.net.route import SCOPE_UNIVERSE, family_of

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x02, 0x08, 0x40

_ADDRESS = Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index


class Address:
    """An address of a link: `packed` in network byte order, its prefix length, flags (`IFA_F_*`) and scope."""

    __slots__ = ("flags", "index", "length", "packed", "scope")

    def __init__(self, payload: bytes) -> None:
        _, self.length, self.flags, self.scope, self.index = _ADDRESS.unpack_from(payload)
        found = dict(attributes(payload, _ADDRESS.size))
        self.packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]


def _address(
    kind: int, flags: int, link: str, index: int, packed: bytes, length: int, bits: int = 0, scope: int = SCOPE_UNIVERSE
) -> Message:
    return Message(
        f"address on {link}",
        kind,
        flags,
        _ADDRESS.pack(family_of(packed), length, bits, scope, index)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed),
    )


def addition(
    link: str, index: int, packed: bytes, length: int, *, detect: bool = False, scope: int = SCOPE_UNIVERSE
) -> Message:
    """Add an address, usable at once unless `detect` has IPv6 look for duplicates first: IPAM has made sure.

    With a `scope` other than the universe's, the kernel does not use it as the source for anything beyond; the scope
    of an IPv6 address follows from the address itself.
    """
    bits = 0 if detect or len(packed) == 4 else _IFA_F_NODAD
    return _address(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link, index, packed, length, bits, scope)


def deletion(link: str, index: int, packed: bytes, length: int) -> Message:
    """Remove an address."""
    return _address(_RTM_DELADDR, 0, link, index, packed, length)


def addresses_of(kernel: Netlink, index: int) -> list[Address]:
    """The addresses of a link, or with the index 0 of all links, both families. Raises `NetlinkError`."""
    request = Message(f"addresses of link {index}", _RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, index))
    return [Address(payload) for payload in kernel.ask(request)]
