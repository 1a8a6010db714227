"""NodePorts, NodeResourcesFit and NodeResourcesBalancedAllocation: whether there is room, and how much."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.api.host_ports import collide
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.plugins.base import MAX_SCORE, Filter, Plugin, Refusal
from netlab.controlplane.scheduler.podinfo import PodInfo
from netlab.controlplane.scheduler.requests import CPU, MEMORY

_COMPARED = (CPU, MEMORY)
"""By these nodes are compared (NodeResourcesFitArgs' default)."""

_PORT_TAKEN = Refusal(("node(s) didn't have free ports for the requested pod ports",), is_final=False)


class _Ports(Filter):
    def __init__(self, pod: PodInfo) -> None:
        self._ports = pod.ports

    def refuse(self, node: NodeInfo) -> Refusal | None:
        return _PORT_TAKEN if collide(self._ports, node.ports) else None


class _Room(Filter):
    def __init__(self, pod: PodInfo) -> None:
        self._requests = pod.requests

    def refuse(self, node: NodeInfo) -> Refusal | None:
        reasons, is_final = [], False
        if len(node.pods) >= node.max_pods:
            reasons.append("Too many pods")
        for name, asked in self._requests.items():
            there = node.allocatable.get(name, 0)
            if asked > there - node.requested[name]:
                reasons.append(f"Insufficient {name}")
                is_final |= asked > there
        return Refusal(tuple(reasons), is_final) if reasons else None


def _least_allocated(pod: PodInfo, nodes: Sequence[NodeInfo], _: Cache) -> list[int] | None:
    """The part of cpu and memory that is left, in percent (LeastAllocated)."""
    return [_part_left(pod, node) for node in nodes]


def _part_left(pod: PodInfo, node: NodeInfo) -> int:
    parts = []
    for name in _COMPARED:
        if there := node.allocatable.get(name, 0):
            left = there - node.compared[name] - pod.compared.get(name, 0)
            parts.append(max(0, left) * MAX_SCORE // there)
    return sum(parts) // len(parts) if parts else 0


def _balanced(pod: PodInfo, nodes: Sequence[NodeInfo], _: Cache) -> list[int] | None:
    """Whether cpu and memory are then used more alike than before."""
    if not any(pod.requests.get(name) for name in _COMPARED):
        return None
    return [MAX_SCORE // 2 + (MAX_SCORE // 2 + _balance(node, pod) - _balance(node, None)) // 2 for node in nodes]


def _balance(node: NodeInfo, pod: PodInfo | None) -> int:
    fractions = []
    for name in _COMPARED:
        if there := node.allocatable.get(name, 0):
            used = node.requested[name] + (pod.requests.get(name, 0) if pod is not None else 0)
            fractions.append(min(1.0, used / there))
    deviation = abs(fractions[0] - fractions[1]) / 2 if len(fractions) == 2 else 0.0
    return int((1 - deviation) * MAX_SCORE)


NODE_PORTS = Plugin("NodePorts", filter=lambda pod, _: _Ports(pod) if pod.ports else None)
NODE_RESOURCES_FIT = Plugin("NodeResourcesFit", filter=lambda pod, _: _Room(pod), score=_least_allocated)
BALANCED_ALLOCATION = Plugin("NodeResourcesBalancedAllocation", score=_balanced)
