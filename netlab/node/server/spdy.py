"""SPDY/3.1, as far as Kubernetes uses it: streams and their data, without flow control (draft-mbelshe-httpbis-spdy-00).

Without a connection: bytes in, frames out, and the reverse.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netlab.errors import UsageError

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_VERSION = 3
_CONTROL = 0x8000
_FIN = 0x01
_LONGEST_FRAME = 1024 * 1024
"""Bytes of a frame's content; clients send at most 32 KiB at once."""
_LONGEST_HEADERS = 64 * 1024
"""Bytes of a stream's headers, after they were decompressed."""

# fmt: off
_NAMES = (
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "age", "allow", "authorization", "cache-control", "connection",
    "content-base", "content-encoding", "content-language", "content-length", "content-location", "content-md5",
    "content-range", "content-type", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location",
    "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after",
    "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning",
    "www-authenticate", "method", "get", "status",
)
# fmt: on
_VALUES = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack("!I", len(word)) + word.encode() for word in (*_NAMES, *_VALUES)) + _TAIL.encode()
"""What headers are compressed with (section 2.6.10.1)."""


class SpdyError(UsageError):
    """What the peer sent is not SPDY/3.1."""


@dataclass(frozen=True)
class Opened:
    """The peer opened a stream."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Data:
    """Data of a stream, which may be empty; `last`: there is no more."""

    stream: int
    data: bytes
    last: bool


@dataclass(frozen=True)
class Reset:
    """The peer gave a stream up."""

    stream: int


@dataclass(frozen=True)
class Ping:
    """The peer wants this frame sent back."""

    frame: bytes


@dataclass(frozen=True)
class GoAway:
    """The peer ends the connection."""


Event = Opened | Data | Reset | Ping | GoAway


class Decoder:
    """Takes the bytes of a connection apart into frames."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._headers = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Event]:
        """The frames that are complete with this. Raises `SpdyError`."""
        self._received += data
        while len(self._received) >= 8:
            length = int.from_bytes(self._received[5:8])
            if length > _LONGEST_FRAME:
                raise SpdyError(f"SPDY: a frame of {length} bytes is too long")
            if len(self._received) < 8 + length:
                return
            frame = bytes(self._received[: 8 + length])
            del self._received[: 8 + length]
            event = self._event(frame)
            if event is not None:
                yield event

    def _event(self, frame: bytes) -> Event | None:
        first, kind, flags = struct.unpack("!HHB", frame[:5])
        content = frame[8:]
        if not first & _CONTROL:
            return Data(first << 16 | kind, content, bool(flags & _FIN))
        if first & ~_CONTROL != _VERSION:
            raise SpdyError(f"SPDY: version {first & ~_CONTROL} is not spoken here, only {_VERSION}")
        if kind == _SYN_STREAM and len(content) >= 10:
            return Opened(_stream_of(content), self._decode(content[10:]))
        if kind == _SYN_REPLY and len(content) >= 4:
            self._decode(content[4:])  # the decompressor has to see it
        if kind == _RST_STREAM and len(content) >= 4:
            return Reset(_stream_of(content))
        if kind == _PING:
            return Ping(frame)
        return GoAway() if kind == _GOAWAY else None

    def _decode(self, block: bytes) -> dict[str, str]:
        try:
            text = self._headers.decompress(block, _LONGEST_HEADERS)
            if self._headers.unconsumed_tail:
                raise SpdyError(f"SPDY: the headers of a stream have more than {_LONGEST_HEADERS} bytes")
            (count,), at = struct.unpack_from("!I", text), 4
            headers = {}
            for _ in range(count):
                name, at = _text(text, at)
                value, at = _text(text, at)
                headers[name] = value
        except (zlib.error, struct.error, UnicodeDecodeError):
            raise SpdyError("SPDY: the headers of a stream cannot be read") from None
        return headers


class Encoder:
    """Makes frames."""

    def __init__(self) -> None:
        self._headers = zlib.compressobj(zdict=DICTIONARY)

    def reply(self, stream: int) -> bytes:
        """That a stream which the peer opened is accepted."""
        block = self._headers.compress(struct.pack("!I", 0)) + self._headers.flush(zlib.Z_SYNC_FLUSH)
        return _control(_SYN_REPLY, struct.pack("!I", stream) + block)

    def data(self, stream: int, data: bytes, *, last: bool = False) -> bytes:
        """Data of a stream."""
        return struct.pack("!II", stream, (_FIN if last else 0) << 24 | len(data)) + data

    def reset(self, stream: int) -> bytes:
        """That a stream is given up."""
        return _control(_RST_STREAM, struct.pack("!II", stream, 5))  # CANCEL

    def open(self, stream: int, headers: Mapping[str, str]) -> bytes:
        """A new stream, as clients open it."""
        text = struct.pack("!I", len(headers))
        for pair in headers.items():
            for each in pair:
                text += struct.pack("!I", len(each.encode())) + each.encode()
        block = self._headers.compress(text) + self._headers.flush(zlib.Z_SYNC_FLUSH)
        return _control(_SYN_STREAM, struct.pack("!IIH", stream, 0, 0) + block)


def _control(kind: int, content: bytes) -> bytes:
    return struct.pack("!HHI", _CONTROL | _VERSION, kind, len(content)) + content


def _stream_of(content: bytes) -> int:
    return int.from_bytes(content[:4]) & 0x7FFFFFFF


def _text(text: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("!I", text, at)
    end = at + 4 + length
    if end > len(text):
        raise SpdyError("SPDY: the headers of a stream cannot be read")
    return text[at + 4 : end].decode(), end
