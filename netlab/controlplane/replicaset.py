"""The replicaset controller: as many pods as requested."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from netlab.api.apps_types import ReplicaSet, ReplicaSetStatus
from netlab.api.core_types import Pod
from netlab.api.errors import unless_gone
from netlab.api.meta_types import Condition, Object, now
from netlab.api.resources import REPLICASETS, Resource
from netlab.api.selectors import Selector, from_label_selector
from netlab.controlplane.availability import is_available, next_available
from netlab.controlplane.cluster import Cluster, condition_of, controller_of, is_active, is_ready, parse_time
from netlab.controlplane.controller import Controller
from netlab.controlplane.podcontrol import BURST, PodControl, pod_of
from netlab.errors import NetlabError

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class ReplicaSetController(Controller):
    """ReplicaSets to pods."""

    name = "replicaset-controller"
    resource: ClassVar[Resource[Any]] = REPLICASETS
    workers = 4
    min_interval = 0.05

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._pods = PodControl(self, cluster.informers[self.resource], self.selector_of)

    def selector_of(self, owner: Any) -> Selector:
        """What selects the pods of an object."""
        return from_label_selector(owner.spec.selector)

    def as_replica_set(self, found: Any) -> ReplicaSet:
        """The object as a ReplicaSet."""
        replica_set: ReplicaSet = found
        return replica_set

    def with_status(self, found: Any, status: ReplicaSetStatus) -> Object:
        """The object with another status."""
        changed: ReplicaSet = msgspec.structs.replace(found, status=status)
        return changed

    def keys(self) -> Iterable[str]:
        """Every ReplicaSet."""
        return list(self.cluster.informers[self.resource].items)

    async def reconcile(self, key: str) -> None:
        """Adopt and release pods, create or delete what differs, and write the status."""
        found = self.cluster.informers[self.resource].items.get(key)
        if found is None or self.cluster.is_terminating(found.metadata.namespace):
            return
        rs = self.as_replica_set(found)
        settled = self._pods.settled(key)
        pods = await self._pods.claimed(found)
        active = [pod for pod in pods if is_active(pod)]
        failure: NetlabError | None = None
        difference = len(active) - wanted_replicas(rs)
        if settled and difference and rs.metadata.deletionTimestamp is None:
            try:
                if difference < 0:
                    new = [pod_of(found, rs.spec.template)] * min(-difference, BURST)
                    await self._pods.create(key, found, new)
                else:
                    await self._pods.delete(key, found, self._victims(rs, active, min(difference, BURST)))
            except NetlabError as error:
                failure = error
        moment = datetime.datetime.now(datetime.UTC)
        wait = next_available(active, rs.spec.minReadySeconds, moment)
        if wait is not None:
            self.queue.add_after(key, wait)
        await self._write_status(found, rs.status, new_status(rs, active, difference, failure, moment))
        if failure is not None:
            raise failure
        if abs(difference) > BURST:
            self.queue.add(key)

    def _victims(self, rs: ReplicaSet, active: list[Pod], number: int) -> list[Pod]:
        if number >= len(active):
            return active
        owner = controller_of(rs)
        related = [rs] if owner is None else self.cluster.replica_sets_by_controller.get(owner.uid)
        on_node = Counter(
            pod.spec.nodeName
            for sibling in related
            for pod in self.cluster.pods_by_controller.get(sibling.metadata.uid)
            if is_active(pod)
        )
        return deletion_order(active, on_node, datetime.datetime.now(datetime.UTC))[:number]

    async def _write_status(self, found: Object, before: ReplicaSetStatus, status: ReplicaSetStatus) -> None:
        if status != before:
            changed = self.with_status(found, status)
            await unless_gone(self.client.update(self.resource, changed, subresource="status"))


def wanted_replicas(rs: ReplicaSet) -> int:
    """spec.replicas; 1 when it is absent."""
    return 1 if rs.spec.replicas is None else rs.spec.replicas


def deletion_order(pods: Sequence[Pod], on_node: Counter[str], moment: datetime.datetime) -> list[Pod]:
    """The pods in the order of deletion (upstream's ActivePodsWithRanks).

    `on_node` counts, by node, the pods of the same workload: of two equal pods, the one with more company goes first.
    """

    def rank(pod: Pod) -> tuple[Any, ...]:
        ready = is_ready(pod)
        return (
            bool(pod.spec.nodeName),
            {"Pending": 0, "Unknown": 1}.get(pod.status.phase, 2),
            ready,
            _deletion_cost(pod),
            -on_node[pod.spec.nodeName],
            # On a logarithmic scale (KEP-2185), so that pods of about the same age are ordered at random, by uid.
            _magnitude(moment, _ready_since(pod)) if ready else 0,
            -max((c.restartCount for c in pod.status.containerStatuses), default=0),
            _magnitude(moment, pod.metadata.creationTimestamp),
            pod.metadata.uid,
        )

    return sorted(pods, key=rank)


def new_status(
    rs: ReplicaSet, active: Sequence[Pod], difference: int, failure: NetlabError | None, moment: datetime.datetime
) -> ReplicaSetStatus:
    """The status that follows from the ReplicaSet's active pods; `difference` is the number of surplus pods."""
    labels = rs.spec.template.metadata.labels.items()
    conditions = [c for c in rs.status.conditions if c.type != "ReplicaFailure"]
    if failure is not None:
        seen = condition_of(rs.status.conditions, "ReplicaFailure")
        reason = "FailedCreate" if difference < 0 else "FailedDelete"
        if seen is None or (seen.reason, seen.message) != (reason, str(failure)):
            seen = Condition(
                type="ReplicaFailure", status="True", reason=reason, message=str(failure), lastTransitionTime=now()
            )
        conditions.append(seen)
    return ReplicaSetStatus(
        replicas=len(active),
        fullyLabeledReplicas=sum(labels <= pod.metadata.labels.items() for pod in active),
        readyReplicas=sum(map(is_ready, active)),
        availableReplicas=sum(is_available(pod, rs.spec.minReadySeconds, moment) for pod in active),
        observedGeneration=rs.metadata.generation,
        conditions=conditions,
    )


def _ready_since(pod: Pod) -> str | None:
    condition = condition_of(pod.status.conditions, "Ready")
    return condition.lastTransitionTime if condition is not None else None


def _deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _magnitude(moment: datetime.datetime, since: str | None) -> int:
    if since is None:
        return 0
    nanoseconds = (moment - parse_time(since)).total_seconds() * 1e9
    return int(math.log2(nanoseconds)) if nanoseconds >= 1 else 0
