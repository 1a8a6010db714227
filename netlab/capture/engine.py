"""The capture engine: packets of any number of interfaces, in any network namespaces, in order of time.

The kernel puts them into rings (ring.py). A separate process empties these into a spool (drain.py, spool.py), however
busy the reader is; packets are decoded when they are read.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import errno
import operator
import os
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from netlab.capture import ring, spool
from netlab.capture.drain import FAILURE, MOST_RINGS, NEW_RING, QUIT, STOP, Progress, drain
from netlab.capture.filters import compile_filter
from netlab.capture.ring import SNAPLEN, Frame
from netlab.capture.taps import HANDED_UP, Tap
from netlab.descriptors import Closing, readable
from netlab.errors import NO_ROOM, ExhaustedError, NetlabError, TimedOutError

_MEMORY = 256 << 20
"""Bytes for all rings together, if the machine has enough."""
_MEMORY_SHARE, _SPOOL_SHARE = 16, 4
"""The shares of available memory (one part in so many) for the rings, and for unread packets."""
_LONGEST_STOP = 30.0
_STARTING = 32
"""How many rings are started at once."""

_of_time = operator.attrgetter("time")


def _along(frame: Frame) -> tuple[int, int]:
    """The order of frames, also of those with the same timestamp."""
    return frame.time, 0 if frame.outgoing else HANDED_UP.get(frame.tap.kind, 0)


class Source(NamedTuple):
    """A tap, and a socket (AF_PACKET, SOCK_RAW, protocol 0, unbound) made in its network namespace."""

    tap: Tap
    socket: socket.socket


class Engine(Closing):
    """Captures what the filter accepts, from its creation (or from when a tap is added) until it is stopped.

    It owns the sockets of its sources. Use it as a context manager, or `close` it. Frames are read once, during the
    capture or after it: with `frames`, or piece by piece with `read`. A tap whose interface is deleted is `gone`; what
    was captured there remains. Use it in the thread that created it, which must outlive it; only `stop` may be called
    from any thread or signal handler.
    """

    def __init__(self, sources: Iterable[Source] = (), expression: str = "", *, snaplen: int = SNAPLEN) -> None:
        """Keep `snaplen` bytes of each frame. Unread frames are in an unnamed temporary file.

        Raises what `filters.compile_filter` and `add` raise; all sockets are closed then.
        """
        waiting = list(sources)
        with contextlib.ExitStack() as undo:
            for source in waiting:
                undo.callback(source.socket.close)
            self.expression = expression
            self._program = compile_filter(expression)
            self._snaplen = snaplen
            available = _available_memory()
            self._memory = min(_MEMORY, available // _MEMORY_SHARE)
            self._taps: list[Tap] = []
            self._pending: list[Frame] = []
            """In no particular order, perhaps with gaps."""
            self._stopped = False
            self._finished = False
            self._failure: NetlabError | None = None
            self._progress = Progress()
            try:
                self._spool = spool.create()
            except OSError as error:
                raise _failed(error.errno or 0) from error
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._reader = spool.Reader(self._spool, self._progress)
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._child = os.fork()
            if self._child == 0:
                drain(theirs, self._spool, available // _SPOOL_SHARE, self._bell, self._progress)
            theirs.close()
            self._pidfd = os.pidfd_open(self._child)
            undo.callback(self.close)
            self._start(waiting)
            undo.pop_all()

    # --- what is captured --------------------------------------------------------------------------------------------

    def add(self, source: Source) -> None:
        """Watch another tap: what passes it from now on is captured.

        Raises what `ring.prepare` raises, `ExhaustedError` after 65,536 taps, `NetlabError` when the capture has ended.
        """
        with source.socket:
            if self._stopped:
                raise NetlabError(f"{source.tap.name}: the capture has ended; start a new one")
            self._start([source])

    def _start(self, sources: Sequence[Source]) -> None:
        count = len(self._taps) + len(sources)
        if count > MOST_RINGS:
            raise ExhaustedError(f"one capture can watch at most {MOST_RINGS} taps; start another")
        shape = ring.layout(max(count, 1), self._memory, self._snaplen)
        # Each waits about 15 ms for the kernel.
        with ThreadPoolExecutor(min(len(sources), _STARTING) or 1) as threads:
            for source, _ in zip(sources, threads.map(lambda each: self._prepare(each, shape), sources), strict=True):
                request = NEW_RING.pack(len(self._taps), shape.block, shape.blocks, shape.retire)
                try:
                    socket.send_fds(self._control, [request], [source.socket.fileno()])
                except OSError as error:
                    raise NetlabError(f"{source.tap.name}: the capture has ended; start a new one") from error
                self._taps.append(source.tap)
        # Not before the draining process knows all: they begin together, so that no frame is too late for its order.
        for source in sources:
            with _naming(source.tap), source.socket:
                ring.begin(source.socket, source.tap.interface)

    def _prepare(self, source: Source, shape: ring.Layout) -> None:
        with _naming(source.tap):
            ring.prepare(source.socket, source.tap.interface, self._program, shape)

    @property
    def taps(self) -> list[Tap]:
        """All taps that were ever watched, in the order in which they were added."""
        return list(dict.fromkeys(self._taps))

    @property
    def received(self) -> dict[Tap, int]:
        """Frames that the filter accepted, by tap, including dropped ones."""
        return self._sum(lambda number: self._progress.of(number)[0])

    @property
    def drops(self) -> dict[Tap, int]:
        """Frames that were lost because a ring was full, by tap."""
        return self._sum(lambda number: self._progress.of(number)[1])

    @property
    def gone(self) -> set[Tap]:
        """The taps whose interfaces have been deleted (or moved away), and which have not been added again."""
        latest = {tap: number for number, tap in enumerate(self._taps)}
        return {tap for tap, number in latest.items() if self._progress.of(number)[2]}

    def _sum(self, count: Callable[[int], int]) -> dict[Tap, int]:
        """The sums by tap: a tap that was added again has had several rings."""
        found: collections.Counter[Tap] = collections.Counter()
        for number, tap in enumerate(self._taps):
            found[tap] += count(number)
        return dict(found)

    # --- reading -----------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable when `read` may have something."""
        return self._bell

    @property
    def finished(self) -> bool:
        """Whether everything has been read, and nothing more can come."""
        return self._finished

    def read(self, timeout: float | None = 0) -> list[Frame]:
        """The next frames in order of time, waiting at most `timeout` seconds (None: without limit).

        An empty list means that none came in that time, or that it is `finished`. Frames come about 20 ms after they
        were captured (later with hundreds of taps), when no earlier one can follow. After a failure, it first returns
        the frames captured before; then it raises `ExhaustedError` if there was no room for unread frames, or
        `NetlabError`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            ended = readable(self._pidfd, timeout=0)  # check this first: nothing is written after the end
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            found = self._next()
            if found or self._finished:
                return found
            if ended:
                if self._pending:
                    return self._before(spool.END)
                raise self._why()
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return []
            readable(self._bell, self._pidfd, timeout=left)

    def frames(self) -> Iterator[Frame]:
        """All frames in order of time; waits for more until the engine is stopped. Raises what `read` raises."""
        while not self._finished:
            yield from self.read(None)

    def _next(self) -> list[Frame]:
        """The frames up to the next mark that has any before it."""
        while record := self._reader.next():
            if isinstance(record, spool.Block):
                self._pending += ring.frames(record.data, self._taps[record.ring])
                continue
            self._finished = record.time == spool.END
            found = self._before(record.time)
            if found or self._finished:
                return found
        return []

    def _before(self, end: int) -> list[Frame]:
        """Take the pending frames with timestamps before that time, in order."""
        self._pending.sort(key=_of_time)  # fast: it consists of a few ordered runs
        count = bisect.bisect_left(self._pending, end, key=_of_time)
        found, self._pending = self._pending[:count], self._pending[count:]
        if len(set(map(_of_time, found))) < count:
            found.sort(key=_along)
        return found

    # --- the end -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the capture: everything that has passed a tap so far can still be read. May be called again.

        Raises `TimedOutError` when the machine is so busy that it does not end in half a minute.
        """
        self._stopped = True
        self._request(STOP)
        # Do not read the answer, so that other waiters see it too.
        if not readable(self._control.fileno(), self._pidfd, timeout=_LONGEST_STOP):
            raise TimedOutError("the capture does not end; the machine is overloaded, try again")

    def close(self) -> None:
        """End it at once, and drop unread frames. May be called again."""
        if self._child == 0:
            return
        self._request(QUIT)
        if not readable(self._pidfd, timeout=_LONGEST_STOP):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._child, 0)
        self._child = 0
        self._control.close()
        for descriptor in (self._pidfd, self._bell, *self._spool):
            os.close(descriptor)

    def _request(self, request: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            self._control.send(request)

    def _why(self) -> NetlabError:
        """Why the process that empties the rings ended on its own."""
        if self._failure is None:
            self._control.setblocking(False)
            try:
                (number,) = FAILURE.unpack(self._control.recv(FAILURE.size))
            except (OSError, struct.error):
                self._failure = NetlabError("the capturing process was killed; what it captured before is complete")
            else:
                self._failure = _failed(number)
        return self._failure


@contextlib.contextmanager
def _naming(tap: Tap) -> Iterator[None]:
    """Add the interface's owner to an error."""
    try:
        yield
    except NetlabError as error:
        raise type(error)(f"{tap.owner}: {error}") from error


def _failed(number: int) -> NetlabError:
    """The exception for an errno that ended a capture."""
    reason = os.strerror(number)
    if number in NO_ROOM:
        return ExhaustedError(
            f"captured packets cannot be kept in {tempfile.gettempdir()}: {reason}: "
            "capture less (a filter, fewer taps), or set TMPDIR to a folder with more room"
        )
    if number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return ExhaustedError(f"the capture cannot go on: {reason}: watch fewer taps")
    return NetlabError(f"the capture cannot go on: {reason}")


def _available_memory() -> int:
    """The available memory in bytes."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    (kibibytes,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return kibibytes << 10
