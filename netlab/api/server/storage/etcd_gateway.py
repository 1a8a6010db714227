"""A client of etcd's JSON gateway, over TCP or a Unix socket.

https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/

It blocks, as SQLite does: the API server takes one change at a time, and none may be seen before it is kept.
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from netlab.errors import UsageError

if TYPE_CHECKING:
    import ssl

TIMEOUT = 5.0
"""Seconds for an answer. Meanwhile the API server does nothing else."""

_PORT = 2379
_RESOURCE_EXHAUSTED = 8
_DEFINITE = frozenset({3, 8, 9, 11, 12, 16})
"""gRPC's codes of a request that etcd has refused for good: InvalidArgument, ResourceExhausted (no space),
FailedPrecondition, OutOfRange, Unimplemented, Unauthenticated. After another one, such as a timeout or a change of
leader, etcd may still carry it out."""


class AwayError(Exception):
    """etcd cannot be reached: the request was not sent."""


class UncertainError(Exception):
    """The request was sent and has no answer: it may have been carried out."""


class RefusedError(Exception):
    """etcd has refused the request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.is_no_space = code == _RESOURCE_EXHAUSTED


class Place(NamedTuple):
    """Where an etcd is: host and port, or a Unix socket."""

    address: tuple[str, int] | Path
    tls: bool = False


def parse(url: str) -> Place:
    """Where the etcd of a URL is. Raises `UsageError` for one that is not of http, https or unix."""
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path.startswith("/"):
        return Place(Path(parts.path))
    try:
        if parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/") and not parts.username:
            return Place((parts.hostname, parts.port or _PORT), parts.scheme == "https")
    except ValueError as error:
        raise UsageError(f"etcd's URL {url!r}: {error}") from None
    raise UsageError(f"etcd's URL {url!r} is not http://HOST:PORT, https://HOST:PORT or unix:PATH")


def connect(place: Place, context: ssl.SSLContext | None = None) -> socket.socket:
    """A connection to an etcd; over TLS with a `context`, or the host's own authorities. Raises `OSError`."""
    if isinstance(place.address, Path):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(TIMEOUT)
            connection.connect(str(place.address))
        except OSError:
            connection.close()
            raise
        return connection
    connection = socket.create_connection(place.address, TIMEOUT)
    if not place.tls:
        return connection
    import ssl  # a lab's own etcd needs none

    try:
        return (context or ssl.create_default_context()).wrap_socket(connection, server_hostname=place.address[0])
    except OSError:
        connection.close()
        raise


def encoded(data: bytes) -> str:
    """Bytes as the gateway has them in JSON."""
    return base64.b64encode(data).decode("ascii")


class Gateway:
    """One etcd; one connection, kept open. Raises `UsageError` as `parse`."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        """`context` is for TLS, where the URL is of https."""
        self.url = url
        self._place = parse(url)
        self._context = context
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request, such as `kv/txn`. Raises `AwayError`, `UncertainError` and `RefusedError`."""
        connection = self._connected()
        try:
            response = _send(connection, method, message)
            raw = response.read()
            answer: dict[str, Any] = msgspec.json.decode(raw)
        except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
            self.close()
            raise UncertainError(str(error) or type(error).__name__) from error
        if response.status != http.HTTPStatus.OK:
            code, text = answer.get("code", 0), str(answer.get("message") or answer.get("error") or response.reason)
            raise RefusedError(code, text) if code in _DEFINITE else UncertainError(text)
        return answer

    def watch(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers of one watch, on a connection of its own until the iterator is closed. Raises as `call`."""
        connection = self._open()
        try:
            response = _send(connection, "watch", {"create_request": request})
            for line in response:
                yield msgspec.json.decode(line)["result"]
        except (OSError, http.client.HTTPException, msgspec.MsgspecError, KeyError) as error:
            raise UncertainError(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def close(self) -> None:
        """End the connection; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        # To find out by a request that etcd has closed the connection would leave open whether it was carried out.
        if self._connection is None or _is_closed(self._connection.sock):
            self.close()
            self._connection = self._open()
        return self._connection

    def _open(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("etcd")
        try:
            connection.sock = connect(self._place, self._context)
        except OSError as error:
            raise AwayError(f"{self.url}: {error.strerror or error}") from error
        return connection


def _is_closed(connection: socket.socket | None) -> bool:
    """Whether the other side has ended a connection on which no answer is due: then it is readable."""
    if connection is None:
        return True
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _send(connection: http.client.HTTPConnection, method: str, message: Mapping[str, Any]) -> http.client.HTTPResponse:
    connection.request("POST", f"/v3/{method}", msgspec.json.encode(message), {"Content-Type": "application/json"})
    return connection.getresponse()
