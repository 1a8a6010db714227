"""HorizontalPodAutoscalers: their defaults, and version 1 of the API as version 2, in whose form they are stored.

What version 1 has no field for is in annotations there, as upstream (pkg/apis/autoscaling/v1/conversion.go): metrics in
a form that is version 1's own, behaviour with the names that the fields have in Go.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from netlab.api.server.objects import schema
from netlab.api.server.objects.schema import JSONObject

_V1, _V2 = "autoscaling/v1", "autoscaling/v2"

_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _BEHAVIOR = f"{_PREFIX}metrics", f"{_PREFIX}behavior"
_CURRENT_METRICS, _CONDITIONS = f"{_PREFIX}current-metrics", f"{_PREFIX}conditions"
_TOLERANCES = (f"{_PREFIX}scale-down-tolerance", f"{_PREFIX}scale-up-tolerance")
"""Of an earlier upstream; nobody reads them, and they are dropped with the others."""
_ANNOTATIONS = (_METRICS, _BEHAVIOR, _CURRENT_METRICS, _CONDITIONS, *_TOLERANCES)

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
        _METRICS: [_shown(metric, "target") for metric in metrics if _utilization(metric) is None],
        _BEHAVIOR: _in_go(spec.get("behavior"), _BEHAVIOR_IN_GO),
        _CURRENT_METRICS: [_shown(metric, "current") for metric in current],
        _CONDITIONS: [{"lastTransitionTime": None} | each for each in status.get("conditions") or ()],
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
    metrics = _listed(annotations, _METRICS, "MetricSpec", lambda each: _read(each, "target"))
    if (utilization := spec.get("targetCPUUtilizationPercentage")) is not None:
        metrics.append(_of_processor({"type": "Utilization", "averageUtilization": utilization}))
    current = _listed(annotations, _CURRENT_METRICS, "MetricStatus", lambda each: _read(each, "current"))
    if not current and (measured := status.get("currentCPUUtilizationPercentage")) is not None:
        current = [_of_processor({"averageUtilization": measured}, "current")]
    wanted = {name: spec[name] for name in _COMMON if name in spec} | ({"metrics": metrics} if metrics else {})
    if behavior := _listed(annotations, _BEHAVIOR, "HorizontalPodAutoscalerBehavior", _from_go):
        wanted["behavior"] = behavior[0]
    told = {name: status[name] for name in _COMMON_STATUS if name in status}
    told |= {"currentMetrics": current} if current else {}
    if conditions := _listed(annotations, _CONDITIONS, "HorizontalPodAutoscalerCondition", _without_nulls):
        told["conditions"] = conditions
    return _with(obj, _V2, {}, wanted, told)


def _listed(
    annotations: Mapping[str, Any], name: str, message: str, read: Callable[[JSONObject], JSONObject]
) -> list[JSONObject]:
    """What an annotation has, one object or a list of them, in the form of version 2."""
    try:
        value = msgspec.json.decode(annotations.get(name, "[]"))
        found = [read(each) for each in (value if isinstance(value, list) else [value])]
    except (msgspec.MsgspecError, TypeError, AttributeError):
        return []
    fields = schema.fields_as_listed(f"autoscaling.v2.{message}")
    findings = [schema.inspect(each, fields) for each in found]
    return [] if any(each.unreadable or each.missing for each in findings) else [each for each in found if each]


# --- the forms of annotations --------------------------------------------------------------------------------------

_SOURCES = ("resource", "containerResource", "object", "pods", "external")


def _shown(metric: JSONObject, values: str) -> JSONObject:
    """A metric in version 1; `values`: where version 2 has its figures, `target` or `current`."""
    shown: JSONObject = {"type": metric.get("type", "")}
    for source in _SOURCES:
        if (of := metric.get(source)) is not None:
            shown[source] = _shown_source(source, of, values)
    return shown


def _shown_source(source: str, of: JSONObject, values: str) -> JSONObject:
    figures, metric = of.get(values) or {}, of.get("metric") or {}
    utilization, average, value = (figures.get(name) for name in ("averageUtilization", "averageValue", "value"))
    is_current = values == "current"
    match source:
        case "resource" | "containerResource":
            # What Go cannot leave out is a zero.
            amount = (average or "0") if is_current else average
            own = {"name": of.get("name", ""), "container": of.get("container")}
            return _without_nulls(own | {f"{values}AverageUtilization": utilization, f"{values}AverageValue": amount})
        case "object":
            own = {"target": of.get("describedObject"), "metricName": metric.get("name", "")}
            shown = {f"{values}Value": value or "0", "selector": metric.get("selector"), "averageValue": average}
        case "pods":
            own = {"metricName": metric.get("name", "")}
            shown = {f"{values}AverageValue": average or "0", "selector": metric.get("selector")}
        case _:
            own = {"metricName": metric.get("name", ""), "metricSelector": metric.get("selector")}
            shown = {f"{values}Value": (value or "0") if is_current else value, f"{values}AverageValue": average}
    return _without_nulls(own | shown)


def _read(shown: JSONObject, values: str) -> JSONObject:
    """A metric of version 1 in version 2. Raises `TypeError` and `AttributeError` if it is none."""
    metric = _without_nulls({"type": shown.get("type")})
    for source in _SOURCES:
        if (of := shown.get(source)) is not None:
            metric[source] = _read_source(source, of, values)
    return metric


def _read_source(source: str, of: JSONObject, values: str) -> JSONObject:
    utilization, average = of.get(f"{values}AverageUtilization"), of.get(f"{values}AverageValue")
    value = of.get(f"{values}Value")
    named = {"name": of.get("metricName"), "selector": of.get("selector") or of.get("metricSelector")}
    own: JSONObject = {"metric": _without_nulls(named)}
    if source in ("resource", "containerResource"):
        own = _without_nulls({"name": of.get("name"), "container": of.get("container")})
    elif source == "object":
        own["describedObject"], average = of.get("target"), of.get("averageValue")
        if average is not None and value == "0" and values == "target":
            value = None
    figures = _without_nulls({"averageUtilization": utilization, "averageValue": average, "value": value})
    if values == "target" and figures:
        kinds = {"averageUtilization": "Utilization", "value": "Value", "averageValue": "AverageValue"}
        first = (
            "averageValue"
            if source == "object" and average is not None
            else next(name for name in kinds if name in figures)
        )
        figures["type"] = kinds[first]
    return own | {values: figures}


_BEHAVIOR_IN_GO: JSONObject = {
    "scaleUp": (
        _RULES_IN_GO := {
            "stabilizationWindowSeconds": None,
            "selectPolicy": None,
            "policies": {"type": "", "value": 0, "periodSeconds": 0},
            "tolerance": None,
        }
    ),
    "scaleDown": _RULES_IN_GO,
}
"""The fields of behaviour in the order of Go's, with what they are if they are not given."""


def _in_go(value: Any, fields: Any) -> Any:
    """As Go writes a value whose fields have no names in JSON: all of them, by their own names."""
    if isinstance(value, list):
        return [_in_go(each, fields) for each in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, below in fields.items():
        item = value.get(name)
        found[name[0].upper() + name[1:]] = _in_go(item, below) if item is not None else _absent(below)
    return found


def _absent(below: Any) -> Any:
    return None if isinstance(below, dict) else below


def _from_go(value: Any) -> Any:
    """The other way; Go reads names in any case."""
    if isinstance(value, list):
        return [_from_go(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {_IN_JSON.get(name.lower(), name): _from_go(each) for name, each in value.items() if each is not None}


_IN_JSON = {
    name.lower(): name
    for name in (
        *("scaleUp", "scaleDown", "stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"),
        *("type", "value", "periodSeconds"),
    )
}


def _without_nulls(value: JSONObject) -> JSONObject:
    return {name: each for name, each in value.items() if each is not None}


def _with(obj: JSONObject, version: str, added: JSONObject, spec: JSONObject, status: JSONObject) -> JSONObject:
    meta = dict(obj.get("metadata") or {})
    kept = {key: value for key, value in (meta.pop("annotations", None) or {}).items() if key not in _ANNOTATIONS}
    if annotations := kept | added:
        meta["annotations"] = annotations
    made = obj | {"apiVersion": version, "metadata": meta, "spec": spec}
    return made | {"status": status} if "status" in obj else made
