"""One step of a StatefulSet: which pods are created and deleted, and the status (pkg/controller/statefulset)."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Sequence
from fractions import Fraction

from netlab.api.apps_types import StatefulSet, StatefulSetStatus
from netlab.api.core_types import Pod
from netlab.controlplane.availability import is_available, next_available
from netlab.controlplane.cluster import is_ready
from netlab.controlplane.revisions import HASH

_NAME = re.compile(r"(.*)-([0-9]+)")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A pod to be created: its ordinal, and the name of the revision whose template it has."""

    ordinal: int
    revision: str


@dataclasses.dataclass
class Plan:
    """What one sync of a StatefulSet does."""

    status: StatefulSetStatus
    create: list[Wanted] = dataclasses.field(default_factory=list)
    delete: list[Pod] = dataclasses.field(default_factory=list)
    sync_after: float | None = None
    """Seconds until another pod has been ready for long enough; None: none waits for that."""


def ordinal_of(owner: str, pod: str) -> int | None:
    """The ordinal in the name of a pod of the StatefulSet `owner`; None if it is no name of one."""
    match = _NAME.fullmatch(pod)
    return int(match[2]) if match is not None and match[1] == owner else None


def wanted_replicas(stateful_set: StatefulSet) -> int:
    """spec.replicas; 1 when it is absent."""
    return 1 if stateful_set.spec.replicas is None else stateful_set.spec.replicas


def ordinals(stateful_set: StatefulSet) -> range:
    """The ordinals that there are to be."""
    start = stateful_set.spec.ordinals.start if stateful_set.spec.ordinals is not None else 0
    return range(start, start + wanted_replicas(stateful_set))


def plan(stateful_set: StatefulSet, pods: Sequence[Pod], current: str, update: str, now: datetime.datetime) -> Plan:
    """What to do, given the pods and the names of the revisions before and after an update (or twice the same)."""
    step = _Step(stateful_set, pods, current, update, now)
    made = Plan(step.status(), sync_after=next_available(list(pods), stateful_set.spec.minReadySeconds, now))
    if stateful_set.metadata.deletionTimestamp is None:
        step.take(made)
    step.complete(made.status)
    return made


class _Step:
    def __init__(
        self, stateful_set: StatefulSet, pods: Sequence[Pod], current: str, update: str, now: datetime.datetime
    ) -> None:
        self._spec = stateful_set.spec
        self._set = stateful_set
        self._current, self._update, self._now = current, update, now
        self._replicas = wanted_replicas(stateful_set)
        numbered = {ordinal_of(stateful_set.metadata.name, pod.metadata.name): pod for pod in pods}
        self._pods = {number: pod for number, pod in numbered.items() if number is not None}
        self._range = ordinals(stateful_set)
        self._condemned = [self._pods[each] for each in sorted(self._pods, reverse=True) if each not in self._range]
        self._in_order = self._spec.podManagementPolicy != "Parallel"
        rolling = self._spec.updateStrategy.rollingUpdate
        self._partition = (rolling.partition or 0) if rolling is not None else 0
        self._is_rolling = self._spec.updateStrategy.type != "OnDelete"

    def status(self) -> StatefulSetStatus:
        pods = list(self._pods.values())
        staying = [pod for pod in pods if pod.metadata.deletionTimestamp is None]
        return StatefulSetStatus(
            observedGeneration=self._set.metadata.generation,
            replicas=len(pods),
            readyReplicas=sum(_is_running(pod) for pod in pods),
            availableReplicas=sum(self._is_available(pod) for pod in pods),
            currentReplicas=sum(_revision(pod) == self._current for pod in staying),
            updatedReplicas=sum(_revision(pod) == self._update for pod in staying),
            currentRevision=self._current,
            updateRevision=self._update,
            conditions=self._set.status.conditions,
        )

    def complete(self, status: StatefulSetStatus) -> None:
        """Once all pods are updated, the new revision is the current one."""
        counts = (status.updatedReplicas, status.replicas, status.readyReplicas)
        if self._is_rolling and counts == (self._replicas,) * 3:
            status.currentReplicas, status.currentRevision = status.updatedReplicas, status.updateRevision

    def take(self, made: Plan) -> None:
        """Replicas first, then what is beyond them, then the update."""
        if self._replace(made) or self._shrink(made):
            return
        if self._is_rolling and not made.create and not made.delete:
            self._roll(made)

    def _replace(self, made: Plan) -> bool:
        """Create what is missing and delete what has ended; whether the rest has to wait for it."""
        for ordinal in self._range:
            pod = self._pods.get(ordinal)
            if pod is None:
                made.create.append(Wanted(ordinal, self._revision_for(ordinal)))
            elif pod.status.phase in ("Failed", "Succeeded") and pod.metadata.deletionTimestamp is None:
                made.delete.append(pod)
            elif self._is_available(pod) and pod.metadata.deletionTimestamp is None:
                continue
            if self._in_order:
                return True
        return False

    def _revision_for(self, ordinal: int) -> str:
        return self._current if self._is_rolling and ordinal < self._range.start + self._partition else self._update

    def _shrink(self, made: Plan) -> bool:
        """Delete what is beyond the replicas, the last first; whether the rest has to wait for it."""
        unhealthy = next((pod for pod in reversed(self._condemned) if not self._is_healthy(pod)), None)
        for pod in self._condemned:
            if pod.metadata.deletionTimestamp is not None:
                if self._in_order:
                    return True
                continue
            if self._in_order and not self._is_healthy(pod) and pod is not unhealthy:
                return True
            made.delete.append(pod)
            if self._in_order:
                return True
        return False

    def _roll(self, made: Plan) -> None:
        """Delete pods of an older revision, from the last one down to the partition, few at a time."""
        replicas = [self._pods[ordinal] for ordinal in reversed(self._range)]
        unavailable = sum(not self._is_healthy(pod) for pod in replicas)
        room = self._most_unavailable() - unavailable
        for pod in replicas[: max(0, self._replicas - self._partition)]:
            if room <= 0:
                break
            if _revision(pod) != self._update and pod.metadata.deletionTimestamp is None:
                made.delete.append(pod)
                made.status.currentReplicas = max(0, (made.status.currentReplicas or 0) - 1)
                room -= 1

    def _most_unavailable(self) -> int:
        rolling = self._spec.updateStrategy.rollingUpdate
        most = rolling.maxUnavailable if rolling is not None else None
        if isinstance(most, str):
            most = math.floor(Fraction(int(most.removesuffix("%")) * self._replicas, 100))
        return max(1, 1 if most is None else most)

    def _is_available(self, pod: Pod) -> bool:
        return _is_running(pod) and is_available(pod, self._spec.minReadySeconds, self._now)

    def _is_healthy(self, pod: Pod) -> bool:
        return self._is_available(pod) and pod.metadata.deletionTimestamp is None


def _is_running(pod: Pod) -> bool:
    return pod.status.phase == "Running" and is_ready(pod)


def _revision(pod: Pod) -> str:
    return pod.metadata.labels.get(HASH, "")
