"""HorizontalPodAutoscalers in both versions of the API."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest

from netlab.api.resources import HORIZONTALPODAUTOSCALERS_V1 as V1
from netlab.api.resources import by_kind
from netlab.api.server.objects import autoscaling, versions
from netlab.api.server.registry.generic import Registry
from netlab.api.server.registry.managed_fields import Apply
from tests.unit.api.cluster import create, refused, update

_V2: Any = by_kind("autoscaling/v2", "HorizontalPodAutoscaler")
_PREFIX = "autoscaling.alpha.kubernetes.io/"
_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def _cpu(percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


_MEMORY = {
    "type": "Resource",
    "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}},
}
_MEASURED = {
    "type": "Resource",
    "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "9m"}},
}
_CONDITION = {"type": "AbleToScale", "status": "True"}
_WHOLE: dict[str, Any] = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "web", "annotations": {"own": "x"}},
    "spec": {
        "scaleTargetRef": _TARGET,
        "minReplicas": 2,
        "maxReplicas": 5,
        "metrics": [_MEMORY, _cpu(50)],
        "behavior": {"scaleUp": {"selectPolicy": "Min"}},
    },
    "status": {
        "currentReplicas": 2,
        "desiredReplicas": 3,
        "lastScaleTime": "2026-01-01T00:00:00Z",
        "currentMetrics": [_MEASURED],
        "conditions": [_CONDITION],
    },
}


def test_what_version_1_has_no_field_for_is_in_annotations() -> None:
    before = copy.deepcopy(_WHOLE)
    shown = autoscaling.to_v1(_WHOLE)
    assert shown["apiVersion"] == "autoscaling/v1"
    assert shown["spec"] == {
        "scaleTargetRef": _TARGET,
        "minReplicas": 2,
        "maxReplicas": 5,
        "targetCPUUtilizationPercentage": 50,
    }
    assert shown["status"] == {
        "currentReplicas": 2,
        "desiredReplicas": 3,
        "lastScaleTime": "2026-01-01T00:00:00Z",
        "currentCPUUtilizationPercentage": 7,
    }
    annotations = {name: json.loads(text) for name, text in shown["metadata"]["annotations"].items() if name != "own"}
    assert annotations == {
        f"{_PREFIX}metrics": [{"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}],
        # Upstream writes the names that the fields have in Go, and all of them.
        f"{_PREFIX}behavior": {
            "ScaleUp": {
                "StabilizationWindowSeconds": None,
                "SelectPolicy": "Min",
                "Policies": None,
                "Tolerance": None,
            },
            "ScaleDown": None,
        },
        f"{_PREFIX}current-metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "currentAverageUtilization": 7, "currentAverageValue": "9m"},
            }
        ],
        f"{_PREFIX}conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": None}],
    }
    assert shown["metadata"]["annotations"]["own"] == "x"
    assert (autoscaling.to_v2(shown), before) == (_WHOLE, _WHOLE)


@pytest.mark.parametrize(
    "text", ["", "x", "7", "null", "[7]", "{}", '[{"type": 1}]', '[{"type":"Resource","resource":{"name":"x"}}]']
)
def test_an_annotation_that_cannot_be_read_is_none(text: str) -> None:
    shown = autoscaling.to_v1(_WHOLE)
    shown["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"] = text
    found = autoscaling.to_v2(shown)
    assert (found["spec"]["metrics"], found["metadata"]["annotations"]) == ([_cpu(50)], {"own": "x"})


_SELECTOR = {"matchLabels": {"a": "b"}}
_METRIC = {"name": "requests", "selector": _SELECTOR}
_OBJECT = {"apiVersion": "v1", "kind": "Service", "name": "s"}


def _source(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, kind[0].lower() + kind[1:]: fields}


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        (
            _source("Resource", name="memory", target={"type": "Utilization", "averageUtilization": 60}),
            _source("Resource", name="memory", targetAverageUtilization=60),
        ),
        (
            _source(
                "ContainerResource", name="cpu", container="c", target={"type": "AverageValue", "averageValue": "1"}
            ),
            _source("ContainerResource", name="cpu", container="c", targetAverageValue="1"),
        ),
        (
            _source("Object", describedObject=_OBJECT, metric=_METRIC, target={"type": "Value", "value": "5"}),
            _source("Object", target=_OBJECT, metricName="requests", targetValue="5", selector=_SELECTOR),
        ),
        (
            _source(
                "Object",
                describedObject=_OBJECT,
                metric={"name": "m"},
                target={"type": "AverageValue", "averageValue": "5"},
            ),
            # Version 1 cannot leave the value out.
            _source("Object", target=_OBJECT, metricName="m", targetValue="0", averageValue="5"),
        ),
        (
            _source("Pods", metric=_METRIC, target={"type": "AverageValue", "averageValue": "5"}),
            _source("Pods", metricName="requests", targetAverageValue="5", selector=_SELECTOR),
        ),
        (
            _source("External", metric=_METRIC, target={"type": "Value", "value": "5"}),
            _source("External", metricName="requests", metricSelector=_SELECTOR, targetValue="5"),
        ),
        (
            _source("External", metric={"name": "m"}, target={"type": "AverageValue", "averageValue": "5"}),
            _source("External", metricName="m", targetAverageValue="5"),
        ),
    ],
)
def test_every_metric_goes_there_and_back(metric: dict[str, Any], shown: dict[str, Any]) -> None:
    whole = copy.deepcopy(_WHOLE)
    whole["spec"]["metrics"] = [metric, _cpu(50)]
    in_v1 = autoscaling.to_v1(whole)
    assert json.loads(in_v1["metadata"]["annotations"][f"{_PREFIX}metrics"]) == [shown]
    assert autoscaling.to_v2(in_v1) == whole


@pytest.mark.parametrize(
    "metric",
    [
        _source("Resource", name="cpu", current={"averageUtilization": 5, "averageValue": "3m"}),
        _source("ContainerResource", name="cpu", container="c", current={"averageValue": "3m"}),
        _source("Object", describedObject=_OBJECT, metric=_METRIC, current={"value": "3", "averageValue": "1"}),
        _source("Pods", metric={"name": "m"}, current={"averageValue": "3"}),
        _source("External", metric=_METRIC, current={"value": "3"}),
    ],
)
def test_every_measurement_goes_there_and_back(metric: dict[str, Any]) -> None:
    whole = copy.deepcopy(_WHOLE)
    whole["status"]["currentMetrics"] = [metric]
    assert autoscaling.to_v2(autoscaling.to_v1(whole)) == whole


def test_behaviour_and_conditions_go_there_and_back() -> None:
    whole = copy.deepcopy(_WHOLE)
    policy = {"type": "Pods", "value": 4, "periodSeconds": 15}
    whole["spec"]["behavior"] = {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [policy], "tolerance": "50m"},
        "scaleDown": {"selectPolicy": "Disabled"},
    }
    moment = "2026-01-01T00:00:00Z"
    whole["status"]["conditions"] = [_CONDITION | {"lastTransitionTime": moment, "reason": "R", "message": "m"}]
    shown = autoscaling.to_v1(whole)
    assert autoscaling.to_v2(shown) == whole
    # Names are read in any case, as Go does, and so is what netlab wrote before.
    shown["metadata"]["annotations"][f"{_PREFIX}behavior"] = json.dumps(whole["spec"]["behavior"])
    assert autoscaling.to_v2(shown) == whole


def test_one_object_in_both_versions(registry: Registry) -> None:
    spec = {"scaleTargetRef": _TARGET, "maxReplicas": 3}
    made = create(registry, V1, {"metadata": {"name": "web"}, "spec": spec})
    assert (made["apiVersion"], made["spec"]["metrics"], made["spec"]["minReplicas"]) == (
        "autoscaling/v2",
        [_cpu(80)],
        1,
    )
    shown = versions.from_storage(V1, made)
    assert shown["spec"] == spec | {"minReplicas": 1, "targetCPUUtilizationPercentage": 80}
    shown["spec"]["targetCPUUtilizationPercentage"] = 60
    assert update(registry, V1, shown)["spec"]["metrics"] == [_cpu(60)]
    with refused(400, "maxReplicas"):
        create(registry, V1, {"metadata": {"name": "x"}, "spec": spec | {"maxReplicas": "x"}})


def test_behaviour_that_is_given_in_part_is_completed(registry: Registry) -> None:
    spec = {"scaleTargetRef": _TARGET, "maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 9}}}
    behavior = create(registry, _V2, {"metadata": {"name": "web"}, "spec": spec})["spec"]["behavior"]
    assert behavior["scaleUp"]["policies"][0] == {"type": "Pods", "value": 4, "periodSeconds": 15}
    assert (behavior["scaleDown"]["stabilizationWindowSeconds"], behavior["scaleDown"]["selectPolicy"]) == (9, "Max")


def test_it_is_applied_in_either_version(registry: Registry) -> None:
    def apply(resource: Any, manager: str, spec: dict[str, Any]) -> dict[str, Any]:
        config = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "web"}, "spec": spec}
        draft = registry.draft_of_applied(resource, "default", "web", config, Apply(manager))
        found: dict[str, Any] = msgspec.json.decode(registry.commit(draft).raw)
        return found

    apply(V1, "one", {"scaleTargetRef": _TARGET, "maxReplicas": 3, "targetCPUUtilizationPercentage": 60})
    made = apply(_V2, "two", {"scaleTargetRef": _TARGET, "maxReplicas": 3})
    assert made["spec"]["metrics"] == [_cpu(60)]
    with refused(409, 'conflict with "one"'):
        apply(_V2, "two", {"scaleTargetRef": _TARGET, "maxReplicas": 4})
