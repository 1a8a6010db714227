"""The replicaset controller: as many pods as requested."""

from __future__ import annotations

import asyncio
import datetime
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from netlab.api.apps_types import ReplicaSet, ReplicaSetStatus
from netlab.api.core_types import Pod
from netlab.api.errors import ApiError
from netlab.api.events import WARNING, record
from netlab.api.meta_types import Condition, ObjectMeta, now
from netlab.api.resources import PODS, REPLICASETS
from netlab.api.selectors import from_label_selector
from netlab.controlplane import expectations
from netlab.controlplane.claims import settle, sort_claims
from netlab.controlplane.cluster import (
    Cluster,
    condition_of,
    controller_of,
    controller_reference,
    is_active,
    is_ready,
    orphans,
    parse_time,
)
from netlab.controlplane.controller import Controller
from netlab.controlplane.expectations import Expectations
from netlab.errors import NetlabError

BURST = 500
"""Pods created or deleted in one sync (upstream's burstReplicas)."""
BATCH_LIMIT = 64
"""Requests in flight at once; upstream's batches double without limit, but here each request costs a connection."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class ReplicaSetController(Controller):
    """ReplicaSets to pods."""

    name = "replicaset-controller"
    resource = REPLICASETS
    workers = 4
    min_interval = 0.05

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._expectations = Expectations()
        cluster.replica_sets.on_change(self._replica_set_changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """Every ReplicaSet."""
        return list(self.cluster.replica_sets.items)

    async def reconcile(self, key: str) -> None:
        """Adopt and release pods, create or delete what differs, and write the status."""
        rs = self.cluster.replica_sets.items.get(key)
        if rs is None or self.cluster.is_terminating(rs.metadata.namespace):
            return
        settled = self._expectations.satisfied(key)
        if not settled:
            # The awaited event brings the key back; if it never comes, this does.
            self.queue.add_after(key, expectations.TIMEOUT)
        claims = sort_claims(
            rs,
            from_label_selector(rs.spec.selector),
            self.cluster.pods_by_controller.get(rs.metadata.uid),
            [pod for pod in self.cluster.pods_by_controller.get(orphans(rs.metadata.namespace)) if is_active(pod)],
        )
        pods = await settle(self.client, PODS, REPLICASETS, rs, claims)
        active = [pod for pod in pods if is_active(pod)]
        failure: NetlabError | None = None
        difference = len(active) - wanted_replicas(rs)
        if settled and difference and rs.metadata.deletionTimestamp is None:
            try:
                if difference < 0:
                    await self._create(key, rs, min(-difference, BURST))
                else:
                    await self._delete(key, self._victims(rs, active, min(difference, BURST)))
            except NetlabError as error:
                failure = error
        moment = datetime.datetime.now(datetime.UTC)
        wait = next_available(rs, active, moment)
        if wait is not None:
            self.queue.add_after(key, wait)
        await self._write_status(rs, new_status(rs, active, difference, failure, moment))
        if failure is not None:
            raise failure
        if abs(difference) > BURST:
            self.queue.add(key)

    async def _create(self, key: str, rs: ReplicaSet, number: int) -> None:
        """Create pods in batches of 1, 2, 4, ...: so that a refused spec is not sent 500 times."""
        self._expectations.expect(key, creations=number)
        pod = pod_of(rs)
        size = 1
        while number:
            size = min(size, number, BATCH_LIMIT)
            results = await asyncio.gather(
                *(self.client.create(PODS, pod) for _ in range(size)), return_exceptions=True
            )
            failed = [result for result in results if isinstance(result, BaseException)]
            number -= size
            if failed:
                self._expectations.created(key, len(failed) + number)
                error = failed[0]
                if isinstance(error, NetlabError):
                    message = f"Error creating: {error}"
                    await record(self.client, rs, WARNING, "FailedCreate", message, self.name)
                raise error
            size *= 2

    async def _delete(self, key: str, victims: list[Pod]) -> None:
        self._expectations.expect(key, deletions={pod.metadata.uid for pod in victims})
        errors: list[BaseException] = []
        for start in range(0, len(victims), BATCH_LIMIT):
            batch = victims[start : start + BATCH_LIMIT]
            results = await asyncio.gather(*map(self._delete_one, batch), return_exceptions=True)
            for pod, result in zip(batch, results, strict=True):
                if isinstance(result, BaseException):
                    self._expectations.deleted(key, pod.metadata.uid)
                    errors.append(result)
        if errors:
            raise errors[0]

    async def _delete_one(self, pod: Pod) -> None:
        try:
            await self.client.delete(PODS, pod.metadata.name, pod.metadata.namespace, uid=pod.metadata.uid)
        except ApiError as error:
            # Gone, or replaced by another with the same name: the informer shows that, or has shown it already.
            if error.reason not in ("NotFound", "Conflict"):
                raise
            owner = controller_of(pod)
            if owner is not None:
                self._expectations.deleted(f"{pod.metadata.namespace}/{owner.name}", pod.metadata.uid)

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

    async def _write_status(self, rs: ReplicaSet, status: ReplicaSetStatus) -> None:
        if status == rs.status:
            return
        try:
            await self.client.update(REPLICASETS, msgspec.structs.replace(rs, status=status), subresource="status")
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    def _replica_set_changed(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._expectations.forget(old.key)
        if new is not None and (old is None or old.metadata != new.metadata):
            self.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        before = controller_of(old) if old is not None else None
        if old is not None and before is not None and before.kind == REPLICASETS.kind:
            key = f"{old.metadata.namespace}/{before.name}"
            if new is None or new.metadata.uid != old.metadata.uid or new.metadata.deletionTimestamp is not None:
                self._expectations.deleted(key, old.metadata.uid)
            if new is None or _matters(old, new):
                self.queue.add(key)
        if new is None:
            return
        owner = controller_of(new)
        if owner is not None and owner.kind == REPLICASETS.kind:
            key = f"{new.metadata.namespace}/{owner.name}"
            if old is None or old.metadata.uid != new.metadata.uid:
                self._expectations.created(key)
                self.queue.add(key)
            elif before is None:
                self.queue.add(key)
        elif owner is None and (old is None or old.metadata.labels != new.metadata.labels or before is not None):
            for rs in self.cluster.replica_sets.items.values():
                if rs.metadata.namespace == new.metadata.namespace and from_label_selector(rs.spec.selector).matches(
                    new.metadata.labels
                ):
                    self.queue.add(rs.key)


def wanted_replicas(rs: ReplicaSet) -> int:
    """spec.replicas; 1 when it is absent."""
    return 1 if rs.spec.replicas is None else rs.spec.replicas


def pod_of(rs: ReplicaSet) -> Pod:
    """A pod of the ReplicaSet, which the server will name."""
    template = rs.spec.template
    return Pod(
        metadata=ObjectMeta(
            generateName=f"{rs.metadata.name}-",
            namespace=rs.metadata.namespace,
            labels=template.metadata.labels,
            annotations=template.metadata.annotations,
            finalizers=template.metadata.finalizers,
            ownerReferences=[controller_reference(rs)],
        ),
        spec=template.spec,
    )


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
        availableReplicas=sum(_available_in(rs, pod, moment) == 0 for pod in active),
        observedGeneration=rs.metadata.generation,
        conditions=conditions,
    )


def next_available(rs: ReplicaSet, active: Iterable[Pod], moment: datetime.datetime) -> float | None:
    """Seconds until the next ready pod has been ready for minReadySeconds; None if no pod is waiting for that."""
    if not rs.spec.minReadySeconds:
        return None
    waits = (_available_in(rs, pod, moment) for pod in active)
    return min((wait for wait in waits if wait), default=None)


def _available_in(rs: ReplicaSet, pod: Pod, moment: datetime.datetime) -> float | None:
    if not is_ready(pod):
        return None
    if not rs.spec.minReadySeconds:
        return 0
    since = _ready_since(pod)
    if since is None:
        return None
    return max(0.0, rs.spec.minReadySeconds - (moment - parse_time(since)).total_seconds())


def _matters(old: Pod, new: Pod) -> bool:
    """Whether a change to a pod can affect its ReplicaSet's status or decisions: most, such as its IP, cannot."""
    return (
        old.metadata.labels != new.metadata.labels
        or old.metadata.ownerReferences != new.metadata.ownerReferences
        or is_active(old) != is_active(new)
        or is_ready(old) != is_ready(new)
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
