"""Questions and answers in the form that nearly all have, read and written in a tenth of the library's time. Pure.

What is not in that form is `messages`', and so the library's (dnspython): other flags, options of EDNS, names with
unusual letters, answers with several names in them, answers that are too long.
"""

from __future__ import annotations

import re
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from netlab.dns.records import Authority

if TYPE_CHECKING:
    from netlab.dns.messages import Answer

_HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HH")
_OPT = struct.Struct("!BHHIH")
"""Of EDNS without options: the root, the type, the sender's payload, extended flags, no data (RFC 6891, 6.1.2)."""
_POINTED = struct.Struct("!H")
_DATA = struct.Struct("!HHIH")
"""Of a record after its name: type, class, time to live, the length of what follows."""
_SOA = struct.Struct("!IIIII")
_IN, _SOA_TYPE, _OPT_TYPE = 1, 6, 41
_RESPONSE, _AUTHORITATIVE, _RECURSE, _RECURSION = 0x8000, 0x0400, 0x0100, 0x0080
_IGNORED = 0x0030
"""AD and CD: of DNSSEC, about which nothing is said here."""
_DNSSEC_OK = 0x8000
_POINTER = 0xC000
"""To a name that stands earlier in the message (RFC 1035, section 4.1.4)."""
_QUESTIONED = _POINTED.pack(_POINTER | _HEADER.size)
_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV"}
_ADDRESSES = {"A": (1, socket.AF_INET), "AAAA": (28, socket.AF_INET6)}
_RCODES = {"NOERROR": 0, "SERVFAIL": 2, "NXDOMAIN": 3, "REFUSED": 5}
_LABEL = re.compile(rb"[A-Za-z0-9_-]{1,63}")
_LONGEST = 255
"""Bytes of a name (RFC 1035, section 2.3.4)."""
_SECONDARIES = (7200, 1800, 86400)
"""How often those would look who hold a copy of the zone: nobody does."""


class Asked(NamedTuple):
    """A question: its name in lower case, its type, its bytes, and the payload that the client takes (EDNS)."""

    identifier: int
    recurse: bool
    name: str
    type: str
    section: bytes
    payload: int | None


def read(wire: bytes) -> Asked | None:
    """The question in a message of the usual form; None for all others."""
    try:
        identifier, flags, *counts, additional = _HEADER.unpack_from(wire)
        if flags & ~(_RECURSE | _IGNORED) or counts != [1, 0, 0] or additional > 1:
            return None
        labels, end = _labels(wire)
        kind, of_class = _FIXED.unpack_from(wire, end)
        rest = wire[end + _FIXED.size :]
        payload = None
        if additional:
            root, opt, payload, extended, length = _OPT.unpack(rest)
            if root or opt != _OPT_TYPE or extended & ~_DNSSEC_OK or length:
                return None
        elif rest:
            return None
    except (struct.error, ValueError):
        return None
    if of_class != _IN or kind not in _TYPES:
        return None
    name = b".".join(labels).decode("ascii").lower()
    section = wire[_HEADER.size : end + _FIXED.size]
    return Asked(identifier, bool(flags & _RECURSE), name, _TYPES[kind], section, payload)


def _labels(wire: bytes) -> tuple[list[bytes], int]:
    """The labels of the name after the header, and where it ends. Raises `ValueError`."""
    labels, at = [], _HEADER.size
    while at < len(wire) and (length := wire[at]):
        label = wire[at + 1 : at + 1 + length]
        if len(label) != length or not _LABEL.fullmatch(label):
            raise ValueError("a name that is not plain")
        labels.append(label)
        at += 1 + length
    if at >= len(wire) or at + 1 - _HEADER.size > _LONGEST:
        raise ValueError("a name without an end, or too long")
    return labels, at + 1


def write(asked: Asked, answer: Answer, limit: int, payload: int) -> bytes | None:
    """The answer's bytes, at most `limit`; None if it is not of the usual form. `payload` is what this server takes."""
    if answer.additional or answer.further or answer.because is not None or answer.rcode not in _RCODES:
        return None
    sections = [_addresses(asked, answer), _denial(asked, answer)]
    if None in sections:
        return None
    flags = _RESPONSE | _RCODES[answer.rcode]
    flags |= asked.recurse and _RECURSE
    flags |= answer.authoritative and _AUTHORITATIVE
    flags |= answer.recursion and _RECURSION
    has_edns = asked.payload is not None
    head = _HEADER.pack(asked.identifier, flags, 1, len(answer.answers), len(answer.authority), int(has_edns))
    opt = _OPT.pack(0, _OPT_TYPE, payload, 0, 0) if has_edns else b""
    written = b"".join((head, asked.section, *(each or b"" for each in sections), opt))
    return written if len(written) <= limit else None


def _addresses(asked: Asked, answer: Answer) -> bytes | None:
    """The answers, if all are addresses of the name that was asked for."""
    written = []
    for owner, kind, data in answer.answers:
        if owner != asked.name or kind not in _ADDRESSES or not isinstance(data, str):
            return None
        number, family = _ADDRESSES[kind]
        address = socket.inet_pton(family, data)
        written.append(_QUESTIONED + _DATA.pack(number, _IN, answer.ttl, len(address)) + address)
    return b"".join(written)


def _denial(asked: Asked, answer: Answer) -> bytes | None:
    """The authority, if it is nothing but the SOA of a zone that the name is in."""
    if not answer.authority:
        return b""
    (record, *others) = answer.authority
    if others or not isinstance(data := record.data, Authority) or record.owner != data.zone or not data.zone:
        return None
    if asked.name != data.zone and not asked.name.endswith(f".{data.zone}"):
        return None
    # The zone's bytes are in the question, at its end: a letter is a byte, and each label has one more for its length.
    zone = _POINTED.pack(_POINTER | (_HEADER.size + len(asked.name) - len(data.zone)))
    soa = b"\2ns\3dns" + zone + b"\x0ahostmaster" + zone + _SOA.pack(data.serial, *_SECONDARIES, data.ttl)
    return zone + _DATA.pack(_SOA_TYPE, _IN, answer.ttl, len(soa)) + soa
