"""Captures as files: pcapng (draft-ietf-opsawg-pcapng), with a named interface for each tap.

Wireshark shows the names; `read` returns the taps. A truncated file is read up to its last whole block.
"""

from __future__ import annotations

import os
import platform
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

import netlab
from netlab.capture.ring import SNAPLEN, Frame
from netlab.capture.taps import Tap
from netlab.descriptors import Closing
from netlab.errors import NetlabError, write_failure

SUFFIX = ".pcapng"
STANDARD_OUTPUT = Path("-")

_SECTION, _INTERFACE, _SIMPLE_PACKET, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 3, 5, 6
_BYTE_ORDER = 0x1A2B3C4D
_VERSION = (1, 0)
_UNKNOWN_LENGTH = 0xFFFF_FFFF_FFFF_FFFF
_ETHERNET = 1  # LINKTYPE_ETHERNET

# Options: of any block, then of each kind.
_END, _COMMENT = 0, 1
_SECTION_OS, _SECTION_PROGRAM = 3, 4
_NAME, _DESCRIPTION, _RESOLUTION, _FILTER, _OS, _TIME_OFFSET = 2, 3, 9, 11, 12, 14
_FLAGS, _INBOUND, _OUTBOUND = 2, 1, 2
_END_TIME, _RECEIVED, _DROPPED = 3, 4, 5

_NANOSECONDS = 9
_MICROSECONDS = 6
_PER_SECOND = 1_000_000_000
_BUFFER = 256 << 10
_LONGEST_OPTION = 0xFFFC

_PACKET_HEADER = struct.Struct("=7I")
"""Type and length of the block, interface, time (high and low half), bytes kept, bytes on the wire."""
_LENGTH = struct.Struct("=I")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class Recording(NamedTuple):
    """What a file has: its interfaces, frames in the file's order, comments by frame number (from 0), drops."""

    taps: list[Tap]
    frames: list[Frame]
    comments: dict[int, str]
    drops: dict[Tap, int]


def write(
    path: Path,
    frames: Iterable[Frame],
    *,
    taps: Iterable[Tap] = (),
    comments: Mapping[int, str] | None = None,
    drops: Mapping[Tap, int] | None = None,
    expression: str = "",
) -> None:
    """Write a whole file: `comments` are by frame number (from 0). Raises what `Writer` raises."""
    said = comments or {}
    with Writer(path, taps, expression=expression) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, said.get(number, ""))
        writer.statistics({}, drops or {})


class Writer(Closing):
    """Writes frames to a new file (with the umask's mode) that replaces an old one, to a device or pipe, or to
    `STANDARD_OUTPUT`.

    After each `flush` the file is complete: it can be read while it is written, and after this process was killed. At
    worst, in the middle of a flush, its last packet is truncated, which readers skip. Use it as a context manager, or
    call `close`.
    """

    def __init__(
        self,
        path: Path,
        taps: Iterable[Tap] = (),
        *,
        expression: str = "",
        snaplen: int = SNAPLEN,
        comment: str = "",
    ) -> None:
        """Describe the taps, the filter and the bytes kept of each frame; `comment` is for the whole file.

        Raises `NetlabError` when the file cannot be written, `ExhaustedError` when there is no room, `BrokenPipeError`
        when the reader of a pipe is gone.
        """
        self.path = path
        self._expression = expression
        self._snaplen = snaplen
        self._numbers: dict[Tap, int] = {}
        self._by_identity: dict[int, int] = {}  # comparing taps would cost as much as comparing frames
        self._kept: list[Tap] = []
        self._buffer = bytearray()
        self._file = _created(path)
        system = f"{platform.system()} {platform.release()}"
        options = [
            _option(_COMMENT, comment),
            _option(_SECTION_OS, system),
            _option(_SECTION_PROGRAM, f"netlab {netlab.__version__}"),
        ]
        body = struct.pack("=IHHQ", _BYTE_ORDER, *_VERSION, _UNKNOWN_LENGTH)
        self._buffer += _block(_SECTION, body, options)
        for tap in taps:
            self.add(tap)
        try:
            self.flush()
        except (NetlabError, BrokenPipeError):
            os.close(self._file)
            raise

    def add(self, tap: Tap) -> int:
        """Describe an interface, unless that is done. Returns its number in the file."""
        if tap not in self._numbers:
            self._numbers[tap] = len(self._numbers)
            options = [
                _option(_NAME, tap.name),
                _option(_DESCRIPTION, tap.description),
                _option(_COMMENT, _tap_comment(tap)),
                _option(_RESOLUTION, bytes([_NANOSECONDS])),
                _option(_FILTER, b"\0" + self._expression.encode() if self._expression else b""),
                _option(_OS, f"{platform.system()} {platform.release()}"),
            ]
            self._buffer += _block(_INTERFACE, struct.pack("=HHI", _ETHERNET, 0, self._snaplen), options)
        return self._numbers[tap]

    def write(self, frame: Frame, comment: str = "") -> None:
        """Add a frame with a comment. Raises what `flush` raises."""
        tap, stamp, outgoing, data, length = frame
        number = self._by_identity.get(id(tap))
        if number is None:
            number = self._by_identity[id(tap)] = self.add(tap)
            self._kept.append(tap)  # so that no other object gets its id()
        options = _DIRECTION[outgoing] if not comment else _option(_COMMENT, comment) + _DIRECTION[outgoing]
        kept = len(data)
        padding = _PADDING[kept % 4]
        size = _PACKET_HEADER.size + kept + len(padding) + len(options) + _LENGTH.size
        self._buffer += b"".join(
            (
                _PACKET_HEADER.pack(_PACKET, size, number, stamp >> 32, stamp & 0xFFFF_FFFF, kept, length),
                data,
                padding,
                options,
                _LENGTH.pack(size),
            )
        )
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def statistics(self, received: Mapping[Tap, int], drops: Mapping[Tap, int]) -> None:
        """Record for each of these taps how many frames there were, including lost ones, and how many were lost.

        May be called again; the last call counts.
        """
        now = time.time_ns()
        high, low = now >> 32, now & 0xFFFF_FFFF
        for tap in dict.fromkeys([*received, *drops]):
            options = [_option(_END_TIME, struct.pack("=II", high, low))]
            if tap in received:
                options.append(_option(_RECEIVED, struct.pack("=Q", received[tap])))
            options.append(_option(_DROPPED, struct.pack("=Q", drops.get(tap, 0))))
            number = self.add(tap)
            self._buffer += _block(_STATISTICS, struct.pack("=III", number, high, low), options)

    def flush(self) -> None:
        """Write everything so far to the file. Raises `ExhaustedError`, `NetlabError` and `BrokenPipeError`."""
        try:
            while self._buffer:
                written = os.write(self._file, self._buffer)
                del self._buffer[:written]
        except BrokenPipeError:
            self._buffer.clear()  # closing would try it again
            raise
        except OSError as error:
            raise write_failure(error)(
                f"{_called(self.path)}: {error.strerror}: no more packets can be written there"
            ) from error

    def close(self) -> None:
        """Write the rest and close. May be called again. Raises what `flush` raises."""
        if self._file < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._file)
            self._file = -1


def read(path: Path) -> Recording:
    """Read a pcapng file with Ethernet interfaces, written by netlab or by any other program.

    An interface in another program's file is a tap without a machine. Anything after the last whole block is skipped.
    Raises `NetlabError` if it is not such a file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NetlabError(f"{path}: {error.strerror}") from error
    found = Recording([], [], {}, {})
    try:
        for kind, order, body in _blocks(content):
            if kind == _SECTION:
                interfaces: list[_Interface] = []
            elif kind == _INTERFACE:
                interfaces.append(_interface(order, body, len(interfaces)))
                if interfaces[-1].tap not in found.taps:
                    found.taps.append(interfaces[-1].tap)
            elif kind == _PACKET:
                _read_packet(order, body, interfaces, found)
            elif kind == _SIMPLE_PACKET:
                (length,) = struct.unpack_from(order + "I", body)
                kept = min(length, interfaces[0].snaplen or length)
                found.frames.append(Frame(interfaces[0].tap, 0, False, bytes(body[4 : 4 + kept]), length))
            elif kind == _STATISTICS:
                (number,) = struct.unpack_from(order + "I", body)
                for code, value in _options(order, body[12:]):
                    if code == _DROPPED:
                        (found.drops[interfaces[number].tap],) = struct.unpack(order + "Q", value)
    except (struct.error, IndexError, ValueError) as error:
        raise NetlabError(f"{path}: not a pcapng file, or damaged: {error}") from error
    return found


class _Interface(NamedTuple):
    tap: Tap
    snaplen: int
    ticks: int
    """Time units per second."""
    offset: int
    """Nanoseconds to add to each time."""


_FLAG = struct.Struct("=HHI")
_DIRECTION = {
    outgoing: _FLAG.pack(_FLAGS, 4, _OUTBOUND if outgoing else _INBOUND) + struct.pack("=HH", _END, 0)
    for outgoing in (False, True)
}
_USUAL = {options: outgoing for outgoing, options in _DIRECTION.items()}
"""The options of most packets, recognised as a whole because that is faster."""


def _option(code: int, value: str | bytes) -> bytes:
    """An option; empty if the value is empty."""
    content = value.encode() if isinstance(value, str) else value
    content = content[:_LONGEST_OPTION]
    if not content:
        return b""
    return struct.pack("=HH", code, len(content)) + content + _PADDING[len(content) % 4]


def _block(kind: int, body: bytes, options: Iterable[bytes]) -> bytes:
    content = body + b"".join(options) + struct.pack("=HH", _END, 0)
    length = len(content) + 12
    return struct.pack("=II", kind, length) + content + _LENGTH.pack(length)


_TAP = "netlab"
"""The prefix of a tap's description in an interface's comment: no other option has room for its fields."""


def _tap_comment(tap: Tap) -> str:
    """A tap in the form that `_tap_of` reads."""
    return msgspec.json.encode({_TAP: tap}).decode()


def _tap_of(comments: Iterable[str], name: str) -> Tap:
    for comment in comments:
        if comment.startswith(f'{{"{_TAP}"'):
            return msgspec.json.decode(comment, type=dict[str, Tap])[_TAP]
    return Tap(machine="", owner="", interface=name, kind="other")


def _blocks(content: bytes) -> Iterator[tuple[int, str, memoryview]]:
    """Kind, byte order and body of each whole block."""
    view = memoryview(content)
    order, offset = "", 0
    while offset + 12 <= len(view):
        if content.startswith(_SECTION.to_bytes(4), offset):  # it is a palindrome, the same in both byte orders
            (magic,) = struct.unpack_from("<I", view, offset + 8)
            order = "<" if magic == _BYTE_ORDER else ">"
            if struct.unpack_from(order + "I", view, offset + 8) != (_BYTE_ORDER,):
                raise ValueError("no byte-order magic")
        if not order:
            raise ValueError("it does not begin with a section")
        kind, length = struct.unpack_from(order + "II", view, offset)
        if length < 12 or length % 4:
            raise ValueError(f"a block of {length} bytes at {offset}")
        if offset + length > len(view):
            return
        yield kind, order, view[offset + 8 : offset + length - 4]
        offset += length
    if not order:
        raise ValueError("it does not begin with a section")


def _options(order: str, view: memoryview) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(view):
        code, length = struct.unpack_from(order + "HH", view, offset)
        if code == _END:
            return
        yield code, bytes(view[offset + 4 : offset + 4 + length])
        offset += 4 + length + -length % 4


def _interface(order: str, body: memoryview, number: int) -> _Interface:
    link, _, snaplen = struct.unpack_from(order + "HHI", body)
    if link != _ETHERNET:
        raise ValueError(f"interface {number} has the link type {link}; only Ethernet (1) can be read")
    options: dict[int, bytes] = {}
    comments: list[str] = []
    for code, value in _options(order, body[8:]):
        if code == _COMMENT:
            comments.append(value.decode(errors="replace"))
        else:
            options[code] = value
    resolution = options.get(_RESOLUTION, bytes([_MICROSECONDS]))[0]
    ticks = 1 << (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    (offset,) = struct.unpack(order + "q", options.get(_TIME_OFFSET, bytes(8)))
    name = options.get(_NAME, f"interface {number}".encode()).decode(errors="replace")
    return _Interface(_tap_of(comments, name), snaplen, ticks, offset * _PER_SECOND)


def _read_packet(order: str, body: memoryview, interfaces: list[_Interface], found: Recording) -> None:
    number, high, low, kept, length = struct.unpack_from(order + "5I", body)
    interface = interfaces[number]
    stamp = (high << 32 | low) * _PER_SECOND // interface.ticks + interface.offset
    options = body[20 + kept + -kept % 4 :]
    outgoing = _USUAL.get(bytes(options))
    if outgoing is None:
        outgoing = False
        for code, value in _options(order, options):
            if code == _FLAGS:
                outgoing = struct.unpack(order + "I", value)[0] & 3 == _OUTBOUND
            elif code == _COMMENT:
                found.comments[len(found.frames)] = value.decode(errors="replace")
    found.frames.append(Frame(interface.tap, stamp, outgoing, bytes(body[20 : 20 + kept]), length))


def _created(path: Path) -> int:
    """A new file in the place of an old one, whose readers keep it whole. A device or a pipe is opened as it is."""
    try:
        if path == STANDARD_OUTPUT:
            return os.dup(1)
        if path.exists() and not path.is_file():
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise NetlabError(
            f"{error.filename or _called(path)}: {error.strerror}: packets cannot be written there"
        ) from error


def _called(path: Path) -> str:
    return "standard output" if path == STANDARD_OUTPUT else str(path)
