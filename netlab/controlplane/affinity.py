"""Node affinity: which nodes a pod requires (component-helpers scheduling/corev1/nodeaffinity)."""

from __future__ import annotations

from collections.abc import Mapping

from netlab.api.core_types import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec


def required(spec: PodSpec) -> NodeSelector | None:
    """What a pod requires of its node; None: nothing."""
    affinity = spec.affinity.nodeAffinity if spec.affinity is not None else None
    return affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None


def matches(spec: PodSpec, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node with that name and these labels is one that the pod selects and requires."""
    if any(labels.get(key) != value for key, value in spec.nodeSelector.items()):
        return False
    selector = required(spec)
    return selector is None or any(_holds(term, name, labels) for term in selector.nodeSelectorTerms)


def _holds(term: NodeSelectorTerm, name: str, labels: Mapping[str, str]) -> bool:
    # A term without requirements selects no node.
    if not term.matchExpressions and not term.matchFields:
        return False
    fields = {"metadata.name": name}
    return all(_meets(each, labels) for each in term.matchExpressions) and all(
        _meets(each, fields) for each in term.matchFields
    )


def _meets(requirement: NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    value = values.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return value is not None and _compares(requirement.operator, value, requirement.values)


def _compares(operator: str, value: str, bounds: list[str]) -> bool:
    try:
        present, bound = int(value), int(bounds[0])
    except (ValueError, IndexError):
        return False
    return present > bound if operator == "Gt" else present < bound
