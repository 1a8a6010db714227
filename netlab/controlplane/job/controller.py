"""The job controller: carries out what `planner` plans, and removes Jobs that have been over for long enough."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable
from typing import Any

import msgspec

from netlab.api.batch_types import Job, JobStatus
from netlab.api.core_types import EnvVar, EnvVarSource, ObjectFieldSelector, Pod
from netlab.api.errors import unless_gone
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.meta_types import LabelSelector
from netlab.api.resources import JOBS, PODS
from netlab.api.selectors import from_label_selector
from netlab.controlplane.cluster import Cluster, controller_of, parse_time
from netlab.controlplane.controller import Controller
from netlab.controlplane.job.indexes import FAILURES, INDEX
from netlab.controlplane.job.planner import TRACKING, Plan, Wanted, has_ended, is_finished, plan
from netlab.controlplane.podcontrol import PodControl, Wording, is_other_end, pod_of

_OURS = (None, "kubernetes.io/job-controller")
"""Values of spec.managedBy."""

_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"

_LOST = "lost/"
"""Begins the key of a pod whose Job is gone, and with it who would count it."""


class JobController(Controller):
    """Jobs to pods."""

    name = "job-controller"
    resource = JOBS
    workers = 4
    min_interval = 0.05

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._pods = PodControl(
            self,
            cluster.jobs,
            lambda job: from_label_selector(job.spec.selector or LabelSelector()),
            is_other_end,
            wording=Wording(),
        )
        cluster.pods.on_change(self._pod_changed)
        cluster.jobs.on_change(self._job_changed)

    def keys(self) -> Iterable[str]:
        """Every Job, and every pod that has lost its own."""
        lost = [_LOST + key for key, pod in self.cluster.pods.items.items() if self._is_lost(pod)]
        return [*self.cluster.jobs.items, *lost]

    def subject(self, key: str) -> Any:
        """The Job, or the pod."""
        return super().subject(key) if not key.startswith(_LOST) else None

    async def reconcile(self, key: str) -> None:
        """One step, and the status; or let a pod go that nobody counts."""
        if key.startswith(_LOST):
            pod = self.cluster.pods.items.get(key.removeprefix(_LOST))
            if pod is not None and self._is_lost(pod):
                await self._release(pod)
            return
        job = self.cluster.jobs.items.get(key)
        if job is None or job.spec.managedBy not in _OURS:
            return
        if self.cluster.is_terminating(job.metadata.namespace):
            for pod in list(self.cluster.pods_by_controller.get(job.metadata.uid)):
                await self._release(pod)
            return
        if (end := is_finished(job)) is not None:
            await self._expire(key, job, end.lastTransitionTime)
            return
        pods = await self._pods.claimed(job)
        step = plan(job, pods, self._pods.settled(key), datetime.datetime.now(datetime.UTC))
        if step.sync_after is not None:
            self.queue.add_after(key, step.sync_after)
        await self._carry_out(key, job, step)

    async def _carry_out(self, key: str, job: Job, step: Plan) -> None:
        # What is noted of pods that have ended comes before they lose their finalizers.
        if not await self._write_status(job, step.status):
            return
        for is_warning, reason, message in step.events:
            await record(self.client, job, WARNING if is_warning else NORMAL, reason, message, self.name)
        for pod in step.release:
            await self._release(pod)
        if step.delete:
            await self._pods.delete(key, job, step.delete)
        elif step.create:
            await self._pods.create(key, job, [_pod(job, wanted) for wanted in step.create])

    async def _write_status(self, job: Job, status: JobStatus) -> bool:
        """False if the Job is gone."""
        if status == job.status:
            return True
        changed = msgspec.structs.replace(job, status=status)
        return await unless_gone(self.client.update(JOBS, changed, subresource="status")) is not None

    async def _release(self, pod: Pod) -> None:
        if TRACKING not in pod.metadata.finalizers:
            return
        meta = pod.metadata
        change = {
            "resourceVersion": meta.resourceVersion,
            "uid": meta.uid,
            "finalizers": [each for each in meta.finalizers if each != TRACKING],
        }
        await unless_gone(self.client.patch(PODS, meta.name, meta.namespace, {"metadata": change}))

    async def _expire(self, key: str, job: Job, ended: str | None) -> None:
        seconds = job.spec.ttlSecondsAfterFinished
        if seconds is None or ended is None or job.metadata.deletionTimestamp is not None:
            return
        left = seconds - (datetime.datetime.now(datetime.UTC) - parse_time(ended)).total_seconds()
        if left > 0:
            self.queue.add_after(key, left)
            return
        meta = job.metadata
        await unless_gone(self.client.delete(JOBS, meta.name, meta.namespace, uid=meta.uid, propagation="Foreground"))

    def _is_lost(self, pod: Pod) -> bool:
        if TRACKING not in pod.metadata.finalizers:
            return False
        owner = controller_of(pod)
        if owner is None or owner.kind != JOBS.kind:
            return True
        job = self.cluster.jobs.items.get(f"{pod.metadata.namespace}/{owner.name}")
        # One of a Job that is over has been counted, or ended too late to be.
        return job is None or job.metadata.uid != owner.uid or (is_finished(job) is not None and has_ended(pod))

    def _pod_changed(self, _: Pod | None, new: Pod | None) -> None:
        if new is not None and self._is_lost(new):
            self.queue.add(_LOST + new.key)

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            for pod in self.cluster.pods_by_controller.get(old.metadata.uid):
                self.queue.add(_LOST + pod.key)


def _pod(job: Job, wanted: Wanted) -> Pod:
    template = copy.deepcopy(job.spec.template)
    labels, name = {}, job.metadata.name
    if wanted.index is not None:
        index = str(wanted.index)
        labels[INDEX] = index
        template.metadata.annotations = {**template.metadata.annotations, INDEX: index}
        if job.spec.backoffLimitPerIndex is not None:
            template.metadata.annotations[FAILURES] = str(wanted.failures)
        template.spec.hostname = f"{name}-{index}"
        for container in (*template.spec.initContainers, *template.spec.containers):
            if all(variable.name != _INDEX_VARIABLE for variable in container.env):
                field = ObjectFieldSelector(fieldPath=f"metadata.annotations['{INDEX}']")
                container.env = [*container.env, EnvVar(name=_INDEX_VARIABLE, valueFrom=EnvVarSource(fieldRef=field))]
    made = pod_of(job, template, labels=labels)
    if wanted.index is not None:
        made.metadata.generateName = f"{name}-{wanted.index}-"
    made.metadata.finalizers = [*made.metadata.finalizers, TRACKING]
    return made
