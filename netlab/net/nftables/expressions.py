"""The expressions that rules are made of.

They are listed in the order of their evaluation, and pass values to each other in sixteen registers of four bytes,
numbered from 0.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton
from _struct import Struct

from netlab.net.netlink import attribute, nested, string
from netlab.net.nftables import FAMILIES, be32

_LIST_ELEM = 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_REGISTER_0, _VERDICT_REGISTER = 8, 0  # NFT_REG32_00, NFT_REG_VERDICT
_JUMP, _GOTO = -3, -4
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_META_NFTRACE, _META_L4PROTO = 12, 16
_CT_ID = 23
_CMP_EQ, _CMP_LTE, _CMP_GTE = 0, 3, 5
_NUMGEN_RANDOM = 1
_NAT_DNAT = 1
_DYNSET_UPDATE = 1
_S32 = Struct("!i")
_ADDRESS = {"ip": (12, 16, 4), "ip6": (8, 24, 16)}
"""Offsets of the source and the destination in the network header, and their length."""


def source_address(family: str, register: int) -> bytes:
    """Load `ip saddr` into a register; an IPv6 address takes four."""
    offset, _, length = _ADDRESS[family]
    return _payload(_NETWORK_HEADER, offset, length, register)


def packed_address(family: str, address: str) -> bytes:
    """The bytes of an address."""
    return inet_pton(AF_INET if family == "ip" else AF_INET6, address)


def destination_address(family: str, register: int) -> bytes:
    """Load `ip daddr` into a register; an IPv6 address takes four."""
    _, offset, length = _ADDRESS[family]
    return _payload(_NETWORK_HEADER, offset, length, register)


def destination_port(register: int) -> bytes:
    """Load `th dport` into a register."""
    return transport(2, 2, register)


def transport(offset: int, length: int, register: int) -> bytes:
    """Load bytes that begin at an offset from the transport header into registers."""
    return _payload(_TRANSPORT_HEADER, offset, length, register)


def protocol(register: int) -> bytes:
    """Load `meta l4proto` into a register."""
    return _expression("meta", _register(1, register), be32(2, _META_L4PROTO))


def connection(register: int) -> bytes:
    """Load `ct id` into a register: the number of the connection that conntrack counts the packet to."""
    return _expression("ct", _register(1, register), be32(2, _CT_ID))


def trace(register: int) -> bytes:
    """`meta nftrace set`: the kernel reports what happens to the packet from now on if a register holds 1."""
    return _expression("meta", be32(2, _META_NFTRACE), _register(3, register))


def random(modulus: int, register: int) -> bytes:
    """Load `numgen random mod MODULUS` into a register, in the machine's byte order."""
    return _expression(
        "numgen",
        _register(1, register),
        be32(2, modulus),
        be32(3, _NUMGEN_RANDOM),
    )


def lookup(name: str, key: int, data: int | None = None) -> bytes:
    """Look up the key that starts in a register in a set, or in a map and put its data into another register.

    The rule ends if the key is not found.
    """
    to = () if data is None else (_register(3, data),)
    return _expression("lookup", string(1, name), _register(2, key), *to)


def follow(name: str, key: int) -> bytes:
    """Look up the key that starts in a register in a verdict map, and apply the verdict."""
    to = be32(3, _VERDICT_REGISTER)
    return _expression("lookup", string(1, name), _register(2, key), to)


def update(name: str, key: int) -> bytes:
    """Add the key in a register to a dynamic set, or renew its timeout. If the set is full, the rule ends."""
    return _expression("dynset", string(1, name), be32(3, _DYNSET_UPDATE), _register(4, key))


def equal(register: int, value: bytes) -> bytes:
    """Go on if a register holds that value."""
    return _compare(_CMP_EQ, register, value)


def at_least(register: int, value: bytes) -> bytes:
    """Go on if what a register holds, a number in network byte order, is not less."""
    return _compare(_CMP_GTE, register, value)


def at_most(register: int, value: bytes) -> bytes:
    """Go on if what a register holds, a number in network byte order, is not more."""
    return _compare(_CMP_LTE, register, value)


def constant(register: int, value: bytes) -> bytes:
    """Load a value into a register."""
    return _expression("immediate", _register(1, register), nested(2, attribute(1, value)))


def jump(chain: str) -> bytes:
    """`jump CHAIN`."""
    return _to_chain(_JUMP, chain)


def goto(chain: str) -> bytes:
    """`goto CHAIN`."""
    return _to_chain(_GOTO, chain)


def _to_chain(code: int, chain: str) -> bytes:
    verdict = attribute(1, _S32.pack(code)) + string(2, chain)
    return _expression("immediate", be32(1, _VERDICT_REGISTER), nested(2, nested(2, verdict)))


def dnat(family: str, address: int, port: int) -> bytes:
    """`dnat` to the address and the port in these registers."""
    return _expression(
        "nat",
        be32(1, _NAT_DNAT),
        be32(2, FAMILIES[family]),
        _register(3, address),
        _register(5, port),
    )


def _compare(operation: int, register: int, value: bytes) -> bytes:
    return _expression("cmp", _register(1, register), be32(2, operation), nested(3, attribute(1, value)))


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    fields = (be32(kind, value) for kind, value in ((2, base), (3, offset), (4, length)))
    return _expression("payload", _register(1, register), *fields)


def _expression(name: str, *fields: bytes) -> bytes:
    return nested(_LIST_ELEM, string(_EXPR_NAME, name) + nested(_EXPR_DATA, b"".join(fields)))


def _register(kind: int, number: int) -> bytes:
    return be32(kind, _REGISTER_0 + number)
