"""The planner: the table of cases, and random policies and changes, against the slow evaluator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.policy.book import Book
from netlab.policy.model import Model
from netlab.policy.ports import contains
from tests.unit.policy.cases import CASES, Case, connections, key_of, of_cluster, policy
from tests.unit.policy.objects import book_of, facts, parsed
from tests.unit.policy.truth import PORTS, PROTOCOLS, WORLD, Cluster, allowed, cluster

Json = dict[str, Any]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_case_lets_through_what_it_says(case: Case) -> None:
    found = cluster()
    book = book_of(found, case.policies)
    book.take_changes()
    model = Model(book.plan, book.profiles)
    for family in (0, 1):
        for each in connections(case, family):
            assert allowed(found, case.policies, *each[:4]) is each.open
            assert contains(model.admits(each.source, each.destination), each.protocol, each.port) is each.open
    agree(found, case.policies, book)


def agree(found: Cluster, policies: list[Json], book: Book) -> None:
    """Compare the plan with the slow evaluator, for all connections of a cluster and the world."""
    model = Model(book.plan, book.profiles)
    for family, world in enumerate(WORLD):
        ends = [*(pod.addresses[family] for pod in found.pods), world]
        for source in ends:
            for destination in ends:
                admitted = model.admits(source, destination)
                for protocol in PROTOCOLS:
                    for port in PORTS:
                        expected = allowed(found, policies, source, destination, protocol, port)
                        assert contains(admitted, protocol, port) is expected, (source, destination, protocol, port)


_LABELS = st.fixed_dictionaries({"pod": st.sampled_from("abc")}, optional={"tier": st.sampled_from("12")})
_SELECTORS = st.one_of(
    st.just({}),
    _LABELS.map(lambda labels: {"matchLabels": labels}),
    st.builds(
        lambda operator, values: {"matchExpressions": [{"key": "pod", "operator": operator, "values": values}]},
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from("abc"), min_size=1, unique=True),
    ),
    st.sampled_from(["Exists", "DoesNotExist"]).map(
        lambda operator: {"matchExpressions": [{"key": "tier", "operator": operator}]}
    ),
)
_NAMESPACES: st.SearchStrategy[Json] = st.one_of(
    st.just({}), st.sampled_from("xyz").map(lambda name: {"matchLabels": {"ns": name}})
)
_BLOCKS = st.sampled_from(
    [
        {"cidr": "0.0.0.0/0"},
        {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"]},
        {"cidr": "10.244.0.0/16", "except": ["10.244.1.0/24", "10.244.2.1/32"]},
        {"cidr": "10.244.2.0/24"},
        {"cidr": "198.51.100.7/32"},
        {"cidr": "::/0", "except": ["fd00:10:244:1::/64", "fd00:10:244:1::1/128"]},
        {"cidr": "fd00:10:244:3::/64"},
    ]
)
_PEERS = st.one_of(
    st.builds(lambda pods: {"podSelector": pods}, _SELECTORS),
    st.builds(lambda spaces: {"namespaceSelector": spaces}, _NAMESPACES),
    st.builds(lambda pods, spaces: {"podSelector": pods, "namespaceSelector": spaces}, _SELECTORS, _NAMESPACES),
    _BLOCKS.map(lambda block: {"ipBlock": block}),
)
_PORTS = st.one_of(
    st.sampled_from(PROTOCOLS).map(lambda protocol: {"protocol": protocol}),
    st.builds(
        lambda protocol, port: {"protocol": protocol, "port": port}, st.sampled_from(PROTOCOLS), st.sampled_from(PORTS)
    ),
    st.just({"port": 79, "endPort": 80}),
    st.sampled_from(PROTOCOLS).map(lambda protocol: {"protocol": protocol, "port": f"serve-81-{protocol.lower()}"}),
)


def _rules(peers: str) -> st.SearchStrategy[list[Json]]:
    parts = {peers: st.lists(_PEERS, max_size=2), "ports": st.lists(_PORTS, max_size=2)}
    return st.lists(st.fixed_dictionaries({}, optional=parts), max_size=2)


_CLUSTER_PEERS = st.one_of(
    _NAMESPACES.map(lambda spaces: {"namespaces": spaces}),
    st.builds(
        lambda spaces, pods: {"pods": {"namespaceSelector": spaces, "podSelector": pods}}, _NAMESPACES, _SELECTORS
    ),
)
_NETWORKS = st.lists(
    st.sampled_from(["0.0.0.0/0", "10.244.2.0/24", "::/0", "198.51.100.7/32"]), min_size=1, unique=True
)
_PROTOCOLS = st.sampled_from(
    [
        {"tcp": {"destinationPort": {"number": 80}}},
        {"udp": {"destinationPort": {"range": {"start": 79, "end": 80}}}},
        {"sctp": {}},
        {"destinationNamedPort": "serve-81-tcp"},
    ]
)


def _cluster_rules(name: str, peers: st.SearchStrategy[Json]) -> st.SearchStrategy[list[Json]]:
    required = {"action": st.sampled_from(["Accept", "Deny", "Pass"]), name: st.lists(peers, min_size=1, max_size=2)}
    optional = {"protocols": st.lists(_PROTOCOLS, min_size=1, max_size=2)}
    return st.lists(st.fixed_dictionaries(required, optional=optional), max_size=3)


_OF_CLUSTER = st.builds(
    lambda tier, subject, ingress, egress: of_cluster("c", tier, 0, subject, ingress=ingress, egress=egress),
    st.sampled_from(["Admin", "Baseline"]),
    _SELECTORS,
    _cluster_rules("from", _CLUSTER_PEERS),
    _cluster_rules("to", st.one_of(_CLUSTER_PEERS, _NETWORKS.map(lambda networks: {"networks": networks}))),
)


def _named(each: Json, number: int) -> Json:
    """With a name and, of the cluster's, a priority of its own."""
    spec = each["spec"] | ({"priority": number} if "tier" in each["spec"] else {})
    return each | {"metadata": each["metadata"] | {"name": f"p{number}"}, "spec": spec}


_OF_NAMESPACES = st.builds(
    lambda namespace, selector, types, ingress, egress: policy(
        "p", selector, namespace=namespace, types=types, ingress=ingress, egress=egress
    ),
    st.sampled_from("xyz"),
    _SELECTORS,
    st.sampled_from(["Ingress", "Egress", "Ingress Egress"]),
    _rules("from"),
    _rules("to"),
)
_POLICIES = st.lists(st.one_of(_OF_NAMESPACES, _OF_CLUSTER), max_size=4).map(
    lambda listed: [_named(each, number) for number, each in enumerate(listed)]
)


@settings(max_examples=30, deadline=None)
@given(_POLICIES)
def test_random_policies_let_through_what_they_say(policies: list[Json]) -> None:
    found = cluster()
    book = book_of(found, policies)
    book.take_changes()
    agree(found, policies, book)


_STEPS = st.one_of(
    st.tuples(st.just("pod"), st.integers(0, 8), st.one_of(st.none(), _LABELS)),
    st.tuples(st.just("policies"), _POLICIES, st.none()),
    st.tuples(st.just("namespace"), st.sampled_from("xyz"), st.sampled_from("xyz")),
)


@settings(max_examples=15, deadline=None)
@given(_POLICIES, st.lists(_STEPS, min_size=1, max_size=4))
def test_changes_lead_to_the_same_plan_as_a_fresh_start(policies: list[Json], steps: list[Any]) -> None:
    start = found = cluster()
    book = book_of(found, policies)
    plan: dict[Any, dict[Any, Any]] = {}
    profiles: dict[int, Any] = {}
    for kind, what, how in [("nothing", None, None), *steps]:
        if kind == "pod":
            pod = start.pods[what]
            pods = tuple(each for each in found.pods if each.key != pod.key)
            if how is not None:
                pods = (*pods, pod._replace(labels=how))
            found = found._replace(pods=pods)
            book.set_pod(pod.key, facts(pods[-1]) if how is not None else None)
        elif kind == "policies":
            for each in policies:
                book.set_policy(key_of(each), None)
            policies = what
            for each in policies:
                book.set_policy(key_of(each), parsed(each))
        elif kind == "namespace":
            found = found._replace(namespaces={**found.namespaces, what: {"ns": how}})
            book.set_namespace(what, {"ns": how})
        transaction = book.take_changes()
        for place, changes in transaction.changes.items():
            table = plan.setdefault(place, {})
            for key, (old, new) in changes.items():
                assert table.get(key) == old
                table.pop(key, None)
                if new is not None:
                    table[key] = new
        for number, (was, now) in transaction.profiles.items():
            assert profiles.get(number) == was
            profiles.pop(number, None)
            if now is not None:
                profiles[number] = now
    fresh = book_of(found, policies)
    fresh.take_changes()
    assert book.plan == fresh.plan == {place: plan.get(place, {}) for place in fresh.plan}
    assert book.profiles == fresh.profiles == profiles
    agree(found, policies, book)
