"""NodeUnschedulable and TaintToleration: nodes that keep pods off."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.api.core_types import Taint
from netlab.controlplane import taints
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.plugins.base import Filter, Plugin, Refusal, normalized
from netlab.controlplane.scheduler.podinfo import PodInfo

_CORDONED = Taint(key=taints.UNSCHEDULABLE, effect=taints.NO_SCHEDULE)
_UNSCHEDULABLE = Refusal(("node(s) were unschedulable",))


class _Unschedulable(Filter):
    def refuse(self, node: NodeInfo) -> Refusal | None:
        return _UNSCHEDULABLE if node.is_unschedulable else None


class _Taints(Filter):
    def __init__(self, pod: PodInfo) -> None:
        self._tolerations = pod.tolerations

    def refuse(self, node: NodeInfo) -> Refusal | None:
        taint = taints.untolerated(self._tolerations, node.taints) if node.taints else None
        if taint is None:
            return None
        # The wording up to 1.34; the present one no longer says which taint.
        return Refusal((f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}",))


def _is_kept_off(pod: PodInfo, _: Cache) -> Filter | None:
    return None if taints.tolerates(pod.tolerations, _CORDONED) else _Unschedulable()


def _scores(pod: PodInfo, nodes: Sequence[NodeInfo], _: Cache) -> list[int] | None:
    """Few unwelcome taints: those that would rather have no pod."""
    if not any(node.taints for node in nodes):
        return None
    tolerations = [each for each in pod.tolerations if each.effect in ("", taints.PREFER_NO_SCHEDULE)]
    unwelcome = [
        sum(t.effect == taints.PREFER_NO_SCHEDULE and not taints.tolerates(tolerations, t) for t in node.taints)
        for node in nodes
    ]
    return normalized(unwelcome, is_reverse=True)


NODE_UNSCHEDULABLE = Plugin("NodeUnschedulable", filter=_is_kept_off)
TAINT_TOLERATION = Plugin("TaintToleration", filter=lambda pod, _: _Taints(pod), score=_scores, weight=3)
