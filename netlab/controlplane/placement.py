"""Which node a pod goes to: the scheduler's decision, apart from the API (kube-scheduler's filters and scores)."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable

from netlab.api.core_types import Node, Pod, Taint, Toleration
from netlab.controlplane import affinity
from netlab.controlplane.cluster import condition_of, controller_of

DEFAULT_MAX_PODS = 110
"""The pod limit of a node that does not state one (the kubelet's --max-pods)."""

NOT_READY_TAINT = "node.kubernetes.io/not-ready"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"

HostPort = tuple[str, int, str]
"""Protocol, port, address; the address "" is every one."""
_ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104


@dataclasses.dataclass(frozen=True)
class Placement:
    """A pod on a node, as far as it affects later pods."""

    node: str
    owner: str
    host_ports: tuple[HostPort, ...] = ()


@dataclasses.dataclass
class Usage:
    """What the pods of one node use, counted as they come and go."""

    pods: int = 0
    by_owner: Counter[str] = dataclasses.field(default_factory=Counter)
    host_ports: Counter[HostPort] = dataclasses.field(default_factory=Counter)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A node, with what is derived from it once instead of for every pod."""

    name: str
    labels: dict[str, str]
    max_pods: int
    taints: tuple[Taint, ...]
    order: tuple[str, int, str]

    @classmethod
    def of(cls, node: Node) -> Candidate:
        """The node as a candidate; not being ready, or being cordoned, are taints as upstream makes them."""
        stem, number = re.fullmatch(r"(.*?)(\d*)", node.metadata.name).groups()  # type: ignore[union-attr]
        return cls(
            name=node.metadata.name,
            labels=node.metadata.labels,
            max_pods=_count(node.status.allocatable.get("pods")),
            taints=(*implied_taints(node), *node.spec.taints),
            order=(stem, int(number or 0), node.metadata.name),
        )


class NodeCache:
    """The nodes and what is placed on them, including assumed placements, whose binding has not been seen yet.

    Counts are kept per node as pods come and go, so that a decision costs a look at each node and none at its pods.
    """

    def __init__(self) -> None:
        self.candidates: dict[str, Candidate] = {}
        self._usage: dict[str, Usage] = {}
        self._placements: dict[str, Placement] = {}

    def set_node(self, node: Node) -> None:
        """A node was added or changed."""
        self.candidates[node.metadata.name] = Candidate.of(node)

    def remove_node(self, name: str) -> None:
        """A node is gone; the pods on it count until they are gone too, in case it comes back."""
        self.candidates.pop(name, None)

    def place(self, pod: Pod, node: str) -> None:
        """The pod is on the node, or is assumed to be soon."""
        placement = Placement(node, _owner(pod), tuple(_host_ports(pod)))
        if self._placements.get(pod.metadata.uid) == placement:
            return
        self.remove(pod.metadata.uid)
        self._placements[pod.metadata.uid] = placement
        usage = self._usage.setdefault(node, Usage())
        usage.pods += 1
        usage.by_owner[placement.owner] += 1
        usage.host_ports.update(placement.host_ports)

    def remove(self, uid: str) -> bool:
        """The pod is no longer on a node; False if it was not on one."""
        placement = self._placements.pop(uid, None)
        if placement is None:
            return False
        usage = self._usage[placement.node]
        usage.pods -= 1
        usage.by_owner[placement.owner] -= 1
        if not usage.by_owner[placement.owner]:
            del usage.by_owner[placement.owner]
        usage.host_ports.subtract(placement.host_ports)
        usage.host_ports += Counter()  # drop ports that are no longer in use
        if not usage.pods:
            del self._usage[placement.node]
        return True

    def is_placed(self, uid: str) -> bool:
        """Whether the pod is on a node or assumed to be."""
        return uid in self._placements

    def select(self, pod: Pod) -> str | Unschedulable:
        """The node for the pod, or the reason why there is none.

        Among the nodes that accept it: first those with the fewest unwelcome taints, then with the fewest pods of
        the same owner (the default topology spread), then with the fewest pods, then in the order of their names.
        """
        best: tuple[tuple[int, int, int, tuple[str, int, str]], str] | None = None
        reasons: Counter[str] = Counter()
        owner, ports = _owner(pod), list(_host_ports(pod))
        nothing = Usage()
        for node in self.candidates.values():
            usage = self._usage.get(node.name, nothing)
            if reason := _obstacle(pod, node, usage, ports):
                reasons[reason] += 1
                continue
            score = (_unwelcome(pod, node), usage.by_owner.get(owner, 0) if owner else 0, usage.pods, node.order)
            if best is None or score < best[0]:
                best = (score, node.name)
        return best[1] if best is not None else Unschedulable(len(self.candidates), reasons)


@dataclasses.dataclass(frozen=True)
class Unschedulable:
    """No node accepts the pod: how many nodes there are, and how many have which reason."""

    nodes: int
    reasons: Counter[str]

    def __str__(self) -> str:
        # The wording of kube-scheduler's FitError, which people and tools search for.
        if not self.nodes:
            return "no nodes available to schedule pods"
        why = ", ".join(sorted(f"{count} {reason}" for reason, count in self.reasons.items()))
        return f"0/{self.nodes} nodes are available: {why}."


def _obstacle(pod: Pod, node: Candidate, usage: Usage, ports: list[HostPort]) -> str:
    # The order of upstream's filters: the first that refuses gives the reason.
    for taint in node.taints:
        if taint.effect != "PreferNoSchedule" and not tolerates(pod.spec.tolerations, taint):
            if taint.key == UNSCHEDULABLE_TAINT:
                return "node(s) were unschedulable"
            return f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
    if not affinity.matches(pod.spec, node.name, node.labels):
        return "node(s) didn't match Pod's node affinity/selector"
    if ports and any(_collide(mine, theirs) for mine in ports for theirs in usage.host_ports):
        return "node(s) didn't have free ports for the requested pod ports"
    if usage.pods >= node.max_pods:
        return "Too many pods"
    return ""


def _unwelcome(pod: Pod, node: Candidate) -> int:
    return sum(
        taint.effect == "PreferNoSchedule" and not tolerates(pod.spec.tolerations, taint) for taint in node.taints
    )


def tolerates(tolerations: list[Toleration], taint: Taint) -> bool:
    """Whether one of the tolerations is of the taint."""
    return any(
        t.effect in ("", taint.effect)
        and ((t.key == "" and t.operator == "Exists") or t.key == taint.key)
        and (t.operator == "Exists" or t.value == taint.value)
        for t in tolerations
    )


def implied_taints(node: Node) -> Iterable[Taint]:
    """The taints that a node has by its state, whether or not they are written down."""
    ready = condition_of(node.status.conditions, "Ready")
    implied = []
    if node.spec.unschedulable:
        implied.append(UNSCHEDULABLE_TAINT)
    if ready is None or ready.status == "False":
        implied.append(NOT_READY_TAINT)
    elif ready.status != "True":
        implied.append(UNREACHABLE_TAINT)
    # A node that was cordoned by a real control plane carries the taint itself: one reason is enough.
    written = {taint.key for taint in node.spec.taints}
    return [Taint(key=key, effect="NoSchedule") for key in implied if key not in written]


def _count(quantity: str | int | float | None) -> int:
    try:
        return int(quantity) if quantity is not None else DEFAULT_MAX_PODS
    except ValueError:
        return DEFAULT_MAX_PODS


def _owner(pod: Pod) -> str:
    owner = controller_of(pod)
    return owner.uid if owner is not None else ""


def _host_ports(pod: Pod) -> Iterable[HostPort]:
    for container in pod.spec.containers:
        for port in container.ports:
            # On the host's network every container port is a host port.
            number = port.hostPort or (port.containerPort if pod.spec.hostNetwork else 0)
            if number:
                yield port.protocol, number, "" if port.hostIP in _ANY_ADDRESS else port.hostIP


def _collide(one: HostPort, other: HostPort) -> bool:
    return one[:2] == other[:2] and ("" in (one[2], other[2]) or one[2] == other[2])
