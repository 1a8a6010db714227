"""Where a cluster's objects are found."""

from __future__ import annotations

from typing import Any

import msgspec

from netlab.api.cluster import Cluster
from netlab.api.core_types import Node, Pod, Service
from netlab.api.discovery_types import EndpointSlice


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"} | more}


def node(name: str, *addresses: tuple[str, str]) -> Node:
    listed = [{"type": kind, "address": address} for kind, address in addresses]
    return msgspec.convert({"metadata": {"name": name}, "status": {"addresses": listed}}, Node)


def pod(name: str, *addresses: str, **status: Any) -> Pod:
    listed = [{"ip": each} for each in addresses]
    return msgspec.convert(named(name) | {"spec": {"containers": []}, "status": status | {"podIPs": listed}}, Pod)


def part(name: str, service: str = "") -> EndpointSlice:
    labels = {"kubernetes.io/service-name": service} if service else {}
    return msgspec.convert(named(name, labels=labels) | {"addressType": "IPv4", "endpoints": []}, EndpointSlice)


CLUSTER = Cluster(
    [
        node("node-1", ("InternalIP", "192.0.2.1"), ("ExternalIP", "2001:DB8:0::1"), ("Hostname", "node-1")),
        node("node-2", ("InternalIP", "192.0.2.1"), ("InternalIP", "192.0.2.2")),
        pod("web-1", "10.244.1.2", "fd00::2"),
        pod("web-2", "10.244.1.2"),
        pod("old", podIP="10.244.1.3"),
        pod("early"),
        msgspec.convert(named("web"), Service),
        part("web-a", "web"),
        part("web-b", "web"),
        part("loose"),
    ]
)


def test_objects_are_found_by_their_keys() -> None:
    assert list(CLUSTER.nodes) == ["node-1", "node-2"]
    assert list(CLUSTER.pods) == ["shop/web-1", "shop/web-2", "shop/old", "shop/early"]
    assert list(CLUSTER.services) == ["shop/web"]


def test_slices_are_found_by_their_service() -> None:
    names = {key: [each.metadata.name for each in slices] for key, slices in CLUSTER.slices.items()}
    assert names == {"shop/web": ["web-a", "web-b"], "shop/": ["loose"]}


def test_owners_are_found_by_addresses_in_normal_form_and_the_first_of_several_has_it() -> None:
    assert {address: each.metadata.name for address, each in CLUSTER.node_at.items()} == {
        "192.0.2.1": "node-1",
        "2001:db8::1": "node-1",
        "192.0.2.2": "node-2",
    }
    assert {address: each.metadata.name for address, each in CLUSTER.pod_at.items()} == {
        "10.244.1.2": "web-1",
        "fd00::2": "web-1",
        "10.244.1.3": "old",
    }
