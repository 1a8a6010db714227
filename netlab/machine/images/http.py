"""A small HTTP/1.1 server and client for the built-in images: enough to test a network, strict about its input.

Not for anything else: no chunked requests, bodies in memory.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from netlab.net.addresses import host_port

_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 1024 * 1024
_IDLE_LIMIT = 180.0  # seconds without a request, after which a kept connection is closed


@dataclass(frozen=True, slots=True)
class Request:
    """A request; `form` holds the first value of each field of the query and of a form in the body."""

    method: str
    target: str
    path: str
    form: dict[str, str]
    headers: dict[str, str]
    client: str
    server_port: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A response; its text is sent as UTF-8."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class BadRequestError(Exception):
    """The input is not HTTP, or too large."""


Handler = Callable[[Request], Awaitable[Response]]


def parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    """Method, target, version and headers (names in lower case) of a request's head (RFC 9112, 2.1)."""
    lines = head.decode("latin-1").split("\r\n")
    method, target, version = _parse_request_line(lines[0])
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequestError("malformed header")
        headers[name.lower()] = value.strip()
    return method, target, version, headers


def _parse_request_line(line: str) -> tuple[str, str, str]:
    parts = line.split(" ")
    if len(parts) != 3 or not parts[0].isalpha() or not parts[2].startswith("HTTP/1."):
        raise BadRequestError("malformed request line")
    return parts[0], parts[1], parts[2]


def parse_form(query: str) -> dict[str, str]:
    """The first value of each field, as Go's FormValue gives it."""
    return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}


def encode_response(response: Response, *, body: bool, keep_alive: bool) -> bytes:
    """The response on the wire; without its body for HEAD."""
    content = response.text.encode()
    headers = {
        "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        "Content-Length": str(len(content)),
        "Content-Type": "text/plain; charset=utf-8",
        "Connection": "keep-alive" if keep_alive else "close",
        **response.headers,
    }
    try:
        reason = HTTPStatus(response.status).phrase
    except ValueError:
        reason = "Unknown"
    head = [f"HTTP/1.1 {response.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    # A header's value may come from a request (redirects): it must not end the header.
    clean = [line.replace("\r", "").replace("\n", "") for line in head]
    return "\r\n".join([*clean, "", ""]).encode() + (content if body else b"")


def format_address(address: tuple[Any, ...]) -> str:
    """A socket's address as Go prints it: an IPv4 client of a dual-stack socket keeps its IPv4 address."""
    host, port = str(address[0]).partition("%")[0].removeprefix("::ffff:"), address[1]
    return host_port(host, port)


async def serve_connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str, handler: Handler
) -> None:
    """Answer the requests of one connection until it is closed, idle for too long, or not HTTP."""
    port = writer.get_extra_info("sockname")[1]
    keep_alive = True
    try:
        while keep_alive:
            try:
                async with asyncio.timeout(_IDLE_LIMIT):
                    head = await _read_head(reader)
                method, target, version, headers = parse_head(head[:-4])
                body = await _read_body(reader, headers)
            except (BadRequestError, asyncio.LimitOverrunError) as error:
                response = Response(f"400 Bad Request: {error}\n", 400)
                writer.write(encode_response(response, body=True, keep_alive=False))
                break
            keep_alive = _keeps_alive(version, headers)
            response = await handler(_request(method, target, headers, body, client, port))
            keep_alive = keep_alive and response.headers.get("Connection") != "close"
            writer.write(encode_response(response, body=method != "HEAD", keep_alive=keep_alive))
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        pass  # the client left, was silent for too long, or sent a target that is no URL
    finally:
        writer.close()


def _keeps_alive(version: str, headers: dict[str, str]) -> bool:
    wish = headers.get("connection", "").lower()
    return wish != "close" if version == "HTTP/1.1" else wish == "keep-alive"


def _request(method: str, target: str, headers: dict[str, str], body: bytes, client: str, port: int) -> Request:
    url = urlsplit(target)
    form = parse_form(url.query)
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = {**form, **parse_form(body.decode("latin-1"))}
    return Request(method, target, unquote(url.path) or "/", form, headers, client, port, body)


def answer_blocking(connection: socket.socket, client: str, port: int, answer: Callable[[Request], Response]) -> None:
    """Answer the requests of a connection in this thread, until it is closed or what comes is not HTTP."""
    with connection.makefile("rb") as reader:
        keep_alive = True
        while keep_alive and (head := _read_head_blocking(reader)):
            try:
                method, target, version, headers = parse_head(head[:-4])
                body = reader.read(_body_length(headers))
                request = _request(method, target, headers, body, client, port)
            except (BadRequestError, ValueError) as error:
                response = Response(f"400 Bad Request: {error}\n", 400)
                connection.sendall(encode_response(response, body=True, keep_alive=False))
                return
            keep_alive = _keeps_alive(version, headers)
            connection.sendall(encode_response(answer(request), body=method != "HEAD", keep_alive=keep_alive))


def _read_head_blocking(reader: BinaryIO) -> bytes:
    """A request's head; empty when none comes, or one that is too large."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline(_HEAD_LIMIT)
        head += line
        if not line or len(head) > _HEAD_LIMIT:
            return b""
    return head


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """A request's head. As of Go's server, a line that begins no request is refused at once (`echo x | nc`)."""
    head = await reader.readuntil(b"\n")
    _parse_request_line(head.decode("latin-1").rstrip("\r\n"))
    while not head.endswith(b"\r\n\r\n"):
        head += await reader.readuntil(b"\n")
        if len(head) > _HEAD_LIMIT:
            raise BadRequestError("the head is too large")
    return head


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    return await reader.readexactly(_body_length(headers))


def _body_length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequestError("chunked requests are not understood")
    text = headers.get("content-length", "0")
    if not text.isascii() or not text.isdigit() or int(text) > _BODY_LIMIT:
        raise BadRequestError("Content-Length is malformed or too large")
    return int(text)


async def get(host: str, port: str, path: str) -> str:
    """The body of `http://host:port/path`, whatever the status. Raises `OSError` or `EOFError`."""
    return (await fetch(host, port, path)).text


async def fetch(host: str, port: str, path: str, body: bytes | None = None) -> Response:
    """The answer to a GET of `http://host:port/path`, or to a POST of JSON. Raises `OSError` or `EOFError`."""
    method, length = "GET", ""
    if body is not None:
        method, length = "POST", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    reader, writer = await asyncio.open_connection(host, port, limit=_HEAD_LIMIT)
    try:
        head = f"{method} /{path} HTTP/1.1\r\nHost: {host_port(host, port)}\r\nConnection: close\r\n{length}\r\n"
        writer.write(head.encode() + (body or b""))
        answer = await reader.read(-1)
    finally:
        writer.close()
    start, blank, text = answer.partition(b"\r\n\r\n")
    status = start[9:12]
    if not blank or not start.startswith(b"HTTP/1.") or not status.isdigit():
        raise EOFError("the answer is not HTTP")
    return Response(text.decode(errors="replace"), int(status))
