"""The pod garbage collector: pods that no kubelet will finish, and too many that have ended (pkg/controller/podgc)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from netlab.api.core_types import Node, Pod
from netlab.api.errors import ApiError, unless_gone
from netlab.api.media_types import STRATEGIC_MERGE_PATCH
from netlab.api.meta_types import Condition
from netlab.api.resources import NODES, PODS
from netlab.controlplane.cluster import Cluster, condition_of, is_finished
from netlab.controlplane.controller import Controller
from netlab.controlplane.disruption import disruption_target
from netlab.errors import NetlabError

QUARANTINE = 40.0
"""Seconds that a node must be gone before its pods are deleted (podgc's quarantineTime)."""
PERIOD = 20.0
"""Seconds between two looks at all pods (gcCheckPeriod)."""
MOST_ENDED = 12500
"""How many pods that have ended are kept (--terminated-pod-gc-threshold)."""

log = logging.getLogger(__name__)

_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""A taint by which a person says that a node is off, and its pods do not run (KEP-2268)."""


def doomed(pods: Iterable[Pod], nodes: Mapping[str, Node], most_ended: int = MOST_ENDED) -> list[Pod]:
    """The pods to delete, wherever they are: above a number those that ended first, those that were to go before they
    had a node, and those that are to go from a node that is out of service."""
    listed = list(pods)
    ended = [pod for pod in listed if is_finished(pod)]
    surplus = max(0, len(ended) - most_ended)
    oldest_first = sorted(ended, key=_by_age)
    going = [pod for pod in listed if pod.metadata.deletionTimestamp is not None]
    return [
        *oldest_first[:surplus],
        *(pod for pod in going if not pod.spec.nodeName or _is_out_of_service(nodes.get(pod.spec.nodeName))),
    ]


def _by_age(pod: Pod) -> tuple[bool, str, str]:
    return pod.status.reason != "Evicted", pod.metadata.creationTimestamp or "", pod.metadata.name


def _is_out_of_service(node: Node | None) -> bool:
    if node is None or all(taint.key != _OUT_OF_SERVICE for taint in node.spec.taints):
        return False
    ready = condition_of(node.status.conditions, "Ready")
    return ready is None or ready.status != "True"


class PodGarbageCollector(Controller):
    """Deletes pods bound to nodes that no longer exist, and those of `doomed`."""

    name = "pod-garbage-collector"
    resource = NODES
    workers = 4

    def __init__(self, cluster: Cluster, quarantine: float = QUARANTINE) -> None:
        super().__init__(cluster)
        self._quarantine = quarantine
        self._missing: dict[str, float] = {}
        cluster.nodes.on_change(self._node_changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """The nodes that pods refer to."""
        return {pod.spec.nodeName for pod in self.cluster.pods.items.values() if pod.spec.nodeName}

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run())
            group.create_task(self._sweep())

    async def _sweep(self) -> None:
        await self.cluster.synced()
        while True:
            for pod in doomed(self.cluster.pods.items.values(), self.cluster.nodes.items):
                try:
                    await self._delete(pod)
                except NetlabError as error:
                    log.warning("%s: pod %s: %s", self.name, pod.key, error)  # the next time
            await asyncio.sleep(PERIOD)

    async def reconcile(self, key: str) -> None:
        """Delete the pods of node `key` if it has been gone for the whole quarantine."""
        if key in self.cluster.nodes.items or not self.cluster.pods_by_node.get(key):
            self._missing.pop(key, None)
            return
        since = self._missing.setdefault(key, time.monotonic())
        left = since + self._quarantine - time.monotonic()
        if left > 0:
            self.queue.add_after(key, left)
            return
        if await self._node_exists(key):
            return
        for pod in list(self.cluster.pods_by_node.get(key)):
            await self._delete(pod, disruption_target(pod, "DeletionByPodGC", "PodGC: node no longer exists"))

    async def _delete(self, pod: Pod, condition: Condition | None = None) -> None:
        """Delete a pod now; one that has not ended has failed, for there is no kubelet to say more."""
        meta = pod.metadata
        try:
            if not is_finished(pod):
                status: dict[str, Any] = {"phase": "Failed"}
                if condition is not None:
                    status["conditions"] = [msgspec.to_builtins(condition)]
                change = {"metadata": {"uid": meta.uid}, "status": status}
                await unless_gone(
                    self.client.patch(
                        PODS, meta.name, meta.namespace, change, subresource="status", patch_type=STRATEGIC_MERGE_PATCH
                    )
                )
            await self.client.delete(PODS, meta.name, meta.namespace, grace_period_seconds=0, uid=meta.uid)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    async def _node_exists(self, name: str) -> bool:
        return await unless_gone(self.client.get(NODES, name)) is not None

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        node = new or old
        if node is not None and (old is None or new is None):
            self.queue.add(node.metadata.name)

    def _pod_changed(self, _: Pod | None, new: Pod | None) -> None:
        if new is not None and new.spec.nodeName and new.spec.nodeName not in self.cluster.nodes.items:
            self.queue.add(new.spec.nodeName)
