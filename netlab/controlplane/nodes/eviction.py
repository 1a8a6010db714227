"""The taint eviction controller: pods leave nodes whose NoExecute taints they do not tolerate, or not for ever."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec

from netlab.api.core_types import Node, Pod, Taint, Toleration
from netlab.api.errors import unless_gone
from netlab.api.events import NORMAL, record
from netlab.api.media_types import STRATEGIC_MERGE_PATCH
from netlab.api.resources import PODS
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.controlplane.disruption import disruption_target
from netlab.controlplane.nodes.tainting import evicting
from netlab.controlplane.taints import tolerating


def tolerated_for(tolerations: Sequence[Toleration], taints: Iterable[Taint]) -> float | None:
    """How many seconds a pod stays on a node with these NoExecute taints; None: for ever."""
    used = [tolerating(tolerations, taint) for taint in taints]
    if None in used:
        return 0
    bounds = [each.tolerationSeconds for each in used if each is not None and each.tolerationSeconds is not None]
    return max(0, min(bounds)) if bounds else None


class TaintEviction(Controller):
    """A pod's time counts from when the taint was seen, by the monotonic clock."""

    name = "taint-eviction-controller"
    resource = PODS
    workers = 8

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._since: dict[str, float] = {}
        """When the eviction of each pod that still waits for it was decided, by the pod's key."""
        cluster.nodes.on_change(self._node_changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """The pods of nodes that evict."""
        tainted = [node for node in self.cluster.nodes.items.values() if evicting(node.spec.taints)]
        return [pod.key for node in tainted for pod in self.cluster.pods_by_node.get(node.metadata.name)]

    async def reconcile(self, key: str) -> None:
        """Delete the pod if it has tolerated the taints of its node for as long as it does."""
        pod = self.cluster.pods.items.get(key)
        if pod is None or pod.metadata.deletionTimestamp is not None:
            self._since.pop(key, None)
            return
        node = self.cluster.nodes.items.get(pod.spec.nodeName)
        taints = evicting(node.spec.taints) if node is not None else []
        seconds = tolerated_for(pod.spec.tolerations, taints)
        if seconds is None:
            if self._since.pop(key, None) is not None:
                await record(self.client, pod, NORMAL, _REASON, f"Cancelling deletion of Pod {key}", self.name)
            return
        left = self._since.setdefault(key, time.monotonic()) + seconds - time.monotonic()
        if left > 0:
            self.queue.add_after(key, left)
            return
        await self._evict(pod)

    async def _evict(self, pod: Pod) -> None:
        meta = pod.metadata
        await record(self.client, pod, NORMAL, _REASON, f"Marking for deletion Pod {pod.key}", self.name)
        why = "Taint manager: deleting due to NoExecute taint"
        condition = disruption_target(pod, "DeletionByTaintManager", why)
        change = {"metadata": {"uid": meta.uid}, "status": {"conditions": [msgspec.to_builtins(condition)]}}
        await unless_gone(
            self.client.patch(
                PODS, meta.name, meta.namespace, change, subresource="status", patch_type=STRATEGIC_MERGE_PATCH
            )
        )
        await unless_gone(self.client.delete(PODS, meta.name, meta.namespace, uid=meta.uid))

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        before = evicting(old.spec.taints) if old is not None else []
        after = evicting(new.spec.taints) if new is not None else []
        if new is not None and before != after:
            for pod in self.cluster.pods_by_node.get(new.metadata.name):
                self.queue.add(pod.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._since.pop(old.key, None)
            old = None
        if new is None or not new.spec.nodeName:
            return
        same = old is not None and (old.spec.nodeName, old.spec.tolerations) == (
            new.spec.nodeName,
            new.spec.tolerations,
        )
        node = self.cluster.nodes.items.get(new.spec.nodeName)
        if not same and node is not None and evicting(node.spec.taints):
            self.queue.add(new.key)


_REASON = "TaintManagerEviction"
