"""A small blocking client of the API on a Unix socket, for the command line: plain values, no event loop."""

from __future__ import annotations

import contextlib
import http.client
import socket
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import msgspec

from netlab import __version__
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.meta_types import Object, Status

if TYPE_CHECKING:
    from netlab.api.resources import Resource

T = TypeVar("T", bound=Object)

_USER_AGENT = f"netlab/{__version__}"
"""Its first word is who changes objects (metadata.managedFields)."""

_TIMEOUT = 30.0
"""Seconds for one answer of the server."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("netlab", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class BlockingClient:
    """Requests to the API server behind `socket_path`.

    Raises `ApiError` if the server refuses and `ApiUnavailableError` if it does not answer. `warnings` collects
    the server's warnings (the texts of `Warning:` headers, RFC 7234 section 5.5).
    """

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self.warnings: list[str] = []

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = _TIMEOUT,
    ) -> Any:
        """One request; the answer, which may take `timeout` seconds, as plain values."""
        connection = _UnixConnection(self._path, timeout)
        with contextlib.closing(connection), self._translated():
            headers = {"Accept": accept, "Content-Type": content_type}
            response = self._send(connection, method, path, body, params, headers)
            answer = response.read()
            if response.status >= 400:
                raise ApiError.from_response(response.status, answer)
            for warning in response.headers.get_all("Warning") or []:
                # 299 - "text": the text is a quoted string.
                self.warnings.append(warning.split('"', 1)[-1].rsplit('"', 1)[0].replace('\\"', '"'))
            return msgspec.json.decode(answer)

    def list(
        self, resource: Resource[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[T]:
        """The objects that match the selectors, of one Namespace or of all."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        params = {name: value for name, value in selectors.items() if value}
        items = self.request("GET", resource.path(namespace), params=params)["items"]
        return msgspec.convert(items, list[resource.type])  # type: ignore[name-defined]

    def read(self, path: str) -> bytes:
        """What is at a path, as it is."""
        connection = _UnixConnection(self._path, _TIMEOUT)
        with contextlib.closing(connection), self._translated():
            response = self._send(connection, "GET", path)
            answer = response.read()
            if response.status >= 400:
                raise ApiError.from_response(response.status, answer)
            return answer

    def watch(self, path: str, *, params: dict[str, str], idle_timeout: float) -> Iterator[dict[str, Any]]:
        """The events of a watch, until the server ends it. `TimeoutError` after so many seconds without one."""
        connection = _UnixConnection(self._path, idle_timeout)
        with contextlib.closing(connection):
            with self._translated():
                response = self._send(connection, "GET", path, params=params | {"watch": "1"})
                if response.status >= 400:
                    raise ApiError.from_response(response.status, response.read())
            while True:
                try:
                    line = response.readline()
                except TimeoutError:
                    raise
                except (OSError, http.client.HTTPException) as error:
                    raise ApiUnavailableError(f"the API server broke off a watch: {error}") from error
                if not line:
                    return
                event: dict[str, Any] = msgspec.json.decode(line)
                if event["type"] == "ERROR":
                    raise ApiError(msgspec.convert(event["object"], Status))
                yield event

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any = None,
        params: dict[str, str] | None = None,
        headers: Mapping[str, str] = types.MappingProxyType({}),
    ) -> http.client.HTTPResponse:
        target = f"{path}?{urlencode(params)}" if params else path
        content = None if body is None else msgspec.json.encode(body)
        connection.request(method, target, content, {"User-Agent": _USER_AGENT, **headers})
        return connection.getresponse()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ApiUnavailableError(
                f"the API server does not answer on {self._path}: {reason}; see `netlab status`"
            ) from error
