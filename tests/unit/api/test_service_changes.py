"""What a Service keeps and loses when it is changed, in each way of changing it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from netlab.api.apply import merge_patch
from netlab.api.kinds import table
from netlab.api.resources import SERVICES
from netlab.api.server.objects import patch
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, refused, update

Json = dict[str, Any]

_ANY: Any = SERVICES
_META = {"name": "s", "namespace": "default"}
_COMMON = {"selector": {"app": "x"}, "ports": [{"port": 80}], "internalTrafficPolicy": "Local"}

MANIFESTS: dict[str, Json] = {
    "ClusterIP": _COMMON | {"type": "ClusterIP"},
    "NodePort": _COMMON | {"type": "NodePort", "externalTrafficPolicy": "Local"},
    "LoadBalancer": _COMMON
    | {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.org/balancer"},
    "ExternalName": _COMMON | {"type": "ExternalName", "externalName": "example.org"},
}
"""All that a person may say of a Service of the type."""

FIELDS = (
    "clusterIP",
    "nodePort",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "allocateLoadBalancerNodePorts",
    "loadBalancerClass",
    "status",
    "internalTrafficPolicy",
)

NONE = ("-", "-", "-", "-", "-", "-", "-", "kept")

# What becomes of FIELDS (kept, new, or - for absent), as upstream has it.
CHANGES = {
    ("ClusterIP", "ClusterIP"): ("kept", "-", "-", "-", "-", "-", "-", "kept"),
    ("ClusterIP", "NodePort"): ("kept", "new", "new", "-", "-", "-", "-", "kept"),
    ("ClusterIP", "LoadBalancer"): ("kept", "new", "new", "-", "new", "-", "-", "kept"),
    ("ClusterIP", "ExternalName"): NONE,
    ("NodePort", "ClusterIP"): ("kept", "-", "-", "-", "-", "-", "-", "kept"),
    ("NodePort", "NodePort"): ("kept", "kept", "kept", "-", "-", "-", "-", "kept"),
    ("NodePort", "LoadBalancer"): ("kept", "kept", "kept", "new", "new", "-", "-", "kept"),
    ("NodePort", "ExternalName"): NONE,
    ("LoadBalancer", "ClusterIP"): ("kept", "-", "-", "-", "-", "-", "-", "kept"),
    ("LoadBalancer", "NodePort"): ("kept", "kept", "kept", "-", "-", "-", "-", "kept"),
    ("LoadBalancer", "LoadBalancer"): ("kept", "kept", "kept", "kept", "kept", "kept", "kept", "kept"),
    ("LoadBalancer", "ExternalName"): NONE,
    ("ExternalName", "ClusterIP"): ("new", "-", "-", "-", "-", "-", "-", "kept"),
    ("ExternalName", "NodePort"): ("new", "new", "new", "-", "-", "-", "-", "kept"),
    ("ExternalName", "LoadBalancer"): ("new", "new", "new", "-", "new", "-", "-", "kept"),
    ("ExternalName", "ExternalName"): NONE,
}


def _manifest(spec: Json) -> Json:
    return copy.deepcopy({"apiVersion": "v1", "kind": "Service", "metadata": _META, "spec": spec})


def _patched(registry: Registry, change: Callable[[Json], Any]) -> Json:
    changed = change(registry.get(_ANY, "default", "s").decode())
    found: Json = msgspec.json.decode(registry.update(_ANY, "default", "s", changed).raw)
    return found


def by_apply(registry: Registry, old: Json, new: Json) -> Json:
    live = msgspec.json.decode(registry.get(_ANY, "default", "s").raw)
    change = merge_patch(_manifest(old), _manifest(new), live)
    return _patched(registry, lambda present: patch.json_merge(present, change))


def by_put(registry: Registry, old: Json, new: Json) -> Json:
    found: Json = update(registry, SERVICES, _manifest(new))
    return found


def by_whole_put(registry: Registry, old: Json, new: Json) -> Json:
    """What was read is sent back with the changed fields changed."""
    live = msgspec.json.decode(registry.get(_ANY, "default", "s").raw)
    live["spec"] |= copy.deepcopy({name: value for name, value in new.items() if old.get(name) != value})
    found: Json = update(registry, SERVICES, live)
    return found


def by_merge_patch(registry: Registry, old: Json, new: Json) -> Json:
    changed = copy.deepcopy({name: value for name, value in new.items() if old.get(name) != value})
    return _patched(registry, lambda present: patch.json_merge(present, {"spec": changed}))


def by_strategic_patch(registry: Registry, old: Json, new: Json) -> Json:
    changed: Json = {name: value for name, value in new.items() if old.get(name) != value}
    if "ports" in changed:
        changed["ports"] = [{"$patch": "replace"}, *changed["ports"]]
    change = copy.deepcopy({"spec": changed})
    return _patched(registry, lambda present: patch.strategic_merge(present, change, table.message("core.v1.Service")))


WAYS = [by_apply, by_put, by_whole_put, by_merge_patch, by_strategic_patch]


def _values(service: Json) -> Json:
    spec = service["spec"]
    found = {name: spec.get(name) for name in FIELDS}
    found["nodePort"] = spec["ports"][0].get("nodePort")
    found["status"] = service["status"]["loadBalancer"] or None
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("types", "expected"), CHANGES.items())
def test_a_change_of_type(registry: Registry, types: tuple[str, str], expected: tuple[str, ...], way: Any) -> None:
    old, new = (MANIFESTS[kind] for kind in types)
    # Fields of the new type that the old one has not are left to the server.
    new = {name: value for name, value in new.items() if name in (*old, "externalName")}
    before = create(registry, SERVICES, _manifest(old))
    if types[0] == "LoadBalancer":
        before["status"]["loadBalancer"] = {"ingress": [{"ip": "198.51.100.7"}]}
        before = update(registry, SERVICES, before, "status")
    had = _values(before)
    after = way(registry, old, new)
    has = _values(after)
    outcome = {n: "-" if has[n] is None else "kept" if has[n] == had[n] else "new" for n in FIELDS}
    assert outcome == dict(zip(FIELDS, expected, strict=True))
    for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        assert (name in after["spec"]) == (has["clusterIP"] is not None)
    # What is dropped is free.
    if had["clusterIP"] and not has["clusterIP"]:
        create(
            registry,
            SERVICES,
            {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}], "clusterIP": had["clusterIP"]}},
        )
    if had["nodePort"] and not has["nodePort"]:
        ports = [{"port": 1, "nodePort": had["nodePort"]}]
        create(registry, SERVICES, {"metadata": {"name": "b"}, "spec": {"type": "NodePort", "ports": ports}})


@pytest.mark.parametrize("way", WAYS)
def test_a_policy_that_the_server_chose_goes_with_the_type_that_allowed_it(registry: Registry, way: Any) -> None:
    plain = {"selector": {"app": "x"}, "ports": [{"port": 80}]}
    for first, second in (("NodePort", "ClusterIP"), ("LoadBalancer", "NodePort"), ("LoadBalancer", "ClusterIP")):
        create(registry, SERVICES, _manifest(plain | {"type": first}))
        spec = way(registry, plain | {"type": first}, plain | {"type": second})["spec"]
        assert ("externalTrafficPolicy" in spec) == (second == "NodePort")
        assert "allocateLoadBalancerNodePorts" not in spec
        registry.delete(_ANY, "default", "s", DeleteOptions())


def test_external_addresses_take_the_policy_with_them(registry: Registry) -> None:
    plain = {"selector": {"app": "x"}, "ports": [{"port": 80}]}
    made = create(registry, SERVICES, _manifest(plain | {"externalIPs": ["198.51.100.1"]}))
    assert made["spec"]["externalTrafficPolicy"] == "Cluster"
    assert "externalTrafficPolicy" not in by_merge_patch(registry, {"externalIPs": []}, {"externalIPs": None})["spec"]


REFUSED = [
    # What a client sets or changes itself is not taken away: the type cannot have it.
    ("NodePort", {"type": "ClusterIP", "externalTrafficPolicy": "Cluster"}, "spec.externalTrafficPolicy"),
    ("NodePort", {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30099}]}, "spec.ports[0].nodePort"),
    ("LoadBalancer", {"type": "NodePort", "allocateLoadBalancerNodePorts": False}, "allocateLoadBalancerNodePorts"),
    ("LoadBalancer", {"type": "NodePort", "loadBalancerClass": "example.org/x"}, "spec.loadBalancerClass: Forbidden"),
    ("LoadBalancer", {"type": "NodePort", "healthCheckNodePort": 30098}, "spec.healthCheckNodePort"),
    ("LoadBalancer", {"loadBalancerClass": "example.org/x"}, "spec.loadBalancerClass: Invalid value"),
    ("LoadBalancer", {"healthCheckNodePort": 30098}, "spec.healthCheckNodePort: Forbidden: field is immutable"),
    ("ClusterIP", {"loadBalancerSourceRanges": ["10.0.0.0/8"]}, "spec.loadBalancerSourceRanges: Forbidden"),
    ("ClusterIP", {"clusterIP": "10.96.0.99"}, "spec.clusterIPs[0]: Invalid value"),
    (
        "ClusterIP",
        {"type": "ExternalName", "externalName": "example.org", "clusterIP": "10.96.0.99"},
        "spec.clusterIP: Forbidden",
    ),
    (
        "ClusterIP",
        {"type": "ExternalName", "externalName": "example.org", "ipFamilyPolicy": "PreferDualStack"},
        "spec.ipFamilyPolicy: Forbidden",
    ),
]


@pytest.mark.parametrize(("kind", "change", "message"), REFUSED)
def test_what_the_new_type_cannot_have_is_refused(registry: Registry, kind: str, change: Json, message: str) -> None:
    create(registry, SERVICES, _manifest(MANIFESTS[kind]))
    with refused(422, message):
        by_merge_patch(registry, {}, change)


def test_a_client_that_knows_of_one_address_keeps_the_second(registry: Registry) -> None:
    plain = {"selector": {"app": "x"}, "ports": [{"port": 80}]}
    made = create(registry, SERVICES, _manifest(plain | {"ipFamilyPolicy": "RequireDualStack"}))["spec"]
    assert by_put(registry, {}, plain | {"clusterIP": made["clusterIP"]})["spec"] == made
    spec = by_merge_patch(registry, {}, {"type": "ExternalName", "externalName": "example.org", "clusterIP": ""})[
        "spec"
    ]
    assert "clusterIPs" not in spec


A, B = {"name": "a", "port": 80}, {"name": "b", "port": 81}

# Ports before, ports after, and the node ports after: the number of the old port whose it was, or None for a new one.
PORTS: list[tuple[list[Json], list[Json], list[int | None]]] = [
    ([{"port": 80}], [{"port": 81}], [0]),
    ([{"port": 80}], [{"port": 80, "protocol": "UDP"}], [0]),
    ([{"port": 80}], [{"port": 80, "name": "http"}], [None]),
    ([{"port": 80}], [{"port": 80, "targetPort": "http"}], [0]),
    ([A, B], [A | {"port": 81}, B | {"port": 80}], [0, 1]),
    ([A, B], [B, A], [1, 0]),
    ([A, B], [A | {"name": "b"}, B | {"name": "a"}], [1, 0]),
    ([A, B], [A | {"protocol": "UDP"}, B | {"protocol": "SCTP"}], [0, 1]),
    ([A, B], [A, B | {"name": "c"}], [0, None]),
    ([A, B], [A | {"name": ""}], [None]),
    ([A], [A, B], [0, None]),
    ([A, B], [B], [1]),
]


@pytest.mark.parametrize("way", [way for way in WAYS if way is not by_whole_put])
@pytest.mark.parametrize(("old", "new", "expected"), PORTS)
def test_a_node_port_stays_with_the_name_of_its_port(
    registry: Registry, old: list[Json], new: list[Json], expected: list[int | None], way: Any
) -> None:
    kind = "LoadBalancer" if "targetPort" in new[0] else "NodePort"
    before = create(registry, SERVICES, _manifest({"type": kind, "ports": old}))
    had = [port["nodePort"] for port in before["spec"]["ports"]]
    after = way(registry, {"type": kind, "ports": old}, {"type": kind, "ports": new})
    has = [port["nodePort"] for port in after["spec"]["ports"]]
    assert [had.index(number) if number in had else None for number in has] == expected
    assert len(set(has)) == len(has)


def test_a_node_port_that_is_asked_for_by_another_port_is_that_ports(registry: Registry) -> None:
    before = create(registry, SERVICES, _manifest({"type": "NodePort", "ports": [A, B]}))
    first, second = (port["nodePort"] for port in before["spec"]["ports"])
    after = by_put(registry, {}, {"type": "NodePort", "ports": [A, B | {"nodePort": first}]})
    has = [port["nodePort"] for port in after["spec"]["ports"]]
    assert has[1] == first
    assert has[0] not in (first, second)


def test_a_node_port_of_another_protocol_may_be_another_services(registry: Registry) -> None:
    made = create(registry, SERVICES, _manifest({"type": "NodePort", "ports": [{"port": 53}]}))
    number = made["spec"]["ports"][0]["nodePort"]
    udp = {"port": 53, "protocol": "UDP"}
    other = {"type": "NodePort", "ports": [udp | {"nodePort": number}]}
    create(registry, SERVICES, {"metadata": {"name": "other"}, "spec": other})
    after = by_put(registry, {}, {"type": "NodePort", "ports": [udp]})
    assert after["spec"]["ports"][0]["nodePort"] != number
