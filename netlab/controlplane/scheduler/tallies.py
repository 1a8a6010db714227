"""How many pods of some kind are on each node: counted once, and then kept up to date as pods come and go.

Plugins ask for the same counts for each pod of a workload, and looking at all pods each time would make the work grow
with the square of their number.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from netlab.api.selectors import Selector
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.podinfo import PodInfo, PodTerm

_T = TypeVar("_T")

MOST = 128
"""How many are kept; the one that was not asked for the longest goes first."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Pods that are selected by all of these, each with its namespaces."""

    selected: tuple[tuple[frozenset[str], Selector], ...]
    counts_terminating: bool = True

    def matches(self, pod: PodInfo) -> bool:
        """Whether a pod is of this kind."""
        if pod.is_terminating and not self.counts_terminating:
            return False
        return all(
            pod.namespace in namespaces and selector.matches(pod.labels) for namespaces, selector in self.selected
        )


class Tallies:
    """The tallies that were asked for."""

    def __init__(self) -> None:
        self._by_kind: OrderedDict[Kind, Counter[str]] = OrderedDict()

    def get(self, kind: Kind, nodes: Iterable[NodeInfo]) -> Mapping[str, int]:
        """How many pods of the kind are on each of the nodes, by its name; none where there is none."""
        found = self._by_kind.get(kind)
        if found is None:
            found = self._by_kind[kind] = Counter()
            for node in nodes:
                if number := sum(kind.matches(pod) for pod in node.pods.values()):
                    found[node.name] = number
            if len(self._by_kind) > MOST:
                self._by_kind.popitem(last=False)
        else:
            self._by_kind.move_to_end(kind)
        return found

    def count(self, pod: PodInfo, node: str, sign: int) -> None:
        """A pod has come to a node (1), or gone (-1)."""
        for kind, counted in self._by_kind.items():
            if kind.matches(pod):
                counted[node] += sign


class Carried:
    """The terms of pods that are on nodes: how many pods with the same term are on each node.

    The pods of a workload have equal terms, so a pod to be placed is compared with each term once.
    """

    def __init__(self) -> None:
        self.affinity: dict[PodTerm, Counter[str]] = {}
        self.anti_affinity: dict[PodTerm, Counter[str]] = {}
        self.preferred: dict[tuple[PodTerm, int], Counter[str]] = {}

    def count(self, pod: PodInfo, node: str, sign: int) -> None:
        """A pod has come to a node (1), or gone (-1)."""
        for term in pod.affinity_terms:
            _count(self.affinity, term, node, sign)
        for term in pod.anti_affinity_terms:
            _count(self.anti_affinity, term, node, sign)
        for weighted in pod.preferred_terms:
            _count(self.preferred, weighted, node, sign)


def _count(counted: dict[_T, Counter[str]], term: _T, node: str, sign: int) -> None:
    of_term = counted.setdefault(term, Counter())
    of_term[node] += sign
    if not of_term[node]:
        del of_term[node]
        if not of_term:
            del counted[term]
