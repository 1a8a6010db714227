"""A server of an API group behind a Service: connections to it, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from typing import Any

import msgspec

from netlab.api.errors import ApiError
from netlab.api.registration_types import APIServiceSpec, ServiceReference
from netlab.api.resources import SERVICES
from netlab.api.server.access.authority import Authority
from netlab.api.server.aggregation import availability, documents, identity
from netlab.api.server.connect import forwarding
from netlab.api.server.connect.reaching import Reach, Tls, unverified, verified
from netlab.api.server.identity import MASTERS, User
from netlab.api.server.objects.registration import Verdict
from netlab.api.server.registry.catalog import Delegation
from netlab.api.serving.secure import load_identity
from netlab.api.serving.upgrading import Streams

_ANSWER = 5.0
"""Seconds in which it has to answer."""
_ATTEMPTS = 5

_MOST_LISTED = 1024 * 1024
_MOST_DESCRIBED = 16 * 1024 * 1024
"""Bytes of what a server says that it has, and of a document that describes it."""

_HEADERS = (*identity.headers(User("system:kube-aggregator", (MASTERS,))), (b"accept", b"application/json"))

_UNREADABLE = (ApiError, OSError, ValueError, msgspec.MsgspecError)
"""What comes of a server that is away, or says what makes no sense."""


class Server:
    """The server that an APIService names."""

    def __init__(self, reach: Reach, authority: Authority, spec: APIServiceSpec, service: ServiceReference) -> None:
        self._reach = reach
        self._authority = authority
        self._tls: Tls | None = None
        self.spec = spec
        self.service = service
        self.host = f"{service.name}.{service.namespace}.svc"
        """The name that its certificate has to have."""
        self.delegation = Delegation(
            spec.group,
            spec.version,
            spec.groupPriorityMinimum,
            spec.versionPriority,
        )
        """As far as it is known."""

    async def connect(self) -> Streams:
        """A connection to one of its endpoints. Raises `ApiError` (503)."""
        if self._tls is None:
            self._tls = Tls(self._context(), self.host)
        wanted = f"https:{self.service.name}:{self.service.port}"
        return await self._reach.connect(self._reach.of_service(self.service.namespace, wanted, "/", ""), self._tls)

    def _context(self) -> ssl.SSLContext:
        context = unverified() if self.spec.insecureSkipTLSVerify else verified(self.spec.caBundle)
        signed = self._authority.front_proxy.issue_client(identity.CLIENT, ())
        load_identity(context, signed.certificate + signed.key)
        return context

    async def ask(self) -> Verdict:
        """Whether it answers; what it says of itself is in the `delegation` then."""
        named = self.service
        service = self._reach.find(SERVICES, named.namespace, named.name)
        found = availability.problem(named, service, self._reach.slices(named.namespace, named.name))
        if found is not None:
            return found
        path = f"apis/{self.spec.group}/{self.spec.version}"
        why = ""
        for _ in range(_ATTEMPTS):
            try:
                status, listed = await self._fetch(f"/{path}", _MOST_LISTED)
                if not 200 <= status < 400:
                    raise ValueError(f"bad status: {status}")
            except _UNREADABLE as error:
                why = f"failing or missing response from https://{self.host}:{named.port}/{path}: {error}"
                continue
            await self._read(path, listed)
            return availability.PASSED
        return availability.unasked(why)

    async def _fetch(self, path: str, limit: int) -> tuple[int, bytes]:
        async with asyncio.timeout(_ANSWER):
            return await forwarding.fetch(await self.connect(), self.host, path, _HEADERS, limit)

    async def _read(self, path: str, listed: bytes) -> None:
        """Take note of what it says; what cannot be read is as if it were not said."""
        known = self.delegation
        changes: dict[str, Any] = {}
        with contextlib.suppress(*_UNREADABLE):
            changes["resources"] = documents.resources(listed, self.spec.group, self.spec.version)
        with contextlib.suppress(*_UNREADABLE):
            _, index = await self._fetch("/openapi/v3", _MOST_LISTED)
            changes["document"] = documents.digest(index, path)
        if known.swagger is None or known.document != changes.get("document", ""):
            with contextlib.suppress(*_UNREADABLE):
                _, described = await self._fetch("/openapi/v2", _MOST_DESCRIBED)
                changes["swagger"] = await asyncio.to_thread(documents.swagger, described, path)
        self.delegation = dataclasses.replace(self.delegation, **changes)
