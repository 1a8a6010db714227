"""List, then watch: a local copy of a resource that stays true (client-go's reflector and informer)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Generic, TypeVar

from netlab.api.client import Client
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.meta_types import Object
from netlab.api.resources import Resource

T = TypeVar("T", bound=Object)

FIRST_RETRY = 0.05
LAST_RETRY = 5.0
"""Seconds between attempts at a list that fails; doubled from the first to the last."""

log = logging.getLogger(__name__)


class Informer(Generic[T]):
    """A copy of a resource's objects, by key, kept true by list and watch until cancelled.

    Handlers are called with the old and the new object (None for one that was not, or is no longer, there), in
    order, from the event loop, after `items` is up to date. They must not block and must not change the objects.
    After a lost connection the resource is listed again, and handlers see only what differs.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource[T],
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
    ) -> None:
        self.items: dict[str, T] = {}
        self.synced = asyncio.Event()
        """Set once the first list is in `items`."""
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._version = ""
        self._handlers: list[Callable[[T | None, T | None], None]] = []

    def on_change(self, handler: Callable[[T | None, T | None], None]) -> None:
        """Call `handler(old, new)` for every change from now on. Register before `run`."""
        self._handlers.append(handler)

    async def run(self) -> None:
        """List and watch until cancelled; never raises for a server that is away or has compacted its history."""
        retry = FIRST_RETRY
        while True:
            try:
                if not self._version:
                    await self._list()
                retry = FIRST_RETRY
                await self._watch()
            except ApiUnavailableError as error:
                # What was missed is asked for from the same version; a server that lost it says so (410).
                log.debug("%s: %s; trying again in %.2f s", self._resource.plural, error, retry)
                await asyncio.sleep(retry)
                retry = min(retry * 2, LAST_RETRY)
            except ApiError as error:
                if error.code != HTTPStatus.GONE:
                    log.warning("%s: %s; listing again in %.2f s", self._resource.plural, error, retry)
                    await asyncio.sleep(retry)
                    retry = min(retry * 2, LAST_RETRY)
                self._version = ""

    async def _list(self) -> None:
        listed, version = await self._client.list(
            self._resource, self._namespace, labels=self._labels, fields=self._fields
        )
        fresh = {obj.key: obj for obj in listed}
        for key in self.items.keys() - fresh.keys():
            self._apply(key, None)
        for key, obj in fresh.items():
            self._apply(key, obj)
        self._version = version
        self.synced.set()

    async def _watch(self) -> None:
        async for event in self._client.watch(
            self._resource, self._version, self._namespace, labels=self._labels, fields=self._fields
        ):
            self._version = event.object.metadata.resourceVersion
            if event.type != "BOOKMARK":
                self._apply(event.object.key, event.object if event.type != "DELETED" else None)

    def _apply(self, key: str, new: T | None) -> None:
        old = self.items.get(key)
        if old is not None and new is not None and old.metadata.resourceVersion == new.metadata.resourceVersion:
            return
        if new is None:
            self.items.pop(key, None)
        else:
            self.items[key] = new
        for handler in self._handlers:
            try:
                handler(old, new)
            except Exception:
                # One handler's fault must not cost the others this change: nothing would tell them again.
                log.exception("%s %s: a handler failed", self._resource.singular, key)
