"""agnhost porter: serves a text at each port that a variable names (SERVE_PORT_80=text), over HTTP or UDP."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netlab.machine.images import flags, http, netexec
from netlab.machine.images.http import Request, Response

_VARIABLE = re.compile(r"SERVE_(?:([A-Z]+)_)?PORT_(.*)")
_KINDS = {"": socket.SOCK_STREAM, "TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Served:
    """What is served at a port."""

    kind: socket.SocketKind
    port: int
    text: str


def served(env: Mapping[str, str]) -> list[Served]:
    """What the variables ask for. Raises `FlagError` for a port that is none, and for TLS and SCTP."""
    found = []
    for name, text in env.items():
        if (match := _VARIABLE.fullmatch(name)) is None:
            continue
        kind, port = _KINDS.get(match[1] or ""), match[2]
        if kind is None:
            raise flags.FlagError(f"{name}: {match[1]} is not served here, only HTTP (SERVE_PORT_…) and UDP")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise flags.FlagError(f"{name}: {port!r} is no port")
        found.append(Served(kind, int(port), text))
    return found


def run(env: Mapping[str, str], *, json_response: bool) -> int:
    """Serve until told to end; returns the exit status."""
    return asyncio.run(_serve(served(env), json_response))


async def _serve(wanted: list[Served], json_response: bool) -> int:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    netexec.on_end_signals(loop, end.set)
    for each in wanted:
        try:
            listener = netexec.listen(each.kind, each.port)
        except OSError as error:
            # As agnhost does: the other ports are served all the same.
            netexec.log(f'server on port "{each.port}" failed: {error.strerror}')
            continue
        if each.kind == socket.SOCK_DGRAM:
            await loop.create_datagram_endpoint(lambda text=each.text: _Datagrams(text), sock=listener)  # type: ignore[misc]
        else:
            await asyncio.start_server(_client_of(each.text, json_response), sock=listener)
    await end.wait()
    return 0


class _Datagrams(netexec.Datagrams):
    """Answers every datagram with the same text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._transport.sendto(self._text.encode(), addr)


def answer(text: str, request: Request, *, json_response: bool) -> Response:
    """The answer to a request of any method and path."""
    if json_response:
        return Response(json.dumps({"Method": request.method, "Body": text}), headers=_JSON)
    return Response(text)


def _client_of(text: str, json_response: bool) -> Any:
    async def tell(request: Request) -> Response:
        return answer(text, request, json_response=json_response)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http.serve_connection(reader, writer, "", tell)

    return serve
