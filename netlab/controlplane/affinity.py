"""Node affinity: which nodes a pod requires or prefers (component-helpers scheduling/corev1/nodeaffinity)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from netlab.api.core_types import NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec
from netlab.api.selectors import Requirement, Selector, from_labels

NAME_FIELD = "metadata.name"


@dataclasses.dataclass(frozen=True, slots=True)
class Term:
    """All of its requirements must hold, of a node's labels and of its fields."""

    labels: Selector
    fields: Selector

    @classmethod
    def of(cls, term: NodeSelectorTerm) -> Term:
        """The term as the API has it."""
        return cls(_selector(term.matchExpressions), _selector(term.matchFields))

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a node with that name and these labels is one. A term without requirements selects none."""
        if not self.labels.requirements and not self.fields.requirements:
            return False
        return self.labels.matches(labels) and self.fields.matches({NAME_FIELD: name})


@dataclasses.dataclass(frozen=True, slots=True)
class Required:
    """What a pod requires of its node: by its nodeSelector, and one of the terms of its affinity (None: any node)."""

    labels: Selector
    terms: tuple[Term, ...] | None

    @classmethod
    def of(cls, spec: PodSpec) -> Required:
        """What a pod of that spec requires."""
        selector = required(spec)
        terms = tuple(map(Term.of, selector.nodeSelectorTerms)) if selector is not None else None
        return cls(from_labels(spec.nodeSelector), terms)

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a node with that name and these labels is one that the pod may go to."""
        if not self.labels.matches(labels):
            return False
        return self.terms is None or any(term.matches(name, labels) for term in self.terms)

    def __bool__(self) -> bool:
        """Whether anything is required."""
        return bool(self.labels.requirements) or self.terms is not None

    def names(self) -> frozenset[str] | None:
        """The names of the only nodes that can match; None: that does not follow from the terms."""
        found: set[str] = set()
        if self.terms is None:
            return None
        for term in self.terms:
            named = [each.values for each in term.fields.requirements if each.operator == "In"]
            if not named:
                return None
            found |= frozenset.intersection(*named)
        return frozenset(found)


def required(spec: PodSpec) -> NodeSelector | None:
    """What a pod's affinity requires of its node; None: nothing."""
    affinity = _of_nodes(spec)
    return affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None


def preferred(spec: PodSpec) -> tuple[tuple[int, Term], ...]:
    """The terms by which a pod prefers nodes, each with its weight."""
    affinity = _of_nodes(spec)
    listed = affinity.preferredDuringSchedulingIgnoredDuringExecution if affinity is not None else ()
    return tuple((each.weight, Term.of(each.preference)) for each in listed)


def _of_nodes(spec: PodSpec) -> NodeAffinity | None:
    return spec.affinity.nodeAffinity if spec.affinity is not None else None


def _selector(requirements: Iterable[NodeSelectorRequirement]) -> Selector:
    return Selector(tuple(Requirement(each.key, each.operator, frozenset(each.values)) for each in requirements))
