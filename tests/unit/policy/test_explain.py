"""What is said about a connection: the same as what becomes of it, and a change that would let it through."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Namespace, Node, Pod
from netlab.policy.explain import World, explain, refusal, world
from netlab.policy.matrix import Cell, changes, matrix, signs
from netlab.policy.ports import EVERYTHING, NOTHING, text
from netlab.policy.rules import AnyPolicy
from tests.unit.policy.cases import CASES, A, Case, connections, labels, policy
from tests.unit.policy.cases import EVERYTHING as ALL
from tests.unit.policy.objects import typed
from tests.unit.policy.truth import WORLD, cluster

Json = dict[str, Any]


def pod(key: str, *, node: str = "node-1") -> Pod:
    found = cluster().pod(key)
    ports = [{"name": name, "protocol": kind, "containerPort": port} for (kind, port), name in found.names.items()]
    return msgspec.convert(
        {
            "metadata": {"namespace": found.namespace, "name": found.name, "labels": dict(found.labels)},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i", "ports": ports}]},
            "status": {"podIPs": [{"ip": address} for address in found.addresses]},
        },
        Pod,
    )


def namespaces() -> list[Namespace]:
    return [
        msgspec.convert({"metadata": {"name": name, "labels": dict(labels)}}, Namespace)
        for name, labels in cluster().namespaces.items()
    ]


def policies(listed: list[Json]) -> list[AnyPolicy]:
    return [typed(each) for each in listed]


def known(listed: list[Json]) -> World:
    nodes = [
        msgspec.convert(
            {
                "metadata": {"name": f"node-{i}"},
                "status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{i}"}]},
            },
            Node,
        )
        for i in (1, 2)
    ]
    return world(policies(listed), namespaces(), [pod(each.key) for each in cluster().pods], nodes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_case_is_explained_as_it_is(case: Case) -> None:
    objects = known(case.policies)
    for family in (0, 1):
        for each in connections(case, family):
            found = explain(objects, *each[:4])
            assert found.allowed is each.open
            assert all(side.allowed or side.change for side in found.judgements)


IN_X = {"from": [{"podSelector": labels(pod="b")}], "ports": [{"port": 80}]}


@pytest.mark.parametrize(
    ("rule", "source", "port", "change"),
    [
        (IN_X, "x/b", 81, "add {protocol: TCP, port: 81} to NetworkPolicy x/p spec.ingress[0].ports"),
        (IN_X, "x/c", 80, "add {podSelector: {matchLabels: {pod: c}}} to NetworkPolicy x/p spec.ingress[0].from"),
        (
            IN_X,
            "y/b",
            80,
            "add {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}},"
            " podSelector: {matchLabels: {pod: b}}} to NetworkPolicy x/p spec.ingress[0].from",
        ),
        (IN_X, "world", 80, "add {ipBlock: {cidr: 198.51.100.7/32}} to NetworkPolicy x/p spec.ingress[0].from"),
        (
            {"from": [{"podSelector": labels(role="client")}]},
            "x/c",
            80,
            "label pod x/c with role=client: NetworkPolicy x/p spec.ingress[0] admits it then",
        ),
        (
            IN_X,
            "x/c",
            81,
            "add {from: [{podSelector: {matchLabels: {pod: c}}}], ports: [{protocol: TCP, port: 81}]}"
            " to spec.ingress of NetworkPolicy x/p",
        ),
    ],
)
def test_the_smallest_change_is_named(rule: Json, source: str, port: int, change: str) -> None:
    objects = known([policy("p", A, ingress=[rule])])
    address = WORLD[0] if source == "world" else cluster().pod(source).addresses[0]
    (_, ingress) = explain(objects, address, cluster().pod("x/a").addresses[0], "TCP", port).judgements
    assert (ingress.allowed, ingress.change) == (False, change)


def test_a_pods_own_node_reaches_it_and_another_does_not() -> None:
    objects = known([policy("deny", ALL, types="Ingress Egress")])
    address = cluster().pod("x/a").addresses[0]
    assert explain(objects, "192.0.2.1", address, "TCP", 80).allowed
    assert explain(objects, address, "192.0.2.1", "TCP", 80).allowed
    assert not explain(objects, "192.0.2.2", address, "TCP", 80).allowed
    assert refusal(objects, "node-1", "192.0.2.2", address, "TCP", 80) == (
        "NetworkPolicy x/deny: ingress of x/a does not admit 192.0.2.2 at TCP 80"
    )
    assert not refusal(objects, "node-2", "192.0.2.2", address, "TCP", 80)  # another node's pods are not its affair


def test_a_manifest_opens_and_closes_cells() -> None:
    pods = [pod(each.key) for each in cluster().pods]
    before = matrix([], namespaces(), pods, {"outside": WORLD[0]})
    after = matrix(policies([policy("p", A, ingress=[IN_X])]), namespaces(), pods, {"outside": WORLD[0]})
    found = changes(before, after)
    assert set(found) == {Cell(end, "x/a") for end in before.ends if end != "x/a"}
    assert found[Cell("outside", "x/a")] == (EVERYTHING, NOTHING)
    assert text(found[Cell("x/b", "x/a")][1]) == "TCP 80"
    assert sorted(each.mark for each in signs(after).values()) == ["+", ".", "a"]
    assert after.about("z").ends == ("z/a", "z/b", "z/c", "outside")
