"""What is said to a message: on the wire in, on the wire out."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.dns.corefile import parse
from netlab.dns.instance import Instance
from netlab.dns.metrics import Metrics
from tests.unit.dns.objects import Names, service, slice_of

COREFILE = """
.:53 {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    loadbalance
}
example:53 {
    hosts {
        192.0.2.7 www.example
        fallthrough
    }
}
"""
MANY = [(f"10.244.{n // 250}.{n % 250 + 1}", f"pet-{n}", True) for n in range(400)]
WORLD = [
    service("web", clusterIP="10.96.1.1"),
    service("alias", type="ExternalName", externalName="web.shop.svc.cluster.local"),
    service("away", type="ExternalName", externalName="www.example.com"),
    service("round", type="ExternalName", externalName="round.shop.svc.cluster.local"),
    service("pets", clusterIP="None"),
    slice_of("pets", ("10.244.1.5", "cat", True), ("10.244.1.6", "dog", True)),
    service("many", clusterIP="None"),
    slice_of("many", *MANY),
]


@pytest.fixture(scope="module")
def instance() -> Instance:
    return serving()


def serving() -> Instance:
    """An instance that knows WORLD."""
    return Instance(parse(COREFILE, str), Names(WORLD), Metrics())


def ask(
    instance: Instance, name: str, kind: str = "A", *, tcp: bool = False, payload: int = 1232
) -> dns.message.Message:
    """The answer to a question."""
    query = dns.message.make_query(name, kind, use_edns=0, payload=payload)
    wire = instance.answer(53, query.to_wire(), ("tcp" if tcp else "udp", "1"), "10.244.1.1:4000")
    assert isinstance(wire, bytes)
    assert len(wire) <= (65535 if tcp else 1232)
    answer = dns.message.from_wire(wire)
    assert query.is_response(answer)
    return answer


def said(answer: dns.message.Message) -> str:
    """The response code, and the answers."""
    records = " ".join(text for each in answer.answer for text in sorted(rdata.to_text() for rdata in each))
    return f"{dns.rcode.to_text(answer.rcode())} {records}".strip()


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.shop.svc.cluster.local", "A", "NOERROR 10.96.1.1"),
        ("WEB.Shop.svc.Cluster.LOCAL", "A", "NOERROR 10.96.1.1"),
        ("web.shop.svc.cluster.local", "AAAA", "NOERROR"),
        ("web.shop.svc.cluster.local", "ANY", 'NOERROR "RFC8482" ""'),
        ("no.shop.svc.cluster.local", "A", "NXDOMAIN"),
        ("cluster.local", "SOA", "NOERROR ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30"),
        ("alias.shop.svc.cluster.local", "A", "NOERROR web.shop.svc.cluster.local. 10.96.1.1"),
        ("alias.shop.svc.cluster.local", "CNAME", "NOERROR web.shop.svc.cluster.local."),
        ("away.shop.svc.cluster.local", "AAAA", "NOERROR www.example.com."),
        ("round.shop.svc.cluster.local", "A", "NOERROR round.shop.svc.cluster.local."),
        ("1.1.96.10.in-addr.arpa", "PTR", "NOERROR web.shop.svc.cluster.local."),
        ("8.8.8.8.in-addr.arpa", "PTR", "REFUSED"),
        ("example.com", "A", "REFUSED"),
        ("www.example", "A", "NOERROR 192.0.2.7"),
        ("7.2.0.192.in-addr.arpa", "PTR", "REFUSED"),
        ("no.example", "A", "REFUSED"),
    ],
)
def test_the_answer_to(instance: Instance, name: str, kind: str, expected: str) -> None:
    assert said(ask(instance, name, kind)) == expected


def test_a_denial_says_for_how_long_it_is_good(instance: Instance) -> None:
    for name in ("no.shop.svc.cluster.local", "shop.svc.cluster.local"):
        (soa,) = ask(instance, name).authority
        assert (soa.name.to_text(), soa.ttl, soa[0].minimum) == ("cluster.local.", 30, 30)


def test_a_srv_record_comes_with_its_servers_addresses(instance: Instance) -> None:
    answer = ask(instance, "_http._tcp.pets.shop.svc.cluster.local", "SRV")
    names = {rdata.target for rdata in answer.answer[0]}
    assert {each.name for each in answer.additional} == names
    assert {each[0].to_text() for each in answer.additional} == {"10.244.1.5", "10.244.1.6"}


def test_a_refusal_says_why_to_whom_knows_edns(instance: Instance) -> None:
    (option,) = ask(instance, "example.com").options
    assert (option.code, option.text) == (20, "the Corefile forwards no such name")


@pytest.mark.parametrize("payload", [512, 1232, 65000])
def test_what_is_too_long_for_udp_is_truncated_and_whole_by_tcp(instance: Instance, payload: int) -> None:
    name = "many.shop.svc.cluster.local"
    short = ask(instance, name, payload=payload)
    assert short.flags & dns.flags.TC
    whole = ask(instance, name, tcp=True)
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == len(MANY)
    assert len(short.to_wire()) <= min(payload, 1232)


def test_without_edns_an_answer_has_512_bytes(instance: Instance) -> None:
    wire = instance.answer(53, dns.message.make_query("many.shop.svc.cluster.local", "A").to_wire(), ("udp", "1"), "c")
    assert isinstance(wire, bytes)
    assert len(wire) <= 512


def test_clients_see_the_addresses_in_several_orders(instance: Instance) -> None:
    firsts = {ask(instance, "pets.shop.svc.cluster.local").answer[0][0].to_text() for _ in range(64)}
    assert firsts == {"10.244.1.5", "10.244.1.6"}


def test_an_answer_is_kept_until_what_it_is_about_changes() -> None:
    names = Names(WORLD)
    instance = Instance(parse(COREFILE, str), names, Metrics())

    def kept(name: str) -> str:
        question = dns.message.make_query(name, "A", use_edns=0)
        wire = question.to_wire()
        found = instance.kept[53].find(wire)
        answer = found[0] if found else instance.answer(53, wire, ("udp", "1"), "c")
        assert isinstance(answer, bytes)
        assert question.is_response(dns.message.from_wire(answer))
        return f"{'kept' if found else 'made'} {said(dns.message.from_wire(answer))}"

    web, new = "web.shop.svc.cluster.local", "new.shop.svc.cluster.local"
    assert [kept(web), kept(web), kept(new), kept(new)] == [
        *("made NOERROR 10.96.1.1", "kept NOERROR 10.96.1.1"),
        *("made NXDOMAIN", "kept NXDOMAIN"),
    ]
    names.give(service("new", clusterIP="10.96.1.7"))
    assert [kept(web), kept(new)] == ["kept NOERROR 10.96.1.1", "made NOERROR 10.96.1.7"]
    names.give(service("web", clusterIP="10.96.1.8"))
    assert [kept(web), kept(new)] == ["made NOERROR 10.96.1.8", "kept NOERROR 10.96.1.7"]
    # An alias may lead to anything, so its answer is made each time.
    assert [kept("alias.shop.svc.cluster.local")] * 2 == ["made NOERROR web.shop.svc.cluster.local. 10.96.1.8"] * 2


def _query(**options: object) -> bytes:
    query = dns.message.make_query("web.shop.svc.cluster.local", "A", use_edns=options.pop("edns", 0))  # type: ignore[arg-type]
    if "opcode" in options:
        query.set_opcode(options["opcode"])  # type: ignore[arg-type]
    return query.to_wire()


@pytest.mark.parametrize(
    ("wire", "rcode"),
    [
        (b"", None),
        (b"12345678901", None),
        (bytes([1, 2, 0x80]) + bytes(9), None),
        (bytes([1, 2, 1, 0, 0, 1]) + bytes(6), dns.rcode.FORMERR),
        (bytes([1, 2, 1, 0]) + bytes(8), dns.rcode.FORMERR),
        (_query()[:-3], dns.rcode.FORMERR),
        (_query() + b"more", dns.rcode.FORMERR),
        (bytes([1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xC0, 12, 0, 1, 0, 1]), dns.rcode.FORMERR),
        (bytes([1, 2, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0]) + bytes([0, 0, 1, 0, 1]) * 2, dns.rcode.FORMERR),
        (_query(opcode=dns.opcode.NOTIFY), dns.rcode.NOTIMP),
        (dns.message.make_query("cluster.local", "AXFR").to_wire(), dns.rcode.REFUSED),
        (dns.message.make_query("version.bind", "TXT", "CH").to_wire(), dns.rcode.REFUSED),
        (_query(edns=1), dns.rcode.BADVERS),
    ],
    ids=[
        *("nothing", "too short", "an answer", "no question", "no question at all", "cut off", "more than a question"),
        *("a name that points to itself", "two questions", "NOTIFY", "AXFR", "class CH", "EDNS 1"),
    ],
)
def test_what_is_no_question(instance: Instance, wire: bytes, rcode: dns.rcode.Rcode | None) -> None:
    answer = instance.answer(53, wire, ("udp", "1"), "c")
    if rcode is None:
        assert answer is None
        return
    assert isinstance(answer, bytes)
    assert answer[:2] == wire[:2]
    assert dns.message.from_wire(answer).rcode() == rcode


REAL = [
    _query(),
    dns.message.make_query(
        "a.b", "SRV", use_edns=0, payload=4096, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes(8))]
    ).to_wire(),
]


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.tuples(st.sampled_from(REAL), st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=6)).map(
            lambda case: _with(*case)
        ),
    )
)
def test_nonsense_is_answered_or_dropped(wire: bytes) -> None:
    metrics = INSTANCE._metrics
    answer = INSTANCE.answer(53, wire, ("udp", "1"), "c")
    assert metrics.failures == 0
    assert answer is None or (isinstance(answer, bytes) and answer[:2] == wire[:2] and answer[2] & 0x80)


def _with(wire: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(wire)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed)


INSTANCE = serving()


def test_what_is_not_known_yet_is_not_denied() -> None:
    names = Names(WORLD)
    names._services.synced.clear()
    instance = Instance(parse(COREFILE, str), names, Metrics())
    assert said(ask(instance, "web.shop.svc.cluster.local")) == "SERVFAIL"
    assert said(ask(instance, "www.example")) == "NOERROR 192.0.2.7"
