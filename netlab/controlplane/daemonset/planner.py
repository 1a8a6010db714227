"""One step of a DaemonSet: which nodes get a pod, which pods go, and the status (pkg/controller/daemon)."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from netlab.api.apps_types import DaemonSet, DaemonSetStatus
from netlab.api.core_types import Node, Pod
from netlab.api.meta_types import IntOrString
from netlab.controlplane.availability import is_available, next_available
from netlab.controlplane.cluster import is_ready
from netlab.controlplane.daemonset.nodes import node_of, where
from netlab.controlplane.revisions import HASH


@dataclasses.dataclass(frozen=True)
class Told:
    """An event about the DaemonSet."""

    is_warning: bool
    reason: str
    message: str


@dataclasses.dataclass
class Plan:
    """What one sync of a DaemonSet does."""

    status: DaemonSetStatus
    create: list[str] = dataclasses.field(default_factory=list)
    """Names of nodes."""
    delete: list[Pod] = dataclasses.field(default_factory=list)
    failed: list[Pod] = dataclasses.field(default_factory=list)
    """Those of `delete` that have ended: not replaced again and again without a pause."""
    told: list[Told] = dataclasses.field(default_factory=list)
    sync_after: float | None = None
    """Seconds until another pod has been ready for long enough; None: none waits for that."""


def plan(
    daemon_set: DaemonSet,
    nodes: Sequence[Node],
    pods: Sequence[Pod],
    hashed: str,
    now: datetime.datetime,
    resting: Iterable[str] = (),
) -> Plan:
    """What to do, given the nodes, the pods that the DaemonSet has and the hash of its present template.

    `resting` are the nodes whose failed pods are not replaced yet.
    """
    step = _Step(daemon_set, nodes, pods, hashed, now)
    status = step.status()
    made = Plan(status, sync_after=next_available(list(pods), daemon_set.spec.minReadySeconds, now))
    if daemon_set.metadata.deletionTimestamp is not None:
        return made
    step.manage(made, frozenset(resting))
    # As upstream: a rollout begins once each node has what it should.
    if not made.create and not made.delete and daemon_set.spec.updateStrategy.type == "RollingUpdate":
        if step.surge:
            step.surge_over(made)
        else:
            step.roll(made)
    return made


class _Step:
    def __init__(
        self, daemon_set: DaemonSet, nodes: Sequence[Node], pods: Sequence[Pod], hashed: str, now: datetime.datetime
    ) -> None:
        self._daemon_set = daemon_set
        self._hash = hashed
        self._now = now
        self._where = {node.metadata.name: where(daemon_set, node) for node in nodes}
        self._pods: dict[str, list[Pod]] = {}
        for pod in sorted(pods, key=lambda pod: (pod.metadata.creationTimestamp or "", pod.metadata.name)):
            self._pods.setdefault(node_of(pod), []).append(pod)
        desired = sum(should_run for should_run, _ in self._where.values())
        self._desired = desired
        rolling = daemon_set.spec.updateStrategy.rollingUpdate
        self.surge = _scaled(rolling.maxSurge if rolling else None, desired, 0)
        unavailable = _scaled(rolling.maxUnavailable if rolling else None, desired, 1)
        # Neither 0 would stand still (a percentage of few nodes).
        self._unavailable = unavailable if self.surge or unavailable else 1

    def status(self) -> DaemonSetStatus:
        current = misscheduled = ready = available = updated = 0
        for name, (should_run, _) in self._where.items():
            pods = self._pods.get(name, [])
            if not should_run:
                misscheduled += bool(pods)
                continue
            if not pods:
                continue
            current += 1
            # The first is the oldest; upstream counts a node by one of its pods.
            pod = next((each for each in pods if is_ready(each)), pods[0])
            if is_ready(pod):
                ready += 1
                available += is_available(pod, self._daemon_set.spec.minReadySeconds, self._now)
            updated += any(self._is_new(each) for each in pods)
        return DaemonSetStatus(
            currentNumberScheduled=current,
            numberMisscheduled=misscheduled,
            desiredNumberScheduled=self._desired,
            numberReady=ready,
            observedGeneration=self._daemon_set.metadata.generation,
            updatedNumberScheduled=updated,
            numberAvailable=available,
            numberUnavailable=self._desired - available,
            collisionCount=self._daemon_set.status.collisionCount,
            conditions=self._daemon_set.status.conditions,
        )

    def manage(self, made: Plan, resting: frozenset[str]) -> None:
        """One pod on each node that should have one, none on the others."""
        for name, (should_run, may_stay) in self._where.items():
            pods = self._pods.get(name, [])
            if should_run and not pods:
                made.create.append(name)
            elif may_stay:
                self._manage_node(made, name, pods, should_run=should_run, rests=name in resting)
            else:
                made.delete += _living(pods)
        for name, pods in self._pods.items():
            if name not in self._where:
                # Its node is gone: one that was never placed will not be.
                made.delete += [pod for pod in _living(pods) if not pod.spec.nodeName]

    def _manage_node(self, made: Plan, name: str, pods: list[Pod], *, should_run: bool, rests: bool) -> None:
        running = []
        for pod in _living(pods):
            if pod.status.phase not in ("Failed", "Succeeded"):
                running.append(pod)
            elif not rests or pod.status.phase == "Succeeded":
                made.delete.append(pod)
                made.failed += [pod] if pod.status.phase == "Failed" else []
                made.told.append(_told_of_end(pod, name))
        if not self.surge:
            made.delete += running[1:]
        elif not running:
            if should_run and not _living(pods):
                made.create.append(name)
        else:
            self._keep_two(made, running)

    def _keep_two(self, made: Plan, running: list[Pod]) -> None:
        new = [pod for pod in running if self._is_new(pod)]
        old = [pod for pod in running if not self._is_new(pod)]
        made.delete += [*new[1:], *old[1:]]
        if new and old and (not is_ready(old[0]) or self._available(new[0])):
            made.delete.append(old[0])

    def roll(self, made: Plan) -> None:
        """Delete as many old pods as may be unavailable; the next sync replaces them."""
        unavailable, broken, candidates = 0, [], []
        for name, pods in self._on_nodes():
            new, old = self._two(pods)
            if name not in self._where or (new is None) == (old is None):
                unavailable += 1
            elif new is not None:
                unavailable += not self._available(new)
            elif old is not None and not self._available(old):
                broken.append(old)
                unavailable += 1
            elif old is not None:
                candidates.append(old)
        made.delete += [*broken, *candidates[: max(0, self._unavailable - unavailable)]]

    def surge_over(self, made: Plan) -> None:
        """Start new pods beside old ones; an old one goes once the new one is available."""
        surging, available, leaving, allowed, candidates = 0, 0, [], [], []
        for name, pods in self._on_nodes():
            new, old = self._two(pods)
            available += any(self._available(pod) for pod in (new, old) if pod is not None)
            if old is None:
                continue
            if new is not None:
                surging += not self._available(new)
                made.delete += [old] if self._available(new) else []
            elif not self._where.get(name, (False, False))[0]:
                if self._available(old):
                    leaving.append(old)
                else:
                    made.delete.append(old)
            elif self._available(old):
                candidates.append(name)
            else:
                allowed.append(name)
        made.delete += leaving[: max(0, available - self._desired)]
        made.create += [*allowed, *candidates[: max(0, self.surge - surging)]]

    def _on_nodes(self) -> list[tuple[str, list[Pod]]]:
        return [(name, living) for name, pods in self._pods.items() if (living := _living(pods))]

    def _two(self, pods: list[Pod]) -> tuple[Pod | None, Pod | None]:
        new = next((pod for pod in pods if self._is_new(pod)), None)
        return new, next((pod for pod in pods if not self._is_new(pod)), None)

    def _is_new(self, pod: Pod) -> bool:
        return pod.metadata.labels.get(HASH) == self._hash

    def _available(self, pod: Pod) -> bool:
        return is_available(pod, self._daemon_set.spec.minReadySeconds, self._now)


def _living(pods: Iterable[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.metadata.deletionTimestamp is None]


def _told_of_end(pod: Pod, node: str) -> Told:
    if pod.status.phase == "Failed":
        message = f"Found failed daemon pod {pod.key} on node {node}, will try to kill it"
        return Told(is_warning=True, reason="FailedDaemonPod", message=message)
    message = f"Found succeeded daemon pod {pod.key} on node {node}, will try to delete it"
    return Told(is_warning=False, reason="SucceededDaemonPod", message=message)


def _scaled(value: IntOrString | None, total: int, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, int):
        return value
    # Both are rounded up (util.UnavailableCount, util.SurgeCount).
    return math.ceil(Fraction(int(value.removesuffix("%")) * total, 100))
