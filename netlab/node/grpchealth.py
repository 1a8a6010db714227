"""A gRPC server asked for its health (grpc.health.v1): one call over HTTP/2, without TLS (KEP-2727)."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from netlab.errors import NetlabError

_SERVING = 1
_STATUSES = {0: "UNKNOWN", _SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
"""HealthCheckResponse.ServingStatus."""
_UNIMPLEMENTED = "12"
_PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""
_LONGEST_ANSWER = 4096


@dataclass
class _Answer:
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


async def check(host: str, port: int, service: str) -> str:
    """What is wrong with a service ("" names the whole server), or "". Raises `OSError` and `NetlabError`."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        answer = await _call(reader, writer, f"{host}:{port}", _request(service))
    finally:
        writer.close()
    code = answer.headers.get("grpc-status", "")
    if code == _UNIMPLEMENTED:
        return "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
    if code != "0":
        message = answer.headers.get("grpc-message", "")
        return f"error: health rpc failed with status {code or answer.headers.get(':status', 'none')}: {message}"
    status = _status(answer.body[_PREFIX:])
    return "" if status == _SERVING else f'service unhealthy (responded with "{_STATUSES.get(status, status)}")'


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, message: bytes) -> _Answer:
    # Few pods have such a probe, and every kubelet would load it.
    import h2.config
    import h2.connection
    import h2.events
    import h2.exceptions

    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    stream, answer = connection.get_next_available_stream_id(), _Answer()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":authority": authority,
        ":path": "/grpc.health.v1.Health/Check",
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": "kube-probe",
    }
    connection.send_headers(stream, list(headers.items()))
    connection.send_data(stream, message, end_stream=True)
    try:
        while True:
            writer.write(connection.data_to_send())
            data = await reader.read(65536)
            if not data:
                raise NetlabError("the server closed the connection before it answered")
            for event in connection.receive_data(data):
                match event:
                    case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                        answer.headers |= {str(name): str(value) for name, value in event.headers}
                    case h2.events.DataReceived():
                        answer.body += event.data
                        connection.acknowledge_received_data(event.flow_controlled_length, stream)
                    case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                        raise NetlabError(f"the server ended the call: HTTP/2 error {event.error_code}")
                    case h2.events.StreamEnded():
                        return answer
            if len(answer.body) > _LONGEST_ANSWER:
                raise NetlabError(f"the answer has more than {_LONGEST_ANSWER} bytes")
    except h2.exceptions.ProtocolError as error:
        raise NetlabError(f"the server does not speak HTTP/2: {error}") from error


def _request(service: str) -> bytes:
    """HealthCheckRequest: field 1, if it is not empty."""
    name = service.encode()
    message = b"" if not name else b"\x0a" + _varint(len(name)) + name
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _status(message: bytes) -> int:
    """HealthCheckResponse: field 1, a number below 128; absent, it is 0."""
    with contextlib.suppress(IndexError):
        if message[0] == 0x08:
            return message[1]
    return 0
