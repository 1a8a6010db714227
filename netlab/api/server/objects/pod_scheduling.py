"""What the API says of a new pod's scheduling (pkg/registry/core/pod/strategy.go)."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.api.meta_types import now
from netlab.api.server.objects.schema import JSONObject


def prepare(pod: JSONObject) -> None:
    """Say of a new pod with scheduling gates that it waits for them, and in its selectors what its label keys mean."""
    if pod["spec"].get("schedulingGates"):
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastTransitionTime": now(),
        }
        pod["status"]["conditions"] = [condition]
    _merge_label_keys(pod)


def _merge_label_keys(pod: JSONObject) -> None:
    """Say in each selector what matchLabelKeys mean for this pod (KEP-3633, KEP-3243): labels may change later."""
    labels = pod["metadata"].get("labels") or {}
    for term in _terms(pod["spec"]):
        selector = term.get("labelSelector")
        if not isinstance(selector, dict):
            continue
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
            added = [
                {"key": key, "operator": operator, "values": [labels[key]]}
                for key in term.get(field) or ()
                if key in labels
            ]
            if added:
                selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *added]


def _terms(spec: JSONObject) -> Iterator[JSONObject]:
    yield from spec.get("topologySpreadConstraints") or ()
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = affinity.get(kind) or {}
        yield from pods.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        for weighted in pods.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            yield weighted["podAffinityTerm"]
