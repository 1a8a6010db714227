"""Bytes that are no request of HTTP, or half of one: an answer below 500 or a closed connection, and an empty log."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.system.api.serving import Server, serving

PODS = b"/api/v1/namespaces/default/pods"
POD = b'{"metadata":{"generateName":"raw-"},"spec":{"containers":[{"name":"c","image":"i"}]}}'

methods = st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE"]) | (
    st.sampled_from([b"BREW", b"get", b"", b"PRI", b"G\0T", b"M-SEARCH", b"X" * 9000]) | st.binary(max_size=6)
)
targets = st.sampled_from(
    [
        b"/",
        PODS,
        PODS + b"?watch=1&timeoutSeconds=1",
        b"*",
        b"//",
        b"http://x/api/v1/pods",
        b"x:80",
        b"",
        b"/%",
        b"/%ff%00",
    ]
) | st.binary(max_size=20)
versions = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1.1", b"HTTP/9", b"", b"ICY/1.0"]
)
names = st.sampled_from(
    [
        b"Host",
        b"Connection",
        b"Content-Type",
        b"Accept",
        b"Accept-Encoding",
        b"Content-Encoding",
        b"Expect",
        b"Upgrade",
        b"Authorization",
        b"Range",
        b"If-Match",
        b"Sec-WebSocket-Key",
        b"X\x00",
        b"",
        b" Folded",
        b"User-Agent",
        b"Cookie",
    ]
)
texts = st.sampled_from(
    [
        b"close",
        b"keep-alive, x",
        b"application/json",
        b"text/plain; charset=nosuch",
        b"100-continue",
        b"websocket",
        b"h2c",
        b"gzip",
        b"",
        b"\xff\xfe",
        b"\x1b]0;x\x07",
        b"x" * 70000,
        b"a\rb",
        b"bytes=9-1",
        b"application/json-patch+json",
    ]
) | st.binary(max_size=12)
headers = st.lists(st.tuples(names, texts).map(b": ".join), max_size=4)
lengths = st.sampled_from(
    [b"0", b"1", b"-1", b"+5", b"1e3", b"0x10", b"9" * 19, b"9" * 400, b"", b"5, 5", b"5\r\nContent-Length: 6", b"\xb2"]
)
chunks = st.lists(
    st.tuples(
        st.sampled_from([b"0", b"1", b"5", b"f", b"-1", b"ffffffffffffffff", b"9" * 300, b"", b"5;x=y", b"g"]),
        st.binary(max_size=8) | st.just(POD),
    ).map(lambda chunk: b"\r\n".join([*chunk, b""])),
    max_size=4,
).map(b"".join)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """The headers that say how long a body is, truly or not, and the body."""
    kind = draw(st.sampled_from(["none", "whole", "odd length", "chunked", "both"]))
    body = draw(st.just(POD) | st.binary(max_size=40))
    length = b"Content-Length: " + draw(lengths)
    coding = b"Transfer-Encoding: " + draw(st.sampled_from([b"chunked", b"gzip, chunked", b"identity", b"chunked, x"]))
    if kind == "none":
        return [], b""
    if kind == "whole":
        return [b"Content-Length: %d" % len(body)], body
    if kind == "odd length":
        return [length], body
    return [coding, *([length] if kind == "both" else [])], draw(chunks) + draw(
        st.sampled_from([b"0\r\n\r\n", b"", b"0"])
    )


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that is right in most places."""
    line = b" ".join([draw(methods), draw(targets), draw(versions)])
    said, body = draw(bodies())
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]))
    whole = end.join([line, *draw(headers), *said, b"", b""]) + body
    return whole[: draw(st.integers(0, len(whole)))] if draw(st.booleans()) else whole


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory, serving(Path(directory)) as running:
        yield running
        # A request that is cut off, or is none, is the caller's matter: nothing of it is in the log.
        assert running.end() == (0, "")


def exchange(server: Server, sent: bytes) -> bytes:
    """Send this and nothing more; all that is answered."""
    with server.connection() as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        with contextlib.suppress(BrokenPipeError):  # refused before all of it was sent
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return b""


def is_well(server: Server) -> bool:
    """Whether a proper request has a proper answer."""
    answer = exchange(server, b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return answer.startswith(b"HTTP/1.1 200 ") and b'"PodList"' in answer


def status_of(answer: bytes) -> int:
    """The status code of the last response, which ends a connection; 0 for none."""
    return int(answer[answer.rindex(b"HTTP/1.1 ") :].split(b" ", 2)[1]) if b"HTTP/1.1 " in answer else 0


@settings(max_examples=400, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(requests(), min_size=1, max_size=3).map(b"".join) | st.binary(max_size=200))
@example(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n")
@example(b"GET /" + b"x" * 100_000)
@example(b"POST " + PODS + b" HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + POD)
@example(b"POST " + PODS + b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n")
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
@example(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))
@example(b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
def test_bytes_on_the_socket(server: Server, sent: bytes) -> None:
    answer = exchange(server, sent)
    assert status_of(answer) < 500, answer
    body = answer[answer.rfind(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")[2]
    if status_of(answer) >= 400 and body:  # there is none after HEAD
        assert msgspec.json.decode(body)["kind"] == "Status"
    assert is_well(server)
