"""Workloads: Deployments, ReplicaSets, ReplicationControllers, DaemonSets and StatefulSets, and their budgets."""

from __future__ import annotations

import re

from netlab.api import selectors
from netlab.api.apps_types import (
    ControllerRevision,
    DaemonSet,
    Deployment,
    PodTemplateSpec,
    ReplicaSet,
    ReplicationController,
    StatefulSet,
)
from netlab.api.meta_types import IntOrString, LabelSelector
from netlab.api.policy_types import PodDisruptionBudget
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import pods, rules

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


def workload_update(
    new: Deployment | ReplicaSet | DaemonSet, old: Deployment | ReplicaSet | DaemonSet, problems: Problems
) -> None:
    """Which pods are its own never changes."""
    problems.unchanged("spec.selector", new.spec.selector, old.spec.selector)


def replication_controller(new: ReplicationController, problems: Problems) -> None:
    """v1.ReplicationController."""
    spec = new.spec
    problems.not_negative("spec.replicas", spec.replicas)
    problems.not_negative("spec.minReadySeconds", spec.minReadySeconds)
    rules.labels("spec.selector", spec.selector, problems)
    if not spec.selector:
        problems.required("spec.selector")
    if spec.template is None:
        problems.required("spec.template")
        return
    labels = spec.template.metadata.labels
    rules.labels("spec.template.metadata.labels", labels, problems)
    if not spec.selector.items() <= labels.items():
        problems.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    pods.pod_spec(spec.template.spec, "spec.template.spec", problems, policies=("Always",))


def daemon_set(new: DaemonSet, problems: Problems) -> None:
    """apps/v1.DaemonSet."""
    spec = new.spec
    _workload(spec.selector, spec.template, None, problems)
    problems.not_negative("spec.minReadySeconds", spec.minReadySeconds)
    problems.not_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit)
    strategy = spec.updateStrategy
    problems.one_of("spec.updateStrategy.type", strategy.type, ("RollingUpdate", "OnDelete"))
    if strategy.type != "RollingUpdate" or strategy.rollingUpdate is None:
        return
    path = "spec.updateStrategy.rollingUpdate"
    unavailable, surge = strategy.rollingUpdate.maxUnavailable, strategy.rollingUpdate.maxSurge
    _count_or_percent(f"{path}.maxUnavailable", unavailable, problems)
    _count_or_percent(f"{path}.maxSurge", surge, problems)
    if unavailable not in (None, 0, "0%") and surge not in (None, 0, "0%"):
        problems.invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero")
    if unavailable in (0, "0%") and surge in (None, 0, "0%"):
        problems.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")


_STATEFUL_SETS_OWN = ("replicas", "ordinals", "template", "updateStrategy", "minReadySeconds", "revisionHistoryLimit")
_RETENTION = "persistentVolumeClaimRetentionPolicy"


def stateful_set(new: StatefulSet, problems: Problems) -> None:
    """apps/v1.StatefulSet."""
    spec = new.spec
    problems.one_of("spec.podManagementPolicy", spec.podManagementPolicy, ("OrderedReady", "Parallel"))
    problems.one_of("spec.updateStrategy.type", spec.updateStrategy.type, ("RollingUpdate", "OnDelete"))
    rolling = spec.updateStrategy.rollingUpdate
    if rolling is not None and spec.updateStrategy.type == "OnDelete":
        path = "spec.updateStrategy.rollingUpdate"
        problems.invalid(path, rolling, "only allowed for updateStrategy 'RollingUpdate'")
    elif rolling is not None:
        path = "spec.updateStrategy.rollingUpdate"
        problems.not_negative(f"{path}.partition", rolling.partition)
        _count_or_percent(f"{path}.maxUnavailable", rolling.maxUnavailable, problems)
        if rolling.maxUnavailable in (0, "0%"):
            problems.invalid(f"{path}.maxUnavailable", rolling.maxUnavailable, "cannot be 0")
    for field in ("whenDeleted", "whenScaled"):
        problems.one_of(f"spec.{_RETENTION}.{field}", getattr(getattr(spec, _RETENTION), field), ("Retain", "Delete"))
    if spec.ordinals is not None:
        problems.not_negative("spec.ordinals.start", spec.ordinals.start)
    _workload(spec.selector, spec.template, spec.replicas, problems)
    problems.not_negative("spec.minReadySeconds", spec.minReadySeconds)
    problems.not_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit)


def stateful_set_update(new: StatefulSet, old: StatefulSet, problems: Problems) -> None:
    """Of a StatefulSet's spec little can change."""
    changeable = (*_STATEFUL_SETS_OWN, _RETENTION)
    fixed = [name for name in new.spec.__struct_fields__ if name not in changeable]
    if any(getattr(new.spec, name) != getattr(old.spec, name) for name in fixed):
        listed = ", ".join(f"'{name}'" for name in _STATEFUL_SETS_OWN)
        detail = f"updates to statefulset spec for fields other than {listed} and '{_RETENTION}' are forbidden"
        problems.forbidden("spec", detail)


def controller_revision(new: ControllerRevision, problems: Problems) -> None:
    """apps/v1.ControllerRevision."""
    problems.not_negative("revision", new.revision)
    if new.data is None:
        problems.required("data", "data is mandatory")


def controller_revision_update(new: ControllerRevision, old: ControllerRevision, problems: Problems) -> None:
    """What a template was never changes."""
    problems.unchanged("data", new.data, old.data)


def budget(new: PodDisruptionBudget, problems: Problems) -> None:
    """policy/v1.PodDisruptionBudget."""
    spec = new.spec
    if spec.minAvailable is not None and spec.maxUnavailable is not None:
        problems.invalid("spec", "", "minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        value = getattr(spec, field)
        _count_or_percent(f"spec.{field}", value, problems)
        if isinstance(value, str) and _PERCENT.fullmatch(value) and int(value[:-1]) > 100:
            problems.invalid(f"spec.{field}", value, "must not be greater than 100%")
    if spec.selector is not None:
        rules.label_selector("spec.selector", spec.selector, problems)
    if spec.unhealthyPodEvictionPolicy is not None:
        policies = ("AlwaysAllow", "IfHealthyBudget")
        problems.one_of("spec.unhealthyPodEvictionPolicy", spec.unhealthyPodEvictionPolicy, policies)
