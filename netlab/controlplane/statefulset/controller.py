"""The stateful set controller: carries out what `planner` plans."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable
from typing import Any

import msgspec

from netlab.api.apps_types import PersistentVolumeClaim, PodTemplateSpec, StatefulSet, StatefulSetStatus
from netlab.api.core_types import Pod
from netlab.api.errors import ApiError, unless_gone
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.informer import Informer
from netlab.api.meta_types import Object, OwnerReference
from netlab.api.resources import PERSISTENTVOLUMECLAIMS, STATEFULSETS
from netlab.api.selectors import from_label_selector
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.controlplane.podcontrol import PodControl, Wording, is_other_end, pod_of
from netlab.controlplane.revisions import HASH, History, Revisions, outdated, template_of
from netlab.controlplane.statefulset import claims
from netlab.controlplane.statefulset.planner import Plan, ordinal_of, ordinals, plan

POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"
"""Labels of a pod, by which a Service can select one."""

_STALE = 1.0
"""Seconds after which it is seen whether the claim of an earlier pod is gone."""


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
        self._claims: Informer[Any] = cluster.stored[PERSISTENTVOLUMECLAIMS]
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
        if spec.volumeClaimTemplates:
            await self._keep_claims(stateful_set, pods)
        if self._pods.settled(key):
            await self._carry_out(key, stateful_set, step, history)
        kept = {each.metadata.name for each in (history.find(current),) if each is not None}
        in_use = {pod.metadata.labels.get(HASH, "") for pod in pods} | kept
        idle = [each for each in history.others if each.metadata.name not in in_use]
        await self._revisions.remove(outdated(idle, (), spec.revisionHistoryLimit))
        await self._write_status(stateful_set, step.status)

    async def _keep_claims(self, stateful_set: StatefulSet, pods: Iterable[Pod]) -> None:
        """Make what claims of pods are missing, and have each owned by whom it is to go with."""
        wanted = ordinals(stateful_set)
        for pod in pods:
            ordinal = ordinal_of(stateful_set.metadata.name, pod.metadata.name)
            if ordinal is None:
                continue
            for made in claims.made_of(stateful_set, ordinal):
                claim = self._claims.items.get(made.key)
                if claim is None:
                    if ordinal in wanted and pod.metadata.deletionTimestamp is None:
                        await self._make_claim(stateful_set, pod, made)
                    continue
                owners = claims.owners_of(claim, stateful_set, pod, is_wanted=ordinal in wanted)
                if owners is not None:
                    await self._own(claim, owners)

    async def _make_claim(self, stateful_set: StatefulSet, pod: Pod, claim: PersistentVolumeClaim) -> None:
        what = f"create Claim {claim.metadata.name} Pod {pod.metadata.name} in StatefulSet {stateful_set.metadata.name}"
        try:
            await self.client.create(PERSISTENTVOLUMECLAIMS, claim)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return
            message = f"{what} failed error: {error}"
            await record(self.client, stateful_set, WARNING, "FailedCreate", message, self.name)
            raise
        await record(self.client, stateful_set, NORMAL, "SuccessfulCreate", f"{what} success", self.name)

    async def _own(self, claim: Object, owners: list[OwnerReference]) -> None:
        meta = claim.metadata
        change = {"resourceVersion": meta.resourceVersion, "ownerReferences": owners}
        patch = self.client.patch(PERSISTENTVOLUMECLAIMS, meta.name, meta.namespace, {"metadata": change})
        await unless_gone(patch)

    async def _carry_out(self, key: str, stateful_set: StatefulSet, step: Plan, history: History) -> None:
        # Creations are expected before deletions are, which would take their place: one kind at a time.
        if step.delete:
            await self._pods.delete(key, stateful_set, step.delete)
        elif step.create:
            pods = []
            for wanted in step.create:
                revision = history.find(wanted.revision)
                assert revision is not None
                pod = identified(stateful_set, template_of(revision), wanted.ordinal, wanted.revision)
                if self._has_stale_claim(stateful_set, wanted.ordinal, pod.metadata.name):
                    self.queue.add_after(key, _STALE)
                    break
                for claim in claims.made_of(stateful_set, wanted.ordinal):
                    if claim.key not in self._claims.items:
                        await self._make_claim(stateful_set, pod, claim)
                pods.append(pod)
            if pods:
                await self._pods.create(key, stateful_set, pods)
        if step.delete and step.create:
            self.queue.add(key)

    def _has_stale_claim(self, stateful_set: StatefulSet, ordinal: int, pod: str) -> bool:
        names = claims.names_of(stateful_set, ordinal)
        found = (self._claims.items.get(f"{stateful_set.metadata.namespace}/{name}") for name in names)
        return any(claim is not None and claims.is_stale(claim, pod) for claim in found)

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
    claims.mount(stateful_set, template.spec, ordinal)
    return pod_of(stateful_set, template, name, {HASH: revision, POD_NAME: name, POD_INDEX: str(ordinal)})
