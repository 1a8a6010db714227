"""One step of a Job: which pods are created, deleted and counted, and the status (pkg/controller/job).

A pod has a finalizer until it is counted. One that has ended is noted in the status by its uid, then loses the
finalizer, and then is in the counts and no longer noted: wherever that is interrupted, none is counted twice or lost.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from netlab.api.batch_types import Job, JobStatus, UncountedTerminatedPods
from netlab.api.core_types import Pod
from netlab.api.meta_types import Condition
from netlab.controlplane.cluster import condition_of, is_ready, parse_time
from netlab.controlplane.job import indexes, policies
from netlab.controlplane.job.indexes import failures_of, index_of

TRACKING = "batch.kubernetes.io/job-tracking"
"""The finalizer of a pod that is not counted yet."""

MOST_AT_ONCE = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 600.0
"""Seconds between a failure and the next pod (DefaultJobPodFailureBackOff, MaxJobPodFailureBackOff)."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A pod to be created; without an index it has none."""

    index: int | None = None
    failures: int = 0


@dataclasses.dataclass
class Plan:
    """What one sync of a Job does: the status first, then what becomes of the pods."""

    status: JobStatus
    create: list[Wanted] = dataclasses.field(default_factory=list)
    delete: list[Pod] = dataclasses.field(default_factory=list)
    release: list[Pod] = dataclasses.field(default_factory=list)
    """Pods that lose their finalizer."""
    events: list[tuple[bool, str, str]] = dataclasses.field(default_factory=list)
    """Whether it is a warning, the reason and the message."""
    sync_after: float | None = None


def is_finished(job: Job) -> Condition | None:
    """The condition by which a Job is over."""
    found = (condition_of(job.status.conditions, kind) for kind in ("Complete", "Failed"))
    return next((each for each in found if each is not None and each.status == "True"), None)


def has_ended(pod: Pod) -> bool:
    """Whether nothing of a pod runs any more: a deleted one may stay Running in the API."""
    gone = pod.metadata.deletionTimestamp is not None and pod.metadata.deletionGracePeriodSeconds == 0
    return pod.status.phase in ("Succeeded", "Failed") or gone


def plan(job: Job, pods: Sequence[Pod], settled: bool, now: datetime.datetime) -> Plan:
    """What to do about a Job that is not over, given its pods.

    `settled` says whether all pods that were created and deleted before have been seen.
    """
    return _Step(job, pods, now).plan(settled)


class _Step:
    def __init__(self, job: Job, pods: Sequence[Pod], now: datetime.datetime) -> None:
        self._job, self._spec, self._now = job, job.spec, now
        self._pods = pods
        self._active = [pod for pod in pods if not has_ended(pod) and pod.metadata.deletionTimestamp is None]
        self._terminating = [pod for pod in pods if not has_ended(pod) and pod.metadata.deletionTimestamp is not None]
        self._indexed = self._spec.completionMode == "Indexed"
        status = job.status
        self._status = JobStatus(
            conditions=list(status.conditions),
            startTime=status.startTime,
            completionTime=status.completionTime,
            succeeded=status.succeeded,
            failed=status.failed,
            completedIndexes=status.completedIndexes,
            failedIndexes=status.failedIndexes,
        )
        self._plan = Plan(self._status)
        self._moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        self._uncounted_succeeded, self._uncounted_failed = self._recount()
        self._fail_message = ""
        self._failed_indexes = indexes.parse(status.failedIndexes)
        self._succeeded_indexes = indexes.parse(status.completedIndexes)
        self._count()

    # --- counting --------------------------------------------------------------------------------------------------

    def _recount(self) -> tuple[list[str], list[str]]:
        """Move into the counts what has lost its finalizer since it was noted; what is still noted."""
        noted = self._job.status.uncountedTerminatedPods or UncountedTerminatedPods()
        tracked = {pod.metadata.uid for pod in self._pods if TRACKING in pod.metadata.finalizers}
        succeeded = [uid for uid in noted.succeeded if uid in tracked]
        failed = [uid for uid in noted.failed if uid in tracked]
        self._status.succeeded += len(noted.succeeded) - len(succeeded)
        self._status.failed += len(noted.failed) - len(failed)
        return succeeded, failed

    def _count(self) -> None:
        """Note the pods that have ended since."""
        noted = {*self._uncounted_succeeded, *self._uncounted_failed}
        for pod in self._pods:
            if not has_ended(pod):
                continue
            if pod.status.phase == "Succeeded":
                self._succeed(pod, is_new=pod.metadata.uid not in noted)
            else:
                self._fail(pod, is_new=pod.metadata.uid not in noted)
        if self._indexed:
            self._status.completedIndexes = indexes.write(self._succeeded_indexes)
            self._status.succeeded = len(self._succeeded_indexes)
            self._uncounted_succeeded = []
            if self._spec.backoffLimitPerIndex is not None:
                self._status.failedIndexes = indexes.write(self._failed_indexes)

    def _succeed(self, pod: Pod, *, is_new: bool) -> None:
        if TRACKING not in pod.metadata.finalizers:
            return
        self._plan.release.append(pod)
        if self._indexed:
            if 0 <= index_of(pod) < (self._spec.completions or 0):
                self._succeeded_indexes.add(index_of(pod))
        elif is_new:
            self._uncounted_succeeded.append(pod.metadata.uid)

    def _fail(self, pod: Pod, *, is_new: bool) -> None:
        verdict = policies.of_failed(self._spec, pod)
        if verdict.action == "FailJob":
            self._fail_message = self._fail_message or verdict.message
        if TRACKING not in pod.metadata.finalizers:
            return
        self._plan.release.append(pod)
        limit = self._spec.backoffLimitPerIndex
        if verdict.action == "Ignore":
            return
        if limit is not None and (verdict.action == "FailIndex" or failures_of(pod) >= limit):
            self._failed_indexes.add(index_of(pod))
        if is_new:
            self._uncounted_failed.append(pod.metadata.uid)

    @property
    def _succeeded(self) -> int:
        return self._status.succeeded + len(self._uncounted_succeeded)

    @property
    def _failed(self) -> int:
        return self._status.failed + len(self._uncounted_failed)

    # --- deciding --------------------------------------------------------------------------------------------------

    def plan(self, settled: bool) -> Plan:
        if self._status.startTime is None and not self._spec.suspend:
            self._status.startTime = self._moment
        end = self._end()
        if end is not None:
            self._finish(end, settled)
        elif settled and self._job.metadata.deletionTimestamp is None:
            self._manage()
            self._note_suspension()
        self._close_status()
        return self._plan

    def _end(self) -> Condition | None:
        """The interim condition of a Job that is to end."""
        for kind in ("SuccessCriteriaMet", "FailureTarget"):
            seen = condition_of(self._status.conditions, kind)
            if seen is not None and seen.status == "True":
                return seen
        if self._fail_message:
            return self._condition("FailureTarget", "PodFailurePolicy", self._fail_message)
        if self._failed > self._backoff_limit or self._restarts_exceed():
            message = "Job has reached the specified backoff limit"
            return self._condition("FailureTarget", "BackoffLimitExceeded", message)
        if self._left_of_deadline() == 0:
            message = "Job was active longer than specified deadline"
            return self._condition("FailureTarget", "DeadlineExceeded", message)
        return self._end_of_indexes() or self._end_of_completions()

    def _end_of_indexes(self) -> Condition | None:
        if not self._indexed:
            return None
        failed, most = len(self._failed_indexes), self._spec.maxFailedIndexes
        if most is not None and failed > most:
            message = "Job has exceeded the specified maximal number of failed indexes"
            return self._condition("FailureTarget", "MaxFailedIndexesExceeded", message)
        if failed and failed + len(self._succeeded_indexes) >= (self._spec.completions or 0):
            return self._condition("FailureTarget", "FailedIndexes", "Job has failed indexes")
        if message := policies.success_of(self._spec, self._succeeded_indexes):
            return self._condition("SuccessCriteriaMet", "SuccessPolicy", message)
        return None

    def _end_of_completions(self) -> Condition | None:
        wanted = self._spec.completions
        enough = self._succeeded > 0 if wanted is None else self._succeeded >= wanted
        if not enough or self._active:
            return None
        return self._condition("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")

    @property
    def _backoff_limit(self) -> int:
        return 6 if self._spec.backoffLimit is None else self._spec.backoffLimit

    def _restarts_exceed(self) -> bool:
        if self._spec.template.spec.restartPolicy != "OnFailure":
            return False
        restarts = sum(
            status.restartCount
            for pod in self._pods
            if pod.status.phase in ("Running", "Pending")
            for status in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)
        )
        return restarts >= max(self._backoff_limit, 1)

    def _left_of_deadline(self) -> float | None:
        deadline, started = self._spec.activeDeadlineSeconds, self._status.startTime
        if deadline is None or started is None or self._spec.suspend:
            return None
        return max(0.0, deadline - (self._now - parse_time(started)).total_seconds())

    def _finish(self, end: Condition, settled: bool) -> None:
        """End all pods; once that is done and all are counted, the Job is over."""
        self._put(end)
        self._plan.delete += self._active
        counted = not self._uncounted_succeeded and not self._uncounted_failed and not self._plan.release
        if not settled or self._active or self._terminating or not counted:
            return
        kind = "Complete" if end.type == "SuccessCriteriaMet" else "Failed"
        self._put(self._condition(kind, end.reason, end.message))
        if kind == "Complete":
            self._status.completionTime = self._moment
            self._plan.events.append((False, "Completed", "Job completed"))
        else:
            self._plan.events.append((True, end.reason, end.message))

    # --- managing --------------------------------------------------------------------------------------------------

    def _manage(self) -> None:
        left = self._left_of_deadline()
        self._plan.sync_after = left
        if self._spec.suspend:
            self._plan.delete += self._active
            return
        self._plan.delete += self._superfluous()
        if self._plan.delete:
            return
        present = len(self._active)
        if self._spec.podReplacementPolicy == "Failed":
            present += len(self._terminating)
        missing = min(self._wanted_active() - present, MOST_AT_ONCE)
        if missing > 0:
            self._create(missing)

    def _wanted_active(self) -> int:
        parallelism = 1 if self._spec.parallelism is None else self._spec.parallelism
        if self._spec.completions is None:
            return len(self._active) if self._succeeded else parallelism
        return max(0, min(parallelism, self._spec.completions - self._succeeded))

    def _superfluous(self) -> list[Pod]:
        """Of an index that is done or has a pod already, or that fails; and the youngest beyond what is wanted."""
        doomed: list[Pod] = []
        if self._indexed:
            seen: set[int] = set()
            for pod in sorted(self._active, key=_age):
                index = index_of(pod)
                out = not 0 <= index < (self._spec.completions or 0)
                if out or index in seen or index in self._succeeded_indexes | self._failed_indexes:
                    doomed.append(pod)
                seen.add(index)
        others = sorted((pod for pod in self._active if pod not in doomed), key=_first_to_go)
        return doomed + others[: max(0, len(others) - self._wanted_active())]

    def _create(self, missing: int) -> None:
        if not self._indexed:
            pause = self._pause(self._pods)
            self._come_back_in(pause)
            self._plan.create += [Wanted()] * (missing if pause is None else 0)
            return
        taken = {index_of(pod) for pod in (*self._active, *self._terminating)}
        done = taken | self._succeeded_indexes | self._failed_indexes
        pending = (index for index in range(self._spec.completions or 0) if index not in done)
        pause_of_all = None if self._spec.backoffLimitPerIndex is not None else self._pause(self._pods)
        self._come_back_in(pause_of_all)
        if pause_of_all is not None:
            return
        for index in pending:
            if len(self._plan.create) == missing:
                return
            before = [pod for pod in self._pods if index_of(pod) == index]
            pause = self._pause(before) if self._spec.backoffLimitPerIndex is not None else None
            self._come_back_in(pause)
            if pause is None:
                failures = max((failures_of(pod) + self._is_counted(pod) for pod in before), default=0)
                self._plan.create.append(Wanted(index, failures))

    def _is_counted(self, pod: Pod) -> bool:
        return policies.of_failed(self._spec, pod).action != "Ignore"

    def _pause(self, pods: Sequence[Pod]) -> float | None:
        """Seconds until the next pod may be made after some failed: each doubles them; None: none."""
        ends = sorted(((_end_of(pod), pod.status.phase) for pod in pods if has_ended(pod)), reverse=True)
        failures = 0
        for _, phase in ends:
            if phase == "Succeeded":
                break
            failures += 1
        if not failures:
            return None
        pause = min(_FIRST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE)
        left = pause - (self._now.timestamp() - ends[0][0])
        return left if left > 0 else None

    def _come_back_in(self, seconds: float | None) -> None:
        if seconds is not None:
            after = self._plan.sync_after
            self._plan.sync_after = seconds if after is None else min(after, seconds)

    # --- the status ------------------------------------------------------------------------------------------------

    def _note_suspension(self) -> None:
        seen = condition_of(self._status.conditions, "Suspended")
        if self._spec.suspend:
            if seen is None or seen.status != "True":
                self._put(self._condition("Suspended", "JobSuspended", "Job suspended"))
                self._plan.events.append((False, "Suspended", "Job suspended"))
            self._status.startTime = None
        elif seen is not None and seen.status == "True":
            resumed = self._condition("Suspended", "JobResumed", "Job resumed")
            resumed.status = "False"
            self._put(resumed)
            self._status.startTime = self._moment
            self._plan.events.append((False, "Resumed", "Job resumed"))

    def _close_status(self) -> None:
        doomed = {pod.metadata.uid for pod in self._plan.delete}
        staying = [pod for pod in self._active if pod.metadata.uid not in doomed]
        self._status.active = len(staying) + len(self._plan.create)
        self._status.ready = sum(map(is_ready, staying))
        self._status.terminating = len(self._terminating) + len(self._active) - len(staying)
        self._status.uncountedTerminatedPods = UncountedTerminatedPods(
            succeeded=self._uncounted_succeeded, failed=self._uncounted_failed
        )

    def _condition(self, kind: str, reason: str, message: str) -> Condition:
        return Condition(
            type=kind,
            status="True",
            reason=reason,
            message=message,
            lastProbeTime=self._moment,
            lastTransitionTime=self._moment,
        )

    def _put(self, condition: Condition) -> None:
        others = [each for each in self._status.conditions if each.type != condition.type]
        self._status.conditions = [*others, condition]


def _age(pod: Pod) -> tuple[str, str]:
    return pod.metadata.creationTimestamp or "", pod.metadata.name


def _first_to_go(pod: Pod) -> tuple[bool, bool, int, str]:
    created = parse_time(pod.metadata.creationTimestamp).timestamp() if pod.metadata.creationTimestamp else 0
    return bool(pod.spec.nodeName), is_ready(pod), -int(created), pod.metadata.name


def _end_of(pod: Pod) -> float:
    """When a pod ended, in seconds since the epoch."""
    moments = [
        ended.finishedAt
        for status in (*pod.status.containerStatuses, *pod.status.initContainerStatuses)
        if (ended := status.state.terminated) is not None and ended.finishedAt
    ]
    if not moments:
        moments = [stamp for stamp in (pod.metadata.deletionTimestamp, pod.metadata.creationTimestamp) if stamp][:1]
    return max((parse_time(stamp).timestamp() for stamp in moments), default=0.0)
