"""What objects use up of quotas where the server's own tests do not look: pods' sums, scopes that need other kinds."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from netlab.api import pod_resources, usage
from netlab.api.quota_types import ResourceQuotaSpec, ScopedResourceSelectorRequirement, ScopeSelector
from netlab.api.resources import PODS, SERVICES, STORED

_CLAIMS = next(each for each in STORED if each.plural == "persistentvolumeclaims")
_NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def _asks(cpu: str, **fields: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}} | fields


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [_asks("1"), _asks("500m")]}, "1500m"),
        ({"containers": [_asks("1")], "initContainers": [_asks("3"), _asks("2")]}, "3"),
        ({"containers": [_asks("1")], "initContainers": [_asks("2", restartPolicy="Always"), _asks("3")]}, "5"),
        ({"containers": [_asks("1")], "initContainers": [_asks("1"), _asks("2", restartPolicy="Always")]}, "3"),
        ({"containers": [_asks("1")], "overhead": {"cpu": "10m"}}, "1010m"),
        ({"containers": [_asks("1")], "resources": {"requests": {"cpu": "4"}}}, "4"),
        ({"containers": [_asks("much")]}, None),
    ],
)
def test_what_a_pod_asks_for(spec: Any, cpu: str | None) -> None:
    found = pod_resources.of_pod(spec, pod_resources.REQUESTS).get("cpu")
    assert (None if found is None else str(found)) == cpu


@pytest.mark.parametrize(
    ("meta", "phase", "counts"),
    [
        ({}, "Running", True),
        ({}, "Succeeded", False),
        ({}, "Failed", False),
        ({"deletionTimestamp": "2029-12-31T23:59:50Z", "deletionGracePeriodSeconds": 30}, "Running", True),
        ({"deletionTimestamp": "2029-12-31T23:59:20Z", "deletionGracePeriodSeconds": 30}, "Running", False),
    ],
)
def test_a_pod_that_has_ended_counts_as_an_object_alone(meta: Any, phase: str, counts: bool) -> None:
    obj = {"metadata": meta, "spec": {"containers": [_asks("1")]}, "status": {"phase": phase}}
    used = {name: str(amount) for name, amount in usage.of(PODS, obj, _NOW).items()}
    assert used == {"count/pods": "1"} | ({"pods": "1", "cpu": "1", "requests.cpu": "1"} if counts else {})


def _spec(scope: str, operator: str, *values: str) -> ResourceQuotaSpec:
    expression = ScopedResourceSelectorRequirement(scopeName=scope, operator=operator, values=list(values))
    return ResourceQuotaSpec(scopeSelector=ScopeSelector(matchExpressions=[expression]))


_TERM: dict[str, Any] = {"namespaceSelector": {}}


@pytest.mark.parametrize(
    ("quota", "resource", "spec", "inside"),
    [
        (_spec("PriorityClass", "In", "high"), PODS, {"priorityClassName": "high"}, True),
        (_spec("PriorityClass", "In", "high"), PODS, {"priorityClassName": "low"}, False),
        (_spec("PriorityClass", "NotIn", "high"), PODS, {}, True),
        (_spec("PriorityClass", "Exists"), PODS, {"priorityClassName": "low"}, True),
        (_spec("PriorityClass", "Exists"), PODS, {}, False),
        (_spec("PriorityClass", "DoesNotExist"), PODS, {}, True),
        (_spec("PriorityClass", "Exists"), SERVICES, {}, False),
        (
            _spec("CrossNamespacePodAffinity", "Exists"),
            PODS,
            {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_TERM]}}},
            True,
        ),
        (
            _spec("CrossNamespacePodAffinity", "Exists"),
            PODS,
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            False,
        ),
        (_spec("VolumeAttributesClass", "In", "a"), _CLAIMS, {"volumeAttributesClassName": "a"}, True),
        (_spec("VolumeAttributesClass", "Exists"), _CLAIMS, {}, False),
        (_spec("BestEffort", "Exists"), PODS, {"containers": [_asks("0")]}, True),
        (_spec("Unknown", "Exists"), PODS, {}, False),
    ],
)
def test_scopes(quota: ResourceQuotaSpec, resource: Any, spec: Any, inside: bool) -> None:
    assert usage.is_in_scope(quota, resource, {"metadata": {}, "spec": spec}) is inside
