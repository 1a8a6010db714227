"""What a Job does: a table of pods, and those that are created, deleted and counted."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from netlab.api.apps_types import PodTemplateSpec
from netlab.api.batch_types import (
    Job,
    JobSpec,
    JobStatus,
    PodFailurePolicy,
    PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
    SuccessPolicy,
    SuccessPolicyRule,
    UncountedTerminatedPods,
)
from netlab.api.core_types import Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec
from netlab.api.meta_types import Condition, ObjectMeta
from netlab.controlplane.job import indexes
from netlab.controlplane.job.indexes import FAILURES, INDEX
from netlab.controlplane.job.planner import TRACKING, Plan, Wanted, plan
from tests.unit.controlplane.build import pod

NOW = datetime.datetime(2026, 1, 1, 1, 0, tzinfo=datetime.UTC)
LONG_AGO, JUST_NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:59:58Z"


def job(status: JobStatus | None = None, *, restart: str = "Never", **spec: Any) -> Job:
    fields: dict[str, Any] = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "podReplacementPolicy": "Failed"}
    template = PodTemplateSpec(spec=PodSpec(containers=[Container(name="c")], restartPolicy=restart))
    return Job(
        metadata=ObjectMeta(name="j", namespace="default", uid="j"),
        spec=JobSpec(template=template, **(fields | spec)),
        status=status or JobStatus(startTime=LONG_AGO),
    )


def indexed(completions: int, status: JobStatus | None = None, **spec: Any) -> Job:
    fields: dict[str, Any] = {"completionMode": "Indexed", "completions": completions, "parallelism": completions}
    return job(status, **(fields | spec))


def a(
    name: str,
    phase: str = "Running",
    *,
    index: int = -1,
    failures: int = 0,
    tracked: bool = True,
    code: int = 0,
    ended: str = LONG_AGO,
    restarts: int = 0,
    **others: Any,
) -> Pod:
    made = pod(name, owned_by="j", phase=phase, ready=phase == "Running", **others)
    made.metadata.finalizers = [TRACKING] if tracked else []
    if index >= 0:
        made.metadata.annotations = {INDEX: str(index), FAILURES: str(failures)}
    terminated = ContainerStateTerminated(exitCode=code, finishedAt=ended) if phase in ("Failed", "Succeeded") else None
    state = ContainerState(terminated=terminated)
    made.status.containerStatuses = [
        ContainerStatus(name="c", ready=False, restartCount=restarts, image="", imageID="", state=state)
    ]
    return made


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    job: Job
    pods: list[Pod] = dataclasses.field(default_factory=list)
    create: list[Wanted] = dataclasses.field(default_factory=list)
    delete: list[str] = dataclasses.field(default_factory=list)
    release: list[str] = dataclasses.field(default_factory=list)
    condition: str = ""
    """The type and the reason of the last condition."""
    sync_after: float | None = None


def _wanted(count: int) -> list[Wanted]:
    return [Wanted()] * count


def _on_exit(action: str, operator: str = "In") -> PodFailurePolicy:
    codes = PodFailurePolicyOnExitCodesRequirement(operator=operator, values=[42])
    return PodFailurePolicy(rules=[PodFailurePolicyRule(action=action, onExitCodes=codes)])


_ON_DISRUPTION = PodFailurePolicy(
    rules=[
        PodFailurePolicyRule(
            action="Ignore",
            onPodConditions=[PodFailurePolicyOnPodConditionsPattern(type="DisruptionTarget", status="True")],
        )
    ]
)
_ENDING = JobStatus(
    startTime=LONG_AGO,
    succeeded=1,
    conditions=[Condition(type="SuccessCriteriaMet", status="True", reason="CompletionsReached")],
)


def _disrupted() -> Pod:
    made = a("p", "Failed")
    made.status.conditions = [Condition(type="DisruptionTarget", status="True")]
    return made


CASES = [
    Case("one pod", job(), create=_wanted(1)),
    Case("which is waited for", job(), [a("p")]),
    Case("several at once", job(parallelism=3, completions=5), create=_wanted(3)),
    Case(
        "no more than are missing",
        job(JobStatus(startTime=LONG_AGO, succeeded=4), parallelism=3, completions=5),
        create=_wanted(1),
    ),
    Case("fewer", job(parallelism=1, completions=5), [a("p", on="n"), a("q")], delete=["q"]),
    Case("none while suspended", job(suspend=True), [a("p")], delete=["p"], condition="Suspended JobSuspended"),
    Case("not before what was asked for is seen", job(parallelism=2, completions=2), [a("p"), a("q", deleted=True)]),
    # The end.
    Case(
        "the pod succeeds: counted first",
        job(),
        [a("p", "Succeeded")],
        release=["p"],
        condition="SuccessCriteriaMet CompletionsReached",
    ),
    Case(
        "and then it is over",
        job(_ENDING),
        [a("p", "Succeeded", tracked=False)],
        condition="Complete CompletionsReached",
    ),
    Case(
        "others are ended before",
        job(_ENDING),
        [a("q")],
        delete=["q"],
        condition="SuccessCriteriaMet CompletionsReached",
    ),
    Case(
        "a queue of work is empty once one succeeds",
        job(completions=None, parallelism=2),
        [a("p", "Succeeded"), a("q")],
        release=["p"],
    ),
    # Failures.
    Case("again, after a pause", job(), [a("p", "Failed", ended=JUST_NOW)], release=["p"], sync_after=8),
    Case("again", job(), [a("p", "Failed")], release=["p"], create=_wanted(1)),
    Case(
        "not forever",
        job(backoffLimit=0),
        [a("p", "Failed")],
        release=["p"],
        condition="FailureTarget BackoffLimitExceeded",
    ),
    Case(
        "counted failures",
        job(JobStatus(startTime=LONG_AGO, failed=7)),
        [a("p")],
        delete=["p"],
        condition="FailureTarget BackoffLimitExceeded",
    ),
    Case(
        "restarted too often",
        job(restart="OnFailure", backoffLimit=2),
        [a("p", restarts=2)],
        delete=["p"],
        condition="FailureTarget BackoffLimitExceeded",
    ),
    Case(
        "for too long",
        job(activeDeadlineSeconds=3600),
        [a("p")],
        delete=["p"],
        condition="FailureTarget DeadlineExceeded",
    ),
    Case("not yet for too long", job(activeDeadlineSeconds=3610), [a("p")], sync_after=10),
    Case(
        "by its exit code",
        job(podFailurePolicy=_on_exit("FailJob")),
        [a("p", "Failed", code=42)],
        release=["p"],
        condition="FailureTarget PodFailurePolicy",
    ),
    Case(
        "by another",
        job(podFailurePolicy=_on_exit("FailJob", "NotIn")),
        [a("p", "Failed", code=42)],
        release=["p"],
        create=_wanted(1),
    ),
    Case(
        "a disruption does not count",
        job(backoffLimit=0, podFailurePolicy=_ON_DISRUPTION),
        [_disrupted()],
        release=["p"],
        create=_wanted(1),
    ),
    # Indexes.
    Case("an index each", indexed(3), create=[Wanted(0), Wanted(1), Wanted(2)]),
    Case("the next indexes", indexed(3, parallelism=2), [a("p", index=0)], create=[Wanted(1)]),
    Case(
        "only those that are missing",
        indexed(3, JobStatus(startTime=LONG_AGO, completedIndexes="0,2")),
        create=[Wanted(1)],
    ),
    Case(
        "two of one index",
        indexed(2),
        [a("p", index=0), a("q", index=0, created="2026-01-01T00:00:01Z"), a("r", index=1)],
        delete=["q"],
    ),
    Case(
        "all succeed",
        indexed(2),
        [a("p", "Succeeded", index=0), a("q", "Succeeded", index=1)],
        release=["p", "q"],
        condition="SuccessCriteriaMet CompletionsReached",
    ),
    Case(
        "each index may fail",
        indexed(2, backoffLimitPerIndex=1),
        [a("p", "Failed", index=0), a("q", index=1)],
        release=["p"],
        create=[Wanted(0, 1)],
    ),
    Case(
        "so often",
        indexed(2, backoffLimitPerIndex=1),
        [a("p", "Failed", index=0, failures=1), a("q", index=1)],
        release=["p"],
    ),
    Case(
        "an index fails at once",
        indexed(2, backoffLimitPerIndex=9, podFailurePolicy=_on_exit("FailIndex")),
        [a("p", "Failed", index=0, code=42), a("q", index=1)],
        release=["p"],
    ),
    Case(
        "with those that failed it is over",
        indexed(2, JobStatus(startTime=LONG_AGO, failedIndexes="0", completedIndexes="1"), backoffLimitPerIndex=0),
        condition="Failed FailedIndexes",
    ),
    Case(
        "too many failed",
        indexed(3, JobStatus(startTime=LONG_AGO, failedIndexes="0,1"), backoffLimitPerIndex=0, maxFailedIndexes=1),
        [a("p", index=2)],
        delete=["p"],
        condition="FailureTarget MaxFailedIndexesExceeded",
    ),
    Case(
        "enough succeed",
        indexed(3, successPolicy=SuccessPolicy(rules=[SuccessPolicyRule(succeededIndexes="1-2", succeededCount=1)])),
        [a("p", "Succeeded", index=2), a("q", index=0)],
        delete=["q"],
        release=["p"],
        condition="SuccessCriteriaMet SuccessPolicy",
    ),
    Case(
        "others succeed",
        indexed(3, successPolicy=SuccessPolicy(rules=[SuccessPolicyRule(succeededIndexes="1")])),
        [a("p", "Succeeded", index=2), a("q", index=0), a("r", index=1)],
        release=["p"],
    ),
]


def _plan(case: Case) -> Plan:
    return plan(case.job, case.pods, settled=True, now=NOW)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_pods_come_and_go(case: Case) -> None:
    made = _plan(case)
    assert made.create == case.create
    assert [each.metadata.name for each in made.delete] == case.delete
    assert [each.metadata.name for each in made.release] == case.release
    last = made.status.conditions[-1] if made.status.conditions else None
    assert (f"{last.type} {last.reason}" if last is not None else "") == case.condition
    assert made.sync_after == case.sync_after


def test_a_pod_is_counted_once_whatever_is_interrupted() -> None:
    first = plan(job(completions=3), [a("p", "Succeeded"), a("q", "Failed")], settled=True, now=NOW).status
    assert first.uncountedTerminatedPods == UncountedTerminatedPods(succeeded=["uid-p"], failed=["uid-q"])
    assert (first.succeeded, first.failed) == (0, 0)
    # The finalizer of one is gone, that of the other is not.
    pods = [a("p", "Succeeded", tracked=False), a("q", "Failed")]
    second = plan(job(first, completions=3), pods, settled=True, now=NOW).status
    assert second.uncountedTerminatedPods == UncountedTerminatedPods(failed=["uid-q"])
    assert (second.succeeded, second.failed) == (1, 0)
    # Both are gone as a whole.
    third = plan(job(second, completions=3), [], settled=True, now=NOW).status
    assert (third.succeeded, third.failed, third.uncountedTerminatedPods) == (1, 1, UncountedTerminatedPods())


def test_the_status_counts_pods() -> None:
    pods = [a("p"), a("q", "Pending"), a("r", deleted=True)]
    status = plan(job(parallelism=4, completions=4), pods, settled=True, now=NOW).status
    assert (status.active, status.ready, status.terminating) == (3, 1, 1)


def test_a_job_starts_when_it_is_resumed() -> None:
    suspended = plan(job(JobStatus(), suspend=True), [], settled=True, now=NOW)
    assert suspended.status.startTime is None
    assert suspended.events == [(False, "Suspended", "Job suspended")]
    resumed = plan(job(suspended.status, suspend=False), [], settled=True, now=NOW)
    assert resumed.status.startTime == "2026-01-01T01:00:00Z"
    assert [each[1] for each in resumed.events] == ["Resumed"]


@pytest.mark.parametrize(
    ("text", "found"),
    [("", []), ("0", [0]), ("0,1", [0, 1]), ("0-2", [0, 1, 2]), ("0-2,4,6-9", [0, 1, 2, 4, 6, 7, 8, 9])],
)
def test_indexes_are_written_as_ranges(text: str, found: list[int]) -> None:
    assert indexes.parse(text) == set(found)
    assert indexes.write(found) == text
