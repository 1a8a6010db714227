"""batch/v1 Job and CronJob, with the field names of the Kubernetes API (1.37)."""

from __future__ import annotations

import msgspec

from netlab.api.apps_types import PodTemplateSpec
from netlab.api.core_types import ObjectReference
from netlab.api.meta_types import Condition, Int64, LabelSelector, Object, ObjectMeta, Struct

# --- Job ---------------------------------------------------------------------------------------------------------


class PodFailurePolicyOnExitCodesRequirement(Struct):
    """batch/v1.PodFailurePolicyOnExitCodesRequirement; operator is In or NotIn."""

    operator: str
    values: list[int]
    containerName: str | None = None


class PodFailurePolicyOnPodConditionsPattern(Struct):
    """batch/v1.PodFailurePolicyOnPodConditionsPattern."""

    type: str
    status: str = ""


class PodFailurePolicyRule(Struct):
    """batch/v1.PodFailurePolicyRule; action is FailJob, FailIndex, Ignore or Count."""

    action: str
    onExitCodes: PodFailurePolicyOnExitCodesRequirement | None = None
    onPodConditions: list[PodFailurePolicyOnPodConditionsPattern] = []


class PodFailurePolicy(Struct):
    """batch/v1.PodFailurePolicy: the first rule that matches a failed pod counts."""

    rules: list[PodFailurePolicyRule]


class SuccessPolicyRule(Struct):
    """batch/v1.SuccessPolicyRule: which indexes are enough, or how many."""

    succeededIndexes: str | None = None
    succeededCount: int | None = None


class SuccessPolicy(Struct):
    """batch/v1.SuccessPolicy: one of the rules has to be met."""

    rules: list[SuccessPolicyRule]


class JobSpec(Struct):
    """batch/v1.JobSpec; completionMode is NonIndexed or Indexed."""

    template: PodTemplateSpec
    selector: LabelSelector | None = None
    manualSelector: bool | None = None
    parallelism: int | None = None
    completions: int | None = None
    completionMode: str | None = None
    backoffLimit: int | None = None
    backoffLimitPerIndex: int | None = None
    maxFailedIndexes: int | None = None
    activeDeadlineSeconds: Int64 | None = None
    ttlSecondsAfterFinished: int | None = None
    suspend: bool | None = None
    podFailurePolicy: PodFailurePolicy | None = None
    successPolicy: SuccessPolicy | None = None
    podReplacementPolicy: str | None = None
    managedBy: str | None = None


class UncountedTerminatedPods(Struct):
    """batch/v1.UncountedTerminatedPods: uids of pods that have ended and are not in the counts yet."""

    succeeded: list[str] = []
    failed: list[str] = []


class JobStatus(Struct):
    """batch/v1.JobStatus."""

    conditions: list[Condition] = []
    startTime: str | None = None
    completionTime: str | None = None
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None
    ready: int | None = None
    completedIndexes: str = ""
    failedIndexes: str | None = None
    uncountedTerminatedPods: UncountedTerminatedPods | None = None


class Job(Object, kw_only=True):
    """batch/v1.Job."""

    spec: JobSpec
    status: JobStatus = msgspec.field(default_factory=JobStatus)


# --- CronJob -----------------------------------------------------------------------------------------------------


class JobTemplateSpec(Struct):
    """batch/v1.JobTemplateSpec."""

    spec: JobSpec
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)


class CronJobSpec(Struct):
    """batch/v1.CronJobSpec; concurrencyPolicy is Allow, Forbid or Replace."""

    schedule: str
    jobTemplate: JobTemplateSpec
    timeZone: str | None = None
    startingDeadlineSeconds: Int64 | None = None
    concurrencyPolicy: str = ""
    suspend: bool | None = None
    successfulJobsHistoryLimit: int | None = None
    failedJobsHistoryLimit: int | None = None


class CronJobStatus(Struct):
    """batch/v1.CronJobStatus."""

    active: list[ObjectReference] = []
    lastScheduleTime: str | None = None
    lastSuccessfulTime: str | None = None


class CronJob(Object, kw_only=True):
    """batch/v1.CronJob."""

    spec: CronJobSpec
    status: CronJobStatus = msgspec.field(default_factory=CronJobStatus)
