"""Connects the process that empties rings with the one that reads packets: two unnamed files.

A record is a block of a ring as the kernel wrote it, or a mark that says up to what time packets are complete. Records
go to memory as long as the reader is not too far behind, and otherwise to a file on disk: no disk is as fast as the
kernel, but it has more room. The space of what has been read is freed at once.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from netlab.net import syscalls

END = (1 << 63) - 1
"""The time of the last mark: nothing follows it."""

_RECORD = struct.Struct("=IIq")
"""The number of a ring, or one of those below; the number of bytes that follow; for a mark, its time."""
_MARK, _GO_ON_IN_OTHER = 0xFFFF_FFFF, 0xFFFF_FFFE
_NOTHING = (0, 0, 0)
_PIECE = 4 << 20
_MOST_BUFFERS = 1024  # IOV_MAX
_MEMORY, _DISK = 0, 1


class Mark(NamedTuple):
    """Everything with a timestamp before `time` (nanoseconds since the epoch) is before this in the spool."""

    time: int


class Block(NamedTuple):
    """A block of the ring with that number."""

    ring: int
    data: bytes


class Sizes(Protocol):
    """Numbers that both processes see: bytes written to each file, and read from it."""

    written: memoryview
    read: memoryview


class Files(NamedTuple):
    """The descriptors of a spool."""

    memory: int
    disk: int


def create() -> Files:
    """A new spool, on the disk for temporary files. Raises `OSError`."""
    with tempfile.TemporaryFile() as file:
        return Files(os.memfd_create("netlab-capture"), os.dup(file.fileno()))


class Appender:
    """Writes records at the end of a spool, with about `memory` unread bytes in memory at most."""

    def __init__(self, files: Files, sizes: Sizes, memory: int) -> None:
        self._files = files
        self._sizes = sizes
        self._most = memory
        self._current = _MEMORY

    def blocks(self, ring: int, blocks: Sequence[memoryview]) -> None:
        """Add blocks. Raises `OSError`, for example when the disk is full."""
        self._choose()
        buffers: list[bytes | memoryview] = []
        for block in blocks:
            buffers += (_RECORD.pack(ring, len(block), 0), block)
        for begin in range(0, len(buffers), _MOST_BUFFERS):
            self._write(buffers[begin : begin + _MOST_BUFFERS])

    def mark(self, time: int) -> None:
        """Add a mark. Raises `OSError`."""
        self._write([_RECORD.pack(_MARK, 0, time)])

    def _choose(self) -> None:
        behind = self._sizes.written[_MEMORY] - self._sizes.read[_MEMORY]
        wanted = self._current
        if behind > self._most:
            wanted = _DISK
        elif behind < self._most // 2:
            wanted = _MEMORY
        if wanted != self._current:
            self._write([_RECORD.pack(_GO_ON_IN_OTHER, 0, 0)])
            self._current = wanted

    def _write(self, buffers: Sequence[bytes | memoryview]) -> None:
        wanted = sum(map(len, buffers))
        file, offset = self._files[self._current], self._sizes.written[self._current]
        done = os.pwritev(file, buffers, offset)
        while done < wanted:  # after a short write, the next call gives the reason
            done += os.pwrite(file, b"".join(buffers)[done:], offset + done)
        self._sizes.written[self._current] = offset + done


class Reader:
    """Reads records from the beginning of a spool, each once."""

    def __init__(self, files: Files, sizes: Sizes) -> None:
        self._files = files
        self._sizes = sizes
        self._current = _MEMORY
        self._piece = b""
        self._begin = 0

    def next(self) -> Block | Mark | None:
        """The next record; None if no more has been written yet. Raises `OSError`."""
        while True:
            piece, begin = self._piece, self._begin
            ring, length, time = _RECORD.unpack_from(piece, begin) if begin + _RECORD.size <= len(piece) else _NOTHING
            end = begin + _RECORD.size + length
            if end > len(piece):
                if not self._fetch():
                    return None
                continue
            self._begin = end
            self._sizes.read[self._current] += end - begin
            if ring == _GO_ON_IN_OTHER:
                self._give_back()
                self._current = _DISK if self._current == _MEMORY else _MEMORY
                self._piece, self._begin = b"", 0
            elif ring == _MARK:
                return Mark(time)
            else:
                return Block(ring, piece[begin + _RECORD.size : end])

    def _fetch(self) -> bool:
        """Read the next piece of the file. Returns whether there was any."""
        file, offset = self._files[self._current], self._sizes.read[self._current]
        size = self._sizes.written[self._current] - offset
        self._piece, self._begin = os.pread(file, min(size, _PIECE), offset), 0
        self._give_back()
        return size > 0

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):  # not every file system supports it
            syscalls.punch_hole(self._files[self._current], 0, self._sizes.read[self._current])
