"""A node with the pods that are on it, counted as they come and go."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping

from netlab.api.core_types import Node, Taint
from netlab.api.host_ports import HostPort
from netlab.controlplane import taints
from netlab.controlplane.scheduler import requests
from netlab.controlplane.scheduler.podinfo import PodInfo
from netlab.controlplane.scheduler.requests import Amounts

DEFAULT_MAX_PODS = 110
"""The pod limit of a node that does not state one (the kubelet's --max-pods)."""


class NodeInfo:
    """What is derived from a node once instead of for every pod, and what its pods use together."""

    __slots__ = (
        *("allocatable", "compared", "is_known", "is_unschedulable", "labels", "max_pods"),
        *("name", "order", "pods", "ports", "requested", "taints"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_known = False
        """Whether there is such a node; there may be pods on one that is gone."""
        self.labels: Mapping[str, str] = {}
        self.taints: tuple[Taint, ...] = ()
        self.is_unschedulable = False
        self.allocatable: Amounts = {}
        self.max_pods = 0
        stem, number = re.fullmatch(r"(.*?)(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
        self.order = (stem, int(number or 0), name)
        self.pods: dict[str, PodInfo] = {}
        """By uid."""
        self.requested: Counter[str] = Counter()
        self.compared: Counter[str] = Counter()
        """The cpu and memory that its pods are taken to use when nodes are compared."""
        self.ports: Counter[HostPort] = Counter()

    def describe(self, node: Node) -> None:
        """The node is, or has become, like this."""
        self.is_known = True
        self.labels = node.metadata.labels
        self.taints = tuple(taints.in_force(node))
        self.is_unschedulable = node.spec.unschedulable
        self.allocatable = requests.amounts(node.status.allocatable)
        self.max_pods = self.allocatable.get(requests.PODS, DEFAULT_MAX_PODS)

    def facts(self) -> tuple[object, object, object]:
        """The labels, what keeps pods off, and what may be used: to see what has changed."""
        return self.labels, (self.is_unschedulable, self.taints), (self.allocatable, self.max_pods)

    def add(self, pod: PodInfo) -> None:
        """The pod is on the node."""
        self.pods[pod.uid] = pod
        self._count(pod, 1)

    def remove(self, pod: PodInfo) -> None:
        """The pod is no longer on the node."""
        del self.pods[pod.uid]
        self._count(pod, -1)

    def _count(self, pod: PodInfo, sign: int) -> None:
        for name, value in pod.requests.items():
            self.requested[name] += sign * value
        for name, value in pod.compared.items():
            self.compared[name] += sign * value
        for port in pod.ports:
            self.ports[port] += sign
            if not self.ports[port]:
                del self.ports[port]

    def copy(self) -> NodeInfo:
        """Another one, on which pods may be added and removed to see what would be."""
        made = copy.copy(self)
        made.pods, made.requested = dict(self.pods), Counter(self.requested)
        made.compared, made.ports = Counter(self.compared), Counter(self.ports)
        return made
