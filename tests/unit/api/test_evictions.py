"""Evictions, which a budget may forbid."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.errors import ApiError
from netlab.api.resources import PODDISRUPTIONBUDGETS, PODS, STATUS, Resource
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.evictions import evict
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, pod, refused, update

_PODS: Resource[Any] = PODS
_BUDGETS: Resource[Any] = PODDISRUPTIONBUDGETS


def _pod(registry: Registry, *, ready: bool = True, phase: str = "Running") -> None:
    made = create(registry, PODS, {**pod("p"), "metadata": {"name": "p", "labels": {"app": "x"}}})
    condition = {"type": "Ready", "status": str(ready)}
    update(registry, PODS, made | {"status": {"phase": phase, "conditions": [condition]}}, STATUS)


def _budget(registry: Registry, allowed: int, name: str = "b", *, observed: int = 1, **spec: Any) -> None:
    manifest = {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "minAvailable": 1} | spec,
    }
    made = create(registry, PODDISRUPTIONBUDGETS, manifest)
    status = {
        "disruptionsAllowed": allowed,
        "currentHealthy": 1 + allowed,
        "desiredHealthy": 1,
        "expectedPods": 2,
        "observedGeneration": observed,
    }
    update(registry, PODDISRUPTIONBUDGETS, made | {"status": status}, STATUS)


def _is_there(registry: Registry) -> bool:
    return registry.store.get(_PODS, "default", "p") is not None


def test_a_budget_is_spent(registry: Registry) -> None:
    _pod(registry)
    _budget(registry, 1)
    evict(registry, "default", "p", DeleteOptions(dryRun=["All"]))
    assert registry.get(_BUDGETS, "default", "b").decode()["status"]["disruptionsAllowed"] == 1
    evict(registry, "default", "p", DeleteOptions())
    assert not _is_there(registry)
    status = registry.get(_BUDGETS, "default", "b").decode()["status"]
    assert (status["disruptionsAllowed"], list(status["disruptedPods"])) == (0, ["p"])


@pytest.mark.parametrize(
    ("budget", "cause", "seconds"),
    [
        # Clients ask again by themselves if they are told when: that would take minutes.
        ({"allowed": 0}, "The disruption budget b needs 1 healthy pods and has 1 currently", 0),
        ({"allowed": 1, "observed": 0}, "The disruption budget b is still being processed by the server.", 10),
    ],
)
def test_a_budget_forbids_it(registry: Registry, budget: dict[str, Any], cause: str, seconds: int) -> None:
    _pod(registry)
    _budget(registry, **budget)
    with pytest.raises(ApiError) as refusal:
        evict(registry, "default", "p", DeleteOptions())
    status = refusal.value.status
    assert (status.code, status.reason) == (429, "TooManyRequests")
    assert status.details is not None
    assert [(each.reason, each.message) for each in status.details.causes] == [("DisruptionBudget", cause)]
    assert status.details.retryAfterSeconds == seconds
    assert _is_there(registry)


@pytest.mark.parametrize(
    ("ready", "phase", "spec"),
    [
        (False, "Running", {"unhealthyPodEvictionPolicy": "AlwaysAllow"}),
        (False, "Running", {}),
        (True, "Succeeded", {}),
        (False, "Pending", {}),
    ],
)
def test_what_a_budget_is_not_about_may_go(registry: Registry, ready: bool, phase: str, spec: dict[str, Any]) -> None:
    _pod(registry, ready=ready, phase=phase)
    _budget(registry, 0, **spec)
    evict(registry, "default", "p", DeleteOptions())
    assert not _is_there(registry)


def test_two_budgets_are_one_too_many(registry: Registry) -> None:
    _pod(registry)
    _budget(registry, 1)
    _budget(registry, 1, "c")
    with refused(500, "This pod has more than one PodDisruptionBudget"):
        evict(registry, "default", "p", DeleteOptions())


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"minAvailable": 1, "maxUnavailable": 1}, "minAvailable and maxUnavailable cannot be both set"),
        ({"minAvailable": -1}, "spec.minAvailable"),
        ({"maxUnavailable": "x"}, "must be an integer or percentage"),
        ({"maxUnavailable": "101%"}, "must not be greater than 100%"),
        ({"unhealthyPodEvictionPolicy": "Some"}, "spec.unhealthyPodEvictionPolicy: Unsupported value"),
    ],
)
def test_what_is_no_budget(registry: Registry, spec: dict[str, Any], text: str) -> None:
    with refused(422, text):
        create(registry, PODDISRUPTIONBUDGETS, {"metadata": {"name": "b"}, "spec": spec})
