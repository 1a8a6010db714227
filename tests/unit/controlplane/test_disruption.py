"""How many pods a budget lets go: a table of pods."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from netlab.api.core_types import Pod
from netlab.api.meta_types import LabelSelector, ObjectMeta
from netlab.api.policy_types import PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus
from netlab.controlplane.disruption import new_status
from tests.unit.controlplane.build import pod

NOW = datetime.datetime(2026, 1, 1, 0, 1, tzinfo=datetime.UTC)
RECENTLY, LONG_AGO = "2026-01-01T00:00:00Z", "2025-12-31T00:00:00Z"


def budget(disrupted: dict[str, str] | None = None, **spec: Any) -> PodDisruptionBudget:
    return PodDisruptionBudget(
        metadata=ObjectMeta(name="b", namespace="default", generation=3),
        spec=PodDisruptionBudgetSpec(selector=LabelSelector(), **spec),
        status=PodDisruptionBudgetStatus(disruptedPods=disrupted or {}),
    )


def _pods(ready: int, unready: int = 0, deleted: int = 0) -> list[Pod]:
    return [
        *(pod(f"ready-{number}", ready=True) for number in range(ready)),
        *(pod(f"unready-{number}") for number in range(unready)),
        *(pod(f"deleted-{number}", ready=True, deleted=True) for number in range(deleted)),
    ]


@pytest.mark.parametrize(
    ("of", "pods", "expected", "healthy", "desired", "allowed"),
    [
        (budget(minAvailable=2), _pods(3), 3, 3, 2, 1),
        (budget(minAvailable=2), _pods(2), 2, 2, 2, 0),
        (budget(minAvailable=2), _pods(1, 1), 2, 1, 2, 0),
        (budget(minAvailable=0), _pods(2), 2, 2, 0, 2),
        (budget(minAvailable="50%"), _pods(3), 3, 3, 2, 1),
        (budget(maxUnavailable=1), _pods(3), 3, 3, 2, 1),
        (budget(maxUnavailable=1), _pods(2), 3, 2, 2, 0),
        (budget(maxUnavailable="34%"), _pods(3), 3, 3, 1, 2),
        (budget(maxUnavailable=9), _pods(3), 3, 3, 0, 3),
        (budget(minAvailable=1), _pods(1, deleted=1), 2, 1, 1, 0),
        (budget(minAvailable=1), [], 0, 0, 1, 0),
        (budget({"ready-0": RECENTLY}, minAvailable=1), _pods(2), 2, 1, 1, 0),
        (budget({"ready-0": LONG_AGO}, minAvailable=1), _pods(2), 2, 2, 1, 1),
        (budget({"gone": RECENTLY}, minAvailable=1), _pods(2), 2, 2, 1, 1),
    ],
)
def test_disruptions(
    of: PodDisruptionBudget, pods: list[Pod], expected: int, healthy: int, desired: int, allowed: int
) -> None:
    status, _ = new_status(of, pods, expected, NOW)
    assert (status.currentHealthy, status.desiredHealthy, status.disruptionsAllowed) == (healthy, desired, allowed)
    assert (status.expectedPods, status.observedGeneration) == (expected, 3)
    reason = "SufficientPods" if allowed else "InsufficientPods"
    assert [(each.type, each.status, each.reason) for each in status.conditions] == [
        ("DisruptionAllowed", str(bool(allowed)), reason)
    ]


def test_an_evicted_pod_counts_again_after_a_while() -> None:
    status, after = new_status(budget({"ready-0": RECENTLY}, minAvailable=1), _pods(2), 2, NOW)
    assert (status.disruptedPods, after) == ({"ready-0": RECENTLY}, 60)
