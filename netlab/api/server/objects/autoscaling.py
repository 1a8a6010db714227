"""HorizontalPodAutoscalers: their defaults, and version 1 of the API as version 2, in whose form they are stored.

What version 1 has no field for is in annotations there, as upstream (pkg/apis/autoscaling/v1/conversion.go), but in
the form of version 2.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from netlab.api.server.objects import schema
from netlab.api.server.objects.schema import JSONObject

_V1, _V2 = "autoscaling/v1", "autoscaling/v2"

_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _BEHAVIOR = f"{_PREFIX}metrics", f"{_PREFIX}behavior"
_CURRENT_METRICS, _CONDITIONS = f"{_PREFIX}current-metrics", f"{_PREFIX}conditions"
_ANNOTATIONS = (_METRICS, _BEHAVIOR, _CURRENT_METRICS, _CONDITIONS)

_UTILIZATION = 80
"""Percent of the processor time that is asked for, where nothing else is said."""

_COMMON = ("scaleTargetRef", "minReplicas", "maxReplicas")
_COMMON_STATUS = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")

_EVERY_POD = {"type": "Percent", "value": 100, "periodSeconds": 15}
_RULES: dict[str, JSONObject] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, _EVERY_POD],
    },
    "scaleDown": {"selectPolicy": "Max", "policies": [_EVERY_POD]},
}


def default(obj: JSONObject) -> None:
    """autoscaling/v2.HorizontalPodAutoscaler."""
    spec = obj["spec"]
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    if not spec.get("metrics"):
        spec["metrics"] = [_of_processor({"type": "Utilization", "averageUtilization": _UTILIZATION})]
    if (behavior := spec.get("behavior")) is not None:
        for name, rules in _RULES.items():
            given = {key: value for key, value in (behavior.get(name) or {}).items() if value is not None}
            behavior[name] = copy.deepcopy(rules) | given


def _of_processor(target: JSONObject, field: str = "target") -> JSONObject:
    return {"type": "Resource", "resource": {"name": "cpu", field: target}}


def _utilization(metric: JSONObject, field: str = "target") -> int | None:
    """The share of the processor time that a metric is about; None if it is about something else."""
    resource = metric.get("resource") or {}
    is_processor = metric.get("type") == "Resource" and resource.get("name") == "cpu"
    found = (resource.get(field) or {}).get("averageUtilization")
    return found if is_processor and isinstance(found, int) else None


def to_v1(obj: JSONObject) -> JSONObject:
    """A stored object in version 1."""
    spec, status = obj.get("spec", {}), obj.get("status", {})
    metrics = spec.get("metrics", ())
    utilization = next((each for each in map(_utilization, metrics) if each is not None), None)
    current = status.get("currentMetrics") or ()
    measured = [each for each in (_utilization(metric, "current") for metric in current) if each is not None]
    rest = {
        _METRICS: [metric for metric in metrics if _utilization(metric) is None],
        _BEHAVIOR: spec.get("behavior"),
        _CURRENT_METRICS: list(current),
        _CONDITIONS: status.get("conditions"),
    }
    annotations = {key: msgspec.json.encode(value).decode() for key, value in rest.items() if value}
    shown = {name: spec[name] for name in _COMMON if name in spec}
    told = {"currentReplicas": 0} | {name: status[name] for name in _COMMON_STATUS if name in status}
    return _with(
        obj,
        _V1,
        annotations,
        shown if utilization is None else shown | {"targetCPUUtilizationPercentage": utilization},
        told | ({"currentCPUUtilizationPercentage": measured[-1]} if measured else {}),
    )


def to_v2(obj: JSONObject) -> JSONObject:
    """An object of version 1 as it is stored; an annotation that cannot be read is none."""
    spec, status = obj.get("spec", {}), obj.get("status", {})
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    metrics = _listed(annotations, _METRICS, "MetricSpec")
    if (utilization := spec.get("targetCPUUtilizationPercentage")) is not None:
        metrics.append(_of_processor({"type": "Utilization", "averageUtilization": utilization}))
    current = _listed(annotations, _CURRENT_METRICS, "MetricStatus")
    if not current and (measured := status.get("currentCPUUtilizationPercentage")) is not None:
        current = [_of_processor({"averageUtilization": measured}, "current")]
    wanted = {name: spec[name] for name in _COMMON if name in spec} | ({"metrics": metrics} if metrics else {})
    if behavior := _listed(annotations, _BEHAVIOR, "HorizontalPodAutoscalerBehavior"):
        wanted["behavior"] = behavior[0]
    told = {name: status[name] for name in _COMMON_STATUS if name in status}
    told |= {"currentMetrics": current} if current else {}
    if conditions := _listed(annotations, _CONDITIONS, "HorizontalPodAutoscalerCondition"):
        told["conditions"] = conditions
    return _with(obj, _V2, {}, wanted, told)


def _listed(annotations: Mapping[str, Any], name: str, message: str) -> list[JSONObject]:
    """What an annotation has: one object, or a list of them."""
    try:
        value = msgspec.json.decode(annotations.get(name, "[]"))
    except (msgspec.MsgspecError, TypeError):
        return []
    found = value if isinstance(value, list) else [value]
    fields = schema.fields_as_listed(f"autoscaling.v2.{message}")
    findings = [schema.inspect(each, fields) for each in found]
    return [] if any(each.unreadable or each.missing for each in findings) else found


def _with(obj: JSONObject, version: str, added: JSONObject, spec: JSONObject, status: JSONObject) -> JSONObject:
    meta = dict(obj.get("metadata") or {})
    kept = {key: value for key, value in (meta.pop("annotations", None) or {}).items() if key not in _ANNOTATIONS}
    if annotations := kept | added:
        meta["annotations"] = annotations
    made = obj | {"apiVersion": version, "metadata": meta, "spec": spec}
    return made | {"status": status} if "status" in obj else made
