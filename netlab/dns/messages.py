"""DNS messages: questions read, answers written (RFC 1035, EDNS by RFC 6891). dnspython does what is not `plain`."""

from __future__ import annotations

import dataclasses
import functools
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.HINFO import HINFO
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from netlab.dns import plain
from netlab.dns.names import normal
from netlab.dns.records import Data, Record

_IN = dns.rdataclass.IN
_HEADER = 12
_RESPONSE = 0x80
"""QR: the first bit of the third byte."""
_LEAST, _MOST = 512, 1232
"""Bytes of an answer by UDP: what everybody takes (RFC 1035, 2.3.4), and what no path fragments (DNS flag day 2020)."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What a client asks; `plain` where its message is of the usual form."""

    name: str
    type: str
    wire: bytes
    plain: plain.Asked | None = None

    @functools.cached_property
    def message(self) -> dns.message.Message:
        """The whole."""
        return dns.message.from_wire(self.wire)

    @property
    def has_options(self) -> bool:
        """Whether the client says more by EDNS than how long an answer may be."""
        return self.plain is None and bool(self.message.options)


@dataclasses.dataclass
class Answer:
    """What a server says: records by section, and why there are none."""

    rcode: str = "NOERROR"
    authoritative: bool = True
    recursion: bool = False
    """Whether this server would ask others."""
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    ttl: int = 0
    further: Sequence[dns.rrset.RRset] = ()
    """What other servers have answered, after our own answers."""
    because: tuple[int, str] | None = None
    """An extended error (RFC 8914): its code and text."""


def read(wire: bytes) -> Question | bytes | None:
    """The question in a message; the answer to one that cannot be read or is of no use; None to say nothing at all."""
    if len(wire) < _HEADER or wire[2] & _RESPONSE:
        return None  # an answer to an answer would go to and fro for ever
    if (found := plain.read(wire)) is not None:
        return Question(found.name, found.type, wire, found)
    try:
        message = dns.message.from_wire(wire)
    except Exception:
        # Whatever the bytes made the library raise, it is the sender's matter (tests/unit/dns/test_messages.py).
        return _refusal(wire, dns.rcode.FORMERR)
    if (refused := _refused(message)) is not None:
        return _refusal(wire, refused)
    if message.edns > 0:
        answer = dns.message.make_response(message, our_payload=_MOST)
        answer.use_edns(0, payload=_MOST)
        answer.set_rcode(dns.rcode.BADVERS)
        return answer.to_wire()
    asked = message.question[0]
    return Question(normal(asked.name.to_text()), dns.rdatatype.to_text(asked.rdtype), wire)


def _refused(message: dns.message.Message) -> dns.rcode.Rcode | None:
    """Why a message is not answered, if it is no question for us."""
    if message.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if len(message.question) != 1:
        return dns.rcode.FORMERR
    asked = message.question[0]
    is_ours = asked.rdclass == _IN and asked.rdtype not in (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
    return None if is_ours else dns.rcode.REFUSED


def write(question: Question, answer: Answer, *, tcp: bool, nsid: str | None = None) -> bytes:
    """The answer on the wire. By UDP one that is too long is truncated (TC), so that the client asks by TCP.

    `nsid` is the name of this server, for clients that ask who answers (RFC 5001).
    """
    if (found := question.plain) is not None:
        limit = _limit(found.payload, tcp=tcp)
        if (written := plain.write(found, answer, limit, _MOST)) is not None:
            return written
    asked = question.message
    message = dns.message.make_response(asked, our_payload=_MOST, recursion_available=answer.recursion)
    message.set_rcode(dns.rcode.from_text(answer.rcode))
    if answer.authoritative:
        message.flags |= dns.flags.AA
    options: list[dns.edns.Option] = []
    if answer.because is not None:
        code, text = answer.because
        options.append(dns.edns.EDEOption(dns.edns.EDECode(code), text))
    if nsid is not None and any(each.otype == dns.edns.OptionType.NSID for each in asked.options):
        options.append(dns.edns.NSIDOption((nsid or socket.gethostname()).encode()))
    if options and asked.edns >= 0:
        message.use_edns(0, payload=_MOST, options=options)
    name = asked.question[0].name
    message.answer += [*_sets(answer.answers, answer.ttl, name), *answer.further]
    message.authority += _sets(answer.authority, answer.ttl, name)
    message.additional += _sets(answer.additional, answer.ttl, name)
    limit = _limit(asked.payload if asked.edns >= 0 else None, tcp=tcp)
    return message.to_wire(max_size=limit, prefer_truncation=True)


def _limit(payload: int | None, *, tcp: bool) -> int:
    """How long an answer may be for a client that takes that much by UDP, if it says so.

    Space for nothing else: a name server on the Internet's other side need not fear to be used as an amplifier here.
    """
    return 65535 if tcp else _LEAST if payload is None else min(max(payload, _LEAST), _MOST)


def shuffled(records: Sequence[Record]) -> Sequence[Record]:
    """Records in another order, each time: clients take the first address."""
    return random.sample(records, len(records)) if len(records) > 1 else records


def about(question: Question, name: str) -> bytes:
    """The same question about another name."""
    asked = question.message
    payload = asked.payload if asked.edns >= 0 else None
    return dns.message.make_query(
        _name(name), asked.question[0].rdtype, use_edns=None if payload is None else 0, payload=payload
    ).to_wire()


def joined(begun: Answer, wire: bytes) -> Answer:
    """An answer that was begun with an alias, with what another server says of the alias's target."""
    try:
        found = dns.message.from_wire(wire, ignore_trailing=True)
    except dns.exception.DNSException:
        return begun
    return dataclasses.replace(begun, further=found.answer, authoritative=False)


def rcode_of(wire: bytes) -> str:
    """What an answer says of itself, without what EDNS adds to it."""
    return dns.rcode.to_text(dns.rcode.Rcode(wire[3] & 0x0F))


def failure(wire: bytes) -> bytes:
    """The answer to a question that could not be answered for no fault of its own (SERVFAIL)."""
    return _refusal(wire, dns.rcode.SERVFAIL)


def _refusal(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """A header alone: what may be said of a message without understanding the rest of it (RFC 1035, 4.1.1)."""
    opcode_and_rd = wire[2] & 0x79
    return wire[:2] + bytes([_RESPONSE | opcode_and_rd, int(rcode)]) + bytes(8)


def _sets(records: Iterable[Record], ttl: int, asked: dns.name.Name) -> list[dns.rrset.RRset]:
    """Records as sets, in the order in which they come. The asked name keeps its upper case, by which some check."""
    by_name: dict[tuple[str, str], list[dns.rdata.Rdata]] = {}
    for owner, kind, data in records:
        by_name.setdefault((owner, kind), []).append(_rdata(kind, data))
    found = []
    for (owner, _), rdata in by_name.items():
        name = asked if normal(asked.to_text()) == owner else _name(owner)
        found.append(dns.rrset.from_rdata_list(name, ttl, rdata))
    return found


def _rdata(kind: str, data: Data) -> dns.rdata.Rdata:
    make: Callable[..., dns.rdata.Rdata] = _CLASSES[kind]
    return make(_IN, dns.rdatatype.from_text(kind), *_FIELDS[kind](data))


def _of_authority(data: Any) -> tuple[Any, ...]:
    # How often secondaries look is nobody's concern; the last number is how long a denial may be kept (RFC 2308).
    zone, serial, ttl = data
    return _name(f"ns.dns.{zone}"), _name(f"hostmaster.{zone}"), serial, 7200, 1800, 86400, ttl


def _name(text: str) -> dns.name.Name:
    return dns.name.from_text(text, dns.name.root)


_CLASSES = {
    "A": A,
    "AAAA": AAAA,
    "CNAME": CNAME,
    "HINFO": HINFO,
    "NS": NS,
    "PTR": PTR,
    "SOA": SOA,
    "SRV": SRV,
    "TXT": TXT,
}
_FIELDS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "A": lambda address: (address,),
    "AAAA": lambda address: (address,),
    "CNAME": lambda name: (_name(name),),
    "HINFO": lambda text: (text.encode(), b""),
    "NS": lambda name: (_name(name),),
    "PTR": lambda name: (_name(name),),
    "SOA": _of_authority,
    "SRV": lambda server: (0, 100, server.port, _name(server.target)),
    "TXT": lambda text: ([text.encode()],),
}
"""How the library has a type's data, without class and type."""
