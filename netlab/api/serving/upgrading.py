"""Connections that leave HTTP (RFC 9110 section 7.8): exec, attach and port-forward go on as WebSocket or SPDY.

A request that asks for another protocol is answered by the application as any other. If it wants to, it takes the
connection over.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_KEY = "netlab.upgrade"
_CHUNK = 64 * 1024


class Streams:
    """A connection after HTTP: bytes in both directions."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer


class UpgradingProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose connections an application may take over (`take`)."""

    _early: bytearray | None = None
    """What came after a request for another protocol, before anybody took the connection."""
    _taken: asyncio.StreamReaderProtocol | None = None

    def data_received(self, data: bytes) -> None:
        """Of HTTP, or what follows a request for another protocol."""
        if self._early is not None:
            self._early += data
            self.transport.pause_reading()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._early = bytearray(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        """A request is about to be answered."""
        if self.parser.should_upgrade():
            self.scope["extensions"] = {_KEY: {"take": self._take}}
        super().on_headers_complete()

    def _take(self) -> Streams:
        # HTTP's part is over: nothing that the application returns is sent.
        self.cycle.response_started = self.cycle.response_complete = True
        self.connections.discard(self)
        reader = asyncio.StreamReader(loop=self.loop)
        protocol = _Taken(reader, self)
        writer = asyncio.StreamWriter(self.transport, protocol, reader, self.loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if self._early:
            reader.feed_data(bytes(self._early))
        self._early = bytearray()
        self.transport.resume_reading()
        return Streams(reader, writer)


class _Taken(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, http: HttpToolsProtocol) -> None:
        super().__init__(reader)
        self._http = http

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._http.connection_lost(exc)


def wants_upgrade(scope: Scope) -> bool:
    """Whether a request asks for another protocol, and its connection can be taken over."""
    return _KEY in scope.get("extensions", {})


def take(scope: Scope) -> Streams:
    """Take over the connection of a request that `wants_upgrade`; it must not be answered by HTTP any more."""
    extension: dict[str, Any] = scope["extensions"][_KEY]
    streams: Streams = extension["take"]()
    return streams


async def splice(one: Streams, other: Streams) -> None:
    """Carry bytes both ways until one side has closed the connection, then close both."""
    ways = [asyncio.create_task(_carry(one, other)), asyncio.create_task(_carry(other, one))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for each in (one, other):
            each.writer.close()
        await asyncio.wait(ways)


async def _carry(source: Streams, target: Streams) -> None:
    with contextlib.suppress(OSError):
        while data := await source.reader.read(_CHUNK):
            target.writer.write(data)
            await target.writer.drain()
