"""NodeName and NodeAffinity: the nodes that a pod names, selects, requires or prefers."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.controlplane import affinity
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.plugins.base import Filter, Plugin, Refusal, normalized
from netlab.controlplane.scheduler.podinfo import PodInfo

_OTHER_NAME = Refusal(("node(s) didn't match the requested node name",))
_NO_MATCH = Refusal(("node(s) didn't match Pod's node affinity/selector",))


class _Name(Filter):
    def __init__(self, name: str) -> None:
        self._name = name

    def refuse(self, node: NodeInfo) -> Refusal | None:
        return None if node.name == self._name else _OTHER_NAME


class _Affinity(Filter):
    def __init__(self, required: affinity.Required) -> None:
        self._required = required

    def refuse(self, node: NodeInfo) -> Refusal | None:
        return None if self._required.matches(node.name, node.labels) else _NO_MATCH


def _scores(pod: PodInfo, nodes: Sequence[NodeInfo], _: Cache) -> list[int] | None:
    if not pod.preferred:
        return None
    return normalized(
        [sum(weight for weight, term in pod.preferred if term.matches(node.name, node.labels)) for node in nodes]
    )


NODE_NAME = Plugin("NodeName", filter=lambda pod, _: _Name(pod.node_name) if pod.node_name else None)
NODE_AFFINITY = Plugin(
    "NodeAffinity",
    filter=lambda pod, _: _Affinity(pod.required) if pod.required else None,
    score=_scores,
    weight=2,
)
