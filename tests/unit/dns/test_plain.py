"""What is read and written without the library is what the library reads and writes."""

from __future__ import annotations

import dataclasses

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.dns import messages, plain
from netlab.dns.messages import Answer, Question
from netlab.dns.records import Authority, Record, Server

ZONE = "cluster.local"
SOA = Record(ZONE, "SOA", Authority(ZONE, 1_796_000_000, 30))
WEB = f"Web.default.svc.{ZONE}"


def record(kind: str, data: str) -> Record:
    return Record(WEB.lower(), kind, data)


ANSWERS = {
    "an address": Answer(answers=[record("A", "10.96.0.1")], ttl=30),
    "several": Answer(answers=[record("A", f"10.96.0.{n}") for n in range(9)], ttl=5),
    "of IPv6": Answer(answers=[record("AAAA", "fd00::1")], ttl=30),
    "nothing": Answer(authority=[SOA], ttl=30),
    "no such name": Answer(rcode="NXDOMAIN", authority=[SOA], ttl=30),
    "no such name of the hosts": Answer(rcode="NXDOMAIN"),
    "refused": Answer(rcode="REFUSED", authoritative=False),
    "with recursion": Answer(rcode="SERVFAIL", authoritative=False, recursion=True),
    "too much": Answer(answers=[record("A", f"10.96.{n // 250}.{n % 250}") for n in range(200)], ttl=30),
    "an alias": Answer(answers=[record("CNAME", "x.example"), Record("x.example", "A", "192.0.2.1")], ttl=30),
    "a server": Answer(
        answers=[Record(WEB.lower(), "SRV", Server(80, f"a.{ZONE}"))],
        additional=[Record(f"a.{ZONE}", "A", "10.0.0.1")],
        ttl=30,
    ),
    "because": Answer(rcode="REFUSED", authoritative=False, because=(20, "no")),
    "a denial of the zone itself": Answer(authority=[SOA], ttl=30),
    "a denial of another zone": Answer(authority=[Record("x.test", "SOA", Authority("x.test", 1, 30))], ttl=30),
}
BY_LIBRARY = {"too much", "an alias", "a server", "because", "a denial of another zone"}


@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("edns", [None, 512, 1232, 4096])
@pytest.mark.parametrize("tcp", [False, True])
def test_the_bytes_of_an_answer_are_the_librarys(what: str, edns: int | None, tcp: bool) -> None:
    name = ZONE if what == "a denial of the zone itself" else WEB
    query = dns.message.make_query(name, "A", use_edns=None if edns is None else 0, payload=edns or 0)
    question = messages.read(query.to_wire())
    assert isinstance(question, Question)
    assert question.plain is not None
    ours = messages.write(question, ANSWERS[what], tcp=tcp)
    theirs = messages.write(dataclasses.replace(question, plain=None), ANSWERS[what], tcp=tcp)
    if len(ANSWERS[what].answers) > 1:  # the library puts them in another order each time
        assert (sorted(ours), dns.message.from_wire(ours)) == (sorted(theirs), dns.message.from_wire(theirs))
    else:
        assert ours == theirs
    short = plain.write(question.plain, ANSWERS[what], 65535 if tcp else 512, 1232)
    assert (short is None) == (what in BY_LIBRARY and not (tcp and what == "too much"))


def query(**fields: object) -> dns.message.Message:
    return dns.message.make_query(WEB, "A", **fields)  # type: ignore[arg-type]


def changed(message: dns.message.Message, **fields: object) -> dns.message.Message:
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    "wire",
    [
        query(use_edns=0, options=[dns.edns.NSIDOption(b"")]).to_wire(),
        changed(query(use_edns=0), ednsflags=1 << 16).to_wire(),
        changed(query(), flags=dns.flags.QR).to_wire(),
        changed(query(), flags=dns.flags.TC).to_wire(),
        dns.message.make_query(WEB, "A", rdclass="CH").to_wire(),
        dns.message.make_query(WEB, "AXFR").to_wire(),
        dns.message.make_query("a\\.b.local", "A").to_wire(),
        query().to_wire() + b"\0",
        query().to_wire()[:-1],
        query().to_wire()[:-5],
        query().to_wire()[:12],
        b"",
    ],
    # Each process makes messages with numbers of its own.
    ids=lambda wire: f"{len(wire)} bytes",
)
def test_what_is_unusual_is_the_librarys(wire: bytes) -> None:
    assert plain.read(wire) is None


@given(st.binary(max_size=80) | st.tuples(st.just(query(use_edns=0).to_wire()), st.integers(0, 60), st.binary()).map(
    lambda given: given[0][: given[1]] + given[2]
))  # fmt: skip
def test_whatever_is_read_is_read_as_by_the_library(wire: bytes) -> None:
    found = plain.read(wire)
    if found is not None:
        message = dns.message.from_wire(wire)
        (asked,) = message.question
        assert (found.name, found.identifier) == (
            asked.name.to_text(omit_final_dot=True).lower().strip("."),
            message.id,
        )
        assert found.payload == (message.payload if message.edns >= 0 else None)
