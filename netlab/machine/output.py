"""What a container writes: read from its pipes, appended to its log in the form of CRI, and given to who is attached.

Nothing is lost: while an attached client does not read, the container waits, as it would with a terminal.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from functools import partial

from netlab.machine import crilog
from netlab.machine.loop import WRITE, Loop

_CHUNK = 64 * 1024
"""Bytes read at once, as much as a pipe holds: a container that writes endlessly must not block the loop."""


class Output:
    """A container's output, until the container has ended."""

    def __init__(self, loop: Loop, log: int, sources: Mapping[str, int]) -> None:
        """`log` is the file's descriptor, `sources` where each stream is read; all of them are closed at the end."""
        self._loop = loop
        self._log = log
        self._sources = dict(sources)
        self._rest = dict.fromkeys(sources, b"")
        """What has been read of a line that has not ended."""
        self._readers: dict[str, list[_Reader]] = {stream: [] for stream in sources}
        for stream, descriptor in sources.items():
            os.set_blocking(descriptor, False)
            self._watch(stream)

    def attach(self, stream: str, descriptor: int) -> None:
        """Write a stream to a pipe too, from now on. The pipe is closed when the stream ends."""
        reader = _Reader(self._loop, descriptor, lambda: self._watch(stream))
        if stream in self._sources:
            self._readers[stream].append(reader)
        else:
            reader.close()

    def finish(self) -> None:
        """The container has ended: read what is left."""
        for stream in list(self._sources):
            while self._read(stream):
                pass
            self._end(stream)
        os.close(self._log)

    def _watch(self, stream: str) -> None:
        if stream in self._sources and not any(each.unsent for each in self._readers[stream]):
            self._loop.watch(self._sources[stream], partial(self._read, stream))

    def _read(self, stream: str) -> bool:
        """Read once. Returns whether there was something."""
        if stream not in self._sources:
            return False
        try:
            chunk = os.read(self._sources[stream], _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""  # EIO: nobody has the terminal open any more
        if not chunk:
            self._end(stream)
            return False
        lines, self._rest[stream] = crilog.lines(self._rest[stream] + chunk, crilog.head(stream))
        self._write_log(lines)
        for reader in self._readers[stream]:
            reader.write(chunk)
            if reader.unsent:
                self._loop.unwatch(self._sources[stream])
        self._readers[stream] = [each for each in self._readers[stream] if not each.closed]
        return True

    def _write_log(self, text: bytes) -> None:
        # A full disk ends no container.
        with contextlib.suppress(OSError):
            os.write(self._log, text)

    def _end(self, stream: str) -> None:
        source = self._sources.pop(stream, None)
        if source is None:
            return
        self._loop.unwatch(source)
        os.close(source)
        if rest := self._rest[stream]:
            self._write_log(crilog.last(rest, crilog.head(stream)))
        for reader in self._readers[stream]:
            reader.close()


class _Reader:
    """A pipe to an attached client; what it does not take at once waits."""

    def __init__(self, loop: Loop, descriptor: int, drained: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self._loop = loop
        self._descriptor = descriptor
        self._drained = drained
        self._closing = False
        self.closed = False
        self.unsent = b""

    def write(self, data: bytes) -> None:
        self.unsent += data
        if not self.closed:
            self._flush()

    def close(self) -> None:
        """Close it once everything is written."""
        self._closing = True
        if not self.unsent:
            self._close()

    def _flush(self) -> None:
        try:
            self.unsent = self.unsent[os.write(self._descriptor, self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._close()  # its reader has gone
        if self.unsent:
            self._loop.watch(self._descriptor, self._resume, WRITE)

    def _resume(self) -> None:
        self._flush()
        if self.unsent:
            return
        if self._closing:
            self._close()
        elif not self.closed:
            self._loop.unwatch(self._descriptor)
        self._drained()

    def _close(self) -> None:
        self.unsent = b""
        if not self.closed:
            self.closed = True
            self._loop.unwatch(self._descriptor)
            os.close(self._descriptor)
