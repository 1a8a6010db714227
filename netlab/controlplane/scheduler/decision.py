"""The node for a pod, or why there is none: kube-scheduler's filters and scores, apart from the API."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.plugins import PLUGINS
from netlab.controlplane.scheduler.plugins.base import Filter, Plugin, Refusal
from netlab.controlplane.scheduler.plugins.nodeaffinity import NODE_AFFINITY
from netlab.controlplane.scheduler.podinfo import PodInfo


@dataclasses.dataclass(frozen=True)
class Unschedulable:
    """No node accepts the pod."""

    nodes: int
    refusals: Mapping[str, Refusal]
    """By the name of the node; not of those that the pod's node affinity leaves out by their names."""
    plugins: frozenset[str]
    """Those that refused a node: a change that is none of their business does not help."""
    preemption: str = ""
    """Why the pod takes nobody's place; empty if it does."""

    def __str__(self) -> str:
        # The wording of kube-scheduler's FitError, which people and tools search for.
        if not self.nodes:
            return "no nodes available to schedule pods"
        left_out = f"node(s) didn't satisfy plugin(s) [{NODE_AFFINITY.name}]"
        message = _summary(self.nodes, self.refusals, left_out)
        return f"{message} preemption: {self.preemption}" if self.preemption else message


def _summary(nodes: int, refusals: Mapping[str, Refusal], of_others: str) -> str:
    reasons = Counter(reason for refusal in refusals.values() for reason in refusal.reasons)
    if others := nodes - len(refusals):
        reasons[of_others] += others
    why = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{nodes} nodes are available: {why}."


def not_helpful(nodes: int, refusals: Mapping[str, Refusal]) -> str:
    """Why preemption does not help, from what is wrong with nodes even without their less important pods."""
    return _summary(nodes, refusals, "Preemption is not helpful for scheduling")


class Look:
    """The plugins' look at the nodes for one pod."""

    def __init__(self, pod: PodInfo, cache: Cache) -> None:
        self.pod = pod
        self._cache = cache
        self._filters: list[tuple[Plugin, Filter]] = []
        for plugin in PLUGINS:
            made = plugin.filter(pod, cache) if plugin.filter is not None else None
            if made is not None:
                self._filters.append((plugin, made))

    def refuse(self, node: NodeInfo) -> tuple[Plugin, Refusal] | None:
        """Who refuses the node, and why; None: it will do.

        It must do both with and without the pods that were promised it and are not less important: they may come, and
        they may not (RunFilterPluginsWithNominatedPods).
        """
        promised = [
            other
            for other in self._cache.nominated.get(node.name, {}).values()
            if other.priority >= self.pod.priority and other.uid != self.pod.uid and other.uid not in node.pods
        ]
        if promised:
            crowded = node.copy()
            for other in promised:
                self.add(other, crowded)
            refused = self._refuse(crowded)
            for other in promised:
                self.remove(other, crowded)
            if refused is not None:
                return refused
        return self._refuse(node)

    def add(self, pod: PodInfo, node: NodeInfo) -> None:
        """Look as if a pod were on a node, which is a copy."""
        node.add(pod)
        for _, each in self._filters:
            each.count(pod, node, 1)

    def remove(self, pod: PodInfo, node: NodeInfo) -> None:
        """Look as if a pod were not on a node, which is a copy."""
        node.remove(pod)
        for _, each in self._filters:
            each.count(pod, node, -1)

    def _refuse(self, node: NodeInfo) -> tuple[Plugin, Refusal] | None:
        for plugin, each in self._filters:
            refusal = each.refuse(node)
            if refusal is not None:
                return plugin, refusal
        return None


def choose(pod: PodInfo, cache: Cache, look: Look | None = None) -> str | Unschedulable:
    """The name of the node for a pod, or the reason why there is none.

    Of nodes with the same score that with the fewest pods, and then the first by name: upstream takes one at random,
    but a lab behaves the same way twice.
    """
    look = look or Look(pod, cache)
    if pod.nominated and (promised := cache.node(pod.nominated)) is not None and look.refuse(promised) is None:
        return promised.name
    candidates = cache.nodes
    if (names := pod.required.names()) is not None:
        candidates = [node for name in names if (node := cache.node(name)) is not None]
    fitting: list[NodeInfo] = []
    refusals: dict[str, Refusal] = {}
    plugins = {NODE_AFFINITY.name} if len(candidates) < len(cache.nodes) else set()
    for node in candidates:
        refused = look.refuse(node)
        if refused is None:
            fitting.append(node)
        else:
            plugins.add(refused[0].name)
            refusals[node.name] = refused[1]
    if fitting:
        return _best(pod, fitting, cache).name
    return Unschedulable(len(cache.nodes), refusals, frozenset(plugins))


def _best(pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> NodeInfo:
    if len(nodes) == 1:
        return nodes[0]
    totals = [0] * len(nodes)
    for plugin in PLUGINS:
        scores = plugin.score(pod, nodes, cache) if plugin.score is not None else None
        if scores is not None:
            totals = [total + plugin.weight * score for total, score in zip(totals, scores, strict=True)]
    ranked = zip(totals, nodes, strict=True)
    return min(ranked, key=lambda each: (-each[0], len(each[1].pods), each[1].order))[1]
