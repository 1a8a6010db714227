"""What a Job's policies say of its pods (pod_failure_policy.go, success_policy.go)."""

from __future__ import annotations

import dataclasses

from netlab.api.batch_types import JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule
from netlab.api.core_types import Pod
from netlab.controlplane.job import indexes


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The action of the rule that matched a failed pod, and what there is to say about it."""

    action: str
    message: str = ""


COUNT = Verdict("Count")


def of_failed(spec: JobSpec, pod: Pod) -> Verdict:
    """What is to be done about a failed pod."""
    rules = spec.podFailurePolicy.rules if spec.podFailurePolicy is not None else []
    for number, rule in enumerate(rules):
        why = _matched(rule, pod)
        if why and not (rule.action == "FailIndex" and spec.backoffLimitPerIndex is None):
            return Verdict(rule.action, f"{why} matching {rule.action} rule at index {number}")
    return COUNT


def _matched(rule: PodFailurePolicyRule, pod: Pod) -> str:
    if rule.onExitCodes is not None:
        return _by_exit_code(rule.onExitCodes, pod)
    for pattern in rule.onPodConditions:
        for condition in pod.status.conditions:
            if (condition.type, condition.status) == (pattern.type, pattern.status or "True"):
                return f"Pod {pod.key} has condition {condition.type}"
    return ""


def _by_exit_code(wanted: PodFailurePolicyOnExitCodesRequirement, pod: Pod) -> str:
    for status in (*pod.status.containerStatuses, *pod.status.initContainerStatuses):
        ended = status.state.terminated
        if ended is None or not ended.exitCode or wanted.containerName not in (None, status.name):
            continue
        if (ended.exitCode in wanted.values) is (wanted.operator == "In"):
            return f"Container {status.name} for pod {pod.key} failed with exit code {ended.exitCode}"
    return ""


def success_of(spec: JobSpec, succeeded: set[int]) -> str:
    """Which rule of the success policy is met, in words; empty: none."""
    for number, rule in enumerate(spec.successPolicy.rules if spec.successPolicy is not None else []):
        wanted = indexes.parse(rule.succeededIndexes) if rule.succeededIndexes is not None else None
        counted = succeeded if wanted is None else succeeded & wanted
        enough = rule.succeededCount if rule.succeededCount is not None else len(wanted or ())
        if len(counted) >= enough:
            return f"Matched rules at index {number}"
    return ""
