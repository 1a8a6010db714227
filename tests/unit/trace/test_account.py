"""What is told of a probe, from what was seen of it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import ACK, ICMP, RST, SYN, TCP, UDP, Carrier, Headers
from netlab.capture.taps import Tap
from netlab.net.nftables.elements import Verdict as Said
from netlab.net.nftables.traces import Step
from netlab.trace.account import Account
from netlab.trace.model import Path, Verdict
from netlab.trace.observe import Observation
from netlab.trace.probe import Outcome, Result
from netlab.trace.rules import Passage
from netlab.trace.state import Address, Namespace, State

_CLIENT, _SERVER, _NODE = (socket.inet_aton(a) for a in ("10.0.0.1", "10.0.1.1", "192.0.2.1"))
_POD = Tap("n", "ns/a", "eth0", "pod", "n veth0")
_VETH = Tap("n", "n", "veth0", "veth", "ns/a eth0")
_OUT = Tap("n", "n", "eth0", "underlay", "fabric n")
_FAR = Tap("m", "ns/b", "eth0", "pod", "m veth0")
_STATE = State(
    {
        "n": Namespace("n", "n", addresses=(Address("192.0.2.1", 24, "eth0"),)),
        "m": Namespace("m", "m"),
        "fabric": Namespace("fabric", "fabric"),
        "ns/a": Namespace("ns/a", "n", addresses=(Address("10.0.0.1", 24, "eth0"),)),
        "ns/b": Namespace("ns/b", "m", addresses=(Address("10.0.1.1", 24, "eth0"),)),
    }
)
_THERE = Headers(4, TCP, _CLIENT, 1000, _SERVER, 80, 64, 60, flags=SYN)
_BACK = Headers(4, TCP, _SERVER, 80, _CLIENT, 1000, 64, 60, flags=SYN | ACK)


def _journey(headers: Headers, *taps: tuple[Tap, bool], reply: bool = False) -> Journey:
    sightings = tuple(Sighting(tap, 1000 * number, out, headers) for number, (tap, out) in enumerate(taps))
    return Journey(sightings, (_CLIENT, 1000, _SERVER, 80), reply)


def _verdict(
    *journeys: Journey,
    outcome: Outcome = "silent",
    reason: str = "",
    expected: Verdict | None = None,
    thrown: dict[str, list[str]] | None = None,
    passages: tuple[Passage, ...] = (),
    **more: Any,
) -> Verdict:
    observed = Observation(
        Result(outcome, reason), list(journeys), list(passages), more.get("texts", {}), {}, thrown or {}, lost=False
    )
    return Account("ns/a", observed, _STATE).path(Path([], [], expected) if expected else None).verdict


_SENT = _journey(_THERE, (_POD, True), (_VETH, False), (_OUT, True))
_ARRIVED = _journey(_THERE, (_POD, True), (_FAR, False))
_CAME = ((_FAR, True), (_POD, False))


def _error(kind: int, code: int, source: bytes = _NODE, mtu: int = 0) -> Headers:
    return Headers(4, ICMP, source, 0, _CLIENT, 0, 64, 60, icmp_type=kind, icmp_code=code, mtu=mtu, quoted=_THERE)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (_journey(_BACK, *_CAME, reply=True), Verdict("delivered", "m", "10.0.1.1 port 80 of ns/b answers")),
        (
            _journey(_BACK._replace(flags=RST | ACK), *_CAME, reply=True),
            Verdict("refused", "m", "nothing listens at 10.0.1.1 port 80 of ns/b: it answers with a reset"),
        ),
        (
            _journey(_error(3, 3, _SERVER)._replace(quoted=_THERE._replace(protocol=UDP)), *_CAME, reply=True),
            Verdict(
                "refused", "m", "nothing listens at 10.0.1.1 port 80 of ns/b: it answers with ICMP port unreachable"
            ),
        ),
        (
            _journey(_error(3, 4, mtu=1400), (_VETH, True), (_POD, False), reply=True),
            Verdict("rejected", "n", "ICMP packet too big for MTU 1400, from 192.0.2.1"),
        ),
        (
            _journey(_error(3, 99), (_VETH, True), (_POD, False), reply=True),
            Verdict("rejected", "n", "ICMP destination unreachable (code 99), from 192.0.2.1"),
        ),
        (
            _journey(_BACK, (_FAR, True), (_VETH, False), reply=True),
            Verdict(
                "dropped",
                "n",
                "10.0.1.1 port 80 of ns/b answers, but the answer is lost: no evidence why; last seen at n veth0 (in)",
            ),
        ),
    ],
)
def test_what_came_back_tells_what_became_of_it(reply: Journey, expected: Verdict) -> None:
    assert _verdict(_ARRIVED, reply) == expected


def test_what_arrived_without_an_answer_was_delivered_unless_something_threw_it_away() -> None:
    assert _verdict(_ARRIVED) == Verdict("delivered", "m", "reached 10.0.1.1 port 80 of ns/b; there was no answer")
    lost = _verdict(_ARRIVED, thrown={"ns/b": ["rp_filter: so it is"]})
    assert lost == Verdict("dropped", "m", "rp_filter: so it is; last seen at ns/b eth0 (in)")


def test_an_answer_that_was_to_end_before_any_tap_is_lost() -> None:
    expected = Verdict("dropped", "m", "it came; the answer: no route")
    assert _verdict(_ARRIVED, expected=expected) == Verdict(
        "dropped", "m", "reached 10.0.1.1 port 80 of ns/b, but the answer is lost: no route"
    )
    elsewhere = _verdict(_ARRIVED, expected=Verdict("dropped", "n", "it came; the answer: no route"))
    assert elsewhere.outcome == "delivered"


def test_the_state_tells_why_at_either_end_of_the_last_wire() -> None:
    for node in ("n", "fabric"):
        found = _verdict(_SENT, expected=Verdict("dropped", node, "it came; the answer: too long"))
        assert found == Verdict("dropped", node, "too long; last seen at n eth0 (out)")
    elsewhere = _verdict(_SENT, expected=Verdict("dropped", "m", "too long"), thrown={"fabric": ["dropped it"]})
    assert elsewhere == Verdict("dropped", "n", "dropped it; last seen at n eth0 (out)")


@pytest.mark.parametrize(
    ("outcome", "reason", "expected", "verdict"),
    [
        ("failed", "Message too long", None, Verdict("dropped", "n", "Message too long")),
        (
            "failed",
            "Message too long",
            Verdict("dropped", "n", "1500 bytes"),
            Verdict("dropped", "n", "Message too long: 1500 bytes"),
        ),
        ("refused", "no", None, Verdict("refused", "n", "nothing listens there: no")),
        ("silent", "", None, Verdict("dropped", "n", "it was never seen to leave")),
        ("answered", "", None, Verdict("delivered", "n", "it was answered, but no tap saw it")),
    ],
)
def test_what_no_tap_saw_ended_where_it_began(
    outcome: Outcome, reason: str, expected: Verdict | None, verdict: Verdict
) -> None:
    assert _verdict(outcome=outcome, reason=reason, expected=expected) == verdict


def test_a_rule_that_dropped_the_tunnel_is_found() -> None:
    carrier = Carrier(1, _NODE, socket.inet_aton("192.0.2.2"))
    inside = _journey(_THERE._replace(carrier=carrier), (_OUT, True))
    network = b"\x45" + bytes(8) + b"\x11" + bytes(2) + carrier.source + carrier.destination
    step = Step("inet", "t", "c", 3, "rule", Said(0), 1, network, b"\x80\0\x12\xb5" + bytes(16), 0, 0)
    texts = {"n": {(("inet", "t", "c"), 3): "udp dport 4789 drop"}}
    found = _verdict(inside, passages=(Passage("n", (step,)),), texts=texts)
    assert found == Verdict("dropped", "n", "rule of inet t c: udp dport 4789 drop")


def test_hops_tell_times_since_the_first_and_a_translation_before_it() -> None:
    seen = _journey(_THERE._replace(destination=_NODE, dport=8080), (_POD, True), (_VETH, False))
    observed = Observation(Result("silent"), [seen], [], {}, {}, {}, lost=False)
    first, second = Account("ns/a", observed, _STATE).path().hops
    assert [str(each) for each in first.changed] == ["DNAT 10.0.1.1:80 -> 192.0.2.1:8080"]
    assert (first.nanoseconds, second.nanoseconds, second.changed) == (0, 1000, [])
    assert (second.owner, second.interface, second.direction) == ("n", "veth0", "in")


_BRIDGE = Tap("n", "n", "cni0", "bridge")
_PORT = Tap("n", "n", "veth1", "veth", "ns/b eth0")
_ROUTED = _THERE._replace(ttl=63)


@pytest.mark.parametrize(
    ("sightings", "named"),
    [
        (((_POD, True, _THERE), (_VETH, False, _THERE), (_OUT, True, _ROUTED)), "eth0"),
        (((_POD, True, _THERE), (_VETH, False, _THERE), (_BRIDGE, True, _ROUTED), (_PORT, True, _ROUTED)), "cni0"),
        (((_POD, True, _THERE), (_VETH, False, _THERE), (_BRIDGE, True, _THERE), (_PORT, True, _THERE)), "veth1"),
        (
            (
                (_POD, True, _THERE),
                (_VETH, False, _THERE),
                (_OUT, True, _ROUTED._replace(source=_NODE)),
            ),
            "",
        ),
    ],
)
def test_a_rule_that_kept_a_source_is_named_where_it_came_into_force(
    sightings: tuple[tuple[Tap, bool, Headers], ...], named: str
) -> None:
    seen = tuple(Sighting(tap, number, out, headers) for number, (tap, out, headers) in enumerate(sightings))
    network = b"\x45" + bytes(8) + b"\x06" + bytes(2) + _CLIENT + _SERVER
    step = Step("ip", "mine", "c", 3, "rule", Said(1), 1, network, b"\x03\xe8\0\x50" + bytes(16), 0, 0)
    observed = Observation(
        Result("silent"),
        [Journey(seen, (_CLIENT, 1000, _SERVER, 80), reply=False)],
        [Passage("n", (step,))],
        {"n": {(("ip", "mine", "c"), 3): "snat to 10.0.0.1"}},
        {},
        {},
        lost=False,
    )
    hops = Account("ns/a", observed, _STATE).path().hops
    unchanged = [hop for hop in hops if not any(each.kind == "SNAT" for each in hop.changed)]
    assert [hop.interface for hop in unchanged if hop.by] == ([named] if named else [])
