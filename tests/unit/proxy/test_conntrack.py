"""Which UDP flows are forgotten. What the kernel makes of it is in tests/system/proxy/test_packets.py."""

from __future__ import annotations

import pytest

from netlab.proxy.conntrack import Flow, stale
from netlab.proxy.plan import Endpoint, Frontend, Plan, Scope, Target

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
    flow = Flow(*CLIENT, *destination, *replying)
    assert stale([flow], PLAN, frozenset([NODE])) == ([flow] if forgotten else [])
