"""Jobs and CronJobs."""

from __future__ import annotations

from netlab.api import selectors
from netlab.api.batch_types import CronJob, Job, JobSpec, PodFailurePolicy, SuccessPolicy
from netlab.api.schedules import Schedule
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import pods, rules
from netlab.errors import UsageError

_LONGEST_CRON_JOB_NAME = 52
"""Its Jobs' names are 11 characters longer, and those of their pods have to be labels."""

_COUNTS = (
    "parallelism",
    "completions",
    "backoffLimit",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
)


def job(new: Job, problems: Problems) -> None:
    """batch/v1.Job."""
    _job_spec(new.spec, "spec", problems)
    if new.spec.selector is None:
        problems.required("spec.selector")
        return
    rules.label_selector("spec.selector", new.spec.selector, problems)
    labels = new.spec.template.metadata.labels
    if not problems and not selectors.from_label_selector(new.spec.selector).matches(labels):
        problems.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if new.spec.completionMode == "Indexed" and new.spec.completions:
        rules.dns_label("metadata.name", f"{new.metadata.name}-{new.spec.completions - 1}", problems)


def job_update(new: Job, old: Job, problems: Problems) -> None:
    """Which pods are its own, and what they do, never changes while it may have some."""
    for field in (
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ):
        problems.unchanged(f"spec.{field}", getattr(new.spec, field), getattr(old.spec, field))
    if not (old.spec.suspend and old.status.startTime is None):
        problems.unchanged("spec.template", new.spec.template, old.spec.template)
    # An Indexed Job grows and shrinks with its parallelism (KEP-2255).
    if new.spec.completionMode != "Indexed" or new.spec.completions != new.spec.parallelism:
        problems.unchanged("spec.completions", new.spec.completions, old.spec.completions)


def _job_spec(spec: JobSpec, path: str, problems: Problems) -> None:
    for field in _COUNTS:
        problems.not_negative(f"{path}.{field}", getattr(spec, field))
    mode = spec.completionMode or "NonIndexed"
    problems.one_of(f"{path}.completionMode", mode, ("NonIndexed", "Indexed"))
    problems.one_of(f"{path}.podReplacementPolicy", spec.podReplacementPolicy or "", ("Failed", "TerminatingOrFailed"))
    if mode == "Indexed":
        if spec.completions is None:
            problems.required(f"{path}.completions", "when completion mode is Indexed")
    else:
        for field in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
            if getattr(spec, field) is not None:
                problems.invalid(f"{path}.{field}", getattr(spec, field), "requires indexed completion mode")
    if spec.maxFailedIndexes is not None and spec.backoffLimitPerIndex is None:
        problems.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if spec.podFailurePolicy is not None:
        _failure_policy(spec, spec.podFailurePolicy, f"{path}.podFailurePolicy", problems)
    if spec.successPolicy is not None:
        _success_policy(spec.successPolicy, f"{path}.successPolicy", problems)
    pods.pod_spec(spec.template.spec, f"{path}.template.spec", problems, policies=("OnFailure", "Never"))


def _failure_policy(spec: JobSpec, policy: PodFailurePolicy, path: str, problems: Problems) -> None:
    if spec.template.spec.restartPolicy != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        problems.invalid("spec.template.spec.restartPolicy", spec.template.spec.restartPolicy, detail)
    for index, rule in enumerate(policy.rules):
        place = f"{path}.rules[{index}]"
        problems.one_of(f"{place}.action", rule.action, ("Count", "FailIndex", "FailJob", "Ignore"))
        if rule.action == "FailIndex" and spec.backoffLimitPerIndex is None:
            problems.invalid(f"{place}.action", rule.action, "requires the backoffLimitPerIndex to be set")
        if (rule.onExitCodes is None) is (not rule.onPodConditions):
            problems.invalid(place, "", "specifying one of OnExitCodes and OnPodConditions is required")
        if rule.onExitCodes is None:
            continue
        problems.one_of(f"{place}.onExitCodes.operator", rule.onExitCodes.operator, ("In", "NotIn"))
        if not rule.onExitCodes.values:
            problems.invalid(f"{place}.onExitCodes.values", "", "at least one value is required")
        if rule.onExitCodes.operator == "In" and 0 in rule.onExitCodes.values:
            problems.invalid(f"{place}.onExitCodes.values", 0, "must not be 0 for the In operator")


def _success_policy(policy: SuccessPolicy, path: str, problems: Problems) -> None:
    if not policy.rules:
        problems.required(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")
    for index, rule in enumerate(policy.rules):
        if rule.succeededIndexes is None and rule.succeededCount is None:
            problems.required(
                f"{path}.rules[{index}]", "at least one of succeededCount or succeededIndexes must be specified"
            )


def cron_job(new: CronJob, problems: Problems) -> None:
    """batch/v1.CronJob."""
    spec = new.spec
    if len(new.metadata.name) > _LONGEST_CRON_JOB_NAME:
        problems.invalid("metadata.name", new.metadata.name, "must be no more than 52 characters")
    problems.one_of("spec.concurrencyPolicy", spec.concurrencyPolicy, ("Allow", "Forbid", "Replace"))
    for field in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        problems.not_negative(f"spec.{field}", getattr(spec, field))
    if "TZ" in spec.schedule:
        problems.invalid(
            "spec.schedule", spec.schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        )
    else:
        try:
            Schedule(spec.schedule)
        except UsageError as error:
            problems.invalid("spec.schedule", spec.schedule, str(error))
    if spec.timeZone is not None:
        try:
            Schedule("@daily", spec.timeZone)
        except UsageError as error:
            problems.invalid("spec.timeZone", spec.timeZone, str(error))
    if spec.jobTemplate.spec.manualSelector:
        problems.one_of("spec.jobTemplate.spec.manualSelector", "true", ("nil", "false"))
    _job_spec(spec.jobTemplate.spec, "spec.jobTemplate.spec", problems)
