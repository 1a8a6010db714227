"""Which addresses are announced, and by which nodes."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.core_types import LoadBalancerIngress, LoadBalancerStatus, Node, Service, ServiceSpec, ServiceStatus
from netlab.api.meta_types import Condition, ObjectMeta
from netlab.speaker.wanted import EXCLUDED, has_endpoints, takes_traffic, wanted

POOL = ("192.0.2.128/26", "2001:db8::1:0/112")


def service(name: str, *addresses: str, **spec: Any) -> Service:
    ingress = [LoadBalancerIngress(ip=address) for address in addresses]
    return Service(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=ServiceSpec(**({"type": "LoadBalancer"} | spec)),
        status=ServiceStatus(loadBalancer=LoadBalancerStatus(ingress=ingress)),
    )


def test_wanted() -> None:
    services = [
        service("a", "192.0.2.128", "2001:db8::1:0"),
        service("b", "192.0.2.128"),
        service("node", "192.0.2.1"),
        service("elsewhere", "203.0.113.1"),
        service("other", "192.0.2.130", loadBalancerClass="example.com/other"),
        service("former", "192.0.2.131", type="NodePort"),
        service("name", ""),
    ]
    found = wanted(services, POOL)
    assert {address: [each.metadata.name for each in sharers] for address, sharers in found.items()} == {
        "192.0.2.128": ["a", "b"],
        "2001:db8::1:0": ["a"],
    }


def node(ready: str = "True", **meta: Any) -> Node:
    made = Node(metadata=ObjectMeta(name="node-1", **meta))
    made.status.conditions = [Condition(type="Ready", status=ready)]
    return made


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (node(), True),
        (node("False"), False),
        (node("Unknown"), False),
        (node(labels={EXCLUDED: ""}), False),
        (node(deletionTimestamp="2026-01-01T00:00:00Z"), False),
        (None, False),
        (Node(), False),
    ],
)
def test_nodes_that_load_balancers_use(found: Node | None, expected: bool) -> None:
    assert takes_traffic(found) is expected


def test_a_node_without_endpoints_draws_no_traffic_of_policy_local() -> None:
    cluster, local = service("a"), service("b", externalTrafficPolicy="Local")
    assert has_endpoints([cluster], {})
    assert not has_endpoints([local], {})
    assert not has_endpoints([local], {"default/b": 0})
    assert has_endpoints([cluster, local], {"default/b": 1})
