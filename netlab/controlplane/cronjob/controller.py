"""The cron job controller: carries out what `planner` plans."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

import msgspec

from netlab.api.batch_types import CronJob, Job
from netlab.api.errors import ApiError, unless_gone
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.resources import CRONJOBS, JOBS
from netlab.controlplane.cluster import Cluster, Index, controller_of
from netlab.controlplane.controller import Controller
from netlab.controlplane.cronjob.planner import Plan, plan


class CronJobController(Controller):
    """CronJobs to Jobs."""

    name = "cronjob-controller"
    resource = CRONJOBS
    workers = 2
    min_interval = 0.05

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._jobs: Index[Job] = Index(cluster.jobs, _owner_uid)
        cluster.cron_jobs.on_change(self._changed)
        cluster.jobs.on_change(self._job_changed)

    def keys(self) -> Iterable[str]:
        """Every CronJob."""
        return list(self.cluster.cron_jobs.items)

    async def reconcile(self, key: str) -> None:
        """Start the Job that is due, remove old ones, and write the status."""
        cron_job = self.cluster.cron_jobs.items.get(key)
        if cron_job is None or self.cluster.is_terminating(cron_job.metadata.namespace):
            return
        jobs = list(self._jobs.get(cron_job.metadata.uid))
        step = plan(cron_job, jobs, datetime.datetime.now(datetime.UTC))
        if step.sync_after is not None:
            self.queue.add_after(key, step.sync_after)
        await self._carry_out(cron_job, step)

    async def _carry_out(self, cron_job: CronJob, step: Plan) -> None:
        for is_warning, reason, message in step.events:
            await record(self.client, cron_job, WARNING if is_warning else NORMAL, reason, message, self.name)
        for job in step.delete:
            meta = job.metadata
            await unless_gone(
                self.client.delete(JOBS, meta.name, meta.namespace, uid=meta.uid, propagation="Background")
            )
            await record(self.client, cron_job, NORMAL, "SuccessfulDelete", f"Deleted job {meta.name}", self.name)
        if step.create is not None:
            await self._create(cron_job, step.create)
        if step.status != cron_job.status:
            changed = msgspec.structs.replace(cron_job, status=step.status)
            await unless_gone(self.client.update(CRONJOBS, changed, subresource="status"))

    async def _create(self, cron_job: CronJob, job: Job) -> None:
        try:
            await self.client.create(JOBS, job)
        except ApiError as error:
            # Made by a sync whose result the informer has not shown yet.
            if error.reason != "AlreadyExists":
                await record(self.client, cron_job, WARNING, "FailedCreate", f"Error creating job: {error}", self.name)
                raise
        else:
            message = f"Created job {job.metadata.name}"
            await record(self.client, cron_job, NORMAL, "SuccessfulCreate", message, self.name)

    def _changed(self, old: CronJob | None, new: CronJob | None) -> None:
        if new is not None and (old is None or old.metadata != new.metadata):
            self.queue.add(new.key)

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        for job in (old, new):
            owner = controller_of(job) if job is not None else None
            if job is not None and owner is not None and owner.kind == CRONJOBS.kind:
                self.queue.add(f"{job.metadata.namespace}/{owner.name}")


def _owner_uid(job: Job) -> list[str]:
    owner = controller_of(job)
    return [owner.uid] if owner is not None else []
