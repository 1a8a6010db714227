"""Deployments and ReplicaSets."""

from __future__ import annotations

import re

from netlab.api import selectors
from netlab.api.apps_types import Deployment, PodTemplateSpec, ReplicaSet
from netlab.api.meta_types import IntOrString, LabelSelector
from netlab.api.server.problems import Problems
from netlab.api.server.validation import pods, rules

_PERCENT = re.compile(r"[0-9]+%")


def _workload(selector: LabelSelector, template: PodTemplateSpec, replicas: int | None, problems: Problems) -> None:
    problems.not_negative("spec.replicas", replicas)
    if not selector.matchLabels and not selector.matchExpressions:
        problems.invalid("spec.selector", selector, "empty selector is invalid for deployment")
    rules.label_selector("spec.selector", selector, problems)
    labels = template.metadata.labels
    rules.labels("spec.template.metadata.labels", labels, problems)
    if not problems and not selectors.from_label_selector(selector).matches(labels):
        problems.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    pods.pod_spec(template.spec, "spec.template.spec", problems, policies=("Always",))


def deployment(new: Deployment, problems: Problems) -> None:
    """apps/v1.Deployment."""
    spec = new.spec
    _workload(spec.selector, spec.template, spec.replicas, problems)
    problems.not_negative("spec.minReadySeconds", spec.minReadySeconds)
    problems.not_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit)
    if spec.progressDeadlineSeconds is not None and spec.progressDeadlineSeconds <= spec.minReadySeconds:
        detail = "must be greater than minReadySeconds"
        problems.invalid("spec.progressDeadlineSeconds", spec.progressDeadlineSeconds, detail)
    strategy = spec.strategy
    problems.one_of("spec.strategy.type", strategy.type, ("Recreate", "RollingUpdate"))
    if strategy.rollingUpdate is None:
        return
    path = "spec.strategy.rollingUpdate"
    if strategy.type == "Recreate":
        problems.forbidden(path, "may not be specified when strategy `type` is 'Recreate'")
    unavailable, surge = strategy.rollingUpdate.maxUnavailable, strategy.rollingUpdate.maxSurge
    _count_or_percent(f"{path}.maxUnavailable", unavailable, problems)
    _count_or_percent(f"{path}.maxSurge", surge, problems)
    if unavailable in (0, "0%") and surge in (0, "0%"):
        problems.invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")


def _count_or_percent(path: str, value: IntOrString | None, problems: Problems) -> None:
    if isinstance(value, int):
        problems.not_negative(path, value)
    elif value is not None and not _PERCENT.fullmatch(value):
        problems.invalid(path, value, "must be an integer or percentage (e.g '5%')")


def replica_set(new: ReplicaSet, problems: Problems) -> None:
    """apps/v1.ReplicaSet."""
    _workload(new.spec.selector, new.spec.template, new.spec.replicas, problems)
    problems.not_negative("spec.minReadySeconds", new.spec.minReadySeconds)


def workload_update(new: Deployment | ReplicaSet, old: Deployment | ReplicaSet, problems: Problems) -> None:
    """Which pods are its own never changes."""
    problems.unchanged("spec.selector", new.spec.selector, old.spec.selector)
