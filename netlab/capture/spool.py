"""What lies between the process that empties rings and the one that reads packets: a file without a name.

It has records: a block of a ring as the kernel wrote it, or a mark that says how far time is complete. What has been
read is given back to the file system, so that the file is no larger than what the reader is behind.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from netlab.net import syscalls

_RECORD = struct.Struct("=IIq")
"""The number of a ring, or `_MARK`; bytes that follow; for a mark, its time."""
_MARK = 0xFFFF_FFFF
END = (1 << 63) - 1
"""The time of the last mark: nothing comes after it."""

_PIECE = 4 << 20
_MOST_BUFFERS = 1024  # IOV_MAX


class Mark(NamedTuple):
    """Whatever was stamped before `time` (nanoseconds since the epoch) is before this in the spool."""

    time: int


class Block(NamedTuple):
    """A block of the ring with that number."""

    ring: int
    data: bytes


def create() -> int:
    """A new spool among temporary files; its descriptor. Raises `OSError`."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Appender:
    """Writes records at the end of a spool."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = 0
        """Bytes that are written, in whole records."""

    def blocks(self, ring: int, blocks: Sequence[memoryview]) -> None:
        """Raises `OSError`, as when the file system is full."""
        buffers: list[bytes | memoryview] = []
        for block in blocks:
            buffers += (_RECORD.pack(ring, len(block), 0), block)
        for begin in range(0, len(buffers), _MOST_BUFFERS):
            self._write(buffers[begin : begin + _MOST_BUFFERS])

    def mark(self, time: int) -> None:
        """Raises `OSError`."""
        self._write([_RECORD.pack(_MARK, 0, time)])

    def _write(self, buffers: Sequence[bytes | memoryview]) -> None:
        wanted = sum(map(len, buffers))
        written = os.pwritev(self._descriptor, buffers, self.size)
        if written < wanted:  # the rest tells why
            rest = b"".join(buffers)[written:]
            while rest:
                done = os.pwrite(self._descriptor, rest, self.size + written)
                written += done
                rest = rest[done:]
        self.size += written


class Reader:
    """Reads records from the beginning of a spool, each once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.offset = 0
        """Bytes that have been read."""

    def records(self, size: int) -> Iterator[Block | Mark]:
        """What has not been read yet of the first `size` bytes. Raises `OSError`."""
        while self.offset < size:
            piece = os.pread(self._descriptor, min(_PIECE, size - self.offset), self.offset)
            begin = 0
            while begin + _RECORD.size <= len(piece):
                ring, length, time = _RECORD.unpack_from(piece, begin)
                end = begin + _RECORD.size + length
                if end > len(piece):
                    break
                # Before it is handed out, lest it be handed out again to a reader that was interrupted.
                self.offset += end - begin
                yield Mark(time) if ring == _MARK else Block(ring, piece[begin + _RECORD.size : end])
                begin = end
            with contextlib.suppress(OSError):  # not every file system can
                syscalls.punch_hole(self._descriptor, 0, self.offset)
