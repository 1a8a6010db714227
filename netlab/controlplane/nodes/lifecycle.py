"""What happens to nodes that fall silent: they become Unknown, and their state is written as taints."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterable

import msgspec

from netlab.api.coordination_types import Lease
from netlab.api.core_types import Node, Pod
from netlab.api.errors import ApiUnavailableError, unless_gone
from netlab.api.events import NORMAL, record
from netlab.api.meta_types import Condition, now
from netlab.api.resources import NODES, PODS
from netlab.controlplane.cluster import Cluster, condition_of, is_ready, parse_time
from netlab.controlplane.controller import Controller
from netlab.controlplane.nodes.tainting import may_evict, taints_by_state

GRACE_PERIOD = 40.0
"""Seconds without a heartbeat after which a node is Unknown (upstream's --node-monitor-grace-period up to 1.31)."""
MONITOR_PERIOD = 5.0
"""Seconds between two looks at the heartbeats (--node-monitor-period)."""
SETTLING = 10.0
"""Seconds that a new node has to become ready before that is written: every lab starts so."""


@dataclasses.dataclass
class _Heartbeat:
    stamps: dict[str, str | None] = dataclasses.field(default_factory=dict)
    """The last one in the node's lease, and in its status."""
    seen: float = dataclasses.field(default_factory=time.monotonic)


class NodeLifecycle(Controller):
    """Marks nodes Unknown whose kubelet no longer renews its lease, nor writes its status, and their pods not ready.

    What state a node is in, its taints say: they keep pods off, and make those go that do not tolerate them.

    A heartbeat's age counts from when it was seen, by the monotonic clock: neither a suspended machine nor two
    differing clocks make a node silent.
    """

    name = "node-lifecycle-controller"
    resource = NODES

    def __init__(self, cluster: Cluster, grace_period: float = GRACE_PERIOD, settling: float = SETTLING) -> None:
        super().__init__(cluster)
        self._grace_period = grace_period
        self._settling = settling
        self._evicts = True
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
        """Mark the node Unknown if it is silent, and its pods not ready if it is Unknown; write its taints."""
        node = self.cluster.nodes.items.get(key)
        if node is None:
            return
        if self._is_silent(key):
            await self._silence(key, node)
        else:
            await self._taint(node)

    async def _silence(self, key: str, node: Node) -> None:
        try:
            if node_condition(node) != "Unknown":
                await self._mark_unknown(node)
            else:
                await self._taint(node)
            for pod in list(self.cluster.pods_by_node.get(key)):
                if is_ready(pod):
                    await self._mark_not_ready(pod)
        except ApiUnavailableError:
            # While the server is down no kubelet can report: all get the whole grace period again.
            for heartbeat in self._heartbeats.values():
                heartbeat.seen = time.monotonic()
            raise

    async def _taint(self, node: Node) -> None:
        taints = taints_by_state(node, evicts=self._evicts, now=now())
        if taints == node.spec.taints:
            return
        age = time.time() - parse_time(node.metadata.creationTimestamp or now()).timestamp()
        if node_condition(node) != "True" and not node.spec.taints and age < self._settling:
            self.queue.add_after(node.metadata.name, self._settling - age)
            return
        change = {
            "metadata": {"resourceVersion": node.metadata.resourceVersion},
            "spec": {"taints": msgspec.to_builtins(taints)},
        }
        await unless_gone(self.client.patch(NODES, node.metadata.name, None, change))

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
        if self._evicts != (evicts := may_evict(self.cluster.nodes.items.values())):
            self._evicts = evicts
            for key in self.cluster.nodes.items:
                self.queue.add(key)
        if new is None:
            assert old is not None
            self._heartbeats.pop(old.metadata.name, None)
            return
        if taints_by_state(new, evicts=self._evicts, now="") != new.spec.taints:
            self.queue.add(new.metadata.name)
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
