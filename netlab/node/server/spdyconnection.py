"""A SPDY/3.1 connection whose client opens streams; on a connection taken over from HTTP, or within a WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from starlette.types import Scope

from netlab.api.serving import upgrading
from netlab.node.server import spdy

log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_MOST_STREAMS = 512
"""Streams that a connection may have at a time: two for each connection to a forwarded port."""
_AHEAD = 32
"""Frames of a stream that are read before they are taken; then the whole connection waits, as SPDY's flow control,
which Kubernetes' clients do not use, would have it wait."""

Write = Callable[[bytes], Awaitable[None]]


class SpdyStream:
    """A stream that the client opened."""

    def __init__(self, connection: SpdyConnection, number: int, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self._number = number
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_AHEAD)
        self.headers = headers

    async def received(self) -> AsyncIterator[bytes]:
        """What comes, until the client has closed its side."""
        while (data := await self._incoming.get()) is not None:
            self._room.release()
            yield data

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Send data; `last` closes this side. Raises `ConnectionError` when the client has gone."""
        await self._connection.send_data(self._number, data, last=last)

    async def put(self, data: bytes) -> None:
        """What the connection has read."""
        await self._room.acquire()
        self._incoming.put_nowait(data)

    def end(self) -> None:
        """There is no more to come."""
        self._incoming.put_nowait(None)

    async def reset(self) -> None:
        """Give the stream up."""
        await self._connection.reset(self._number)


class SpdyConnection:
    """The server's side of a connection."""

    def __init__(self, write: Write, close: Callable[[], None], subprotocol: str) -> None:
        self._write = write
        self._close = close
        self._encoder = spdy.Encoder()
        self._streams: dict[int, SpdyStream] = {}
        self._opened: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self.subprotocol = subprotocol
        self.ended = asyncio.Event()
        """The client has gone."""
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def accept(cls, scope: Scope, subprotocols: Sequence[str]) -> SpdyConnection | None:
        """The connection that a request asks for (Upgrade: SPDY/3.1); None if the client was refused."""
        headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
        offered = [each.strip() for name, value in headers if name == b"x-stream-protocol-version"
                   for each in value.split(",")]  # fmt: skip
        chosen = next((each for each in subprotocols if each in offered), "" if offered else subprotocols[-1])
        streams = upgrading.take(scope)
        writer = streams.writer
        if not chosen:
            accepted = "".join(f"X-Accepted-Stream-Protocol-Versions: {each}\r\n" for each in subprotocols)
            writer.write(f"HTTP/1.1 403 Forbidden\r\n{accepted}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
            writer.close()
            return None
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            b"X-Stream-Protocol-Version: " + chosen.encode() + b"\r\n\r\n"
        )

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        async def chunks() -> AsyncIterator[bytes]:
            while data := await streams.reader.read(_CHUNK):
                yield data

        connection = cls(write, writer.close, chosen)
        connection.start(chunks())
        return connection

    def start(self, chunks: AsyncIterator[bytes]) -> None:
        """Read frames from these chunks from now on."""
        self._task = asyncio.create_task(self._read(chunks))

    async def next_stream(self) -> SpdyStream | None:
        """The next stream that the client opens; None when it has gone."""
        return await self._opened.get()

    async def send_data(self, number: int, data: bytes, *, last: bool) -> None:
        """Send a stream's data."""
        await self._write(self._encoder.data(number, data, last=last))

    async def reset(self, number: int) -> None:
        """Give a stream up."""
        self._streams.pop(number, None)
        await self._write(self._encoder.reset(number))

    def forget(self, stream: SpdyStream) -> None:
        """A stream is over on both sides."""
        self._streams = {number: each for number, each in self._streams.items() if each is not stream}

    def close(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
        self._close()

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        decoder = spdy.Decoder()
        try:
            async for chunk in chunks:
                for event in decoder.feed(chunk):
                    if isinstance(event, spdy.GoAway):
                        return
                    await self._handle(event)
        except spdy.SpdyError as error:
            log.warning("%s", error)
        except ConnectionError:
            pass
        finally:
            self.ended.set()
            self._opened.put_nowait(None)
            for stream in self._streams.values():
                stream.end()

    async def _handle(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.Opened):
            if len(self._streams) >= _MOST_STREAMS:
                await self.reset(event.stream)
                return
            stream = self._streams[event.stream] = SpdyStream(self, event.stream, event.headers)
            await self._write(self._encoder.reply(event.stream))
            self._opened.put_nowait(stream)
        elif isinstance(event, spdy.Data) and event.stream in self._streams:
            if event.data:
                await self._streams[event.stream].put(event.data)
            if event.last:
                self._streams[event.stream].end()
        elif isinstance(event, spdy.Reset) and event.stream in self._streams:
            self._streams.pop(event.stream).end()
        elif isinstance(event, spdy.Ping):
            await self._write(event.frame)
