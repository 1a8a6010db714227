"""What happens to nodes that fall silent, and to the pods of nodes that are gone."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterable

import msgspec

from netlab.api.coordination_types import Lease
from netlab.api.core_types import Node, Pod
from netlab.api.errors import ApiError, ApiUnavailableError, unless_gone
from netlab.api.events import NORMAL, record
from netlab.api.meta_types import Condition, now
from netlab.api.resources import NODES, PODS
from netlab.controlplane.cluster import Cluster, condition_of, is_ready
from netlab.controlplane.controller import Controller

GRACE_PERIOD = 40.0
"""Seconds without a heartbeat after which a node is Unknown (upstream's --node-monitor-grace-period up to 1.31)."""
MONITOR_PERIOD = 5.0
"""Seconds between two looks at the heartbeats (--node-monitor-period)."""
QUARANTINE = 40.0
"""Seconds that a node must be gone before its pods are deleted (podgc's quarantineTime)."""


@dataclasses.dataclass
class _Heartbeat:
    stamps: dict[str, str | None] = dataclasses.field(default_factory=dict)
    """The last one in the node's lease, and in its status."""
    seen: float = dataclasses.field(default_factory=time.monotonic)


class NodeLifecycle(Controller):
    """Marks nodes Unknown whose kubelet no longer renews its lease, nor writes its status, and their pods not ready.

    A heartbeat's age counts from when it was seen, by the monotonic clock: neither a suspended machine nor two
    differing clocks make a node silent.
    """

    name = "node-lifecycle-controller"
    resource = NODES

    def __init__(self, cluster: Cluster, grace_period: float = GRACE_PERIOD) -> None:
        super().__init__(cluster)
        self._grace_period = grace_period
        self._heartbeats: dict[str, _Heartbeat] = {}
        cluster.nodes.on_change(self._node_changed)
        cluster.node_leases.on_change(self._lease_changed)

    def keys(self) -> Iterable[str]:
        """Every node."""
        return list(self.cluster.nodes.items)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run())
            group.create_task(self._monitor())

    async def reconcile(self, key: str) -> None:
        """Mark the node Unknown if it is silent, and its pods not ready if it is Unknown."""
        node = self.cluster.nodes.items.get(key)
        if node is None or not self._is_silent(key):
            return
        try:
            if node_condition(node) != "Unknown":
                await self._mark_unknown(node)
            for pod in list(self.cluster.pods_by_node.get(key)):
                if is_ready(pod):
                    await self._mark_not_ready(pod)
        except ApiUnavailableError:
            # While the server is down no kubelet can report: all get the whole grace period again.
            for heartbeat in self._heartbeats.values():
                heartbeat.seen = time.monotonic()
            raise

    async def _monitor(self) -> None:
        await self.cluster.synced()
        while True:
            for key in self._heartbeats:
                if self._is_silent(key):
                    self.queue.add(key)
            await asyncio.sleep(min(MONITOR_PERIOD, self._grace_period))

    def _is_silent(self, key: str) -> bool:
        heartbeat = self._heartbeats.get(key)
        return heartbeat is not None and time.monotonic() - heartbeat.seen > self._grace_period

    async def _mark_unknown(self, node: Node) -> None:
        conditions = silenced(node.status.conditions)
        change = {
            "metadata": {"resourceVersion": node.metadata.resourceVersion},
            "status": {"conditions": msgspec.to_builtins(conditions)},
        }
        await self.client.patch(NODES, node.metadata.name, None, change, subresource="status")
        message = f"Node {node.metadata.name} status is now: NodeNotReady"
        await record(self.client, node, NORMAL, "NodeNotReady", message, self.name)

    async def _mark_not_ready(self, pod: Pod) -> None:
        conditions = [
            msgspec.structs.replace(condition, status="False", lastTransitionTime=now())
            if condition.type == "Ready"
            else condition
            for condition in pod.status.conditions
        ]
        change = {
            "metadata": {"resourceVersion": pod.metadata.resourceVersion},
            "status": {"conditions": msgspec.to_builtins(conditions)},
        }
        meta = pod.metadata
        await unless_gone(self.client.patch(PODS, meta.name, meta.namespace, change, subresource="status"))

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            assert old is not None
            self._heartbeats.pop(old.metadata.name, None)
            return
        ready = condition_of(new.status.conditions, "Ready")
        self._heard(new.metadata.name, "node", ready.lastHeartbeatTime if ready is not None else None)

    def _lease_changed(self, _old: Lease | None, new: Lease | None) -> None:
        if new is not None and new.metadata.name in self.cluster.nodes.items:
            self._heard(new.metadata.name, "lease", new.spec.renewTime)

    def _heard(self, node: str, where: str, stamp: str | None) -> None:
        heartbeat = self._heartbeats.setdefault(node, _Heartbeat())
        if heartbeat.stamps.get(where, "") != stamp:
            heartbeat.stamps[where] = stamp
            heartbeat.seen = time.monotonic()


class PodGarbageCollector(Controller):
    """Deletes pods bound to nodes that no longer exist: no kubelet is left to do it."""

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
            try:
                await self.client.delete(
                    PODS, pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0, uid=pod.metadata.uid
                )
            except ApiError as error:
                if error.reason not in ("NotFound", "Conflict"):
                    raise

    async def _node_exists(self, name: str) -> bool:
        try:
            await self.client.get(NODES, name)
        except ApiError as error:
            if error.reason == "NotFound":
                return False
            raise
        return True

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        node = new or old
        if node is not None and (old is None or new is None):
            self.queue.add(node.metadata.name)

    def _pod_changed(self, _: Pod | None, new: Pod | None) -> None:
        if new is not None and new.spec.nodeName and new.spec.nodeName not in self.cluster.nodes.items:
            self.queue.add(new.spec.nodeName)


def node_condition(node: Node) -> str:
    """The status of the node's Ready condition; empty if it has none."""
    condition = condition_of(node.status.conditions, "Ready")
    return condition.status if condition is not None else ""


def silenced(conditions: list[Condition]) -> list[Condition]:
    """A silent node's conditions: Ready is Unknown, and says whether the kubelet ever reported."""
    reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
    seen = condition_of(conditions, "Ready")
    if seen is not None:
        reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
    unknown = Condition(
        type="Ready",
        status="Unknown",
        reason=reason,
        message=message,
        lastHeartbeatTime=seen.lastHeartbeatTime if seen is not None else None,
        lastTransitionTime=now(),
    )
    return [*(c for c in conditions if c.type != "Ready"), unknown]
