"""InterPodAffinity: pods that are to be near others, or away from them; also those that are there already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.plugins.base import MAX_SCORE, Filter, Plugin, Refusal
from netlab.controlplane.scheduler.podinfo import PodInfo, PodTerm

HARD_WEIGHT = 1
"""How much a pod is drawn to those that require pods like it near them (HardPodAffinityWeight)."""

_NOT_NEAR = Refusal(("node(s) didn't match pod affinity rules",))
_NOT_AWAY = Refusal(("node(s) didn't match pod anti-affinity rules",), is_final=False)
_NOT_WANTED = Refusal(("node(s) didn't satisfy existing pods anti-affinity rules",), is_final=False)

Domain = tuple[str, str]
"""A topology key and a value: the nodes whose label it is."""


class _Neighbours(Filter):
    def __init__(self, pod: PodInfo, cache: Cache, unwanted: Counter[Domain]) -> None:
        self._pod = pod
        self._namespaces = cache.namespaces()
        self._unwanted = unwanted
        """In which domains how many terms of pods that are there keep this one away."""
        self._near: Counter[Domain] = Counter()
        if pod.affinity_terms:
            together = cache.tally(pod.affinity_terms)
            for term in pod.affinity_terms:
                _add(self._near, term.topology_key, together, cache)
        self._away: Counter[Domain] = Counter()
        for term in pod.anti_affinity_terms:
            _add(self._away, term.topology_key, cache.tally((term,)), cache)

    def refuse(self, node: NodeInfo) -> Refusal | None:
        if self._pod.affinity_terms and not self._is_near(node):
            return _NOT_NEAR
        if any(self._away.get(domain) for domain in _domains(self._pod.anti_affinity_terms, node)):
            return _NOT_AWAY
        if self._unwanted and any(self._unwanted.get(domain) for domain in node.labels.items()):
            return _NOT_WANTED
        return None

    def _is_near(self, node: NodeInfo) -> bool:
        terms = self._pod.affinity_terms
        domains = list(_domains(terms, node))
        if len(domains) < len(terms):
            return False
        if all(self._near.get(domain) for domain in domains):
            return True
        # The first of pods that are to be near each other may go anywhere.
        return not any(self._near.values()) and self._matches(terms, self._pod)

    def count(self, pod: PodInfo, node: NodeInfo, sign: int) -> None:
        labels = self._namespaces.get(self._pod.namespace, {})
        for term in pod.anti_affinity_terms:
            if term.matches(self._pod, labels):
                _count(self._unwanted, term.topology_key, node, sign)
        if self._pod.affinity_terms and self._matches(self._pod.affinity_terms, pod):
            for term in self._pod.affinity_terms:
                _count(self._near, term.topology_key, node, sign)
        for term in self._pod.anti_affinity_terms:
            if self._matches((term,), pod):
                _count(self._away, term.topology_key, node, sign)

    def _matches(self, terms: Sequence[PodTerm], pod: PodInfo) -> bool:
        labels = self._namespaces.get(pod.namespace, {})
        return all(term.matches(pod, labels) for term in terms)


def _domains(terms: Iterable[PodTerm], node: NodeInfo) -> Iterable[Domain]:
    return ((term.topology_key, node.labels[term.topology_key]) for term in terms if term.topology_key in node.labels)


def _count(counted: Counter[Domain], key: str, node: NodeInfo, number: int) -> None:
    value = node.labels.get(key)
    if value is not None:
        counted[key, value] += number


def _add(counted: Counter[Domain], key: str, by_node: Mapping[str, int], cache: Cache, weight: int = 1) -> None:
    for name, number in by_node.items():
        node = cache.node(name) if number else None
        if node is not None:
            _count(counted, key, node, number * weight)


def _filter(pod: PodInfo, cache: Cache) -> Filter | None:
    unwanted: Counter[Domain] = Counter()
    if cache.carried.anti_affinity:
        labels = cache.namespaces().get(pod.namespace, {})
        for term, by_node in cache.carried.anti_affinity.items():
            if term.matches(pod, labels):
                _add(unwanted, term.topology_key, by_node, cache)
    if not unwanted and not pod.affinity_terms and not pod.anti_affinity_terms:
        return None
    return _Neighbours(pod, cache, unwanted)


def _scores(pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> list[int] | None:
    carried, drawn = cache.carried, Counter[Domain]()
    for term, weight in pod.preferred_terms:
        _add(drawn, term.topology_key, cache.tally((term,)), cache, weight)
    if carried.preferred or carried.affinity:
        labels = cache.namespaces().get(pod.namespace, {})
        theirs = [*((term, HARD_WEIGHT, by_node) for term, by_node in carried.affinity.items())]
        theirs += [(term, weight, by_node) for (term, weight), by_node in carried.preferred.items()]
        for term, weight, by_node in theirs:
            if term.matches(pod, labels):
                _add(drawn, term.topology_key, by_node, cache, weight)
    if not drawn:
        return None
    sums = [sum(drawn.get(domain, 0) for domain in node.labels.items()) for node in nodes]
    least, most = min(sums), max(sums)
    return [MAX_SCORE * (each - least) // (most - least) if most > least else 0 for each in sums]


INTER_POD_AFFINITY = Plugin("InterPodAffinity", filter=_filter, score=_scores, weight=2)
