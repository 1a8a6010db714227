"""A server for small answers: GET and HEAD, one request per connection, with a timeout of a few seconds.

Health check servers come and go with Services, and closing one must not leave a client waiting. Up to Python 3.11,
asyncio's servers forget, without closing it, a connection that arrives just before they are closed, and so does
everything built on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

from netlab.net.addresses import socket_family
from netlab.proxy.config import Listen

_TIMEOUT = 5.0
"""Seconds that a client may take to send its request, and to read the answer."""
_LONGEST_HEAD = 8192
"""How many bytes of a request to read."""
_PAUSE = 1.0
"""Seconds to wait before accepting again when the process has too many open files."""

_CONVERSATIONS: set[asyncio.Task[None]] = set()
"""The event loop itself keeps no references to tasks."""

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """A client's request."""

    path: str
    """Without the query."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    """The address that the client connected to."""


class Response(NamedTuple):
    """The answer."""

    status: int
    body: bytes = b""
    type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = {}


Handler: TypeAlias = Callable[[Request], Response | None]
"""Answers a request; None resets the connection, as if nothing listened there."""

NOT_FOUND = Response(HTTPStatus.NOT_FOUND, b"404 page not found\n")


def text(body: str) -> Response:
    """An answer with a text."""
    return Response(HTTPStatus.OK, body.encode())


def json_answer(value: Mapping[str, object], status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON object."""
    return Response(status, json.dumps(value).encode(), "application/json", headers or {})


@contextlib.contextmanager
def serving(listen: Listen, handler: Handler) -> Iterator[None]:
    """Answer at an address for as long as the context is open. Raises OSError when it cannot be bound."""
    loop = asyncio.get_running_loop()
    listener = _bound(listen)
    listener.setblocking(False)

    def accept() -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.error("%s: cannot accept a connection: %s", listen, error.strerror)
            loop.remove_reader(listener)
            loop.call_later(_PAUSE, resume)
            return
        task = loop.create_task(_converse(connection, handler))
        _CONVERSATIONS.add(task)
        task.add_done_callback(_CONVERSATIONS.discard)

    def resume() -> None:
        if listener.fileno() >= 0:
            loop.add_reader(listener, accept)

    resume()
    try:
        yield
    finally:
        loop.remove_reader(listener)
        listener.close()


async def _converse(connection: socket.socket, handler: Handler) -> None:
    reader, writer = await asyncio.open_connection(sock=connection, limit=_LONGEST_HEAD)
    try:
        async with asyncio.timeout(_TIMEOUT):
            await _answer(reader, writer, handler)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        writer.transport.abort()
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        head = b""
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    target, _, version = rest.partition(b" ")
    response: Response | None
    if not version.startswith(b"HTTP/1."):
        response = Response(HTTPStatus.BAD_REQUEST, b"400 bad request\n")
    elif method not in (b"GET", b"HEAD"):
        response = Response(HTTPStatus.METHOD_NOT_ALLOWED, b"405 method not allowed\n", headers={"Allow": "GET, HEAD"})
    else:
        response = handler(Request(target.partition(b"?")[0].decode("ascii", "replace"), _own_address(writer)))
    if response is None:
        writer.transport.abort()
        return
    headers = {
        "Content-Type": response.type,
        "Content-Length": str(len(response.body)),
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
        **response.headers,
    }
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == b"HEAD" else response.body))
    await writer.drain()


def _own_address(writer: asyncio.StreamWriter) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(writer.get_extra_info("sockname")[0].partition("%")[0])
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


def _bound(listen: Listen) -> socket.socket:
    if ipaddress.ip_address(listen.host).is_unspecified:
        try:
            return socket.create_server(("::", listen.port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            # Neither exists if the kernel was started without IPv6.
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return socket.create_server(("", listen.port))
    return socket.create_server(listen, family=socket_family(listen.host))
