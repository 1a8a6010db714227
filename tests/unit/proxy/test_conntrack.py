"""Which UDP flows are forgotten. What the kernel makes of it is in tests/system/proxy/test_packets.py."""

from __future__ import annotations

import pytest

from netlab.net import conntrack as kernel
from netlab.net.conntrack.flows import Flow
from netlab.net.netlink import NFGENMSG, attribute, nested
from netlab.proxy.conntrack import Look, Served, criteria, few, packed_end
from netlab.proxy.plan import Endpoint, Frontend, Plan, Scope, Target, Transaction, difference

NODE = "192.0.2.1"
CLIENT = ("192.0.2.253", 5555)
A, B = ("10.244.1.2", 8080), ("10.244.2.2", 8080)


def target(scope: Scope, *serving: tuple[str, int]) -> Target:
    return Target(
        "default/dns", scope, "Cluster", tuple(Endpoint(*e, None) for e in serving), (), 0, frozenset(serving)
    )


PLAN: Plan = {
    Frontend("10.96.0.1", "udp", 53): target(Scope.INTERNAL, A),
    Frontend("10.96.0.2", "udp", 53): target(Scope.INTERNAL),
    Frontend("198.51.100.1", "udp", 53): target(Scope.EXTERNAL, A),
    Frontend(None, "udp", 30053): target(Scope.EXTERNAL, A),
    Frontend("10.96.0.1", "tcp", 80): target(Scope.INTERNAL, A),
}


def payload(*, sent_to: tuple[str, int], answers: tuple[str, int], zone: bool = False) -> bytes:
    """What the kernel says of a flow of CLIENT: also of one whose original tuple has a zone, which comes within it."""
    client = packed_end(*CLIENT)
    v4 = "." in sent_to[0]
    client = client if v4 else packed_end("2001:db8::fd", CLIENT[1])
    original = _tuple(v4, client, packed_end(*sent_to)) + (attribute(4, b"\0\1") if zone else b"")
    said = nested(kernel.TUPLE_ORIG, original) + nested(kernel.TUPLE_REPLY, _tuple(v4, packed_end(*answers), client))
    said += attribute(kernel.STATUS, bytes(4)) + attribute(12, b"abcd")
    return NFGENMSG.pack(2 if v4 else 10, 0, 0) + said


def _tuple(v4: bool, source: bytes, destination: bytes) -> bytes:
    kinds = (kernel.IP_V4_SRC, kernel.IP_V4_DST) if v4 else (kernel.IP_V6_SRC, kernel.IP_V6_DST)
    addresses = [attribute(kind, end[:-2]) for kind, end in zip(kinds, (source, destination), strict=True)]
    ports = attribute(kernel.PROTO_SRC_PORT, source[-2:]) + attribute(kernel.PROTO_DST_PORT, destination[-2:])
    transport = attribute(kernel.PROTO_NUM, b"\x11") + ports
    return nested(kernel.TUPLE_IP, b"".join(addresses)) + nested(kernel.TUPLE_PROTO, transport)


@pytest.mark.parametrize("zone", [False, True])
@pytest.mark.parametrize(
    ("sent_to", "answers"),
    [(("10.96.0.1", 53), ("10.244.1.2", 8053)), (("fd00:10:96::1", 53), ("fd00:10:244:1::2", 8053))],
)
def test_a_flow_is_read_as_the_kernel_writes_it(sent_to: tuple[str, int], answers: tuple[str, int], zone: bool) -> None:
    said = payload(sent_to=sent_to, answers=answers, zone=zone)
    flow = Flow(said)
    assert (flow.sent_to, flow.answers) == (packed_end(*sent_to), packed_end(*answers))
    deletion = flow.deletion().payload
    original = said[: 4 + int.from_bytes(said[4:6], "little")]
    assert deletion == original + attribute(12, b"abcd")


@pytest.mark.parametrize(
    ("destination", "replying", "forgotten"),
    [
        (("10.96.0.1", 53), A, False),
        (("10.96.0.1", 53), B, True),
        (("10.96.0.1", 53), (A[0], 8081), True),
        # From before the Service: the flow has never been translated.
        (("10.96.0.1", 53), ("10.96.0.1", 53), True),
        (("10.96.0.2", 53), A, True),
        (("198.51.100.1", 53), B, True),
        ((NODE, 30053), A, False),
        ((NODE, 30053), B, True),
        ((NODE, 30053), (NODE, 30053), True),
        # An address of the node that its Node object does not name; translated, so it was a NodePort.
        (("198.18.0.1", 30053), B, True),
        # Of no Service: another port, another host's port of the same number, a TCP Service's port.
        (("10.96.0.1", 54), B, False),
        (("203.0.113.9", 30053), ("203.0.113.9", 30053), False),
        (("10.96.0.1", 80), B, False),
    ],
)
def test_a_flow_is_forgotten_unless_what_answers_it_serves(
    destination: tuple[str, int], replying: tuple[str, int], forgotten: bool
) -> None:
    served = Served()
    served.replace(PLAN)
    served.node_addresses = frozenset([packed_end(NODE, 0)[:-2]])
    assert served.is_stale(Flow(payload(sent_to=destination, answers=replying))) == forgotten


DNS = Frontend("10.96.0.1", "udp", 53)
NODE_PORT = Frontend(None, "udp", 30053)
WEB = Frontend("10.96.0.1", "tcp", 80)


@pytest.mark.parametrize(
    ("frontend", "old", "new", "looks"),
    [
        # Nothing was lost, so nothing is looked for.
        (DNS, (A,), (A, B), set()),
        (WEB, (A,), (B,), set()),
        (DNS, (A,), None, set()),
        (DNS, (A, B), (B,), {Look(DNS, A)}),
        (NODE_PORT, (A, B), (), {Look(NODE_PORT, A), Look(NODE_PORT, B)}),
        # Clients may have talked to whatever had the address before.
        (DNS, None, (A,), {Look(DNS)}),
        (DNS, None, (), {Look(DNS)}),
        (DNS, (), (A,), {Look(DNS)}),
    ],
)
def test_a_change_has_only_those_flows_looked_for_that_it_concerns(
    frontend: Frontend,
    old: tuple[tuple[str, int], ...] | None,
    new: tuple[tuple[str, int], ...] | None,
    looks: set[Look],
) -> None:
    def plan(endpoints: tuple[tuple[str, int], ...] | None) -> Plan:
        return {} if endpoints is None else {frontend: target(Scope.INTERNAL, *endpoints)}

    served = Served()
    served.replace(plan(old))
    transaction: Transaction = difference(plan(old), plan(new))
    assert set(served.change(transaction)) == looks


def test_many_looks_become_few_or_one_at_everything() -> None:
    assert few([]) == []
    assert few([Look(DNS, A)]) == [Look(DNS, A)]
    assert few([Look(DNS, A), Look(DNS, B), Look(NODE_PORT, A)]) == [Look(DNS), Look(NODE_PORT, A)]
    assert few([Look(Frontend("10.96.0.1", "udp", port), A) for port in range(1, 100)]) is None


def test_the_kernel_is_told_what_to_look_for() -> None:
    assert criteria(Look(DNS, A)) == (bytes([10, 96, 0, 1]), 53, packed_end(*A))
    assert criteria(Look(NODE_PORT)) == (b"", 30053, b"")
