"""What a gRPC server says of its health, of a real server that speaks HTTP/2."""

from __future__ import annotations

import asyncio

import h2.config
import h2.connection
import h2.events
import pytest

from netlab.errors import NetlabError
from netlab.node import grpchealth


async def _asked(body: bytes, trailers: dict[str, str], service: str = "") -> tuple[str, dict[str, str], bytes]:
    """What `check` says about a server that answers so; and what the server was asked."""
    headers: dict[str, str] = {}
    message = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal message
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                match event:
                    case h2.events.RequestReceived():
                        headers.update((str(name), str(value)) for name, value in event.headers)
                    case h2.events.DataReceived():
                        message += event.data
                    case h2.events.StreamEnded():
                        stream = event.stream_id
                        first = [(":status", "200"), ("content-type", "application/grpc")]
                        connection.send_headers(stream, first)
                        if body:
                            connection.send_data(stream, body)
                        connection.send_headers(stream, list(trailers.items()), end_stream=True)
            writer.write(connection.data_to_send())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        said = await grpchealth.check("127.0.0.1", port, service)
    return said, headers, message


@pytest.mark.parametrize(
    ("body", "trailers", "said"),
    [
        (b"\0\0\0\0\2\x08\1", {"grpc-status": "0"}, ""),
        (b"\0\0\0\0\2\x08\2", {"grpc-status": "0"}, 'service unhealthy (responded with "NOT_SERVING")'),
        (b"\0\0\0\0\0", {"grpc-status": "0"}, 'service unhealthy (responded with "UNKNOWN")'),
        (b"", {"grpc-status": "12"}, "error: this server does not implement the grpc health protocol"),
        (b"", {"grpc-status": "5", "grpc-message": "unknown service"}, "failed with status 5: unknown service"),
    ],
)
def test_answers(body: bytes, trailers: dict[str, str], said: str) -> None:
    found, _, _ = asyncio.run(_asked(body, trailers))
    assert said in found
    assert bool(said) == bool(found)


def test_a_service_is_asked_for_by_its_name() -> None:
    _, headers, message = asyncio.run(_asked(b"\0\0\0\0\2\x08\1", {"grpc-status": "0"}, "x" * 200))
    assert headers[":path"] == "/grpc.health.v1.Health/Check"
    assert headers["content-type"] == "application/grpc"
    assert message == b"\0\0\0\0\xcb\x0a\xc8\1" + b"x" * 200


def test_what_is_no_such_server() -> None:
    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            await grpchealth.check("127.0.0.1", server.sockets[0].getsockname()[1], "")

    with pytest.raises((NetlabError, ConnectionError)):
        asyncio.run(main())
