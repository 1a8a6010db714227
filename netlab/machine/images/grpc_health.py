"""agnhost grpc-health-checking: gRPC's health service (grpc.health.v1.Health), which is told by HTTP how it is.

gRPC over HTTP/2 as in grpc/doc/PROTOCOL-HTTP2.md; of protobuf just what this service's two messages have.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from netlab.machine.images import http, netexec
from netlab.machine.images.http import Request, Response

_CHECK = "/grpc.health.v1.Health/Check"
_SERVING, _NOT_SERVING = 1, 2
"""HealthCheckResponse.ServingStatus."""
_OK, _INVALID, _NOT_FOUND, _UNIMPLEMENTED = 0, 3, 5, 12
"""Codes of gRPC (grpc/doc/statuscodes.md)."""
_LARGEST_REQUEST = 4096


@dataclass(slots=True)
class Health:
    """How one service is: well until `unhealthy_after` seconds, unless it was told otherwise."""

    service: str
    unhealthy_after: float
    started: float
    told: bool | None = None

    def is_serving(self) -> bool:
        """Whether it is well now."""
        if self.told is not None and not self.told:
            return False
        return self.unhealthy_after < 0 or time.monotonic() - self.started < self.unhealthy_after

    def check(self, path: str, message: bytes) -> tuple[int, bytes]:
        """The code and the message with which a call is answered."""
        if path != _CHECK:
            return _UNIMPLEMENTED, b""
        service = _service_of(message)
        if service is None:
            return _INVALID, b""
        if service != self.service:
            return _NOT_FOUND, b""
        # HealthCheckResponse: field 1, a varint; a message uncompressed, after its length.
        body = bytes((0x08, _SERVING if self.is_serving() else _NOT_SERVING))
        return _OK, b"\0" + len(body).to_bytes(4) + body

    async def tell(self, request: Request) -> Response:
        """Answer /make-serving and /make-not-serving."""
        if request.path not in ("/make-serving", "/make-not-serving"):
            return Response("404 page not found\n", 404)
        self.told = request.path == "/make-serving"
        netexec.log(f"Mark as {'healthy' if self.told else 'unhealthy'}")
        return Response(f"{time.monotonic() - self.started}s")


def run(port: int, http_port: int, service: str, unhealthy_after: float) -> int:
    """Serve until told to end; returns the exit status."""
    health = Health(service, unhealthy_after, time.monotonic())
    try:
        listeners = [netexec.listen(socket.SOCK_STREAM, each) for each in (port, http_port)]
    except OSError as error:
        netexec.log(f"Error while starting the listening service {error.strerror}")
        return 1
    return asyncio.run(_serve(health, *listeners))


async def _serve(health: Health, grpc: socket.socket, plain: socket.socket) -> int:
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    netexec.on_end_signals(loop, end.set)

    async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http.serve_connection(reader, writer, "", health.tell)

    await loop.create_server(lambda: _Connection(health), sock=grpc)
    await asyncio.start_server(serve_client, sock=plain)
    netexec.log(f"gRPC server starting to listen on :{grpc.getsockname()[1]}")
    await end.wait()
    return 0


class _Connection(asyncio.Protocol):
    """One HTTP/2 connection of a client's."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._calls: dict[int, tuple[str, bytearray]] = {}

    def connection_made(self, transport: Any) -> None:
        """Called by asyncio."""
        self._transport = transport
        self._connection.initiate_connection()
        self._send()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        try:
            for event in self._connection.receive_data(data):
                self._handle(event)
        except ProtocolError:
            self._send()
            self._transport.close()
            return
        self._send()

    def _handle(self, event: object) -> None:
        if isinstance(event, RequestReceived):
            path = dict(event.headers).get(b":path", b"").decode(errors="replace")
            self._calls[event.stream_id] = (path, bytearray())
        elif isinstance(event, DataReceived) and event.stream_id in self._calls:
            message = self._calls[event.stream_id][1]
            message += event.data[: max(0, _LARGEST_REQUEST - len(message))]
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            self._calls.pop(event.stream_id, None)
        elif isinstance(event, StreamEnded):
            self._answer(event.stream_id, *self._calls.pop(event.stream_id))

    def _answer(self, stream: int, path: str, message: bytearray) -> None:
        code, body = self._health.check(path, bytes(message))
        head = [(":status", "200"), ("content-type", "application/grpc")]
        ending = [("grpc-status", str(code))]
        if code != _OK:
            self._connection.send_headers(stream, head + ending, end_stream=True)
            return
        self._connection.send_headers(stream, head)
        self._connection.send_data(stream, body)
        self._connection.send_headers(stream, ending, end_stream=True)

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            self._transport.write(self._connection.data_to_send())


def _service_of(message: bytes) -> str | None:
    """The service in a HealthCheckRequest: field 1, text; None if it is none."""
    body = message[5:]
    if message[:1] != b"\0" or int.from_bytes(message[1:5]) != len(body):
        return None
    if not body:
        return ""
    if len(body) < 2 or body[0] != 0x0A or body[1] != len(body) - 2:
        return None
    return body[2:].decode(errors="replace")
