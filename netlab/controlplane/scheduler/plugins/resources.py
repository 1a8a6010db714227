"""NodePorts, NodeResourcesFit and NodeResourcesBalancedAllocation: whether there is room, and how much."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.api.host_ports import collide
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.plugins.base import MAX_SCORE, Filter, Plugin, Refusal
from netlab.controlplane.scheduler.podinfo import PodInfo
from netlab.controlplane.scheduler.requests import CPU, MEMORY

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
    parts = [
        max(0, there - node.compared[name] - asked) * MAX_SCORE // there
        for name, asked in pod.compared.items()
        if (there := node.allocatable.get(name))
    ]
    return sum(parts) // len(parts) if parts else 0


def _balanced(pod: PodInfo, nodes: Sequence[NodeInfo], _: Cache) -> list[int] | None:
    """Whether cpu and memory are then used more alike than before."""
    cpu, memory = pod.requests.get(CPU, 0), pod.requests.get(MEMORY, 0)
    if not cpu and not memory:
        return None
    half = MAX_SCORE // 2
    return [half + (half + _balance(node, cpu, memory) - _balance(node, 0, 0)) // 2 for node in nodes]


def _balance(node: NodeInfo, more_cpu: int, more_memory: int) -> int:
    """How much alike the two are used, with so much more of them: MAX_SCORE less the deviation."""
    cpu, memory = node.allocatable.get(CPU), node.allocatable.get(MEMORY)
    if not cpu or not memory:
        return MAX_SCORE
    used = node.requested
    difference = min(1.0, (used[CPU] + more_cpu) / cpu) - min(1.0, (used[MEMORY] + more_memory) / memory)
    return int((1 - abs(difference) / 2) * MAX_SCORE)


NODE_PORTS = Plugin("NodePorts", filter=lambda pod, _: _Ports(pod) if pod.ports else None)
NODE_RESOURCES_FIT = Plugin("NodeResourcesFit", filter=lambda pod, _: _Room(pod), score=_least_allocated)
BALANCED_ALLOCATION = Plugin("NodeResourcesBalancedAllocation", score=_balanced)
