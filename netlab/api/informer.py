"""List, then watch: a local copy of a resource that stays up to date (client-go's reflector and informer)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Generic, TypeVar

from netlab.api.client import Client
from netlab.api.decoding import Unreadable
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.meta_types import Object
from netlab.api.resources import Resource
from netlab.backoff import Backoff

T = TypeVar("T", bound=Object)

_RETRY = Backoff(first=0.05, last=5, steady=5)
"""Between failed attempts. Each varies by half, so that not all clients ask a returning server at the same moment."""

WATCH_SECONDS = (300, 600)
"""How long to ask a watch to last: a time between these, as in client-go. Its end reveals a connection that died."""

_PASSING = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""Refusals of a watch that do not concern its version: it is retried, without listing everything again."""

log = logging.getLogger(__name__)


class Informer(Generic[T]):
    """A copy of a resource's objects, by key, kept up to date by list and watch until cancelled.

    Handlers are called with the old and the new object (None before an object was added or after it was deleted), in
    order, from the event loop, after `items` is updated. They must not block and must not change the objects.
    A lost connection resumes where it broke off; if the server no longer has the changes in between, the resource is
    listed again, and handlers only see differences. An object that can no longer be read keeps its last state.

    If a server does not have the resource in this version, the older version is tried, if there is one.
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
        self.revision = 0
        """The resourceVersion up to which every change is in `items`; 0 before the first list."""
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._served = resource
        self._version = ""
        # The first list may come from the server's cache, as in client-go: thousands of nodes may start at once.
        self._list_from = "0"
        self._unreadable: dict[str, str] = {}
        self._away = False
        self._handlers: list[Callable[[T | None, T | None], None]] = []
        self._on_progress: list[Callable[[], None]] = []

    def on_change(self, handler: Callable[[T | None, T | None], None]) -> None:
        """Call `handler(old, new)` for every change from now on. Register before `run`."""
        self._handlers.append(handler)

    def on_progress(self, handler: Callable[[], None]) -> None:
        """Call `handler()` whenever `revision` has moved, after the handlers of the change that moved it."""
        self._on_progress.append(handler)

    async def run(self) -> None:
        """List and watch until cancelled; never raises for a server that is down or has compacted its history.

        Raises UsageError if the client's credentials cannot be read.
        """
        loop = asyncio.get_running_loop()
        backoff = _RETRY
        while True:
            began, least = loop.time(), 0
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except ApiUnavailableError as error:
                self._lost(error)
            except ApiError as error:
                self._refused(error)
                least = error.retry_after
            # Even after a normal end a watch does not restart at once: some watches end immediately.
            backoff = backoff.failed(loop.time() - began)
            await asyncio.sleep(max(least, backoff.delay * random.uniform(0.5, 1.5)))  # noqa: S311

    def forget(self) -> None:
        """Tell the handlers that all objects are gone: so is the resource, and nothing more is to be had of it."""
        for key in list(self.items):
            self._apply(key, None)

    def _lost(self, error: ApiUnavailableError) -> None:
        # Missed changes are requested from the same version; a server that no longer has them says so (410).
        log.log(logging.DEBUG if self._away else logging.WARNING, "%s: %s; retrying", self._resource.plural, error)
        self._away = True

    def _refused(self, error: ApiError) -> None:
        served = self._served
        if error.code == HTTPStatus.NOT_FOUND and (served.older or served is not self._resource):
            self._served = served.older or self._resource
            self._version = ""
            log.info("the API server has no %s in %s", served.plural, served.api_version)
        elif error.code != HTTPStatus.GONE:
            log.warning("%s: %s; retrying", self._resource.plural, error)
        if error.code not in _PASSING:
            self._version = self._list_from = ""

    def _found(self) -> None:
        if self._away:
            log.warning("%s: the API server is answering again", self._resource.plural)
            self._away = False

    async def _list(self) -> None:
        listing = await self._client.pages(
            self._served,
            self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=self._list_from,
        )
        self._found()
        fresh = {obj.key: obj for obj in listing.items}
        unreadable = {obj.key: obj for obj in listing.unreadable}
        for key in self.items.keys() - fresh.keys() - unreadable.keys():
            self._apply(key, None)
        for key in self._unreadable.keys() - unreadable.keys():
            del self._unreadable[key]
        for each in listing.unreadable:
            self._keep(each)
        for key, obj in fresh.items():
            self._apply(key, obj)
        # From now on lists are consistent reads: a cached one may be older than what was already seen.
        self._version, self._list_from = listing.version, ""
        self.synced.set()
        self._progressed()

    async def _watch(self) -> None:
        async for event in self._client.watch(
            self._served,
            self._version,
            self._namespace,
            labels=self._labels,
            fields=self._fields,
            seconds=random.randint(*WATCH_SECONDS),  # noqa: S311
        ):
            self._found()
            obj = event.object
            self._version = obj.metadata.resourceVersion
            if event.type == "DELETED":
                self._unreadable.pop(obj.key, None)
                self._apply(obj.key, None)
            elif isinstance(obj, Unreadable):
                self._keep(obj)
            elif event.type != "BOOKMARK":
                self._unreadable.pop(obj.key, None)
                self._apply(obj.key, obj)
            self._progressed()

    def _progressed(self) -> None:
        # Resource versions compare as integers (KEP-5504); one that is none says nothing.
        self.revision = int(self._version) if self._version.isdecimal() else 0
        for handler in self._on_progress:
            handler()

    def _keep(self, unreadable: Unreadable) -> None:
        key, reason = unreadable.key, unreadable.reason
        if self._unreadable.get(key) != reason:
            log.error("%s; %s", reason, "keeping its last state" if key in self.items else "ignored")
        self._unreadable[key] = reason

    def _apply(self, key: str, new: T | None) -> None:
        old = self.items.get(key)
        # Not by version alone: a server restored from a backup issues the same versions again.
        if old == new:
            return
        if new is None:
            self.items.pop(key, None)
        else:
            self.items[key] = new
        for handler in self._handlers:
            try:
                handler(old, new)
            except Exception:
                # One handler's failure must not hide this change from the others: they would not see it again.
                log.exception("%s %s: a handler failed", self._resource.singular, key)
