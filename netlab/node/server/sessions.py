"""A client's side of a command: its input and the size of its terminal, and where output and status go.

Over WebSocket (v5, v4 and the channel protocols before it), or over SPDY/3.1, which clients before Kubernetes 1.30 use.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import msgspec
from starlette.types import Scope

from netlab.api.meta_types import Status
from netlab.node.server import websocket
from netlab.node.server.spdyconnection import SpdyConnection, SpdyStream
from netlab.node.server.websocket import Channels

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
"""What a command's streams are called, by the channels of WebSockets."""

_V4, _V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
_WEBSOCKET = (_V5, _V4, "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io")
_SPDY = (_V4, "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
_STREAMS = {STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", ERROR: "error", RESIZE: "resize"}

_PATIENCE = 30.0
"""Seconds in which a client has to open its streams (kubelet's StreamCreationTimeout)."""


class Session(Protocol):
    """The client of a command."""

    def received(self) -> AsyncIterator[tuple[int, bytes | None]]:
        """What comes on STDIN and RESIZE (None: it is closed), until the client has gone."""

    async def send(self, stream: int, data: bytes) -> None:
        """Send what came on STDOUT or STDERR; waits for a slow client. Raises `ConnectionError` when it has gone."""

    async def finish(self, status: Status) -> None:
        """Say how the command ended, and close the connection."""


async def accept(scope: Scope, streams: Sequence[int]) -> Session | None:
    """The session that a request asks for, with these of the `streams`; None if the client was refused."""
    if dict(scope["headers"]).get(b"upgrade", b"").lower() == b"websocket":
        socket = await websocket.accept(scope, _WEBSOCKET)
        if socket is None:
            return None
        session = _WebSocketSession(Channels(socket), socket.subprotocol)
        await session.greet(streams)
        return session
    connection = await SpdyConnection.accept(scope, _SPDY)
    if connection is None:
        return None
    return await _SpdySession.open(connection, streams)


def _encoded(status: Status, subprotocol: str) -> bytes:
    """A status as a client of the protocol reads it: before v4 it was a text, and none for success."""
    if "v4." in subprotocol or "v5." in subprotocol:
        # Clients need what netlab's encoding leaves out as a default.
        return msgspec.json.encode({"metadata": {}, "status": status.status} | msgspec.to_builtins(status))
    return b"" if status.status == "Success" else status.message.encode()


class _WebSocketSession:
    def __init__(self, channels: Channels, subprotocol: str) -> None:
        self._channels = channels
        self._subprotocol = subprotocol

    async def greet(self, streams: Sequence[int]) -> None:
        """An empty message, by which clients before v5 see that the command has begun."""
        if self._subprotocol == _V5:
            return
        await self._channels.send(min((each for each in streams if each in (STDOUT, STDERR)), default=ERROR), b"")

    async def received(self) -> AsyncIterator[tuple[int, bytes | None]]:
        async for channel, data in self._channels.received():
            if channel in (STDIN, RESIZE):
                yield channel, data
            elif channel == websocket.CLOSE and self._subprotocol == _V5 and data[:1] == bytes([STDIN]):
                yield STDIN, None

    async def send(self, stream: int, data: bytes) -> None:
        await self._channels.send(stream, data)

    async def finish(self, status: Status) -> None:
        if encoded := _encoded(status, self._subprotocol):
            await self._channels.send(ERROR, encoded)
        await self._channels.close()


class _SpdySession:
    def __init__(self, connection: SpdyConnection, streams: Mapping[int, SpdyStream]) -> None:
        self._connection = connection
        self._streams = streams

    @classmethod
    async def open(cls, connection: SpdyConnection, wanted: Sequence[int]) -> _SpdySession | None:
        """Wait for the client's streams; None if they do not come."""
        numbers = {name: number for number, name in _STREAMS.items()}
        missing = {*wanted, ERROR}
        if connection.subprotocol not in (_V4, "v3.channel.k8s.io"):
            missing.discard(RESIZE)
        streams: dict[int, SpdyStream] = {}
        try:
            async with asyncio.timeout(_PATIENCE):
                while missing:
                    stream = await connection.next_stream()
                    number = numbers.get(stream.headers.get("streamtype", "")) if stream else None
                    if stream is None or number is None:
                        break
                    streams[number] = stream
                    missing.discard(number)
        except TimeoutError:
            pass
        if missing:
            connection.close()
            return None
        return cls(connection, streams)

    async def received(self) -> AsyncIterator[tuple[int, bytes | None]]:
        queue: asyncio.Queue[tuple[int, bytes | None] | None] = asyncio.Queue(1)

        async def pump(number: int) -> None:
            async for data in self._streams[number].received():
                await queue.put((number, data))
            await queue.put((number, None))

        async def end() -> None:
            await self._connection.ended.wait()
            await queue.put(None)

        feeding = [pump(each) for each in (STDIN, RESIZE) if each in self._streams]
        tasks = [asyncio.create_task(each) for each in (*feeding, end())]
        try:
            while (item := await queue.get()) is not None:
                yield item
        finally:
            for task in tasks:
                task.cancel()

    async def send(self, stream: int, data: bytes) -> None:
        if stream in self._streams:
            await self._streams[stream].send(data)

    async def finish(self, status: Status) -> None:
        if encoded := _encoded(status, self._connection.subprotocol):
            await self._streams[ERROR].send(encoded)
        for number, stream in self._streams.items():
            if number not in (STDIN, RESIZE):
                await stream.send(b"", last=True)
        # The client closes the connection when it has read all of it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._connection.ended.wait()
        self._connection.close()
