"""Kinds that nothing acts upon: stored as they were sent, checked by the table of their fields, shown in columns."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.resources import ALL, EVENTS, EVENTS_V1, STORED, Resource, by_kind
from netlab.api.server.objects import field_selectors, versions
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from netlab.api.stored_kinds import ROWS, STATUS
from tests.unit.api.cluster import create, refused, update

NOW = 1_700_000_000.0
CREATED = "2023-11-14T22:12:50Z"  # half a minute before

_QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}
_CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}

_SERVICE = {"group": "", "resource": "services", "namespace": "default", "name": "web"}

Case = tuple[str, dict[str, Any], dict[str, Any], list[Any]]

CASES: list[Case] = [
    # The kind, what is sent, its status, and the cells after the name.
    (
        "PersistentVolume",
        {
            "spec": {
                "capacity": {"storage": "5Gi"},
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "claimRef": {"namespace": "default", "name": "c"},
                "storageClassName": "fast",
            }
        },
        {"phase": "Bound"},
        ["5Gi", "RWO,RWX", "Retain", "Bound", "default/c", "fast", "<unset>", "", "30s", "Filesystem"],
    ),
    ("PersistentVolumeClaim", {"spec": {}}, {}, ["Pending", "", "", "", "", "<unset>", "30s", "Filesystem"]),
    (
        "PersistentVolumeClaim",
        {"spec": {"volumeName": "v", "storageClassName": "fast"}},
        {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"]},
        ["Bound", "v", "1Gi", "RWOP", "fast", "<unset>", "30s", "Filesystem"],
    ),
    (
        "PodTemplate",
        {
            "template": {
                "metadata": {"labels": {"b": "2", "a": "1"}},
                "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]},
            }
        },
        {},
        ["c,d", "i,j", "a=1,b=2"],
    ),
    (
        "ValidatingAdmissionPolicy",
        {"spec": {"validations": [{"expression": "true"}], "paramKind": {"apiVersion": "a/v1", "kind": "K"}}},
        {"observedGeneration": 1},
        [1, "a/v1/K", "30s"],
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        {"spec": {"policyName": "p", "validationActions": ["Deny"]}},
        {},
        ["p", "<unset>", "30s"],
    ),
    ("MutatingAdmissionPolicy", {"spec": {}}, {}, [0, "<unset>", "30s"]),
    (
        "MutatingAdmissionPolicyBinding",
        {"spec": {"policyName": "p", "paramRef": {"name": "n"}, "matchResources": {"resourceRules": [{}]}}},
        {},
        ["p", "*/n", "30s"],
    ),
    (
        "HorizontalPodAutoscaler",
        {
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "maxReplicas": 5,
                "metrics": [
                    _CPU,
                    {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "", "averageValue": "2"}}},
                    _CPU,
                ],
            }
        },
        {
            "desiredReplicas": 2,
            "currentReplicas": 1,
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}}],
        },
        ["Deployment/web", "cpu: 7%/80%, <unknown>/2 + 1 more...", "1", 5, 1, "30s"],
    ),
    (
        "FlowSchema",
        {"spec": {"priorityLevelConfiguration": {"name": "p"}}},
        {"conditions": [{"type": "Dangling", "status": "False"}]},
        ["p", 1000, "<none>", "30s", "False"],
    ),
    (
        "PriorityLevelConfiguration",
        {
            "spec": {
                "type": "Limited",
                "limited": {
                    "nominalConcurrencyShares": 30,
                    "limitResponse": {"type": "Queue", "queuing": _QUEUING},
                },
            }
        },
        {},
        ["Limited", 30, 64, 8, 50, "30s"],
    ),
    ("CSIDriver", {"spec": {}}, {}, [True, False, False, "<unset>", False, "Persistent", "30s"]),
    ("CSINode", {"spec": {"drivers": []}}, {}, [0, "30s"]),
    ("CSIStorageCapacity", {"storageClassName": "fast", "capacity": "1Gi"}, {}, ["fast", "1Gi"]),
    (
        "StorageClass",
        {"provisioner": "a/b", "allowVolumeExpansion": True},
        {},
        ["a/b", "Delete", "Immediate", True, "30s"],
    ),
    (
        "VolumeAttachment",
        {"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
        {"attached": True},
        ["a", "v", "n", True, "30s"],
    ),
    ("VolumeAttributesClass", {"driverName": "d"}, {}, ["d", "30s"]),
    (
        "Endpoints",
        {"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}]}]},
        {},
        ["10.0.0.1:80,[fd00::1]:80", "30s"],
    ),
    ("ServiceCIDR", {"spec": {"cidrs": ["10.0.0.0/24", "fd00::/120"]}}, {}, ["10.0.0.0/24,fd00::/120", "30s"]),
]


def _of_kind(kind: str) -> Resource[Any]:
    return next(resource for resource in STORED if resource.kind == kind)


def test_every_kind_has_a_case() -> None:
    assert {case[0] for case in CASES} | {"IPAddress"} == {resource.kind for resource in STORED}


@pytest.mark.parametrize(("kind", "manifest", "status", "cells"), CASES, ids=[case[0] for case in CASES])
def test_an_object_is_stored_as_it_was_sent_and_shown(
    registry: Registry, kind: str, manifest: dict[str, Any], status: dict[str, Any], cells: list[Any]
) -> None:
    resource = _of_kind(kind)
    namespace = "default" if resource.namespaced else ""
    outcome = registry.create(resource, namespace, {"metadata": {"name": "x"}} | msgspec.to_builtins(manifest))
    assert outcome.warnings == (f"{kind}: stored and returned, but nothing in netlab acts upon it",)
    made = msgspec.json.decode(outcome.raw)
    assert (made["apiVersion"], made["kind"]) == (resource.api_version, kind)
    assert _has(made, manifest)
    assert ("generation" in made["metadata"]) is resource.has_generation
    if resource.has_status and status:
        # Of a whole object the status is passed over, and of its status the rest.
        update(registry, resource, made | {"status": status})
        assert registry.get(resource, namespace, "x").decode().get("status") == made.get("status")
        made = update(registry, resource, made | {"status": status, "spec": {}}, STATUS)
        assert made["status"] == status
        assert _has(made, manifest)
    made["metadata"]["creationTimestamp"] = CREATED
    assert list(resource.printer.cells(made, NOW)) == ["x", *cells]
    assert len(resource.printer.columns) == 1 + len(cells)
    assert registry.delete(resource, namespace, "x", DeleteOptions())[1]


def _has(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _has(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_has, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize(
    ("kind", "manifest", "code", "texts"),
    [
        ("StorageClass", {}, 422, ["provisioner: Required value"]),
        ("CSINode", {"spec": {"driver": []}}, 400, ['unknown field "spec.driver"', "drivers"]),
        ("IPAddress", {"spec": {"parentRef": _SERVICE}}, 422, ["metadata.name", "must be a valid IP address"]),
    ],
)
def test_what_the_table_does_not_allow_is_refused(
    registry: Registry, kind: str, manifest: dict[str, Any], code: int, texts: list[str]
) -> None:
    with refused(code, *texts):
        create(registry, _of_kind(kind), {"metadata": {"name": "x"}} | copy.deepcopy(manifest))


def test_an_address_is_named_by_its_canonical_form(registry: Registry) -> None:
    resource = _of_kind("IPAddress")
    made = create(registry, resource, {"metadata": {"name": "fd00::1"}, "spec": {"parentRef": _SERVICE}})
    made["metadata"]["creationTimestamp"] = CREATED
    assert list(resource.printer.cells(made, NOW)) == ["fd00::1", "services/default/web", "30s"]
    with refused(422, "must be in canonical form"):
        create(registry, resource, {"metadata": {"name": "fd00:0::1"}, "spec": {"parentRef": _SERVICE}})


def test_what_is_wanted_is_numbered(registry: Registry) -> None:
    schemas = _of_kind("FlowSchema")
    made = create(registry, schemas, {"metadata": {"name": "x"}, "spec": {"priorityLevelConfiguration": {"name": "a"}}})
    for name, generation in (("a", 1), ("b", 2)):
        spec = made["spec"] | {"priorityLevelConfiguration": {"name": name}}
        assert update(registry, schemas, made | {"spec": spec})["metadata"]["generation"] == generation


def test_a_policy_matches_whatever_it_does_not_exclude(registry: Registry) -> None:
    spec = {"matchConstraints": {"resourceRules": [{"operations": ["*"]}]}}
    made = create(registry, _of_kind("ValidatingAdmissionPolicy"), {"metadata": {"name": "x"}, "spec": spec})["spec"]
    rules = [{"operations": ["*"], "scope": "*"}]
    matched = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": rules}
    assert made == {"failurePolicy": "Fail", "matchConstraints": matched}


def test_the_servers_range_of_addresses_is_an_object(registry: Registry) -> None:
    cidrs = registry.get(_of_kind("ServiceCIDR"), "", "kubernetes").decode()["spec"]["cidrs"]
    assert cidrs == ["10.96.0.0/24", "fd00:10:96::/112"]


def test_names_are_taken_once() -> None:
    for names in (
        [row.plural for row in ROWS],
        [name for each in ALL if each.stored_as is None for name in _names(each)],
    ):
        assert len(set(names)) == len(names)


def _names(resource: Resource[Any]) -> list[str]:
    return list({resource.plural, resource.singular, *resource.short_names})  # Endpoints have one name for both


# --- Events of events.k8s.io -----------------------------------------------------------------------------------------

_EVENT = {
    "metadata": {"name": "e", "namespace": "default"},
    "eventTime": "2023-11-14T22:12:50.000000Z",
    "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    "note": "It happened.",
    "reportingController": "c",
    "reportingInstance": "c-1",
    "action": "Do",
    "reason": "Done",
    "type": "Normal",
}
_LATER: Resource[Any] = EVENTS_V1
_CORE: Resource[Any] = EVENTS


def test_events_are_the_same_objects_in_both_groups(registry: Registry) -> None:
    registry.create(_LATER, "default", dict(_EVENT))
    stored = registry.get(_CORE, "default", "e")
    core = stored.decode()
    assert (core["apiVersion"], core["involvedObject"]["name"], core["message"]) == ("v1", "p", "It happened.")
    later = msgspec.json.decode(versions.raw_from_storage(_LATER, stored.raw))
    assert later["apiVersion"] == "events.k8s.io/v1"
    assert {name: value for name, value in later.items() if name in _EVENT} | {"metadata": _EVENT["metadata"]} == _EVENT
    assert versions.to_storage(_LATER, later) == core
    selector = field_selectors.parse("regarding.name=p,reportingController=c", _LATER)
    assert selector.matches(stored.fields)


def test_a_kind_is_found_by_its_version() -> None:
    assert by_kind("events.k8s.io/v1", "Event") is EVENTS_V1
    assert by_kind("v1", "Event") is EVENTS


# --- the documentation -----------------------------------------------------------------------------------------------

_DOCUMENT = Path(__file__).parents[3] / "docs/api.md"


def test_the_documentation_lists_every_kind() -> None:
    lines = _DOCUMENT.read_text().splitlines()
    for resource in ALL:
        what = "stored only" if resource.is_stored_only else "acted upon"
        assert f"| {resource.kind} | {resource.api_version} | {what} |" in lines
    listed = [line for line in lines if line.endswith(("| stored only |", "| acted upon |"))]
    assert len(listed) == len(ALL)
