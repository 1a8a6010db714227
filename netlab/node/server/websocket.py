"""WebSockets (RFC 6455) on connections taken over from HTTP, and the channels that Kubernetes puts into their messages.

A message's first byte is its channel: of a command 0 stdin, 1 stdout, 2 stderr, 3 its status, 4 the terminal's size,
and in v5 255, which closes the channel that follows (KEP-4006). The base64 protocols are text, for browsers.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

from starlette.types import Scope
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from netlab.api.serving import upgrading

log = logging.getLogger(__name__)
log.setLevel(logging.WARNING)  # every connection would be a line

CLOSE = 255
"""The channel of v5 that closes another."""

_SUBPROTOCOL = b"sec-websocket-protocol"
_LONGEST_MESSAGE = 1024 * 1024
_CHUNK = 64 * 1024


class WebSocket:
    """A connection that carries messages."""

    def __init__(self, streams: upgrading.Streams, protocol: ServerProtocol, subprotocol: str) -> None:
        self._streams = streams
        self._protocol = protocol
        self.subprotocol = subprotocol

    async def messages(self) -> AsyncIterator[bytes]:
        """The messages of the peer, until it closes the connection."""
        begun = b""
        while True:
            for event in self._protocol.events_received():
                if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    begun += event.data
                    if event.fin:
                        yield begun
                        begun = b""
            await self._flush()
            data = await self._streams.reader.read(_CHUNK)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            if self._protocol.close_expected():
                await self._flush()
            if not data:
                return

    async def send(self, message: bytes, *, text: bool = False) -> None:
        """Send a message; waits while the peer does not read. Raises `ConnectionError` when it has gone."""
        if text:
            self._protocol.send_text(message)
        else:
            self._protocol.send_binary(message)
        await self._flush()

    async def close(self) -> None:
        """Say that there is no more."""
        self._protocol.send_close(1000)
        await self._flush()

    def abort(self) -> None:
        """Close the connection at once."""
        self._streams.writer.close()

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._streams.writer.write(data)
            elif not self._streams.writer.transport.is_closing():
                self._streams.writer.close()
        await self._streams.writer.drain()


async def accept(scope: Scope, subprotocols: Sequence[str]) -> WebSocket | None:
    """The WebSocket that a request asks for, with the first of the subprotocols that the client offers, if any.

    None if the client was refused: it speaks none of them, or its handshake is not in order.
    """

    offered = [each.strip() for name, value in scope["headers"] if name == _SUBPROTOCOL
               for each in value.decode("latin-1").split(",")]  # fmt: skip
    chosen = next((each for each in subprotocols if each in offered), None)
    protocol = ServerProtocol(max_size=_LONGEST_MESSAGE, logger=log)
    streams = upgrading.take(scope)
    protocol.receive_data(_head(scope))
    socket = None
    for request in protocol.events_received():
        assert isinstance(request, Request)
        if chosen is None and offered:
            text = f"none of the subprotocols offered is one of {', '.join(subprotocols)}\n"
            response = protocol.reject(HTTPStatus.BAD_REQUEST, text)
        else:
            response = protocol.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            if chosen is not None:
                response.headers["Sec-WebSocket-Protocol"] = chosen
            socket = WebSocket(streams, protocol, chosen or "")
        protocol.send_response(response)
    for data in protocol.data_to_send():
        streams.writer.write(data)
    if socket is None:
        streams.writer.close()
    return socket


def _head(scope: Scope) -> bytes:
    """A request's first line and headers, without the subprotocols."""
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    lines = [scope["method"].encode() + b" " + scope["raw_path"] + query + b" HTTP/1.1"]
    # Kubernetes' subprotocols have a slash, which is no character of a token: the library would refuse them.
    lines += [name + b": " + value for name, value in scope["headers"] if name != _SUBPROTOCOL]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Channels:
    """The channels of a WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._base64 = socket.subprotocol.startswith("base64.") or ".base64." in socket.subprotocol

    async def received(self) -> AsyncIterator[tuple[int, bytes]]:
        """What comes, with its channel, until the peer closes the connection."""
        async for message in self._socket.messages():
            if not message:
                continue
            if self._base64:
                try:
                    yield message[0] - ord("0"), base64.b64decode(message[1:], validate=True)
                except binascii.Error:
                    return
            else:
                yield message[0], message[1:]

    async def send(self, channel: int, data: bytes) -> None:
        """Send data on a channel."""
        if self._base64:
            await self._socket.send(b"%d" % channel + base64.b64encode(data), text=True)
        else:
            await self._socket.send(bytes([channel]) + data)

    async def close(self) -> None:
        """Close the connection."""
        await self._socket.close()
