"""Objects of the table's cluster for the planner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from netlab.api.networking_types import NetworkPolicy
from netlab.policy.book import Book, PodFacts
from netlab.policy.cluster_types import ClusterNetworkPolicy
from netlab.policy.rules import AnyPolicy, PodPort, Policy, read
from tests.unit.policy.cases import key_of
from tests.unit.policy.truth import Cluster, Pod

Json = dict[str, Any]


def parsed(policy: Json) -> Policy:
    """A policy as the planner reads it."""
    return read(typed(policy))


def typed(policy: Json) -> AnyPolicy:
    """A policy as it is decoded."""
    if "tier" in policy["spec"]:
        return msgspec.convert(policy, ClusterNetworkPolicy)
    return msgspec.convert(policy, NetworkPolicy)


def facts(pod: Pod) -> PodFacts:
    """A pod as the planner knows it, on its node."""
    ports = tuple(PodPort(name, protocol, number) for (protocol, number), name in pod.names.items())
    return PodFacts(pod.namespace, pod.labels, pod.addresses, local=True, ports=ports)


def book_of(found: Cluster, policies: Iterable[Json]) -> Book:
    """A book that knows all of it; changes are not taken yet."""
    book = Book()
    for name, labels in found.namespaces.items():
        book.set_namespace(name, labels)
    for pod in found.pods:
        book.set_pod(pod.key, facts(pod))
    for policy in policies:
        book.set_policy(key_of(policy), parsed(policy))
    return book
