"""BGP-4 (RFC 4271) as far as a speaker needs it that only announces: messages made, and the peer's read. Pure.

IPv6 prefixes are announced over the same session by multiprotocol extensions (RFC 4760); AS numbers have four bytes
(RFC 6793).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from typing import NamedTuple

from netlab.errors import NetlabError
from netlab.net.addresses import packed

PORT = 179
HEADER = 19
LONGEST = 4096

OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4
_KINDS = {OPEN: 29, UPDATE: 23, NOTIFICATION: 21, KEEPALIVE: HEADER}
"""Each type's least length (6.1)."""
CEASE = 6

_MARKER = b"\xff" * 16
_VERSION = 4
_AS_TRANS = 23456
_CAPABILITIES, _MULTIPROTOCOL, _FOUR_BYTES = 2, 1, 65
_IPV6_UNICAST = struct.pack("!HxB", 2, 1)
_IPV4_UNICAST = struct.pack("!HxB", 1, 1)
_WELL_KNOWN, _OPTIONAL = 0x40, 0x80
_ORIGIN, _AS_PATH, _NEXT_HOP, _REACH, _UNREACH = 1, 2, 3, 14, 15
_AS_SEQUENCE = 2
_MOST_PREFIXES = 150
"""Of one message: with 17 bytes for each they stay below LONGEST."""


class BgpError(NetlabError):
    """The peer broke the protocol, or ended the session."""


class Open(NamedTuple):
    """What an OPEN says: the sender's AS, for how many seconds it waits for a message (0: for ever)."""

    asn: int
    hold_time: int


def open_message(asn: int, hold_time: int, identifier: str) -> bytes:
    """An OPEN; the identifier is an IPv4 address that no other speaker has."""
    capabilities = _capability(_MULTIPROTOCOL, _IPV4_UNICAST) + _capability(_MULTIPROTOCOL, _IPV6_UNICAST)
    capabilities += _capability(_FOUR_BYTES, struct.pack("!I", asn))
    optional = bytes((_CAPABILITIES, len(capabilities))) + capabilities
    number = asn if asn < 1 << 16 else _AS_TRANS
    body = struct.pack("!BHH4sB", _VERSION, number, hold_time, packed(identifier), len(optional)) + optional
    return _message(OPEN, body)


def keepalive() -> bytes:
    """A KEEPALIVE."""
    return _message(KEEPALIVE)


def notification(code: int, subcode: int = 0) -> bytes:
    """A NOTIFICATION, after which the session is over."""
    return _message(NOTIFICATION, bytes((code, subcode)))


def announcements(prefixes: Iterable[str], asn: int, next_hop: str) -> list[bytes]:
    """UPDATEs that say that prefixes of the next hop's family are reached by it, and begin in an AS."""
    path = struct.pack("!BBI", _AS_SEQUENCE, 1, asn)
    attributes = _attribute(_WELL_KNOWN, _ORIGIN, b"\0") + _attribute(_WELL_KNOWN, _AS_PATH, path)
    found = []
    for part in _parts(prefixes):
        reach = b"".join(map(_prefix, part))
        if ":" in next_hop:
            whole = attributes + _long(_REACH, _IPV6_UNICAST[:2] + b"\1\x10" + packed(next_hop) + b"\0" + reach)
            found.append(_update(b"", whole, b""))
        else:
            found.append(_update(b"", attributes + _attribute(_WELL_KNOWN, _NEXT_HOP, packed(next_hop)), reach))
    return found


def withdrawals(prefixes: Iterable[str]) -> list[bytes]:
    """UPDATEs that take back prefixes of one family."""
    found = []
    for part in _parts(prefixes):
        gone = b"".join(map(_prefix, part))
        if ":" in part[0]:
            found.append(_update(b"", _long(_UNREACH, _IPV6_UNICAST[:2] + b"\1" + gone), b""))
        else:
            found.append(_update(gone, b"", b""))
    return found


def length_of(header: bytes) -> tuple[int, int]:
    """A message's type, and the length of what follows its header. Raises BgpError."""
    marker, length, kind = struct.unpack("!16sHB", header)
    if marker != _MARKER:
        raise BgpError("a message does not begin with the marker")
    if kind not in _KINDS:
        raise BgpError(f"a message is of type {kind}, which there is not")
    if not _KINDS[kind] <= length <= LONGEST:
        raise BgpError(f"a message of type {kind} says that it has {length} bytes")
    return kind, length - HEADER


def read_open(body: bytes) -> Open:
    """An OPEN's body. Raises BgpError for another version, and for a hold time that may not be."""
    version, asn, hold_time, _, length = struct.unpack_from("!BHH4sB", body)
    if version != _VERSION:
        raise BgpError(f"the peer speaks BGP-{version}")
    if hold_time in (1, 2) or len(body) != 10 + length:
        raise BgpError("the peer's OPEN makes no sense")
    return Open(_four_bytes(body[10:]) or asn, hold_time)


def read_notification(body: bytes) -> BgpError:
    """Why the peer ends the session."""
    return BgpError(f"the peer ended the session: error {body[0]}.{body[1]}")


def _four_bytes(optional: bytes) -> int:
    """The AS number of the capability, 0 if there is none."""
    while len(optional) >= 2:
        kind, length = optional[0], optional[1]
        capabilities, optional = optional[2 : 2 + length], optional[2 + length :]
        while kind == _CAPABILITIES and len(capabilities) >= 2:
            code, size = capabilities[0], capabilities[1]
            value, capabilities = capabilities[2 : 2 + size], capabilities[2 + size :]
            if code == _FOUR_BYTES and len(value) == 4:
                return int.from_bytes(value)
    return 0


def _message(kind: int, body: bytes = b"") -> bytes:
    return _MARKER + struct.pack("!HB", HEADER + len(body), kind) + body


def _update(withdrawn: bytes, attributes: bytes, reach: bytes) -> bytes:
    parts = (len(withdrawn).to_bytes(2), withdrawn, len(attributes).to_bytes(2), attributes, reach)
    return _message(UPDATE, b"".join(parts))


def _attribute(flags: int, kind: int, value: bytes) -> bytes:
    return bytes((flags, kind, len(value))) + value


def _long(kind: int, value: bytes) -> bytes:
    """An optional attribute of more than 255 bytes, perhaps (extended length)."""
    return bytes((_OPTIONAL | 0x10, kind)) + len(value).to_bytes(2) + value


def _capability(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def _prefix(text: str) -> bytes:
    network = ipaddress.ip_network(text)
    return bytes((network.prefixlen,)) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def _parts(prefixes: Iterable[str]) -> list[list[str]]:
    listed = sorted(prefixes)
    return [listed[start : start + _MOST_PREFIXES] for start in range(0, len(listed), _MOST_PREFIXES)]
