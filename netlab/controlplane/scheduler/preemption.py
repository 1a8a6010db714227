"""Whose place a pod may take: as few and as unimportant pods as will do (DefaultPreemption)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from netlab.api.policy_types import PodDisruptionBudget
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.decision import Look, Unschedulable, not_helpful
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.plugins.base import Refusal
from netlab.controlplane.scheduler.podinfo import PodInfo, selector_of

_NO_VICTIMS = Refusal(("No preemption victims found for incoming pod",))

_LOWEST = -(1 << 31)
"""Of all priorities."""


@dataclasses.dataclass(frozen=True)
class Preemption:
    """The node on which a pod gets room, and the pods that go for it, the most important first."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int
    """How many of them a PodDisruptionBudget would keep."""


@dataclasses.dataclass(frozen=True)
class NoPreemption:
    """The pod takes nobody's place."""

    why: str
    """In upstream's words."""
    keeps_promise: bool = True
    """Whether it goes on to wait for the node that it was promised, if it was."""


def preempt(
    pod: PodInfo, cache: Cache, found: Unschedulable, budgets: Iterable[PodDisruptionBudget]
) -> Preemption | NoPreemption:
    """Where a pod that no node accepts gets room, if it may.

    One that waits for its victims to go takes no others meanwhile.
    """
    if not pod.may_preempt:
        return NoPreemption("not eligible due to preemptionPolicy=Never.")
    if _waits_for_victims(pod, cache, found.refusals):
        return NoPreemption("not eligible due to a terminating pod on the nominated node.")
    look, listed = Look(pod, cache), list(budgets)
    candidates: list[Preemption] = []
    refusals: dict[str, Refusal] = {}
    for name, refusal in found.refusals.items():
        node = cache.node(name)
        if refusal.is_final or node is None:
            continue
        outcome = _victims(look, node, listed)
        if isinstance(outcome, Refusal):
            refusals[name] = outcome
        else:
            candidates.append(outcome)
    if not candidates:
        return NoPreemption(not_helpful(found.nodes, refusals), keeps_promise=False)
    return min(candidates, key=lambda each: _rank(each, cache))


def _waits_for_victims(pod: PodInfo, cache: Cache, refusals: Mapping[str, Refusal]) -> bool:
    node = cache.node(pod.nominated) if pod.nominated else None
    if node is None or (node.name in refusals and refusals[node.name].is_final):
        return False
    return any(
        other.is_terminating and other.is_preempted and other.priority < pod.priority for other in node.pods.values()
    )


def _victims(look: Look, node: NodeInfo, budgets: Sequence[PodDisruptionBudget]) -> Preemption | Refusal:
    """The pods that must go from a node; all less important ones do first, and then as many as can come back."""
    going = sorted((each for each in node.pods.values() if each.priority < look.pod.priority), key=_importance)
    if not going:
        return _NO_VICTIMS
    without = node.copy()
    for each in going:
        look.remove(each, without)
    refused = look.refuse(without)
    victims: list[PodInfo] = []
    violations = 0
    if refused is None:
        kept, free = _divided(going, budgets)
        for each in (*kept, *free):
            look.add(each, without)
            if look.refuse(without) is not None:
                look.remove(each, without)
                victims.append(each)
                violations += each in kept
        gone = victims
    else:
        gone = going
    for each in gone:
        look.add(each, without)
    if refused is not None:
        return refused[1]
    if not victims:
        return _NO_VICTIMS
    return Preemption(node.name, tuple(sorted(victims, key=_importance)), violations)


def _importance(pod: PodInfo) -> tuple[int, float, str]:
    """The most important first: of the highest priority, and of these who started first."""
    return -pod.priority, pod.started, pod.key


def _divided(pods: Sequence[PodInfo], budgets: Iterable[PodDisruptionBudget]) -> tuple[list[PodInfo], list[PodInfo]]:
    """Those whose end some budget does not allow, given the ends of those before them, and the others."""
    allowances = [_Allowance(budget) for budget in budgets]
    kept: list[PodInfo] = []
    free: list[PodInfo] = []
    for pod in pods:
        (free if all(each.spend(pod) for each in allowances) else kept).append(pod)
    return kept, free


class _Allowance:
    def __init__(self, budget: PodDisruptionBudget) -> None:
        self._namespace = budget.metadata.namespace
        self._selector = selector_of(budget.spec.selector)
        self._gone = budget.status.disruptedPods
        self._left = budget.status.disruptionsAllowed or 0

    def spend(self, pod: PodInfo) -> bool:
        """Whether the budget allows the end of a pod; then it allows one less."""
        # Here, other than for evictions, an empty selector selects nothing.
        if pod.namespace != self._namespace or not pod.labels or not self._selector.requirements:
            return True
        if pod.name in self._gone or not self._selector.matches(pod.labels):
            return True
        self._left -= 1
        return self._left >= 0


def _rank(candidate: Preemption, cache: Cache) -> tuple[object, ...]:
    """The best first (pickOneNodeForPreemption): the fewest violations, then the least important of the most
    important victims, the least sum of priorities, the fewest victims, the latest start, and the first name."""
    victims = candidate.victims
    highest = victims[0].priority
    first = min(each.started for each in victims if each.priority == highest)
    node = cache.node(candidate.node)
    return (
        candidate.violations,
        highest,
        sum(each.priority - _LOWEST for each in victims),
        len(victims),
        -first,
        node.order if node is not None else (),
    )
