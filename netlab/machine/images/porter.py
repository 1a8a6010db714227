"""agnhost porter: serves a text at each port that a variable names (SERVE_PORT_80=text): HTTP, HTTPS, UDP or SCTP."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netlab.machine.images import flags, http, netexec, tls
from netlab.machine.images.http import Request, Response

_VARIABLE = re.compile(r"SERVE_(?:([A-Z]+)_)?PORT_(.*)")
_PROTOCOLS = ("TCP", "UDP", "TLS", "SCTP")
_JSON = {"Content-Type": "application/json"}
_HTML = {"Content-Type": "text/html; charset=utf-8"}
"""What Go's server says of a text that begins as a page does (WHATWG MIME Sniffing, section 7.1)."""


@dataclass(frozen=True, slots=True)
class Served:
    """What is served at a port."""

    protocol: str
    port: int
    text: str


def served(env: Mapping[str, str]) -> list[Served]:
    """What the variables ask for. Raises `FlagError` for a port that is none."""
    found = []
    for name, text in env.items():
        if (match := _VARIABLE.fullmatch(name)) is None:
            continue
        protocol, port = match[1] or "TCP", match[2]
        if protocol not in _PROTOCOLS:
            continue
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise flags.FlagError(f"{name}: {port!r} is no port")
        found.append(Served(protocol, int(port), text))
    return found


def run(env: Mapping[str, str], *, json_response: bool) -> int:
    """Serve until told to end; returns the exit status."""
    return asyncio.run(_serve(served(env), env, json_response))


async def _serve(wanted: list[Served], env: Mapping[str, str], json_response: bool) -> int:
    end = asyncio.Event()
    netexec.on_end_signals(asyncio.get_running_loop(), end.set)
    for each in wanted:
        try:
            await _serve_one(each, env, json_response)
        except OSError as error:
            # As agnhost does: the other ports are served all the same.
            netexec.log(f'server on port "{each.port}" failed: {error.strerror}')
    await end.wait()
    return 0


async def _serve_one(wanted: Served, env: Mapping[str, str], json_response: bool) -> None:
    text = wanted.text
    if wanted.protocol == "UDP":
        listener = netexec.listen(socket.SOCK_DGRAM, wanted.port)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Datagrams(text), sock=listener)
    elif wanted.protocol == "SCTP":
        await asyncio.start_server(lambda _, writer: _tell(text, writer), sock=_sctp_listener(wanted.port))
    elif wanted.protocol == "TLS":
        secret = tls.context(env.get("CERT_FILE", ""), env.get("KEY_FILE", ""))
        listener = netexec.listen(socket.SOCK_STREAM, wanted.port)
        tls.serve_http(listener, secret, lambda request: answer(text, request, json_response=json_response))
    else:
        listener = netexec.listen(socket.SOCK_STREAM, wanted.port)
        await asyncio.start_server(_client_of(text, json_response), sock=listener)


def _sctp_listener(port: int) -> socket.socket:
    """Where the kernel has SCTP; else EPROTONOSUPPORT."""
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    try:
        listener.bind(("::", port))
        listener.listen()
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


async def _tell(text: str, writer: asyncio.StreamWriter) -> None:
    writer.write(text.encode())
    writer.close()


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
    return Response(text, headers=_HTML if text.lstrip().lower().startswith(("<a", "<html", "<!doctype")) else {})


def _client_of(text: str, json_response: bool) -> Any:
    async def tell(request: Request) -> Response:
        return answer(text, request, json_response=json_response)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http.serve_connection(reader, writer, "", tell)

    return serve
