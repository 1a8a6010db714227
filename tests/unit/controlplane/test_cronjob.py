"""What a CronJob does: a table of times and Jobs, and those that are started and removed."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from netlab.api.apps_types import PodTemplateSpec
from netlab.api.batch_types import CronJob, CronJobSpec, CronJobStatus, Job, JobSpec, JobStatus, JobTemplateSpec
from netlab.api.core_types import ObjectReference, PodSpec
from netlab.api.meta_types import Condition, ObjectMeta
from netlab.controlplane.cronjob.planner import SCHEDULED, plan

NOW = datetime.datetime(2026, 1, 1, 12, 0, 30, tzinfo=datetime.UTC)
_MINUTE = int(NOW.timestamp()) // 60
_SPEC = JobSpec(template=PodTemplateSpec(spec=PodSpec(containers=[])))


def cron_job(last: str | None = "2026-01-01T11:59:00Z", active: tuple[str, ...] = (), **spec: Any) -> CronJob:
    fields: dict[str, Any] = {"schedule": "* * * * *", "jobTemplate": JobTemplateSpec(spec=_SPEC)}
    return CronJob(
        metadata=ObjectMeta(name="c", namespace="default", uid="c", creationTimestamp="2026-01-01T11:00:00Z"),
        spec=CronJobSpec(**(fields | spec)),
        status=CronJobStatus(lastScheduleTime=last, active=[ObjectReference(uid=f"uid-{each}") for each in active]),
    )


def a(name: str, over: str = "", started: str = "2026-01-01T11:00:00Z") -> Job:
    conditions = [Condition(type=over, status="True")] if over else []
    ended = "2026-01-01T11:30:00Z" if over == "Complete" else None
    return Job(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"),
        spec=_SPEC,
        status=JobStatus(startTime=started, completionTime=ended, conditions=conditions),
    )


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    cron_job: CronJob
    jobs: list[Job] = dataclasses.field(default_factory=list)
    create: str = ""
    delete: list[str] = dataclasses.field(default_factory=list)
    events: list[str] = dataclasses.field(default_factory=list)


_DUE = f"c-{_MINUTE}"

CASES = [
    Case("it is due", cron_job(), create=_DUE),
    Case("it was started", cron_job("2026-01-01T12:00:00Z")),
    Case("it was never due", cron_job(None, schedule="0 13 * * *")),
    Case("one of many that were missed", cron_job(None), create=_DUE),
    Case("too late", cron_job(schedule="59 11 * * *", last="2026-01-01T11:58:00Z", startingDeadlineSeconds=10)),
    Case(
        "not too late",
        cron_job(schedule="59 11 * * *", last="2026-01-01T11:58:00Z", startingDeadlineSeconds=100),
        create=f"c-{_MINUTE - 1}",
    ),
    Case("suspended", cron_job(suspend=True)),
    Case("in another time zone", cron_job(schedule="0 13 * * *", timeZone="Europe/Berlin"), create=_DUE),
    Case("every now and then", cron_job(schedule="@every 45s", last="2026-01-01T11:59:40Z"), create=_DUE),
    Case("beside another", cron_job(), [a("old")], create=_DUE),
    Case("not beside another", cron_job(concurrencyPolicy="Forbid"), [a("old")], events=["JobAlreadyActive"]),
    Case("instead of another", cron_job(concurrencyPolicy="Replace"), [a("old")], create=_DUE, delete=["old"]),
    Case("it is there already", cron_job(), [a(_DUE)]),
    Case(
        "a few are kept",
        cron_job(suspend=True, successfulJobsHistoryLimit=1),
        [a("x", "Complete", "2026-01-01T10:00:00Z"), a("y", "Complete"), a("z", "Failed")],
        delete=["x"],
    ),
    Case(
        "of those that failed one",
        cron_job(suspend=True),
        [a("x", "Failed", "2026-01-01T10:00:00Z"), a("y", "Failed")],
        delete=["x"],
    ),
    Case("none is kept", cron_job(suspend=True, failedJobsHistoryLimit=0), [a("x", "Failed")], delete=["x"]),
    Case("one has ended", cron_job(suspend=True, active=("x",)), [a("x", "Complete")], events=["SawCompletedJob"]),
    Case("no schedule", cron_job(schedule="61 * * * *"), events=["UnparseableSchedule"]),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_jobs_come_and_go(case: Case) -> None:
    made = plan(case.cron_job, case.jobs, NOW)
    assert (made.create.metadata.name if made.create is not None else "") == case.create
    assert [each.metadata.name for each in made.delete] == case.delete
    assert [reason for _, reason, _ in made.events] == case.events


def test_a_job_says_when_it_was_due() -> None:
    made = plan(cron_job(schedule="0 13 * * *", timeZone="Europe/Berlin"), [], NOW)
    assert made.create is not None
    assert made.create.metadata.annotations[SCHEDULED] == "2026-01-01T13:00:00+01:00"
    assert made.create.metadata.ownerReferences[0].uid == "c"
    assert made.status.lastScheduleTime == "2026-01-01T12:00:00Z"


def test_the_status_follows_the_jobs() -> None:
    status = plan(cron_job(suspend=True, active=("x", "y")), [a("x", "Complete"), a("y")], NOW).status
    assert [each.name for each in status.active] == ["y"]
    assert status.lastSuccessfulTime == "2026-01-01T11:30:00Z"


def test_it_comes_back_when_it_is_due_again() -> None:
    after = plan(cron_job("2026-01-01T12:00:00Z"), [], NOW).sync_after
    assert after == pytest.approx(30.1)
