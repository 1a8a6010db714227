"""Policies that no API server with upstream's checks has: what cannot be understood opens nothing."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.errors import UsageError
from netlab.policy.model import Model
from netlab.policy.nftables.elements import contents
from netlab.policy.ports import NOTHING
from netlab.policy.rules import read
from tests.unit.policy.cases import A, labels, of_cluster, policy
from tests.unit.policy.objects import book_of, typed
from tests.unit.policy.truth import cluster

Json = dict[str, Any]

_PEERS: dict[str, Json] = {
    "a peer of no kind": {},
    "a peer of two kinds": {"podSelector": {}, "ipBlock": {"cidr": "0.0.0.0/0"}},
    "no network": {"ipBlock": {"cidr": "10.0.0.0/33"}},
    "an exception that is none": {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "anything"]}},
    "an exception of the other family": {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["fd00::/8"]}},
    "an exception outside": {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/7"]}},
    "an operator that there is not": {
        "podSelector": {"matchExpressions": [{"key": "pod", "operator": "Like", "values": ["b"]}]}
    },
    "an operator without values": {"namespaceSelector": {"matchExpressions": [{"key": "ns", "operator": "In"}]}},
}
_PORTS: dict[str, Json] = {
    "a protocol that there is not": {"protocol": "ICMP"},
    "port 0": {"port": 0},
    "a port beyond all": {"port": 70000},
    "a range that ends before it begins": {"port": 81, "endPort": 80},
    "a range that ends nowhere": {"port": 81, "endPort": 70000},
    "a range from a name": {"port": "http", "endPort": 90},
    "a range from nothing": {"endPort": 90},
}
MALFORMED = [
    *((name, {"from": [{"podSelector": {}}, peer]}) for name, peer in _PEERS.items()),
    *((name, {"ports": [{"port": 80}, port]}) for name, port in _PORTS.items()),
]


@pytest.mark.parametrize(("_", "rule"), MALFORMED, ids=[name for name, _ in MALFORMED])
def test_a_rule_that_is_not_understood_admits_nobody_and_the_others_hold(_: str, rule: Json) -> None:
    said = policy("p", A, ingress=[rule, {"from": [{"namespaceSelector": labels(ns="z")}]}])
    (fault,) = read(typed(said)).faults
    assert fault.startswith("spec.ingress[0]: ")
    found = cluster()
    book = book_of(found, [said])
    book.take_changes()
    model = Model(book.plan, book.profiles)
    judge = found.pod("x/a").addresses[0]
    assert model.admits(found.pod("x/b").addresses[0], judge) == NOTHING
    assert model.admits(found.pod("z/b").addresses[0], judge) != NOTHING
    assert contents(book.plan, book.profiles, "IPv4"), "it can be written"


@pytest.mark.parametrize("action", ["Accept", "Deny", "Pass"])
@pytest.mark.parametrize(
    "more",
    [
        {"to": [{"domainNames": ["example.com"]}]},
        {"to": [{"networks": ["10.0.0.0/40"]}]},
        {"to": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 70000}}}]},
    ],
    ids=["kind", "network", "port"],
)
def test_a_rule_of_the_cluster_that_is_not_understood_fails_closed(action: str, more: Json) -> None:
    later = {"action": "Accept", "to": [{"networks": ["0.0.0.0/0"]}]}
    said = of_cluster("c", "Admin", 1, A, egress=[{"action": action, **more}, later])
    assert len(read(typed(said)).faults) == 1
    found = cluster()
    book = book_of(found, [said])
    book.take_changes()
    admitted = Model(book.plan, book.profiles).admits(found.pod("x/a").addresses[0], found.pod("y/a").addresses[0])
    assert (admitted == NOTHING) is (action != "Accept")


@pytest.mark.parametrize(
    "said",
    [
        policy("p", {"matchExpressions": [{"key": "pod", "operator": "In", "values": []}]}, ingress=[]),
        {"metadata": {"name": "c"}, "spec": {"tier": "Admin", "priority": 1, "subject": {"networks": ["0.0.0.0/0"]}}},
        {"metadata": {"name": "c"}, "spec": {"tier": "Admin", "priority": 1, "subject": {}}},
    ],
    ids=["selector", "networks", "nobody"],
)
def test_a_policy_about_nobody_that_is_understood_is_refused(said: Json) -> None:
    with pytest.raises((UsageError, ValueError)):
        read(typed(said))
