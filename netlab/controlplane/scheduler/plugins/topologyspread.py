"""PodTopologySpread: pods that are to be spread over domains, such as nodes or zones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from netlab.api.core_types import ZONE_LABEL
from netlab.api.selectors import EVERYTHING
from netlab.controlplane import taints
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.plugins.base import MAX_SCORE, Filter, Plugin, Refusal
from netlab.controlplane.scheduler.podinfo import PodInfo, Spread

_HOST_NAME = "kubernetes.io/hostname"
_DEFAULTS = ((_HOST_NAME, 3), (ZONE_LABEL, 5))
"""For the pods of a Service or a workload that say nothing: the topology key, and the maxSkew."""

_UNEVEN = Refusal(("node(s) didn't match pod topology spread constraints",), is_final=False)
_NO_DOMAIN = Refusal(("node(s) didn't match pod topology spread constraints (missing required label)",))


class _Evenness(Filter):
    def __init__(self, pod: PodInfo, constraints: Sequence[Spread], cache: Cache) -> None:
        self._pod = pod
        self._constraints = constraints
        self._counts: list[Counter[str]] = []
        """For each constraint how many of the pods are in each domain; with the domains that have none."""
        self._least: list[int] | None = None
        for constraint in constraints:
            by_node = cache.tally_living(pod.namespace, constraint.selector)
            counted: Counter[str] = Counter()
            for node in cache.nodes:
                if self._takes_part(constraint, node):
                    counted[node.labels[constraint.topology_key]] += by_node.get(node.name, 0)
            self._counts.append(counted)

    def refuse(self, node: NodeInfo) -> Refusal | None:
        if self._least is None:
            self._least = [
                0 if len(counted) < constraint.min_domains else min(counted.values())
                for constraint, counted in zip(self._constraints, self._counts, strict=True)
            ]
        for constraint, counted, least in zip(self._constraints, self._counts, self._least, strict=True):
            value = node.labels.get(constraint.topology_key)
            if value is None:
                return _NO_DOMAIN
            itself = constraint.selector.matches(self._pod.labels)
            if counted.get(value, 0) + itself - least > constraint.max_skew:
                return _UNEVEN
        return None

    def count(self, pod: PodInfo, node: NodeInfo, sign: int) -> None:
        if pod.namespace != self._pod.namespace:
            return
        for constraint, counted in zip(self._constraints, self._counts, strict=True):
            # A pod that is being deleted was not counted.
            if (
                not pod.is_terminating
                and constraint.selector.matches(pod.labels)
                and self._takes_part(constraint, node)
            ):
                counted[node.labels[constraint.topology_key]] += sign
                self._least = None

    def _takes_part(self, constraint: Spread, node: NodeInfo) -> bool:
        return _has_all(self._constraints, node) and _is_included(constraint, self._pod, node)


def _has_all(constraints: Sequence[Spread], node: NodeInfo) -> bool:
    return all(constraint.topology_key in node.labels for constraint in constraints)


def _is_included(constraint: Spread, pod: PodInfo, node: NodeInfo) -> bool:
    """Whether the constraint's policies count the pods of the node (KEP-3094)."""
    if constraint.heeds_affinity and not pod.required.matches(node.name, node.labels):
        return False
    return not constraint.heeds_taints or taints.untolerated(pod.tolerations, node.taints) is None


def _filter(pod: PodInfo, cache: Cache) -> Filter | None:
    hard = [each for each in pod.spread if each.is_hard]
    return _Evenness(pod, hard, cache) if hard else None


def _soft(pod: PodInfo, cache: Cache) -> list[Spread]:
    if pod.spread:
        return [each for each in pod.spread if not each.is_hard]
    selector = cache.default_selector(pod)
    return [Spread(key, skew, selector) for key, skew in _DEFAULTS] if selector != EVERYTHING else []


def _scores(pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> list[int] | None:
    constraints = _soft(pod, cache)
    if not constraints:
        return None
    ignored = {node.name for node in nodes if pod.spread and not _has_all(constraints, node)}
    sums = [0.0] * len(nodes)
    for constraint in constraints:
        _add_scores(constraint, sums, pod, [None if node.name in ignored else node for node in nodes], cache)
    # To the nearest, halves up, as Go's math.Round.
    rounded = [None if node.name in ignored else int(each + 0.5) for node, each in zip(nodes, sums, strict=True)]
    counted = [each for each in rounded if each is not None]
    least, most = min(counted, default=0), max(counted, default=0)
    return [0 if each is None else MAX_SCORE * (most + least - each) // most if most else MAX_SCORE for each in rounded]


def _add_scores(
    constraint: Spread, sums: list[float], pod: PodInfo, nodes: Sequence[NodeInfo | None], cache: Cache
) -> None:
    key = constraint.topology_key
    by_node = cache.tally_living(pod.namespace, constraint.selector)
    by_domain: Counter[str] = Counter()
    if key == _HOST_NAME:
        domains = sum(node is not None for node in nodes)
    else:
        domains = len({node.labels.get(key, "") for node in nodes if node is not None})
        for node in cache.nodes:
            if key in node.labels and _is_included(constraint, pod, node):
                by_domain[node.labels[key]] += by_node.get(node.name, 0)
    weight = math.log(domains + 2)
    for index, candidate in enumerate(nodes):
        if candidate is not None and key in candidate.labels:
            number = by_node.get(candidate.name, 0) if key == _HOST_NAME else by_domain[candidate.labels[key]]
            sums[index] += number * weight + constraint.max_skew - 1


POD_TOPOLOGY_SPREAD = Plugin("PodTopologySpread", filter=_filter, score=_scores, weight=2)
