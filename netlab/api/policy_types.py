"""policy/v1 PodDisruptionBudget, with the field names of the Kubernetes API (1.37)."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import Condition, Int64, IntOrString, LabelSelector, Object, Struct


class PodDisruptionBudgetSpec(Struct):
    """policy/v1.PodDisruptionBudgetSpec; an empty selector is that of all pods, none that of no pod."""

    selector: LabelSelector | None = None
    minAvailable: IntOrString | None = None
    maxUnavailable: IntOrString | None = None
    unhealthyPodEvictionPolicy: str | None = None


class PodDisruptionBudgetStatus(Struct):
    """policy/v1.PodDisruptionBudgetStatus; disruptedPods are evicted, and not seen to be gone yet."""

    # Without omitempty upstream: they are always sent.
    disruptionsAllowed: int | None = None
    currentHealthy: int | None = None
    desiredHealthy: int | None = None
    expectedPods: int | None = None
    observedGeneration: Int64 = 0
    disruptedPods: dict[str, str] = {}
    conditions: list[Condition] = []


class PodDisruptionBudget(Object):
    """policy/v1.PodDisruptionBudget: how many pods are to stay while others are evicted."""

    spec: PodDisruptionBudgetSpec = msgspec.field(default_factory=PodDisruptionBudgetSpec)
    status: PodDisruptionBudgetStatus = msgspec.field(default_factory=PodDisruptionBudgetStatus)
