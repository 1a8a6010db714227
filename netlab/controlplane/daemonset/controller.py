"""The daemon set controller: carries out what `planner` plans."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable

import msgspec

from netlab.api.apps_types import DaemonSet, DaemonSetStatus
from netlab.api.core_types import Node
from netlab.api.errors import unless_gone
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.resources import DAEMONSETS
from netlab.api.selectors import from_label_selector
from netlab.backoff import Backoff
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.controlplane.daemonset.nodes import node_of, template_for
from netlab.controlplane.daemonset.planner import Plan, plan
from netlab.controlplane.podcontrol import PodControl, Wording, is_other_end, pod_of
from netlab.controlplane.revisions import HASH, Revisions, outdated

_FAILED = Backoff(first=1, last=15 * 60, steady=30 * 60)
"""Between two pods on one node that fail (upstream's failedPodsBackoff)."""


class DaemonSetController(Controller):
    """DaemonSets to pods."""

    name = "daemonset-controller"
    resource = DAEMONSETS
    workers = 2
    min_interval = 0.05

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._pods = PodControl(
            self,
            cluster.daemon_sets,
            lambda each: from_label_selector(each.spec.selector),
            is_other_end,
            wording=Wording(),
        )
        self._revisions = Revisions(self.client, cluster.revisions, DAEMONSETS)
        self._failures: dict[tuple[str, str], tuple[Backoff, float]] = {}
        cluster.nodes.on_change(self._node_changed)

    def keys(self) -> Iterable[str]:
        """Every DaemonSet."""
        return list(self.cluster.daemon_sets.items)

    async def reconcile(self, key: str) -> None:
        """One step of the rollout, and the status."""
        daemon_set = self.cluster.daemon_sets.items.get(key)
        if daemon_set is None or self.cluster.is_terminating(daemon_set.metadata.namespace):
            return
        pods = await self._pods.claimed(daemon_set)
        spec, status = daemon_set.spec, daemon_set.status
        selector = from_label_selector(spec.selector)
        history = await self._revisions.history(daemon_set, selector, spec.template, status.collisionCount)
        now = datetime.datetime.now(datetime.UTC)
        nodes = list(self.cluster.nodes.items.values())
        step = plan(daemon_set, nodes, pods, history.hash, now, self._resting(key))
        if step.sync_after is not None:
            self.queue.add_after(key, step.sync_after)
        if self._pods.settled(key):
            await self._carry_out(key, daemon_set, step, history.hash)
        in_use = {pod.metadata.labels.get(HASH, "") for pod in pods}
        await self._revisions.remove(outdated(history.others, in_use, spec.revisionHistoryLimit))
        step.status.collisionCount = history.collisions
        await self._write_status(daemon_set, step.status)

    async def _carry_out(self, key: str, daemon_set: DaemonSet, step: Plan, hashed: str) -> None:
        for each in step.told:
            kind = WARNING if each.is_warning else NORMAL
            await record(self.client, daemon_set, kind, each.reason, each.message, self.name)
        for pod in step.failed:
            self._failed(key, node_of(pod))
        # Creations are expected before deletions are, which would take their place: one kind at a time.
        if step.delete:
            await self._pods.delete(key, daemon_set, step.delete)
        elif step.create:
            template = daemon_set.spec.template
            labels = {HASH: hashed}
            pods = [pod_of(daemon_set, template_for(template, node), labels=labels) for node in step.create]
            await self._pods.create(key, daemon_set, pods)
        if step.delete and step.create:
            self.queue.add(key)

    def _failed(self, key: str, node: str) -> None:
        backoff, since = self._failures.get((key, node), (_FAILED, 0.0))
        backoff = backoff.failed(time.monotonic() - since)
        self._failures[key, node] = backoff, time.monotonic()
        self.queue.add_after(key, backoff.delay)

    def _resting(self, key: str) -> list[str]:
        moment = time.monotonic()
        return [
            node
            for (owner, node), (backoff, since) in self._failures.items()
            if owner == key and moment < since + backoff.delay
        ]

    async def _write_status(self, daemon_set: DaemonSet, status: DaemonSetStatus) -> None:
        if status != daemon_set.status:
            changed = msgspec.structs.replace(daemon_set, status=status)
            await unless_gone(self.client.update(DAEMONSETS, changed, subresource="status"))

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and _is_same_place(old, new):
            return  # a heartbeat
        for key in self.cluster.daemon_sets.items:
            self.queue.add(key)


def _is_same_place(old: Node, new: Node) -> bool:
    return (
        old.metadata.labels == new.metadata.labels
        and old.spec == new.spec
        and [(each.type, each.status) for each in old.status.conditions]
        == [(each.type, each.status) for each in new.status.conditions]
    )
