"""The scheduler: pods without a node get one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from netlab.api.core_types import Node, Pod
from netlab.api.errors import ApiError
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.meta_types import Condition, now
from netlab.api.resources import PODS
from netlab.controlplane.cluster import Cluster, condition_of, is_finished
from netlab.controlplane.controller import Controller
from netlab.controlplane.placement import NodeCache, Unschedulable

SCHEDULER_NAME = "default-scheduler"
RETRY_DELAY = 0.1
"""Seconds to collect changes that may make room before trying the waiting pods again."""


class Scheduler(Controller):
    """Decides between two awaits and assumes the decision, so that many bindings can be in flight at once."""

    name = SCHEDULER_NAME
    resource = PODS
    workers = 16

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._cache = NodeCache()
        self._waiting: set[str] = set()
        self._retry: asyncio.TimerHandle | None = None
        cluster.nodes.on_change(self._node_changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """Every pod; those that have a node are skipped."""
        return list(self.cluster.pods.items)

    async def reconcile(self, key: str) -> None:
        """Bind the pod to a node, or report why there is none and wait for a change."""
        pod = self.cluster.pods.items.get(key)
        if pod is None or not self._is_ours(pod) or self._cache.is_placed(pod.metadata.uid):
            return
        choice = self._cache.select(pod)
        if isinstance(choice, Unschedulable):
            self._waiting.add(key)
            await self._report(pod, str(choice))
            return
        self._cache.place(pod, choice)
        try:
            await self.client.bind(pod.metadata.name, pod.metadata.namespace, choice)
        except BaseException as error:
            # The binding may or may not have happened (the connection broke): the informer will show.
            self._cache.remove(pod.metadata.uid)
            if isinstance(error, ApiError) and error.reason == "NotFound":
                return
            raise
        message = f"Successfully assigned {key} to {choice}"
        await record(self.client, pod, NORMAL, "Scheduled", message, self.name)

    async def _report(self, pod: Pod, message: str) -> None:
        told = condition_of(pod.status.conditions, "PodScheduled")
        if told is not None and (told.status, told.message) == ("False", message):
            return
        moment = told.lastTransitionTime if told is not None and told.status == "False" else now()
        condition = Condition(
            type="PodScheduled", status="False", reason="Unschedulable", message=message, lastTransitionTime=moment
        )
        others = [c for c in pod.status.conditions if c.type != "PodScheduled"]
        change = {
            "metadata": {"resourceVersion": pod.metadata.resourceVersion},
            "status": {"conditions": [*others, condition]},
        }
        try:
            name, namespace = pod.metadata.name, pod.metadata.namespace
            await self.client.patch(PODS, name, namespace, change, subresource="status", manager="kube-scheduler")
        except ApiError as error:
            if error.reason == "NotFound":
                return
            raise
        await record(self.client, pod, WARNING, "FailedScheduling", message, self.name)

    def _is_ours(self, pod: Pod) -> bool:
        return (
            not pod.spec.nodeName
            and pod.metadata.deletionTimestamp is None
            and not is_finished(pod)
            and pod.spec.schedulerName in ("", SCHEDULER_NAME)
        )

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self._cache.remove_node(old.metadata.name)
        else:
            before = self._cache.candidates.get(new.metadata.name)
            self._cache.set_node(new)
            if self._cache.candidates[new.metadata.name] == before:
                return  # a heartbeat
        self._retry_waiting()

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._waiting.discard(old.key)
            if self._cache.remove(old.metadata.uid):
                self._retry_waiting()
        if new is None:
            return
        if new.spec.nodeName:
            self._waiting.discard(new.key)
            if not is_finished(new):
                self._cache.place(new, new.spec.nodeName)
            elif self._cache.remove(new.metadata.uid):
                self._retry_waiting()
        elif old is None or old.metadata.uid != new.metadata.uid or old.spec != new.spec:
            self.queue.add(new.key)

    def _retry_waiting(self) -> None:
        if self._waiting and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_DELAY, self._requeue)

    def _requeue(self) -> None:
        self._retry = None
        waiting, self._waiting = self._waiting, set()
        for key in waiting:
            self.queue.add(key)
