"""Where a pod may go: node and pod affinity, topology spread, scheduling gates; and priority classes.

The rules and words are upstream's (pkg/apis/core/validation, pkg/apis/scheduling/validation).
"""

from __future__ import annotations

from collections.abc import Sequence

from netlab.api import selectors
from netlab.api.core_types import (
    Affinity,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinityTerm,
    PodSpec,
    TopologySpreadConstraint,
)
from netlab.api.meta_types import LabelSelector
from netlab.api.scheduling_types import NEVER, PREEMPT_LOWER_PRIORITY, PriorityClass
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import rules

HIGHEST_USER_PRIORITY = 1_000_000_000
"""Of what users define (scheduling.HighestUserDefinablePriority); above are the system's own."""
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
"""The values of the classes that every cluster has."""

_WEIGHTS = range(1, 101)
_NAME = "metadata.name"
"""The only field of a node that can be selected by."""


def placement(spec: PodSpec, path: str, problems: Problems) -> None:
    """All that says where a pod of a spec may go."""
    if spec.affinity is not None:
        affinity(spec.affinity, f"{path}.affinity", problems)
    _spread(spec.topologySpreadConstraints, f"{path}.topologySpreadConstraints", problems)
    _gates(spec, path, problems)
    if spec.preemptionPolicy is not None:
        problems.one_of(f"{path}.preemptionPolicy", spec.preemptionPolicy, (PREEMPT_LOWER_PRIORITY, NEVER))


# --- affinity --------------------------------------------------------------------------------------------------------


def affinity(found: Affinity, path: str, problems: Problems) -> None:
    """v1.Affinity."""
    if found.nodeAffinity is not None:
        _node_affinity(found.nodeAffinity, f"{path}.nodeAffinity", problems)
    for field, pods in (("podAffinity", found.podAffinity), ("podAntiAffinity", found.podAntiAffinity)):
        if pods is None:
            continue
        place = f"{path}.{field}.requiredDuringSchedulingIgnoredDuringExecution"
        for index, term in enumerate(pods.requiredDuringSchedulingIgnoredDuringExecution):
            _pod_term(term, f"{place}[{index}]", problems)
        place = f"{path}.{field}.preferredDuringSchedulingIgnoredDuringExecution"
        for index, weighted in enumerate(pods.preferredDuringSchedulingIgnoredDuringExecution):
            _weight(f"{place}[{index}].weight", weighted.weight, problems)
            _pod_term(weighted.podAffinityTerm, f"{place}[{index}].podAffinityTerm", problems)


def _node_affinity(found: NodeAffinity, path: str, problems: Problems) -> None:
    required = found.requiredDuringSchedulingIgnoredDuringExecution
    if required is not None:
        node_selector(required, f"{path}.requiredDuringSchedulingIgnoredDuringExecution", problems)
    for index, preferred in enumerate(found.preferredDuringSchedulingIgnoredDuringExecution):
        place = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        _weight(f"{place}.weight", preferred.weight, problems)
        _node_term(preferred.preference, f"{place}.preference", problems)


def node_selector(found: NodeSelector, path: str, problems: Problems) -> None:
    """v1.NodeSelector."""
    if not found.nodeSelectorTerms:
        problems.required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")
    for index, term in enumerate(found.nodeSelectorTerms):
        _node_term(term, f"{path}.nodeSelectorTerms[{index}]", problems)


def _node_term(term: NodeSelectorTerm, path: str, problems: Problems) -> None:
    for index, requirement in enumerate(term.matchExpressions):
        _by_label(requirement, f"{path}.matchExpressions[{index}]", problems)
    for index, requirement in enumerate(term.matchFields):
        _by_field(requirement, f"{path}.matchFields[{index}]", problems)


def _by_label(requirement: NodeSelectorRequirement, path: str, problems: Problems) -> None:
    values, place = requirement.values, f"{path}.values"
    match requirement.operator:
        case "In" | "NotIn":
            if not values:
                problems.required(place, "must be specified when `operator` is 'In' or 'NotIn'")
        case "Exists" | "DoesNotExist":
            if values:
                problems.forbidden(place, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        case "Gt" | "Lt":
            if len(values) != 1:
                problems.required(place, "must be specified single value when `operator` is 'Lt' or 'Gt'")
            elif not selectors.is_integer(values[0]):
                problems.invalid(f"{place}[0]", values[0], "for 'Gt', 'Lt' operators, the value must be an integer")
        case _:
            problems.invalid(f"{path}.operator", requirement.operator, "not a valid selector operator")
    _label_key(f"{path}.key", requirement.key, problems)
    for index, value in enumerate(values):
        if not selectors.is_label_value(value):
            problems.invalid(f"{place}[{index}]", value, "must be a valid label value")


def _by_field(requirement: NodeSelectorRequirement, path: str, problems: Problems) -> None:
    if requirement.operator not in ("In", "NotIn"):
        problems.invalid(f"{path}.operator", requirement.operator, "not a valid selector operator")
    elif len(requirement.values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        problems.required(f"{path}.values", detail)
    if requirement.key != _NAME:
        problems.invalid(f"{path}.key", requirement.key, "not a valid field selector key")
    for index, name in enumerate(requirement.values):
        rules.dns_subdomain(f"{path}.values[{index}]", name, problems)


def _pod_term(term: PodAffinityTerm, path: str, problems: Problems) -> None:
    for field, selector in (("labelSelector", term.labelSelector), ("namespaceSelector", term.namespaceSelector)):
        if selector is not None:
            rules.label_selector(f"{path}.{field}", selector, problems)
    for name in term.namespaces:
        rules.dns_label(f"{path}.namespaces", name, problems)
    for field, keys in (("matchLabelKeys", term.matchLabelKeys), ("mismatchLabelKeys", term.mismatchLabelKeys)):
        _label_keys(f"{path}.{field}", keys, term.labelSelector, problems)
    for key in set(term.matchLabelKeys) & set(term.mismatchLabelKeys):
        problems.invalid(f"{path}.matchLabelKeys", key, "exists in both matchLabelKeys and mismatchLabelKeys")
    _topology_key(f"{path}.topologyKey", term.topologyKey, problems)


def _weight(path: str, weight: int, problems: Problems) -> None:
    if weight not in _WEIGHTS:
        problems.invalid(path, weight, "must be in the range 1-100")


def _topology_key(path: str, key: str, problems: Problems) -> None:
    if not key:
        problems.required(path, "can not be empty")
    else:
        _label_key(path, key, problems)


def _label_key(path: str, key: str, problems: Problems) -> None:
    if not selectors.is_label_key(key):
        problems.invalid(path, key, "must be a qualified name, as a label's key is")


def _label_keys(path: str, keys: Sequence[str], selector: LabelSelector | None, problems: Problems) -> None:
    if keys and selector is None:
        problems.forbidden(path, "must not be specified when labelSelector is not set")
    for index, key in enumerate(keys):
        _label_key(f"{path}[{index}]", key, problems)


# --- topology spread -------------------------------------------------------------------------------------------------


def _spread(constraints: Sequence[TopologySpreadConstraint], path: str, problems: Problems) -> None:
    seen = set()
    for index, constraint in enumerate(constraints):
        place = f"{path}[{index}]"
        _spread_constraint(constraint, place, problems)
        pair = (constraint.topologyKey, constraint.whenUnsatisfiable)
        if pair in seen:
            problems.duplicate(f"{place}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {pair[1]}}}")
        seen.add(pair)


def _spread_constraint(constraint: TopologySpreadConstraint, path: str, problems: Problems) -> None:
    if constraint.maxSkew <= 0:
        problems.invalid(f"{path}.maxSkew", constraint.maxSkew, "must be greater than zero")
    _topology_key(f"{path}.topologyKey", constraint.topologyKey, problems)
    choices = ("DoNotSchedule", "ScheduleAnyway")
    problems.one_of(f"{path}.whenUnsatisfiable", constraint.whenUnsatisfiable, choices)
    if constraint.minDomains is not None:
        place = f"{path}.minDomains"
        if constraint.minDomains <= 0:
            problems.invalid(place, constraint.minDomains, "must be greater than zero")
        if constraint.whenUnsatisfiable != "DoNotSchedule":
            detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not "
            problems.invalid(place, constraint.minDomains, detail + constraint.whenUnsatisfiable)
    policies = (
        ("nodeAffinityPolicy", constraint.nodeAffinityPolicy),
        ("nodeTaintsPolicy", constraint.nodeTaintsPolicy),
    )
    for field, policy in policies:
        if policy is not None:
            problems.one_of(f"{path}.{field}", policy, ("Ignore", "Honor"))
    if constraint.labelSelector is not None:
        rules.label_selector(f"{path}.labelSelector", constraint.labelSelector, problems)
    _label_keys(f"{path}.matchLabelKeys", constraint.matchLabelKeys, constraint.labelSelector, problems)


# --- scheduling gates ------------------------------------------------------------------------------------------------


def _gates(spec: PodSpec, path: str, problems: Problems) -> None:
    seen = set()
    for index, gate in enumerate(spec.schedulingGates):
        place = f"{path}.schedulingGates[{index}]"
        if not gate.name:
            problems.required(place)
        else:
            _label_key(place, gate.name, problems)
        if gate.name in seen:
            problems.duplicate(place, gate.name)
        seen.add(gate.name)
    if spec.schedulingGates and spec.nodeName:
        problems.forbidden(f"{path}.nodeName", "cannot be set until all schedulingGates have been cleared")


def gates_update(new: PodSpec, old: PodSpec, problems: Problems) -> None:
    """Gates only go; while there are some, the choice of nodes may become narrower (KEP-3838)."""
    before = {gate.name for gate in old.schedulingGates}
    for gate in new.schedulingGates:
        if gate.name not in before:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.name}'"
            problems.forbidden("spec.schedulingGates", detail)
    if old.schedulingGates and not old.nodeSelector.items() <= new.nodeSelector.items():
        problems.invalid(
            "spec.nodeSelector", new.nodeSelector, "only additions are allowed (no mutations or deletions)"
        )
    if old.schedulingGates:
        _narrower(_required_terms(new), _required_terms(old), problems)


def _required_terms(spec: PodSpec) -> list[NodeSelectorTerm]:
    nodes = spec.affinity.nodeAffinity if spec.affinity is not None else None
    required = nodes.requiredDuringSchedulingIgnoredDuringExecution if nodes is not None else None
    return required.nodeSelectorTerms if required is not None else []


def _narrower(new: list[NodeSelectorTerm], old: list[NodeSelectorTerm], problems: Problems) -> None:
    path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    if not old:
        return
    if len(new) != len(old):
        problems.invalid(f"{path}.nodeSelectorTerms", new, "no additions/deletions to non-empty NodeSelectorTerms list")
        return
    for index, (after, before) in enumerate(zip(new, old, strict=True)):
        for field in ("matchExpressions", "matchFields"):
            had, has = getattr(before, field), getattr(after, field)
            if has[: len(had)] != had:
                detail = "only additions are allowed (no mutations or deletions)"
                problems.invalid(f"{path}[{index}]", after, detail)


# --- priority classes ------------------------------------------------------------------------------------------------


def priority_class(new: PriorityClass, problems: Problems) -> None:
    """scheduling.k8s.io/v1.PriorityClass."""
    name = new.metadata.name
    if name.startswith(SYSTEM_PREFIX):
        if why := _no_system_class(new):
            detail = (
                f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            )
            problems.forbidden("metadata.name", detail)
    elif new.value > HIGHEST_USER_PRIORITY:
        detail = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        problems.forbidden("value", detail)
    if new.preemptionPolicy is not None:
        problems.one_of("preemptionPolicy", new.preemptionPolicy, (PREEMPT_LOWER_PRIORITY, NEVER))


def _no_system_class(new: PriorityClass) -> str:
    name = new.metadata.name
    value = SYSTEM_CLASSES.get(name)
    if value is None:
        return f"{name} is not a known system priority class"
    if new.value != value:
        return f"value of {name} PriorityClass must be {value}"
    return f"globalDefault of {name} PriorityClass must be false" if new.globalDefault else ""


def priority_class_update(new: PriorityClass, old: PriorityClass, problems: Problems) -> None:
    """Its value and its policy stay: pods have copies of them."""
    if new.value != old.value:
        problems.forbidden("value", "may not be changed in an update.")
    problems.unchanged("preemptionPolicy", new.preemptionPolicy, old.preemptionPolicy)
