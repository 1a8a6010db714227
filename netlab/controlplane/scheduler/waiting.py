"""Pods that no node accepts: which changes may help them, and how soon each is tried again (KEP-4247, simplified).

A pod waits for a change that is the business of a plugin that refused a node. It is then tried again at once, unless it
was tried a moment ago.
"""

from __future__ import annotations

import dataclasses
import enum

from netlab.backoff import Backoff
from netlab.controlplane.scheduler.plugins import PLUGINS
from netlab.controlplane.scheduler.plugins.base import Plugin
from netlab.controlplane.scheduler.plugins.interpodaffinity import INTER_POD_AFFINITY
from netlab.controlplane.scheduler.plugins.nodeaffinity import NODE_AFFINITY
from netlab.controlplane.scheduler.plugins.resources import NODE_PORTS, NODE_RESOURCES_FIT
from netlab.controlplane.scheduler.plugins.taints import NODE_UNSCHEDULABLE, TAINT_TOLERATION
from netlab.controlplane.scheduler.plugins.topologyspread import POD_TOPOLOGY_SPREAD

TRIES = Backoff(first=0.1, last=10)
"""Between two tries of one pod. Shorter than upstream's, which begin at 1 s: a person is waiting for the lab."""

WITHOUT_A_CHANGE = 300.0
"""Seconds after which a pod is tried again whatever has changed (podMaxInUnschedulablePodsDuration)."""


class Change(enum.Enum):
    """Something that may make room for a pod."""

    NODE_ADDED = enum.auto()
    NODE_REMOVED = enum.auto()
    NODE_LABELS = enum.auto()
    NODE_TAINTS = enum.auto()
    NODE_ALLOCATABLE = enum.auto()
    POD_PLACED = enum.auto()
    POD_CHANGED = enum.auto()
    """Its labels, or it is being deleted."""
    POD_GONE = enum.auto()
    NAMESPACE_LABELS = enum.auto()


def _names(*plugins: Plugin) -> frozenset[str]:
    return frozenset(plugin.name for plugin in plugins)


_HELPS: dict[Change, frozenset[str]] = {
    Change.NODE_ADDED: _names(*PLUGINS),
    Change.NODE_REMOVED: _names(POD_TOPOLOGY_SPREAD),
    Change.NODE_LABELS: _names(NODE_AFFINITY, POD_TOPOLOGY_SPREAD, INTER_POD_AFFINITY),
    Change.NODE_TAINTS: _names(NODE_UNSCHEDULABLE, TAINT_TOLERATION, POD_TOPOLOGY_SPREAD),
    Change.NODE_ALLOCATABLE: _names(NODE_RESOURCES_FIT),
    Change.POD_PLACED: _names(POD_TOPOLOGY_SPREAD, INTER_POD_AFFINITY),
    Change.POD_CHANGED: _names(POD_TOPOLOGY_SPREAD, INTER_POD_AFFINITY),
    Change.POD_GONE: _names(NODE_PORTS, NODE_RESOURCES_FIT, POD_TOPOLOGY_SPREAD, INTER_POD_AFFINITY),
    Change.NAMESPACE_LABELS: _names(INTER_POD_AFFINITY),
}


@dataclasses.dataclass(frozen=True)
class _Wait:
    plugins: frozenset[str]
    backoff: Backoff
    until: float
    is_waiting: bool = True
    """Whether nothing has happened yet that may help."""


class WaitingRoom:
    """The pods that wait, by their keys. Times are seconds on a clock of the caller's."""

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}

    def refused(self, key: str, plugins: frozenset[str], now: float) -> None:
        """No node accepts the pod; these plugins refused one (none: there is no node)."""
        before = self._waits.get(key)
        backoff = (before.backoff if before is not None else TRIES).failed()
        self._waits[key] = _Wait(plugins, backoff, now + backoff.delay)

    def forget(self, key: str) -> None:
        """The pod has a node, or is gone, or is not what it was."""
        self._waits.pop(key, None)

    def wake(self, change: Change, now: float) -> list[tuple[str, float]]:
        """The pods that the change may help, and in how many seconds each is to be tried."""
        helped = _HELPS[change]
        woken = []
        for key, wait in self._waits.items():
            if wait.is_waiting and (change is Change.NODE_ADDED or wait.plugins & helped):
                woken.append((key, max(0.0, wait.until - now)))
                self._waits[key] = dataclasses.replace(wait, is_waiting=False)
        return woken
