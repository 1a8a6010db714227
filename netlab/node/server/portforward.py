"""Forwards ports of a pod to a client, connection by connection.

Over SPDY/3.1 (a pair of streams for each connection), alone or tunnelled through a WebSocket (KEP-4006); or over a
WebSocket of the older protocol, which has a pair of channels for each port.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from starlette.types import Scope

from netlab.errors import UsageError
from netlab.net.namespaces import entered
from netlab.node.server import websocket
from netlab.node.server.spdyconnection import SpdyConnection, SpdyStream
from netlab.node.server.websocket import Channels, WebSocket

_SPDY = "portforward.k8s.io"
_TUNNEL = "SPDY/3.1+portforward.k8s.io"
_CHANNELS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
_CHUNK = 32 * 1024
_CONNECT = 10.0
"""Seconds for a connection to a port of the pod to come about."""

Send = Callable[[bytes], Awaitable[None]]


class Dialer:
    """Makes connections to a pod's own loopback, as upstream's runtimes do."""

    def __init__(self, namespace: str | None, pod: str) -> None:
        """`namespace` is the path of the pod's network namespace (None: the node's), `pod` what messages call it."""
        self._namespace = namespace
        self._pod = pod

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection. Raises `UsageError` when there is none to be had."""
        loop = asyncio.get_running_loop()
        wrong = ""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                made = self._socket(family)
            except OSError as error:
                raise UsageError(f"pod {self._pod}: its network is gone: {error.strerror}") from error
            try:
                async with asyncio.timeout(_CONNECT):
                    await loop.sock_connect(made, (host, port))
                return await asyncio.open_connection(sock=made)
            except OSError as error:  # TimeoutError among them
                made.close()
                wrong = wrong or (os.strerror(error.errno) if error.errno else "it took too long")
        raise UsageError(f"failed to connect to localhost:{port} inside pod {self._pod}: {wrong}")

    def _socket(self, family: int) -> socket.socket:
        """A socket of the pod's network: it stays there, whichever process uses it."""
        if self._namespace is None:
            return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        there = os.open(self._namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with entered(there):
                return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        finally:
            os.close(there)


async def forward(scope: Scope, dialer: Dialer, ports: Sequence[int]) -> None:
    """Answer a request to forward ports, until the client has gone. `ports` are those of the older protocol."""
    if dict(scope["headers"]).get(b"upgrade", b"").lower() != b"websocket":
        connection = await SpdyConnection.accept(scope, (_SPDY,))
        if connection is not None:
            await _serve_spdy(connection, dialer)
        return
    accepted = await websocket.accept(scope, (_TUNNEL, *(_CHANNELS if ports else ())))
    if accepted is None:
        return
    if accepted.subprotocol == _TUNNEL:
        await _serve_tunnel(accepted, dialer)
    else:
        await _serve_channels(Channels(accepted), dialer, ports)


async def _serve_tunnel(tunnel: WebSocket, dialer: Dialer) -> None:
    connection = SpdyConnection(tunnel.send, tunnel.abort, _SPDY)
    connection.start(tunnel.messages())
    await _serve_spdy(connection, dialer)


async def _serve_spdy(connection: SpdyConnection, dialer: Dialer) -> None:
    """Join the two streams of each connection, which carry the same requestID."""
    waiting: dict[str, SpdyStream] = {}
    async with asyncio.TaskGroup() as tasks:
        while (stream := await connection.next_stream()) is not None:
            request = stream.headers.get("requestid", "")
            other = waiting.pop(request, None)
            if other is None:
                waiting[request] = stream
                continue
            error, data = (other, stream) if other.headers.get("streamtype") == "error" else (stream, other)
            tasks.create_task(_serve_pair(connection, error, data, dialer))
    connection.close()


async def _serve_pair(connection: SpdyConnection, error: SpdyStream, data: SpdyStream, dialer: Dialer) -> None:
    with contextlib.suppress(ConnectionError):
        try:
            reader, writer = await dialer.connect(_port(data.headers.get("port", "")))
        except UsageError as refusal:
            await error.send(str(refusal).encode(), last=True)
            await data.reset()
            connection.forget(error)
            return
        with contextlib.closing(writer):
            await _exchange(data.received(), data.send, reader, writer)
            await data.send(b"", last=True)
            await error.send(b"", last=True)
    connection.forget(error)
    connection.forget(data)


async def _serve_channels(channels: Channels, dialer: Dialer, ports: Sequence[int]) -> None:
    """A pair of channels for each port: data and errors. Each begins with the port's number."""
    writers: dict[int, asyncio.StreamWriter] = {}
    async with asyncio.TaskGroup() as tasks:
        for index, port in enumerate(ports):
            data, error = 2 * index, 2 * index + 1
            for channel in (data, error):
                await channels.send(channel, struct.pack("<H", port))
            try:
                reader, writers[data] = await dialer.connect(port)
            except UsageError as refusal:
                await channels.send(error, str(refusal).encode())
                continue
            tasks.create_task(_send_all(reader, functools.partial(channels.send, data)))
        async for channel, content in channels.received():
            if channel in writers:
                writers[channel].write(content)
                with contextlib.suppress(ConnectionError):
                    await writers[channel].drain()
        for writer in writers.values():
            writer.close()


async def _exchange(
    incoming: AsyncIterator[bytes], send: Send, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Carry bytes between a client and a connection, until the connection has ended; the client may close its side."""

    async def receive() -> None:
        async for chunk in incoming:
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    receiving = asyncio.create_task(receive())
    try:
        await _send_all(reader, send)
    finally:
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await receiving


async def _send_all(reader: asyncio.StreamReader, send: Send) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK):
            await send(chunk)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65536:
        raise UsageError(f"port {text!r}: expected a number from 1 to 65535")
    return int(text)
