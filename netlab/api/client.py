"""An asynchronous client of a Kubernetes API server: which every component of the cluster uses.

It speaks HTTP/1.1 to the lab's own server on its Unix socket or, over TLS, to any other server; nothing here depends on
which one answers (`Endpoint`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import ssl
import time
import types
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from netlab.api import decoding
from netlab.api.decoding import Unreadable
from netlab.api.endpoint import Endpoint
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.media_types import MERGE_PATCH
from netlab.api.meta_types import Object
from netlab.api.resources import ENDPOINTS, EVENTS, PODS, SERVICEACCOUNTS, Resource
from netlab.api.review_types import TokenRequest, TokenRequestStatus

T = TypeVar("T", bound=Object)

SILENCE = 60.0
"""Seconds without a byte after which to give up on an answer: apiserver's own limit for a request."""

PAGE = 500
"""How many objects to request at once, as in client-go's pager."""

_WATCH_GRACE = 30.0
"""Seconds of grace for a server to end a watch after its time is up."""


@dataclasses.dataclass(frozen=True)
class WatchEvent(Generic[T]):
    """One event of a watch: type is ADDED, MODIFIED, DELETED or BOOKMARK.

    A bookmark's object is its metadata. An object that cannot be read is an `Unreadable`, which says why.
    """

    type: str
    object: T


@dataclasses.dataclass
class Listing(Generic[T]):
    """A list's objects, those among them that cannot be read, and the version from which to watch."""

    items: list[T]
    unreadable: list[Unreadable]
    version: str


class Client:
    """A connection pool to one API server. Use it as an asynchronous context manager.

    Every call raises `ApiError` if the server refuses (its `reason` is Kubernetes' own, such as `NotFound`,
    `Conflict`, `AlreadyExists`, `Expired`), `ApiUnavailableError` if it does not answer, and `UsageError` if the
    credentials cannot be read.
    """

    def __init__(self, endpoint: Endpoint | Path, user_agent: str = "netlab") -> None:
        """A client of `endpoint`; of the lab's own server, if that is the path of its socket.

        The first word of `user_agent` is who changes objects (metadata.managedFields).
        """
        self._endpoint = Endpoint.of_socket(endpoint) if isinstance(endpoint, Path) else endpoint
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self.writes = 0
        """How many changes of objects have been asked for; Events and Endpoints, by which no packet goes, aside."""
        self.observe: Callable[[str, str, float], None] = lambda *_: None
        """Called for each request: its method, the answer's status (`<error>`: there was none), and after how many
        seconds it began."""

    @property
    def host(self) -> str:
        """The API server, for people."""
        return urlsplit(self._endpoint.url).netloc

    async def __aenter__(self) -> Self:
        path = self._endpoint.socket
        self._session = aiohttp.ClientSession(
            connector=(
                aiohttp.UnixConnector(path=str(path), limit=0)
                if path is not None
                else aiohttp.TCPConnector(limit=0, socket_factory=_tcp_socket)
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE),
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
            skip_auto_headers=("Accept-Encoding",),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def documents(self, resource: Resource[Any], namespace: str) -> Sequence[dict[str, Any]]:
        """All objects of a namespace as they are sent, as JSON values: a consistent read."""
        body = await self._request("GET", resource.path(namespace))
        listed: Sequence[dict[str, Any]] = msgspec.json.decode(body)["items"]
        return listed

    async def list(
        self, resource: Resource[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[T], str]:
        """All objects that match the selectors, and the resourceVersion from which to watch."""
        found = await self.pages(resource, namespace, labels=labels, fields=fields)
        for unreadable in found.unreadable:
            raise ApiError.unreadable(unreadable.reason)
        return found.items, found.version

    async def pages(
        self,
        resource: Resource[T],
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
    ) -> Listing[T]:
        """The same in pages, with unreadable objects listed separately.

        `resource_version` "0" accepts the server's cache, which may be old; "" is a consistent read.
        """
        params = _selectors(labels, fields)
        first = params | ({"resourceVersion": resource_version} if resource_version else {})
        listing, more = await self._page(resource, namespace, first | {"limit": str(PAGE)})
        while more:
            try:
                page, more = await self._page(resource, namespace, params | {"limit": str(PAGE), "continue": more})
            except ApiError as error:
                if error.code != HTTPStatus.GONE:
                    raise
                # The list took longer than the server keeps its state: request it all at once (client-go's pager).
                listing, more = await self._page(resource, namespace, first)
                continue
            listing.items += page.items
            listing.unreadable += page.unreadable
            listing.version = page.version
        return listing

    async def _page(
        self, resource: Resource[T], namespace: str | None, params: dict[str, str]
    ) -> tuple[Listing[T], str]:
        body = await self._request("GET", resource.path(namespace), params=params)
        items, unreadable, meta = decoding.listed(resource, body)
        return Listing(items, unreadable, meta.resourceVersion), meta.continue_

    async def get(self, resource: Resource[T], name: str, namespace: str | None = None) -> T:
        """One object by name."""
        return decoding.one(resource, await self._request("GET", resource.object_path(namespace, name)))

    async def create(self, resource: Resource[T], obj: T) -> T:
        """Create an object; returns the server's version of it, with defaults and a uid."""
        path = resource.path(obj.metadata.namespace)
        body = await self._write(resource, "POST", path, _encode(resource, obj))
        return decoding.one(resource, body)

    async def update(self, resource: Resource[T], obj: T, subresource: str | None = None) -> T:
        """Replace an object, or with `subresource="status"` its status.

        If it has a resourceVersion, the update is refused with reason Conflict when another client got there first.
        """
        path = resource.object_path(obj.metadata.namespace, obj.metadata.name, subresource)
        return decoding.one(resource, await self._write(resource, "PUT", path, _encode(resource, obj)))

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        namespace: str | None,
        patch: Any,
        *,
        subresource: str | None = None,
        patch_type: str = MERGE_PATCH,
    ) -> T:
        """Change part of an object; `patch` is what the patch type (media_types) says, in Python or API values."""
        path = resource.object_path(namespace, name, subresource)
        body = await self._write(resource, "PATCH", path, msgspec.json.encode(patch), patch_type)
        return decoding.one(resource, body)

    async def delete(
        self,
        resource: Resource[T],
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        uid: str | None = None,
        propagation: str | None = None,
    ) -> None:
        """Delete an object. A pod on a node is only marked: its kubelet stops it, then deletes it with grace 0.

        With `uid`, another object of the same name is not deleted (reason Conflict). `propagation` says what happens to
        its dependents: Background, Foreground or Orphan.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self._write(resource, "DELETE", resource.object_path(namespace, name), msgspec.json.encode(options))

    async def bind(self, name: str, namespace: str, node: str) -> None:
        """Assign a pod to a node, as the scheduler does (POST pods/NAME/binding)."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = PODS.object_path(namespace, name, "binding")
        await self._write(PODS, "POST", path, msgspec.json.encode(binding))

    async def request_token(
        self,
        account: str,
        namespace: str,
        *,
        audiences: Sequence[str],
        seconds: int | None,
        pod: tuple[str, str],
    ) -> TokenRequestStatus:
        """A token of a service account for a pod (its name and uid): it is good while the pod is there."""
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod[0], "uid": pod[1]}
        spec = {"audiences": list(audiences), "expirationSeconds": seconds, "boundObjectRef": bound}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = SERVICEACCOUNTS.object_path(namespace, account, "token")
        answer = await self._request("POST", path, body=msgspec.json.encode(request))
        return msgspec.json.decode(answer, type=TokenRequest).status

    async def watch(
        self,
        resource: Resource[T],
        resource_version: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        seconds: int | None = None,
    ) -> AsyncIterator[WatchEvent[T]]:
        """The changes since `resource_version`, as they happen. Ends when the server ends it, or after `seconds`.

        Raises `ApiError` with reason Expired (410) if the server no longer has the changes since then.
        """
        params = _selectors(labels, fields)
        params |= {"watch": "1", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        total = None
        if seconds is not None:
            params["timeoutSeconds"] = str(seconds)
            # Must also end a connection whose other end is alive but has forgotten it.
            total = seconds + _WATCH_GRACE
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=5)
        with self._translated("broke off a watch"):
            async with self._granted("GET", resource.path(namespace), params=params, timeout=timeout) as response:
                async for line in decoding.lines(response.content.iter_any()):
                    kind, obj = decoding.event(resource, line)
                    yield WatchEvent(kind, obj)

    async def _write(
        self, resource: Resource[T], method: str, path: str, body: bytes, content_type: str = "application/json"
    ) -> bytes:
        self.writes += resource not in (EVENTS, ENDPOINTS)
        return await self._request(method, path, body=body, content_type=content_type)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        headers = {"Content-Type": content_type} if body is not None else {}
        with self._translated("does not answer"):
            async with self._granted(method, path, params=params, data=body, headers=headers) as response:
                return await response.read()

    @contextlib.asynccontextmanager
    async def _granted(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request; retries with newer credentials if the server refuses the old ones."""
        assert self._session is not None, "used outside its context"
        again = True
        while True:
            access = await self._endpoint.access()
            sent = dict(headers or {})
            if access.identity.token:
                sent["Authorization"] = f"Bearer {access.identity.token}"
            request = self._session.request(
                method,
                f"{self._endpoint.url}{path}",
                headers=sent,
                ssl=access.tls or True,
                server_hostname=self._endpoint.server_name,
                allow_redirects=False,  # would send our credentials anywhere
                **options,
            )
            async with self._observed(method, request) as response:
                if response.status == HTTPStatus.UNAUTHORIZED and again and await self._endpoint.renew(access):
                    again = False
                    continue
                if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                    body = await response.read()
                    raise ApiError.from_response(response.status, body, response.headers.get("Retry-After", ""))
                yield response
                return

    @contextlib.asynccontextmanager
    async def _observed(
        self, method: str, request: contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with contextlib.AsyncExitStack() as stack:
            began, code = time.monotonic(), "<error>"
            try:
                response = await stack.enter_async_context(request)
                code = str(response.status)
            finally:
                self.observe(method, code, time.monotonic() - began)
            yield response

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiUnavailableError(f"the API server at {self._endpoint} {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What is wrong according to aiohttp, without where in Python."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        said = (getattr(cause, "verify_message", "") or str(cause)).rstrip(".")
        return f"its certificate is not accepted: {said}; see certificate-authority and tls-server-name"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {(cause.reason or str(cause)).lower().replace('_', ' ')}"
    number = getattr(cause, "errno", None) or 0
    if number > 0:
        return os.strerror(number)  # asyncio's own text tells the address again
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _tcp_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices within a minute that the other end is gone: an idle watch would not notice."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}


def _encode(resource: Resource[T], obj: T) -> bytes:
    obj.apiVersion, obj.kind = resource.api_version, resource.kind
    return msgspec.json.encode(obj)
