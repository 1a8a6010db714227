"""From what the kernel tells of rules to what people called things."""

from __future__ import annotations

import socket
import struct

import pytest

from netlab.net.nftables.elements import Verdict as Said
from netlab.net.nftables.traces import Step, decode
from netlab.proxy.plan import Endpoint, Frontend, Plan, Scope, Target
from netlab.trace.nftrace import Pattern, Signature
from netlab.trace.rules import Decision, Kind, decisions, passages

_TABLE = "netlab-trace-1"
_WORD = b"\x41\0\0\0"
_SIGNATURE = Signature(6, (Pattern(4, _WORD, _WORD), Pattern(8, _WORD, _WORD)))
_ACCEPT, _DROP, _CONTINUE = Said(1), Said(0), Said(-1)


def _step(
    table: str, chain: str, verdict: Said, ends: tuple[str, str, int] | None = None, *, handle: int = 1, packet: int = 7
) -> Step:
    network = transport = b""
    if ends:
        source, destination, port = ends
        network = struct.pack("!B8xB2x4s4s", 0x45, 6, socket.inet_aton(source), socket.inet_aton(destination))
        transport = struct.pack("!HH4s4s4x4x", 1000, port, _WORD, bytes(4))
    kind = "rule" if handle else "policy"
    return Step("ip", table, chain, handle, kind, verdict, packet, network, transport, 0, 0)  # type: ignore[arg-type]


def _own(chain: str = "prerouting-raw", *, handle: int = 2, packet: int = 7) -> Step:
    return _step(_TABLE, chain, _CONTINUE, ("10.0.0.1", "10.96.0.1", 80), handle=handle, packet=packet)


def test_a_packet_that_comes_by_twice_makes_two_passages() -> None:
    seen = _step("t", "c", _ACCEPT, ("10.0.0.1", "10.96.0.1", 80))
    found = passages("n", [_own(), _own(handle=0), seen, _own("prerouting-tracked"), _own(), seen], _SIGNATURE, _TABLE)
    assert [passage.steps for passage in found] == [(seen,), (seen,)]
    assert found[0].flows == [(socket.inet_aton("10.0.0.1"), 1000, socket.inet_aton("10.96.0.1"), 80)]


def test_a_packet_is_known_again_when_its_translation_has_changed_its_number() -> None:
    before = _step("t", "nat", _ACCEPT, ("10.0.0.1", "10.96.0.1", 80))
    behind = _step("t", "filter", _ACCEPT, ("10.0.0.1", "10.0.0.2", 8080), packet=8)
    assert [each.steps for each in passages("n", [_own(), before, behind], _SIGNATURE, _TABLE)] == [(before, behind)]


def test_what_other_traces_mark_is_not_ours() -> None:
    other = Step("inet", "netlab-trace-2", "prerouting-raw", 1, "rule", _CONTINUE, 9, b"", b"", 0, 0)
    theirs = _step("t", "c", _DROP, ("10.0.0.9", "10.0.0.8", 1), packet=9)._replace(transport=bytes(20))
    assert passages("n", [other, theirs], _SIGNATURE, _TABLE) == []
    assert passages("n", [_own(), other, theirs], _SIGNATURE, _TABLE) == []


_HERE, _THERE = Endpoint("10.0.0.2", 8080, local=True), Endpoint("10.0.1.2", 8080, local=False)
_PLAN: Plan = {
    Frontend("10.96.0.1", "tcp", 80): Target("ns/web:http", Scope.INTERNAL, "Cluster", (_HERE, _THERE), (_HERE,)),
    Frontend(None, "tcp", 30080): Target("ns/web:http", Scope.EXTERNAL, "Local", (_THERE,), ()),
    Frontend("198.51.100.1", "tcp", 80): Target(
        "ns/web:http", Scope.EXTERNAL, "Cluster", (_HERE,), (_HERE,), sources=("203.0.113.0/24",)
    ),
}


@pytest.mark.parametrize(
    ("dialled", "port", "table", "chain", "verdict", "text", "kind", "name"),
    [
        ("10.96.0.1", 80, "kube-proxy", "pick-2", _ACCEPT, "dnat ip to x", "DNAT",
         "Service ns/web:http, internalTrafficPolicy Cluster: one of 2 endpoints"),
        ("10.96.0.1", 80, "nat", "KUBE-POSTROUTING", _ACCEPT, "masquerade fully-random", "SNAT",
         "Service ns/web:http, internalTrafficPolicy Cluster: masqueraded"),
        ("192.0.2.1", 30080, "kube-proxy", "external-local", _DROP, "drop", "dropped",
         "Service ns/web:http, externalTrafficPolicy Local: there are endpoints, but none on this node"),
        ("198.51.100.1", 80, "kube-proxy", "firewall", _DROP, "drop", "dropped",
         "Service ns/web:http, externalTrafficPolicy Cluster: 10.0.0.1 is not in loadBalancerSourceRanges"),
        ("10.96.0.1", 81, "kube-proxy", "refuse", _DROP, "reject", "rejected",
         "10.96.0.1 is a Service's address, and it has no port 81/tcp"),
        ("10.96.0.9", 80, "kube-proxy", "refuse", _DROP, "ip daddr 10.96.0.0/16 drop", "dropped",
         "no Service has the address 10.96.0.9"),
        ("203.0.113.9", 80, "netlab_cni_masquerade", "postrouting", _ACCEPT, "ip saddr @pods4 masquerade", "SNAT",
         "ipMasq of CNI network lab"),
        ("203.0.113.9", 80, "mine", "input", _DROP, 'drop comment "no"', "dropped",
         "rule 'no' of ip mine input: drop comment \"no\""),
        ("10.96.0.1", 80, "kube-proxy", "nat-postrouting", _ACCEPT, "ct status dnat @hairpins masquerade", "SNAT",
         "Service ns/web:http, internalTrafficPolicy Cluster: masqueraded"),
        ("203.0.113.9", 80, "mine", "nat", _ACCEPT, 'dnat to 10.0.0.1 comment "no snat here"', "DNAT",
         "rule 'no snat here' of ip mine nat: dnat to 10.0.0.1 comment \"no snat here\""),
        ("203.0.113.9", 80, "mine", "input", _ACCEPT, "accept", None, ""),
        ("203.0.113.9", 80, "mine", "input", _ACCEPT, 'accept comment "after dnat"', None, ""),
    ],
)  # fmt: skip
def test_a_decision_is_named_after_what_people_know(
    dialled: str, port: int, table: str, chain: str, verdict: Said, text: str, kind: Kind | None, name: str
) -> None:
    step = _step(table, chain, verdict, ("10.0.0.1", dialled, port))
    (passage,) = passages("n", [_own(), step], _SIGNATURE, _TABLE)
    texts = {(("ip", table, chain), 1): text}
    found = decisions(passage, texts, _PLAN, {socket.inet_aton("10.0.0.1"): "lab"})
    assert [(each.kind, each.by[0]) for each in found] == ([] if kind is None else [(kind, name)])


def test_a_policy_that_drops_is_a_decision_too_and_a_mark_is_why_a_source_changes() -> None:
    policy = _step("mine", "input", _DROP, ("10.0.0.1", "10.0.0.2", 1), handle=0)
    (passage,) = passages("n", [_own(), policy], _SIGNATURE, _TABLE)
    assert decisions(passage, {}, {}, {})[0].by[0] == "policy drop of ip mine input"
    mark = _step("kube-proxy", "dispatch", Said(-3, "mark-masquerade"), ("10.0.0.1", "10.96.0.1", 80))
    snat = _step("kube-proxy", "nat-postrouting", _ACCEPT, ("10.0.0.1", "10.0.0.2", 8080), handle=3)
    (passage,) = passages("n", [_own(), mark, snat], _SIGNATURE, _TABLE)
    texts = {(("ip", "kube-proxy", "dispatch"), 1): "x jump mark", (("ip", "kube-proxy", "nat-postrouting"), 3): "snat"}
    (decision,) = decisions(passage, texts, _PLAN, {})
    assert decision == Decision(
        "SNAT",
        decision.flow,
        (
            "Service ns/web:http, internalTrafficPolicy Cluster: masqueraded",
            "rule of ip kube-proxy nat-postrouting: snat",
            "because of rule of ip kube-proxy dispatch: x jump mark",
        ),
        "ns/web:http",
    )


def test_other_messages_than_those_of_traces_are_passed_over() -> None:
    assert list(decode(struct.pack("=IHHII4x", 20, 10 << 8 | 15, 0, 0, 0) + b"\x08")) == []
