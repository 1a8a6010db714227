"""The stateful set controller: carries out what `planner` plans."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable

import msgspec

from netlab.api.apps_types import PodTemplateSpec, StatefulSet, StatefulSetStatus
from netlab.api.core_types import Pod
from netlab.api.errors import unless_gone
from netlab.api.resources import STATEFULSETS
from netlab.api.selectors import from_label_selector
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.controlplane.podcontrol import PodControl, Wording, is_other_end, pod_of
from netlab.controlplane.revisions import HASH, History, Revisions, outdated, template_of
from netlab.controlplane.statefulset.planner import Plan, ordinal_of, plan

POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"
"""Labels of a pod, by which a Service can select one."""


class StatefulSetController(Controller):
    """StatefulSets to pods."""

    name = "statefulset-controller"
    resource = STATEFULSETS
    workers = 2
    min_interval = 0.05

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._pods = PodControl(
            self,
            cluster.stateful_sets,
            lambda each: from_label_selector(each.spec.selector),
            is_other_end,
            adopts=lambda owner, pod: ordinal_of(owner.metadata.name, pod.metadata.name) is not None,
            wording=Wording(
                "create Pod {pod} in StatefulSet {owner} successful",
                "delete Pod {pod} in StatefulSet {owner} successful",
            ),
        )
        self._revisions = Revisions(self.client, cluster.revisions, STATEFULSETS)

    def keys(self) -> Iterable[str]:
        """Every StatefulSet."""
        return list(self.cluster.stateful_sets.items)

    async def reconcile(self, key: str) -> None:
        """One step, and the status."""
        stateful_set = self.cluster.stateful_sets.items.get(key)
        if stateful_set is None or self.cluster.is_terminating(stateful_set.metadata.namespace):
            return
        spec = stateful_set.spec
        pods = await self._pods.claimed(stateful_set)
        history = await self._revisions.history(
            stateful_set, from_label_selector(spec.selector), spec.template, stateful_set.status.collisionCount
        )
        update = history.current.metadata.name
        before = history.find(stateful_set.status.currentRevision)
        current = update if before is None else before.metadata.name
        now = datetime.datetime.now(datetime.UTC)
        step = plan(stateful_set, pods, current, update, now)
        step.status.collisionCount = history.collisions
        if step.sync_after is not None:
            self.queue.add_after(key, step.sync_after)
        if self._pods.settled(key):
            await self._carry_out(key, stateful_set, step, history)
        kept = {each.metadata.name for each in (history.find(current),) if each is not None}
        in_use = {pod.metadata.labels.get(HASH, "") for pod in pods} | kept
        idle = [each for each in history.others if each.metadata.name not in in_use]
        await self._revisions.remove(outdated(idle, (), spec.revisionHistoryLimit))
        await self._write_status(stateful_set, step.status)

    async def _carry_out(self, key: str, stateful_set: StatefulSet, step: Plan, history: History) -> None:
        # Creations are expected before deletions are, which would take their place: one kind at a time.
        if step.delete:
            await self._pods.delete(key, stateful_set, step.delete)
        elif step.create:
            pods = []
            for wanted in step.create:
                revision = history.find(wanted.revision)
                assert revision is not None
                pods.append(identified(stateful_set, template_of(revision), wanted.ordinal, wanted.revision))
            await self._pods.create(key, stateful_set, pods)
        if step.delete and step.create:
            self.queue.add(key)

    async def _write_status(self, stateful_set: StatefulSet, status: StatefulSetStatus) -> None:
        if status != stateful_set.status:
            changed = msgspec.structs.replace(stateful_set, status=status)
            await unless_gone(self.client.update(STATEFULSETS, changed, subresource="status"))


def identified(stateful_set: StatefulSet, template: PodTemplateSpec, ordinal: int, revision: str) -> Pod:
    """The pod of an ordinal: its name is its hostname, below the domain of the Service that governs the set."""
    name = f"{stateful_set.metadata.name}-{ordinal}"
    template = copy.deepcopy(template)
    template.spec.hostname = name
    template.spec.subdomain = stateful_set.spec.serviceName
    return pod_of(stateful_set, template, name, {HASH: revision, POD_NAME: name, POD_INDEX: str(ordinal)})
