"""Passes a request on to another server, and its answer back; or both connections, when they change the protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httptools
from starlette.types import Message, Receive, Scope, Send

from netlab.api.server import refusals
from netlab.api.server.connect import links
from netlab.api.server.connect.links import Links
from netlab.api.server.rest import responses
from netlab.api.serving import upgrading
from netlab.api.serving.upgrading import Streams

_CHUNK = 64 * 1024
_LONGEST_TEXT = 16 * 1024
"""Bytes of a refusal in words."""
_LONGEST_DOCUMENT = 64 * 1024 * 1024
"""Bytes of an answer that is taken as a whole."""
_LONGEST_PAGE = 8 * 1024 * 1024
"""Bytes of a page whose links are changed; a longer one is passed on as it is."""
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
"""What concerns one connection only (RFC 9110 section 7.6.1)."""
_CALLERS = (b"authorization", b"impersonate-", b"x-remote-")
"""What says who calls: it is for the API server alone."""

Header = tuple[bytes, bytes]


async def forward(
    scope: Scope,
    receive: Receive,
    send: Send,
    server: Streams,
    host: str,
    target: str,
    *,
    identity: Sequence[Header] = (),
    worded: bool = False,
    changed: Links | None = None,
) -> None:
    """Pass a request on to a server with another path and query (`target`), and its answer back.

    `identity` are headers that say who calls. The connection is closed afterwards. An answer that is not one of HTTP
    becomes a 502; with `worded`, a refusal in words becomes a Status; with `changed`, so are the links of a page.
    """
    changes = upgrading.wants_upgrade(scope)
    body = asyncio.create_task(_send_request(scope, receive, server, host, target, identity, changes=changes))
    answer = _Answer()
    try:
        started = False
        messages = answer.messages(server.reader)
        async for message in messages if changed is None else _changed(answer, messages, changed):
            if message["type"] == "http.response.start" and message["status"] == 101 and changes:
                await _change(scope, server, answer)
                return
            started = True
            if worded and message["type"] == "http.response.start" and message["status"] >= 400:
                text = await answer.text(server.reader)
                await responses.refusal(refusals.passed_on(message["status"], text))(scope, receive, send)
                return
            await send(message)
        if not started:
            await responses.refusal(refusals.bad_gateway("the server closed the connection without an answer"))(
                scope, receive, send
            )
    except (httptools.HttpParserError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error)
        await responses.refusal(refusals.bad_gateway(f"error trying to reach service: {why}"))(scope, receive, send)
    finally:
        body.cancel()
        server.writer.close()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await body


async def fetch(
    server: Streams,
    host: str,
    target: str,
    headers: Sequence[Header] = (),
    limit: int = _LONGEST_DOCUMENT,
    posted: bytes | None = None,
) -> tuple[int, bytes]:
    """Ask a server for something, and close the connection: the status and the whole body of its answer.

    With `posted`, send it that (POST), and nothing otherwise (GET).

    Raises `ApiError` (502) when the answer is none of HTTP, is cut off, or has more bytes than the `limit`.
    """
    answer, status, body = _Answer(), 0, b""
    sent = [(b"host", host.encode()), *headers, (b"connection", b"close")]
    if posted is not None:
        sent.append((b"content-length", b"%d" % len(posted)))
    method = b"GET" if posted is None else b"POST"
    try:
        server.writer.write(_head(b"%b %b HTTP/1.1" % (method, target.encode()), sent) + (posted or b""))
        async for message in answer.messages(server.reader):
            status = message.get("status", status)
            body += message.get("body", b"")
            if len(body) > limit:
                raise refusals.bad_gateway(f"the server's answer has more than {limit} bytes")
    except (httptools.HttpParserError, OSError) as error:
        raise refusals.bad_gateway(f"error trying to reach service: {error}") from None
    finally:
        server.writer.close()
    if not answer.is_over:
        raise refusals.bad_gateway("the server closed the connection in the middle of its answer")
    return status, body


async def _changed(answer: _Answer, messages: AsyncIterator[Message], changed: Links) -> AsyncIterator[Message]:
    """The messages of an answer whose links are changed: the one of a redirection, and those of a page."""
    async for start in messages:
        headers = {name.lower(): value.decode("latin-1") for name, value in start["headers"]}
        if b"location" in headers:
            start["headers"] = _with(start["headers"], b"location", changed.url(headers[b"location"]))
        elif headers.get(b"content-type", "").partition(";")[0].strip() == "text/html":
            body = b""
            async for message in messages:
                body += message["body"]
                if len(body) > _LONGEST_PAGE:
                    break
            encoding = headers.get(b"content-encoding", "")
            page = links.unpacked(body, encoding, _LONGEST_PAGE) if body and answer.is_over else None
            if page is not None:
                text = changed.page(page.decode(errors="surrogateescape"))
                body = links.packed(text.encode(errors="surrogateescape"), encoding)
                start["headers"] = _with(start["headers"], b"content-length", str(len(body)))
            yield start
            yield {"type": "http.response.body", "body": body, "more_body": True}
            break
        yield start
        break
    async for message in messages:
        yield message


def _with(headers: Sequence[Header], name: bytes, value: str) -> list[Header]:
    return [*(each for each in headers if each[0].lower() != name), (name, value.encode("latin-1"))]


async def _change(scope: Scope, server: Streams, answer: _Answer) -> None:
    client = upgrading.take(scope)
    client.writer.write(answer.head())
    client.writer.write(answer.rest)
    await upgrading.splice(client, server)


async def _send_request(
    scope: Scope,
    receive: Receive,
    server: Streams,
    host: str,
    target: str,
    identity: Sequence[Header],
    *,
    changes: bool,
) -> None:
    headers = [(b"host", host.encode()), *identity]
    chunked = False
    for name, value in scope["headers"]:
        chunked = chunked or name == b"transfer-encoding"
        if name != b"host" and name not in _HOP_BY_HOP and not name.startswith(_CALLERS):
            headers.append((name, value))
    if changes:
        headers += [(name, value) for name, value in scope["headers"] if name in (b"connection", b"upgrade")]
    else:
        headers.append((b"connection", b"close"))
    if chunked:
        headers.append((b"transfer-encoding", b"chunked"))
    server.writer.write(_head(f"{scope['method']} {target} HTTP/1.1".encode(), headers))
    more = not changes
    while more:
        message = await receive()
        if message["type"] != "http.request":
            server.writer.close()  # the client has gone
            return
        more, content = message.get("more_body", False), message.get("body", b"")
        if content:
            server.writer.write(b"%x\r\n%s\r\n" % (len(content), content) if chunked else content)
        await server.writer.drain()
    if chunked:
        server.writer.write(b"0\r\n\r\n")
    await server.writer.drain()
    while not changes and (await receive())["type"] != "http.disconnect":
        pass
    if not changes:
        server.writer.close()


class _Answer:
    """A server's answer, as messages of ASGI."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._messages: list[Message] = []
        self._reason = b""
        self._headers: list[Header] = []
        self.is_over = False
        """Whether it came whole."""
        self.rest = b""
        """What follows the head of an answer that changes the protocol."""

    async def messages(self, reader: asyncio.StreamReader) -> AsyncIterator[Message]:
        """The messages, as they come. Raises `HttpParserError`, `OSError`."""
        while self._messages:
            yield self._messages.pop(0)
        while not self.is_over:
            data = await reader.read(_CHUNK)
            if not data:
                break
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self.rest = data[upgrade.args[0] :]
            while self._messages:
                yield self._messages.pop(0)
        if self._headers and not self.is_over:
            yield {"type": "http.response.body", "body": b""}

    async def text(self, reader: asyncio.StreamReader) -> str:
        """The body of an answer that is a short text. Raises `HttpParserError`, `OSError`."""
        body = b""
        async for message in self.messages(reader):
            body += message.get("body", b"")
            if len(body) > _LONGEST_TEXT:
                break
        return body[:_LONGEST_TEXT].decode(errors="replace").strip()

    def head(self) -> bytes:
        """The answer's first line and headers, as they came."""
        return _head(b"HTTP/1.1 %d %s" % (self._parser.get_status_code(), self._reason), self._headers)

    # What the parser calls.

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._headers = []  # an interim answer: the real one follows
            return
        kept = [(name, value) for name, value in self._headers if name.lower() not in _HOP_BY_HOP]
        self._messages.append({"type": "http.response.start", "status": status, "headers": kept})

    def on_body(self, body: bytes) -> None:
        self._messages.append({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        if self._headers and self._parser.get_status_code() != 101:
            self.is_over = True
            self._messages.append({"type": "http.response.body", "body": b""})


def _head(first: bytes, headers: Sequence[Header]) -> bytes:
    lines = [first, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"
