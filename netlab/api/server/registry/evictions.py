"""Evictions: a pod is deleted if its disruption budget allows it (pkg/registry/core/pod/storage/eviction.go)."""

from __future__ import annotations

from typing import Any

import msgspec

from netlab.api import selectors
from netlab.api.errors import ApiError
from netlab.api.meta_types import StatusCause, now
from netlab.api.policy_types import PodDisruptionBudget
from netlab.api.resources import PODDISRUPTIONBUDGETS, PODS, STATUS, Resource
from netlab.api.server import refusals
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry

_PODS: Resource[Any] = PODS
_BUDGETS: Resource[Any] = PODDISRUPTIONBUDGETS

_RETRY_SECONDS = 10
"""After how long to ask again while the budget's status is old. When the next pod may go nobody knows."""


def evict(registry: Registry, namespace: str, name: str, options: DeleteOptions) -> None:
    """Delete a pod as an eviction does. Raises `ApiError`: 429 if its budget does not allow it now."""
    pod = registry.get(_PODS, namespace, name).decode()
    dry_run = bool(options.dryRun)
    if _counts(pod):
        budget = _budget_of(registry, namespace, pod)
        if budget is not None and not _is_spare(budget, pod):
            _spend(registry, budget, name, dry_run=dry_run)
    if not dry_run:
        _mark(registry, namespace, name)
    registry.delete(_PODS, namespace, name, options)


def _counts(pod: JSONObject) -> bool:
    """Whether a pod is one that a budget is about: it has not ended, does not end, and has begun."""
    phase = pod.get("status", {}).get("phase", "")
    return phase not in ("Succeeded", "Failed", "Pending") and "deletionTimestamp" not in pod["metadata"]


def _budget_of(registry: Registry, namespace: str, pod: JSONObject) -> PodDisruptionBudget | None:
    found = []
    labels = pod["metadata"].get("labels", {})
    for stored in registry.store.all(_BUDGETS):
        if stored.namespace != namespace:
            continue
        budget = msgspec.json.decode(stored.raw, type=PodDisruptionBudget)
        selector = budget.spec.selector
        if selector is not None and selectors.from_label_selector(selector).matches(labels):
            found.append(budget)
    if len(found) > 1:
        names = [budget.metadata.name for budget in found]
        raise refusals.several_budgets(names)
    return found[0] if found else None


def _is_spare(budget: PodDisruptionBudget, pod: JSONObject) -> bool:
    """Whether a pod that is not ready may go without being counted."""
    conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", ())}
    if conditions.get("Ready") == "True":
        return False
    if budget.spec.unhealthyPodEvictionPolicy == "AlwaysAllow":
        return True
    healthy, desired = budget.status.currentHealthy or 0, budget.status.desiredHealthy or 0
    return healthy >= desired > 0


def _spend(registry: Registry, budget: PodDisruptionBudget, pod: str, *, dry_run: bool) -> None:
    status, name = budget.status, budget.metadata.name
    if status.observedGeneration < budget.metadata.generation:
        raise _refusal(f"The disruption budget {name} is still being processed by the server.", _RETRY_SECONDS)
    allowed = status.disruptionsAllowed or 0
    if allowed <= 0:
        raise _refusal(
            f"The disruption budget {name} needs {status.desiredHealthy} healthy pods and has "
            f"{status.currentHealthy} currently"
        )
    status.disruptionsAllowed = allowed - 1
    status.disruptedPods = {**status.disruptedPods, pod: now()}
    changed = msgspec.to_builtins(budget)
    registry.update(_BUDGETS, budget.metadata.namespace, name, changed, subresource=STATUS, dry_run=dry_run)


def _refusal(why: str, seconds: int = 0) -> ApiError:
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return refusals.too_many(message, [StatusCause(reason="DisruptionBudget", message=why)], seconds)


def _mark(registry: Registry, namespace: str, name: str) -> None:
    """Say in the pod's status why it goes."""
    pod = registry.get(_PODS, namespace, name).decode()
    status = pod.setdefault("status", {})
    others = [each for each in status.get("conditions", ()) if each["type"] != "DisruptionTarget"]
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": now(),
    }
    status["conditions"] = [*others, condition]
    pod["metadata"].pop("resourceVersion", None)
    registry.update(_PODS, namespace, name, pod, subresource=STATUS)
