"""An asynchronous client of a Kubernetes API server: what every component of the cluster is.

It speaks plain HTTP to a Unix socket (the lab's own server). Nothing here knows which server answers.
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import aiohttp
import msgspec

from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.media_types import MERGE_PATCH
from netlab.api.meta_types import ListMeta, Object, Status
from netlab.api.resources import PODS, Resource

T = TypeVar("T", bound=Object)

WATCH_LINE_LIMIT = 16 * 1024 * 1024
"""The longest watch event read, in bytes; etcd's own limit for an object is 1.5 MiB."""


class WatchEvent(msgspec.Struct, Generic[T]):
    """One event of a watch: type is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: T


class _RawEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _List(msgspec.Struct, Generic[T]):
    items: list[T] | None
    metadata: ListMeta


class Client:
    """A connection pool to one API server. Use it as an asynchronous context manager.

    Every call raises `ApiError` when the server refuses (its `reason` is Kubernetes' own, such as `NotFound`,
    `Conflict`, `AlreadyExists`, `Expired`), and `ApiUnavailableError` when it does not answer.
    """

    def __init__(self, socket: Path, user_agent: str = "netlab") -> None:
        self._socket = socket
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            base_url="http://netlab",
            connector=aiohttp.UnixConnector(path=str(self._socket), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
            read_bufsize=WATCH_LINE_LIMIT,
            skip_auto_headers=("Accept-Encoding",),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def list(
        self, resource: Resource[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[T], str]:
        """All objects that match the selectors, and the resourceVersion from which a watch goes on."""
        body = await self._request("GET", resource.path(namespace), params=_selectors(labels, fields))
        answer = msgspec.json.decode(body, type=_List[resource.type])  # type: ignore[name-defined]
        for item in answer.items or []:
            item.apiVersion, item.kind = resource.api_version, resource.kind
        return answer.items or [], answer.metadata.resourceVersion

    async def get(self, resource: Resource[T], name: str, namespace: str | None = None) -> T:
        """One object by name."""
        return _decode(resource, await self._request("GET", resource.path(namespace, name)))

    async def create(self, resource: Resource[T], obj: T) -> T:
        """Create an object; the server's version of it comes back, with defaults and a uid."""
        body = await self._request("POST", resource.path(obj.metadata.namespace), body=_encode(resource, obj))
        return _decode(resource, body)

    async def update(self, resource: Resource[T], obj: T, subresource: str | None = None) -> T:
        """Replace an object, or with `subresource="status"` its status.

        With a resourceVersion in it, the update is refused with reason Conflict when somebody was faster.
        """
        path = resource.path(obj.metadata.namespace, obj.metadata.name, subresource)
        return _decode(resource, await self._request("PUT", path, body=_encode(resource, obj)))

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
        path = resource.path(namespace, name, subresource)
        body = await self._request("PATCH", path, body=msgspec.json.encode(patch), content_type=patch_type)
        return _decode(resource, body)

    async def delete(
        self,
        resource: Resource[T],
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        uid: str | None = None,
    ) -> None:
        """Delete an object. A pod on a node is only marked: its kubelet stops it and deletes it with grace 0.

        With `uid`, an object of the same name that is another one is left alone (reason Conflict).
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self._request("DELETE", resource.path(namespace, name), body=msgspec.json.encode(options))

    async def bind(self, name: str, namespace: str, node: str) -> None:
        """Assign a pod to a node, as the scheduler does (POST pods/NAME/binding)."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = PODS.path(namespace, name, "binding")
        await self._request("POST", path, body=msgspec.json.encode(binding))

    async def watch(
        self,
        resource: Resource[T],
        resource_version: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """The changes since `resource_version`, as they happen; ends when the server ends the connection.

        Raises `ApiError` with reason Expired (410) when the server no longer has the changes since then.
        """
        params = _selectors(labels, fields)
        params |= {"watch": "1", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        assert self._session is not None, "used outside its context"
        try:
            async with self._session.get(resource.path(namespace), params=params) as response:
                if response.status != 200:
                    raise ApiError.from_response(response.status, await response.read())
                while line := await response.content.readline():
                    yield _event(resource, line)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiUnavailableError(f"the API server at {self._socket} broke off a watch: {error}") from error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        assert self._session is not None, "used outside its context"
        headers = {"Content-Type": content_type} if body is not None else None
        try:
            async with self._session.request(method, path, params=params, data=body, headers=headers) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiUnavailableError(f"the API server at {self._socket} does not answer: {error}") from error
        if response.status >= 400:
            raise ApiError.from_response(response.status, answer)
        return answer


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}


def _encode(resource: Resource[T], obj: T) -> bytes:
    obj.apiVersion, obj.kind = resource.api_version, resource.kind
    return msgspec.json.encode(obj)


def _decode(resource: Resource[T], body: bytes | msgspec.Raw) -> T:
    obj = msgspec.json.decode(body, type=resource.type)
    obj.apiVersion, obj.kind = resource.api_version, resource.kind
    return obj


def _event(resource: Resource[T], line: bytes) -> WatchEvent[T]:
    raw = msgspec.json.decode(line, type=_RawEvent)
    if raw.type == "ERROR":
        raise ApiError(msgspec.json.decode(raw.object, type=Status))
    if raw.type == "BOOKMARK":
        # A bookmark's object carries nothing but its resourceVersion: required fields are absent.
        meta = msgspec.json.decode(raw.object, type=Object)
        return WatchEvent("BOOKMARK", meta)  # type: ignore[arg-type]
    return WatchEvent(raw.type, _decode(resource, raw.object))
