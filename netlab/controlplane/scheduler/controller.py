"""The scheduler's executor: it binds pods, says why others have no node, and makes the room that they may take."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from netlab.api.client import Client
from netlab.api.core_types import Namespace, Node, Pod, Service
from netlab.api.errors import ApiError, unless_gone
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.informer import Informer
from netlab.api.media_types import STRATEGIC_MERGE_PATCH
from netlab.api.meta_types import Condition, now
from netlab.api.resources import PODS
from netlab.api.selectors import Selector, from_labels
from netlab.controlplane.cluster import Cluster, Index, condition_of, is_finished, label_pair
from netlab.controlplane.controller import Controller
from netlab.controlplane.disruption import disruption_target
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.decision import Unschedulable, choose
from netlab.controlplane.scheduler.podinfo import PodInfo, selector_of
from netlab.controlplane.scheduler.preemption import Preemption, preempt
from netlab.controlplane.scheduler.waiting import WITHOUT_A_CHANGE, Change, WaitingRoom

SCHEDULER_NAME = "default-scheduler"


class Scheduler(Controller):
    """Decides between two awaits and assumes the decision, so that many bindings can be in flight at once."""

    name = SCHEDULER_NAME
    resource = PODS
    workers = 16

    def __init__(self, cluster: Cluster, client: Client) -> None:
        """`client` writes as the scheduler; what there is to read the controllers share."""
        super().__init__(cluster)
        self.client = client
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._services: Index[Service] = Index(cluster.services, _first_selected)
        self._cache = Cache(lambda: self._namespaces, self._default_selector)
        self._waiting = WaitingRoom()
        cluster.namespaces.on_change(self._namespace_changed)
        cluster.nodes.on_change(self._node_changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """Every pod; those that have a node are skipped."""
        return list(self.cluster.pods.items)

    def rank(self, key: str) -> int:
        """The most important pods come first."""
        pod = self.cluster.pods.items.get(key)
        return -(pod.spec.priority or 0) if pod is not None else 0

    async def reconcile(self, key: str) -> None:
        """Bind the pod to a node; or report why there is none, make room if it may, and wait for a change."""
        pod = self.cluster.pods.items.get(key)
        if pod is None or not _is_ours(pod) or self._cache.placement(pod.metadata.uid) is not None:
            return
        info = PodInfo.of(pod)
        # A promise may not have been seen in the API yet.
        info = dataclasses.replace(info, nominated=self._cache.promised(info.uid) or info.nominated)
        choice = choose(info, self._cache)
        if isinstance(choice, str):
            await self._bind(pod, info, choice)
            return
        outcome = preempt(info, self._cache, choice, self.cluster.budgets.items.values())
        self._waiting.refused(key, choice.plugins, asyncio.get_running_loop().time())
        self.queue.add_after(key, WITHOUT_A_CHANGE)
        if isinstance(outcome, Preemption):
            self._cache.nominate(info, outcome.node)
            await self._report(pod, choice, outcome.node)
            await self._make_room(pod, info, outcome)
            return
        if info.nominated and not outcome.keeps_promise:
            self._give_back(info)
        found = dataclasses.replace(choice, preemption=outcome.why)
        await self._report(pod, found, info.nominated if outcome.keeps_promise else "")

    async def _bind(self, pod: Pod, info: PodInfo, node: str) -> None:
        self._cache.place(info, node)
        try:
            await self.client.bind(pod.metadata.name, pod.metadata.namespace, node)
        except BaseException as error:
            # The binding may or may not have happened (the connection broke): the informer will show.
            self._cache.remove(info.uid)
            if isinstance(error, ApiError) and error.reason == "NotFound":
                return
            raise
        self._waiting.forget(info.key)
        self._wake(Change.POD_PLACED)
        await record(self.client, pod, NORMAL, "Scheduled", f"Successfully assigned {info.key} to {node}", self.name)

    # --- no node -----------------------------------------------------------------------------------------------------

    async def _report(self, pod: Pod, found: Unschedulable, nominated: str) -> None:
        message = str(found)
        told = condition_of(pod.status.conditions, "PodScheduled")
        is_told = told is not None and (told.status, told.reason, told.message) == ("False", "Unschedulable", message)
        if is_told and pod.status.nominatedNodeName == nominated:
            return
        moment = told.lastTransitionTime if told is not None and told.status == "False" else now()
        condition = Condition(
            type="PodScheduled",
            status="False",
            reason="Unschedulable",
            message=message,
            lastTransitionTime=moment,
            observedGeneration=pod.metadata.generation,
        )
        await self._patch_status(pod, {"conditions": [condition], "nominatedNodeName": nominated or None})
        if not is_told:
            await record(self.client, pod, WARNING, "FailedScheduling", message, self.name)

    async def _make_room(self, pod: Pod, info: PodInfo, preemption: Preemption) -> None:
        """Delete the victims, and take the node from less important pods that were promised it."""
        for other in list(self._cache.nominated.get(preemption.node, {}).values()):
            if other.priority < info.priority:
                self._give_back(other)
                if (waiting := self.cluster.pods.items.get(other.key)) is not None:
                    await self._patch_status(waiting, {"nominatedNodeName": None})
        victims = [each for each in preemption.victims if not each.is_terminating]
        await asyncio.gather(*(self._evict(each, info, preemption.node) for each in victims))

    async def _evict(self, victim: PodInfo, by: PodInfo, node: str) -> None:
        pod = self.cluster.pods.items.get(victim.key)
        if pod is None or pod.metadata.uid != victim.uid:
            return
        why = f"{self.name}: preempting to accommodate a higher priority pod"
        condition = disruption_target(pod, "PreemptionByScheduler", why)
        await self._patch_status(pod, {"conditions": [condition]})
        meta = pod.metadata
        await unless_gone(self.client.delete(PODS, meta.name, meta.namespace, uid=meta.uid))
        message = f"Preempted by pod {by.uid} on node {node}"
        await record(self.client, pod, NORMAL, "Preempted", message, self.name)

    async def _patch_status(self, pod: Pod, status: dict[str, Any]) -> None:
        meta = pod.metadata
        change = {"metadata": {"uid": meta.uid}, "status": msgspec.to_builtins(status)}
        await unless_gone(
            self.client.patch(
                PODS,
                meta.name,
                meta.namespace,
                change,
                subresource="status",
                patch_type=STRATEGIC_MERGE_PATCH,
            )
        )

    def _give_back(self, info: PodInfo) -> None:
        self._cache.withdraw(info.uid)
        self._wake(Change.POD_GONE)

    def _wake(self, change: Change) -> None:
        loop = asyncio.get_running_loop()
        for key, seconds in self._waiting.wake(change, loop.time()):
            if seconds > 0:
                self.queue.add_after(key, seconds)
            else:
                self.queue.add(key)

    # --- changes -----------------------------------------------------------------------------------------------------

    def _default_selector(self, pod: PodInfo) -> Selector:
        """What the Services and the controller of a pod select (helper.DefaultSelector)."""
        selected: dict[str, str] = {}
        for item in pod.labels.items():
            for service in self._services.get(label_pair(pod.namespace, *item)):
                if service.spec.selector.items() <= pod.labels.items():
                    selected |= service.spec.selector
        kind, name = pod.owner
        sets: dict[str, Informer[Any]] = {
            "ReplicaSet": self.cluster.replica_sets,
            "StatefulSet": self.cluster.stateful_sets,
            "ReplicationController": self.cluster.replication_controllers,
        }
        owner = sets[kind].items.get(f"{pod.namespace}/{name}") if kind in sets else None
        if owner is None:
            return from_labels(selected)
        if kind == "ReplicationController":
            return from_labels(selected | owner.spec.selector)
        return Selector(from_labels(selected).requirements + selector_of(owner.spec.selector).requirements)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is None:
            assert old is not None
            self._namespaces.pop(old.metadata.name, None)
        elif self._namespaces.get(new.metadata.name) != new.metadata.labels:
            self._namespaces[new.metadata.name] = new.metadata.labels
            self._wake(Change.NAMESPACE_LABELS)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            assert old is not None
            self._cache.remove_node(old.metadata.name)
            self._wake(Change.NODE_REMOVED)
            return
        before = self._cache.node(new.metadata.name)
        facts = before.facts() if before is not None else None
        self._cache.set_node(new)
        after = self._cache.node(new.metadata.name)
        assert after is not None
        if facts is None:
            self._wake(Change.NODE_ADDED)
            return
        kinds = (Change.NODE_LABELS, Change.NODE_TAINTS, Change.NODE_ALLOCATABLE)
        for change, was, becomes in zip(kinds, facts, after.facts(), strict=True):
            if was != becomes:  # else it is a heartbeat
                self._wake(change)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._forget(old)
            old = None
        if new is None:
            return
        if is_finished(new):
            self._forget(new)
        elif new.spec.nodeName:
            self._waiting.forget(new.key)
            if old is None or _matters(old, new):
                self._place(new)
        else:
            self._note_promise(old, new)
            if old is None or _matters(old, new):
                self._waiting.forget(new.key)
                self.queue.add(new.key)

    def _note_promise(self, old: Pod | None, new: Pod) -> None:
        """Promises are in the API, too, so that they outlast this process."""
        if self._cache.placement(new.metadata.uid) is not None:
            return
        if new.metadata.deletionTimestamp is None and new.status.nominatedNodeName:
            self._cache.nominate(PodInfo.of(new), new.status.nominatedNodeName)
        elif old is not None and old.status.nominatedNodeName:
            self._cache.withdraw(new.metadata.uid)
            self._wake(Change.POD_GONE)

    def _place(self, pod: Pod) -> None:
        before = self._cache.placement(pod.metadata.uid)
        after = self._cache.place(pod, pod.spec.nodeName)
        if before is None:
            self._wake(Change.POD_PLACED)
        elif (before.labels, before.is_terminating) != (after.labels, after.is_terminating):
            self._wake(Change.POD_CHANGED)

    def _forget(self, pod: Pod) -> None:
        self._waiting.forget(pod.key)
        self._cache.withdraw(pod.metadata.uid)
        if self._cache.remove(pod.metadata.uid) or pod.status.nominatedNodeName:
            self._wake(Change.POD_GONE)


def _is_ours(pod: Pod) -> bool:
    return (
        not pod.spec.nodeName
        and not pod.spec.schedulingGates
        and pod.metadata.deletionTimestamp is None
        and not is_finished(pod)
        and pod.spec.schedulerName in ("", SCHEDULER_NAME)
    )


def _matters(old: Pod, new: Pod) -> bool:
    """Whether a change of a pod may be one of what is derived from it."""
    return (
        old.spec != new.spec
        or old.metadata.labels != new.metadata.labels
        or old.metadata.deletionTimestamp != new.metadata.deletionTimestamp
        or old.status.startTime != new.status.startTime
    )


def _first_selected(service: Service) -> list[str]:
    """One of the labels by which a Service selects pods, as an index has them."""
    first = next(iter(service.spec.selector.items()), None)
    return [label_pair(service.metadata.namespace, *first)] if first is not None else []
