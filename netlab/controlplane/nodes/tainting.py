"""The taints that a node has by its state (TaintNodesByCondition, TaintBasedEvictions)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netlab.api.core_types import Node, Taint
from netlab.controlplane.cluster import condition_of
from netlab.controlplane.taints import NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE

_BY_CONDITION = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_KEEPING_OFF = frozenset((*_BY_CONDITION.values(), UNSCHEDULABLE))
_EVICTING = frozenset((NOT_READY, UNREACHABLE))


def taints_by_state(node: Node, *, evicts: bool, now: str) -> list[Taint]:
    """All taints of a node: those that its state means, since `now` if they are new, and those that others gave it.

    Unless it `evicts`, none of them makes pods go.
    """
    conditions = {(each.type, each.status) for each in node.status.conditions}
    off = {key for pair, key in _BY_CONDITION.items() if pair in conditions}
    evicting = off & _EVICTING if evicts else frozenset()
    if node.spec.unschedulable:
        off.add(UNSCHEDULABLE)
    wanted = [*((key, NO_SCHEDULE) for key in sorted(off)), *((key, NO_EXECUTE) for key in sorted(evicting))]
    kept = [taint for taint in node.spec.taints if not _is_ours(taint) or (taint.key, taint.effect) in wanted]
    present = {(taint.key, taint.effect) for taint in kept}
    added = [Taint(key=key, effect=effect, timeAdded=now) for key, effect in wanted if (key, effect) not in present]
    return kept + added


def _is_ours(taint: Taint) -> bool:
    if taint.effect == NO_EXECUTE:
        return taint.key in _EVICTING
    return taint.effect == NO_SCHEDULE and taint.key in _KEEPING_OFF


def may_evict(nodes: Iterable[Node]) -> bool:
    """Whether pods of failed nodes are to go: while some node is ready. If none is, it is likelier that the control
    plane sees nothing (upstream's full disruption)."""
    return any(_is_ready(node) for node in nodes)


def _is_ready(node: Node) -> bool:
    ready = condition_of(node.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


def evicting(taints: Sequence[Taint]) -> list[Taint]:
    """Those of the taints that make pods go."""
    return [taint for taint in taints if taint.effect == NO_EXECUTE]
