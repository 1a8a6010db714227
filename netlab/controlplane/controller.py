"""What every control loop has: a queue of keys, and a way to bring one key's object to its desired state."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import Any, ClassVar

from netlab.api.events import WARNING, explained, record
from netlab.api.meta_types import Object
from netlab.api.progress import Work
from netlab.api.resources import Resource
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.workqueue import WorkQueue


class Controller(abc.ABC):
    """One control loop: level-triggered, idempotent, informers say which keys to look at."""

    name: ClassVar[str]
    """The component's name in logs and events."""
    resource: ClassVar[Resource[Any]]
    """Of the objects that keys are of."""
    workers: ClassVar[int] = 1
    """How many keys are reconciled at once."""
    min_interval: ClassVar[float] = 0.0
    """The minimum number of seconds between two reconciliations of one key."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.client = cluster.client
        self.queue = WorkQueue(
            self.name,
            min_interval=self.min_interval,
            progress=cluster.progress,
            failed=self._tell,
            rank=self.rank,
        )
        self._starting: Work | None = cluster.progress.begin()

    @abc.abstractmethod
    def keys(self) -> Iterable[str]:
        """Every key to reconcile when the controller starts, whether or not a change was seen."""

    @abc.abstractmethod
    async def reconcile(self, key: str) -> None:
        """Bring the object under `key` to its desired state. If it raises, the key is retried later."""

    def subject(self, key: str) -> Object | None:
        """The object that is brought to what is wanted under `key`; None if it is gone."""
        return self.cluster.informers[self.resource].items.get(key)

    def rank(self, key: str) -> int:
        """Which of the keys that wait comes first: that with the lowest rank."""
        return 0

    async def _tell(self, key: str, error: Exception) -> None:
        subject = self.subject(key)
        if subject is not None:
            await record(self.client, subject, WARNING, "ReconcileError", explained(error), self.name)

    async def run(self) -> None:
        """Work until cancelled. May be called again after it raises."""
        await self.cluster.synced()
        for key in self.keys():
            self.queue.add(key)
        if self._starting is not None:
            self.cluster.progress.end(self._starting)
            self._starting = None
        await self.queue.run(self.reconcile, self.workers)
