"""One step of a CronJob: which Job is created, which are deleted, and the status (pkg/controller/cronjob)."""

from __future__ import annotations

import copy
import dataclasses
import datetime
from collections.abc import Sequence

from netlab.api.batch_types import CronJob, CronJobStatus, Job
from netlab.api.core_types import ObjectReference
from netlab.api.meta_types import ObjectMeta
from netlab.api.schedules import Schedule
from netlab.controlplane.cluster import controller_reference, parse_time
from netlab.controlplane.job.planner import is_finished
from netlab.errors import UsageError

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
"""The annotation of a Job: when it was due."""

_KEPT_SUCCESSFUL, _KEPT_FAILED = 3, 1


@dataclasses.dataclass
class Plan:
    """What one sync of a CronJob does: Jobs are deleted first."""

    status: CronJobStatus
    create: Job | None = None
    delete: list[Job] = dataclasses.field(default_factory=list)
    events: list[tuple[bool, str, str]] = dataclasses.field(default_factory=list)
    """Whether it is a warning, the reason and the message."""
    sync_after: float | None = None


def plan(cron_job: CronJob, jobs: Sequence[Job], now: datetime.datetime) -> Plan:
    """What to do about a CronJob, given the Jobs that it has."""
    made = Plan(
        CronJobStatus(
            active=list(cron_job.status.active),
            lastScheduleTime=cron_job.status.lastScheduleTime,
            lastSuccessfulTime=cron_job.status.lastSuccessfulTime,
        )
    )
    running = _follow(made, jobs)
    made.delete += _outdated(cron_job, jobs)
    if cron_job.metadata.deletionTimestamp is not None or cron_job.spec.suspend:
        return made
    try:
        schedule = Schedule(cron_job.spec.schedule, cron_job.spec.timeZone)
    except UsageError as error:
        made.events.append((True, "UnparseableSchedule", f"unparseable schedule: {error}"))
        return made
    following = schedule.next(now)
    if following is not None:
        # A moment later, so that it is surely due.
        made.sync_after = max((following - now).total_seconds(), 0) + 0.1
    due = schedule.last(_earliest(cron_job, now), now)
    if due is not None:
        _start(made, cron_job, due, running, jobs, now)
    return made


def _follow(made: Plan, jobs: Sequence[Job]) -> list[Job]:
    """Bring the list of active Jobs up to date; those that run."""
    noted = {each.uid for each in made.status.active}
    running = []
    for job in sorted(jobs, key=lambda job: (job.metadata.creationTimestamp or "", job.metadata.name)):
        end = is_finished(job)
        if end is None:
            running.append(job)
        elif job.metadata.uid in noted:
            message = f"Saw completed job: {job.metadata.name}, condition: {end.type}"
            made.events.append((False, "SawCompletedJob", message))
        ended = job.status.completionTime
        if end is not None and end.type == "Complete" and ended and ended > (made.status.lastSuccessfulTime or ""):
            made.status.lastSuccessfulTime = ended
    made.status.active = [_reference(job) for job in running if job.metadata.deletionTimestamp is None]
    return running


def _reference(job: Job) -> ObjectReference:
    meta = job.metadata
    return ObjectReference(
        apiVersion="batch/v1",
        kind="Job",
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resourceVersion=meta.resourceVersion,
    )


def _outdated(cron_job: CronJob, jobs: Sequence[Job]) -> list[Job]:
    spec = cron_job.spec
    limits = {
        "Complete": _KEPT_SUCCESSFUL if spec.successfulJobsHistoryLimit is None else spec.successfulJobsHistoryLimit,
        "Failed": _KEPT_FAILED if spec.failedJobsHistoryLimit is None else spec.failedJobsHistoryLimit,
    }
    doomed: list[Job] = []
    for kind, limit in limits.items():
        over = [job for job in jobs if (end := is_finished(job)) is not None and end.type == kind]
        over.sort(key=lambda job: (job.status.startTime or "", job.metadata.name))
        doomed += over[: max(0, len(over) - limit)]
    return doomed


def _earliest(cron_job: CronJob, now: datetime.datetime) -> datetime.datetime:
    """From when on a time that was missed still counts."""
    since = cron_job.status.lastScheduleTime or cron_job.metadata.creationTimestamp
    earliest = parse_time(since) if since else now
    deadline = cron_job.spec.startingDeadlineSeconds
    if deadline is not None:
        earliest = max(earliest, now - datetime.timedelta(seconds=deadline))
    return earliest


def _start(
    made: Plan,
    cron_job: CronJob,
    due: datetime.datetime,
    running: Sequence[Job],
    jobs: Sequence[Job],
    now: datetime.datetime,
) -> None:
    job = _job(cron_job, due)
    if any(each.metadata.name == job.metadata.name for each in jobs):
        made.status.lastScheduleTime = _stamp(due)
        return
    if running and cron_job.spec.concurrencyPolicy == "Forbid":
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        made.events.append((False, "JobAlreadyActive", message))
        return
    if cron_job.spec.concurrencyPolicy == "Replace":
        made.delete += running
        made.status.active = []
    made.create = job
    made.status.lastScheduleTime = _stamp(due)


def _job(cron_job: CronJob, due: datetime.datetime) -> Job:
    template = copy.deepcopy(cron_job.spec.jobTemplate)
    local = due.isoformat().replace("+00:00", "Z")
    return Job(
        metadata=ObjectMeta(
            name=f"{cron_job.metadata.name}-{int(due.timestamp()) // 60}",
            namespace=cron_job.metadata.namespace,
            labels=dict(template.metadata.labels),
            annotations={**template.metadata.annotations, SCHEDULED: local},
            ownerReferences=[controller_reference(cron_job)],
        ),
        spec=template.spec,
    )


def _stamp(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
