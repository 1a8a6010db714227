"""The disruption controller: how many pods of each PodDisruptionBudget may be evicted (pkg/controller/disruption)."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from netlab.api import meta_types
from netlab.api.core_types import Pod
from netlab.api.errors import unless_gone
from netlab.api.informer import Informer
from netlab.api.meta_types import Condition, IntOrString
from netlab.api.policy_types import PodDisruptionBudget, PodDisruptionBudgetStatus
from netlab.api.resources import PODDISRUPTIONBUDGETS
from netlab.api.selectors import from_label_selector
from netlab.controlplane.cluster import Cluster, controller_of, is_finished, is_ready, parse_time
from netlab.controlplane.controller import Controller

_EVICTION_TIMEOUT = 120.0
"""Seconds after which an evicted pod that is still there counts again (DeletionTimeout)."""


class DisruptionController(Controller):
    """PodDisruptionBudgets to their statuses."""

    name = "disruption-controller"
    resource = PODDISRUPTIONBUDGETS
    min_interval = 0.1

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.budgets.on_change(self._changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """Every budget."""
        return list(self.cluster.budgets.items)

    async def reconcile(self, key: str) -> None:
        """Write the status that follows from the pods."""
        budget = self.cluster.budgets.items.get(key)
        if budget is None or budget.metadata.deletionTimestamp is not None:
            return
        pods = [pod for pod in self.cluster.pods.items.values() if _is_selected(budget, pod)]
        now = datetime.datetime.now(datetime.UTC)
        status, sync_after = new_status(budget, pods, self._expected(budget, pods), now)
        if sync_after is not None:
            self.queue.add_after(key, sync_after)
        if status != budget.status:
            changed = msgspec.structs.replace(budget, status=status)
            await unless_gone(self.client.update(PODDISRUPTIONBUDGETS, changed, subresource="status"))

    def _expected(self, budget: PodDisruptionBudget, pods: Sequence[Pod]) -> int:
        """How many pods there should be: what their owners want, where a number of pods alone does not say."""
        if budget.spec.maxUnavailable is None and isinstance(budget.spec.minAvailable, int):
            return len(pods)
        wanted: dict[str, int] = {}
        alone = 0
        for pod in pods:
            owner = controller_of(pod)
            size = self._size_of(pod.metadata.namespace, owner.kind, owner.name) if owner is not None else None
            if size is None:
                alone += 1
            else:
                wanted[size[0]] = size[1]
        return sum(wanted.values()) + alone

    def _size_of(self, namespace: str, kind: str, name: str) -> tuple[str, int] | None:
        """The uid of the workload that decides how many pods there are, and its number."""
        key = f"{namespace}/{name}"
        cluster = self.cluster
        sets: dict[str, Informer[Any]] = {
            "ReplicaSet": cluster.replica_sets,
            "ReplicationController": cluster.replication_controllers,
            "StatefulSet": cluster.stateful_sets,
            "Deployment": cluster.deployments,
        }
        found = sets[kind].items.get(key) if kind in sets else None
        if found is None:
            return None
        above = controller_of(found)
        if above is not None and (size := self._size_of(namespace, above.kind, above.name)) is not None:
            return size
        replicas = found.spec.replicas
        return found.metadata.uid, 1 if replicas is None else replicas

    def _changed(self, old: PodDisruptionBudget | None, new: PodDisruptionBudget | None) -> None:
        if new is not None and (old is None or old.metadata != new.metadata):
            self.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for budget in self.cluster.budgets.items.values():
            if any(pod is not None and _is_selected(budget, pod) for pod in (old, new)):
                self.queue.add(budget.key)


def disruption_target(pod: Pod, reason: str, message: str) -> Condition:
    """The condition of a pod that is about to be deleted for the sake of something else (KEP-3329)."""
    return Condition(
        type="DisruptionTarget",
        status="True",
        reason=reason,
        message=message,
        lastTransitionTime=meta_types.now(),
        observedGeneration=pod.metadata.generation,
    )


def new_status(
    budget: PodDisruptionBudget, pods: Sequence[Pod], expected: int, now: datetime.datetime
) -> tuple[PodDisruptionBudgetStatus, float | None]:
    """The status that follows from the selected pods, and after how many seconds it may change by itself."""
    disrupted, sync_after = _disrupted(budget, pods, now)
    counted = [pod for pod in pods if not is_finished(pod)]
    healthy = sum(
        is_ready(pod) and pod.metadata.deletionTimestamp is None and pod.metadata.name not in disrupted
        for pod in counted
    )
    desired = _desired(budget, expected)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    status = PodDisruptionBudgetStatus(
        disruptionsAllowed=allowed,
        currentHealthy=healthy,
        desiredHealthy=desired,
        expectedPods=expected,
        observedGeneration=budget.metadata.generation,
        disruptedPods=disrupted,
        conditions=_conditions(budget, allowed, now),
    )
    return status, sync_after


def _desired(budget: PodDisruptionBudget, expected: int) -> int:
    spec = budget.spec
    if spec.maxUnavailable is not None:
        return max(0, expected - _scaled(spec.maxUnavailable, expected))
    return 0 if spec.minAvailable is None else _scaled(spec.minAvailable, expected)


def _scaled(value: IntOrString, total: int) -> int:
    if isinstance(value, int):
        return value
    return math.ceil(Fraction(int(value.removesuffix("%")) * total, 100))


def _disrupted(
    budget: PodDisruptionBudget, pods: Sequence[Pod], now: datetime.datetime
) -> tuple[dict[str, str], float | None]:
    """The evicted pods whose deletion is still to be seen."""
    present = {pod.metadata.name: pod for pod in pods}
    kept, sync_after = {}, None
    for name, since in budget.status.disruptedPods.items():
        pod = present.get(name)
        left = _EVICTION_TIMEOUT - (now - parse_time(since)).total_seconds()
        if pod is not None and pod.metadata.deletionTimestamp is None and left > 0:
            kept[name] = since
            sync_after = left if sync_after is None else min(sync_after, left)
    return kept, sync_after


def _conditions(budget: PodDisruptionBudget, allowed: int, now: datetime.datetime) -> list[Condition]:
    status, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    seen = next((each for each in budget.status.conditions if each.type == "DisruptionAllowed"), None)
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    if seen is not None and seen.status == status:
        moment = seen.lastTransitionTime or moment
    others = [each for each in budget.status.conditions if each.type != "DisruptionAllowed"]
    condition = Condition(
        type="DisruptionAllowed",
        status=status,
        reason=reason,
        lastTransitionTime=moment,
        observedGeneration=budget.metadata.generation,
    )
    return [*others, condition]


def _is_selected(budget: PodDisruptionBudget, pod: Pod) -> bool:
    return (
        budget.spec.selector is not None
        and budget.metadata.namespace == pod.metadata.namespace
        and from_label_selector(budget.spec.selector).matches(pod.metadata.labels)
    )
