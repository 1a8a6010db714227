"""Keeps APIServices, and passes requests about what other servers have on to them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import Any, NamedTuple

import msgspec
from starlette.types import Receive, Scope, Send

from netlab.api.discovery_types import SERVICE_NAME_LABEL
from netlab.api.errors import ApiError
from netlab.api.registration_types import APIService
from netlab.api.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS, ENDPOINTSLICES, SERVICES, STATUS, Resource
from netlab.api.server import refusals
from netlab.api.server.access.authentication import caller
from netlab.api.server.access.authority import Authority
from netlab.api.server.aggregation import identity, registration
from netlab.api.server.aggregation.servers import Server
from netlab.api.server.connect import forwarding
from netlab.api.server.connect.reaching import Reach
from netlab.api.server.objects.conditions import set_condition
from netlab.api.server.objects.registration import AVAILABLE, LOCAL, Verdict
from netlab.api.server.registry.generic import Registry
from netlab.api.server.storage.watch import Event, Stored
from netlab.backoff import Backoff

_EVERY = 30.0
"""Seconds after which a server is asked again though nothing has changed, as upstream."""
_RETRY = Backoff(first=0.1, last=_EVERY)
_KEEP = 10.0
"""Seconds after which what was deleted or changed is there again."""

_APISERVICES: Resource[Any] = APISERVICES

log = logging.getLogger(__name__)


class _Followed(NamedTuple):
    server: Server
    woken: asyncio.Event
    following: asyncio.Task[None]


class Aggregator:
    """The APIServices of a registry."""

    def __init__(self, registry: Registry, reach: Reach, authority: Authority) -> None:
        self._registry = registry
        self._reach = reach
        self._authority = authority
        self._followed: dict[str, _Followed] = {}
        """By the name of the APIService."""
        self._defined = asyncio.Event()

    # --- requests --------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Server | None:
        """Whose request it is, by its path; None: this server's own."""
        if not self._followed:
            return None
        parts = path.removeprefix("/openapi/v3").split("/", 4)
        if parts[1:2] != ["apis"] or len(parts) <= 3:
            return None
        found = self._followed.get(f"{parts[3]}.{parts[2]}")
        return found.server if found is not None else None

    async def answer(self, scope: Scope, receive: Receive, send: Send, server: Server) -> None:
        """Pass a request on. Raises `ApiError` (400, 503) as long as nothing has been sent."""
        if not server.delegation.available:
            raise refusals.service_unavailable("service unavailable")
        who = identity.headers(caller(scope))
        streams = await server.connect()
        query = scope["query_string"].decode("latin-1")
        target = scope["raw_path"].decode("ascii") + (f"?{query}" if query else "")
        await forwarding.forward(scope, receive, send, streams, server.host, target, identity=who)

    # --- what there is ---------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Keep APIServices, and what is told of them, as they are to be, until cancelled."""
        hub = self._registry.store.hub
        hub.observe(APISERVICES.collection, self._registered)
        hub.observe(CUSTOMRESOURCEDEFINITIONS.collection, lambda _: self._defined.set())
        for resource in (SERVICES, ENDPOINTSLICES):
            hub.observe(resource.collection, self._touched)
        for stored in list(self._registry.store.all(_APISERVICES)):
            self._take(stored)
        registration.reconcile(self._registry, starts=True)
        try:
            while True:
                identity.publish(self._registry, self._authority)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_KEEP):
                        await self._defined.wait()
                self._defined.clear()
                registration.reconcile(self._registry, starts=False)
        finally:
            for name in list(self._followed):
                self._forget(name)

    def _registered(self, event: Event) -> None:
        if event.after is not None:
            self._take(event.after)
        elif event.before is not None:
            self._forget(event.before.name)

    def _take(self, stored: Stored) -> None:
        """Take note of an APIService as it is now."""
        name, found = stored.name, msgspec.json.decode(stored.raw, type=APIService)
        followed = self._followed.get(name)
        if followed is not None and followed.server.spec != found.spec:
            self._forget(name)
            followed = None
        if found.spec.service is None:
            if not any(each.reason == LOCAL.reason for each in found.status.conditions):
                asyncio.get_running_loop().call_soon(self._tell, name, LOCAL)
            return
        if followed is None:
            server, woken = Server(self._reach, self._authority, found.spec, found.spec.service), asyncio.Event()
            followed = _Followed(server, woken, asyncio.create_task(self._follow(name, server, woken)))
            self._followed[name] = followed
        available = any(each.type == AVAILABLE and each.status == "True" for each in found.status.conditions)
        followed.server.delegation = dataclasses.replace(followed.server.delegation, available=available)
        self._registry.catalog.delegate(followed.server.delegation)

    def _forget(self, name: str) -> None:
        followed = self._followed.pop(name, None)
        if followed is not None:
            followed.following.cancel()
            self._registry.catalog.take_back(followed.server.delegation)

    def _touched(self, event: Event) -> None:
        """Have the servers behind a Service asked again, of which an object has changed."""
        stored = event.after or event.before
        if stored is None or not self._followed:
            return
        place = stored.namespace, stored.labels.get(SERVICE_NAME_LABEL, stored.name)
        for followed in self._followed.values():
            if (followed.server.service.namespace, followed.server.service.name) == place:
                followed.woken.set()

    # --- whether others answer -------------------------------------------------------------------------------------

    async def _follow(self, name: str, server: Server, woken: asyncio.Event) -> None:
        """Tell again and again whether a server answers, until cancelled."""
        retry = _RETRY
        while True:
            woken.clear()
            verdict = await server.ask()
            self._registry.catalog.delegate(server.delegation)
            self._tell(name, verdict)
            retry = _RETRY if verdict.available else retry.failed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY if verdict.available else retry.delay):
                    await woken.wait()
                    retry = _RETRY

    def _tell(self, name: str, verdict: Verdict) -> None:
        """Write what was found out."""
        stored = self._registry.store.get(_APISERVICES, "", name)
        if stored is None:
            return
        obj = stored.decode()
        set_condition(obj, AVAILABLE, holds=verdict.available, reason=verdict.reason, message=verdict.message)
        try:
            if obj != stored.decode():
                self._registry.update(_APISERVICES, "", name, obj, subresource=STATUS)
        except ApiError as error:
            log.warning("APIService %s: %s", name, error)
