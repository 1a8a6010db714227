"""The nodes and what is placed on them, including assumed placements, whose binding has not been seen yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from netlab.api.core_types import Node, Pod
from netlab.api.selectors import EVERYTHING, Selector
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.podinfo import PodInfo, PodTerm
from netlab.controlplane.scheduler.tallies import Carried, Kind, Tallies

Namespaces = Mapping[str, Mapping[str, str]]
"""The labels of each namespace."""


class Cache:
    """Counts are kept per node as pods come and go: a decision costs a look at each node, and none at its pods."""

    def __init__(
        self,
        namespaces: Callable[[], Namespaces] = dict,
        default_selector: Callable[[PodInfo], Selector] = lambda _pod: EVERYTHING,
    ) -> None:
        """`namespaces` tells the labels of each namespace, `default_selector` what the Services and the controller of
        a pod select: EVERYTHING if there are none."""
        self.namespaces = namespaces
        self.default_selector = default_selector
        self.carried = Carried()
        self.nominated: dict[str, dict[str, PodInfo]] = {}
        """Pods that were promised a node, by its name and their uid: they wait until it has room."""
        self._nodes: dict[str, NodeInfo] = {}
        self._known: list[NodeInfo] | None = None
        self._placements: dict[str, tuple[PodInfo, NodeInfo]] = {}
        self._tallies = Tallies()

    @property
    def nodes(self) -> Sequence[NodeInfo]:
        """The nodes that there are."""
        if self._known is None:
            self._known = [node for node in self._nodes.values() if node.is_known]
        return self._known

    def node(self, name: str) -> NodeInfo | None:
        """The node of that name, if there is one."""
        found = self._nodes.get(name)
        return found if found is not None and found.is_known else None

    def set_node(self, node: Node) -> None:
        """A node was added or changed."""
        self._at(node.metadata.name).describe(node)
        self._known = None

    def remove_node(self, name: str) -> None:
        """A node is gone; the pods on it count until they are gone too, in case it comes back."""
        node = self._at(name)
        node.is_known = False
        self._tidy(node)
        self._known = None

    def place(self, pod: Pod | PodInfo, name: str) -> PodInfo:
        """The pod is on the node, or is assumed to be soon."""
        info = pod if isinstance(pod, PodInfo) else PodInfo.of(pod)
        self.withdraw(info.uid)
        present = self._placements.get(info.uid)
        if present is not None:
            if present[1].name == name and present[0] == info:
                return info
            self.remove(info.uid)
        node = self._at(name)
        node.add(info)
        self._placements[info.uid] = info, node
        self._count(info, name, 1)
        return info

    def remove(self, uid: str) -> bool:
        """The pod is no longer on a node; False if it was not on one."""
        placement = self._placements.pop(uid, None)
        if placement is None:
            return False
        pod, node = placement
        node.remove(pod)
        self._count(pod, node.name, -1)
        self._tidy(node)
        return True

    def placement(self, uid: str) -> PodInfo | None:
        """The pod as it is placed, or assumed to be; None if it is not."""
        found = self._placements.get(uid)
        return found[0] if found is not None else None

    def nominate(self, pod: PodInfo, node: str) -> None:
        """The pod has been promised the node."""
        self.withdraw(pod.uid)
        self.nominated.setdefault(node, {})[pod.uid] = pod

    def promised(self, uid: str) -> str:
        """The node that the pod has been promised; empty if none."""
        return next((node for node, pods in self.nominated.items() if uid in pods), "")

    def withdraw(self, uid: str) -> None:
        """The pod is promised no node any more."""
        for node, pods in list(self.nominated.items()):
            if pods.pop(uid, None) is not None and not pods:
                del self.nominated[node]

    def tally(self, terms: Iterable[PodTerm]) -> Mapping[str, int]:
        """How many pods that all of the terms are about are on each node."""
        kind = Kind(tuple((self._inside(term), term.selector) for term in terms))
        return self._tallies.get(kind, self._nodes.values())

    def tally_living(self, namespace: str, selector: Selector) -> Mapping[str, int]:
        """How many pods of the namespace that are selected, and not being deleted, are on each node."""
        kind = Kind(((frozenset((namespace,)), selector),), counts_terminating=False)
        return self._tallies.get(kind, self._nodes.values())

    def _inside(self, term: PodTerm) -> frozenset[str]:
        """The namespaces that a term is about."""
        selected = (name for name, labels in self.namespaces().items() if term.namespace_selector.matches(labels))
        return term.namespaces.union(selected)

    def _count(self, pod: PodInfo, node: str, sign: int) -> None:
        self.carried.count(pod, node, sign)
        self._tallies.count(pod, node, sign)

    def _at(self, name: str) -> NodeInfo:
        return self._nodes.setdefault(name, NodeInfo(name))

    def _tidy(self, node: NodeInfo) -> None:
        if not node.is_known and not node.pods:
            self._nodes.pop(node.name, None)
