"""The process that empties rings into a spool. To keep up with the kernel, it does not look at packets."""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import select
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from netlab.capture import spool
from netlab.capture.ring import Ring, is_gone
from netlab.descriptors import allow_many, close_all_but
from netlab.net import syscalls

MOST_RINGS = 65_536
"""The most rings that one engine may have in its life."""

STOP, QUIT = b"stop", b"quit"
"""Requests: end when everything captured is in the spool, or at once."""
STOPPED = b"stopped"
"""The answer to STOP. The process ends when the kernel has freed the rings."""
NEW_RING = struct.Struct("=IIII")
"""Sent with a socket: the ring's number, bytes per block, number of blocks, and the milliseconds after which the kernel
hands over a block that is not full."""
FAILURE = struct.Struct("=i")
"""The errno for which this process ends."""

_LONGEST_REQUEST = 64
_SLACK = 10_000_000
"""Nanoseconds by which the kernel may put a frame into a ring after its timestamp. If any process on the machine uses
SO_TIMESTAMP, the kernel stamps incoming frames before they are queued."""
_PRIORITY = -10
"""The nice value, if allowed."""
_MARKS = 2
"""Marks per retire time of a ring's block: for each mark, every ring is asked, and the engine sorts its frames."""
_LONGEST_END = 5.0
"""Seconds for a ring to hand over its frames: its timer does so within twice the retire time."""
_CLOSING = 32
"""How many rings are closed at once: the kernel waits for every processor, twice, for each (packet_release)."""
_LOOK_AGAIN = 0.1
"""Seconds between checks of an interface that is down: the kernel does not report if it is deleted later."""


class Progress:
    """Numbers shared by this process and the engine's: the spool's sizes, and three for each ring."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, 8 * (_FIRST + MOST_RINGS * _NUMBERS))).cast("Q")
        self.written = self._words[0:2]
        self.read = self._words[2:4]

    def tell(self, ring: int, received: int, dropped: int, *, gone: bool) -> None:
        """Record the state of a ring."""
        begin = _FIRST + ring * _NUMBERS
        self._words[begin], self._words[begin + 1], self._words[begin + 2] = received, dropped, gone

    def of(self, ring: int) -> tuple[int, int, bool]:
        """Frames received, those dropped among them, and whether its interface is gone."""
        begin = _FIRST + ring * _NUMBERS
        return self._words[begin], self._words[begin + 1], bool(self._words[begin + 2])


_FIRST, _NUMBERS = 4, 3


def drain(control: socket.socket, files: spool.Files, memory: int, bell: int, progress: Progress) -> NoReturn:
    """The main function of the forked process. It leaves by _exit, because it is a copy of its parent.

    Requests come by `control`. `bell` (an eventfd) rings when there is more in the spool, which may have `memory` bytes
    in memory.
    """
    try:
        # Signals to the whole group (terminal, timeout(1), supervisor) are for the parent, which stops this process.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        syscalls.set_parent_death_signal(signal.SIGKILL)
        gc.disable()
        allow_many()  # a ring takes two
        close_all_but(control.fileno(), bell, *files)
        with contextlib.suppress(PermissionError):  # it needs little time, but at once
            os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
        _Drain(control, spool.Appender(files, progress, memory), bell, progress).run()
        os._exit(0)
    except OSError as error:
        control.send(FAILURE.pack(error.errno or 0))
    finally:
        os._exit(1)


class _Drain:
    def __init__(self, control: socket.socket, out: spool.Appender, bell: int, progress: Progress) -> None:
        self._control = control
        self._out = out
        self._bell = bell
        self._progress = progress
        self._poll = select.epoll()
        self._poll.register(control, select.EPOLLIN)
        self._rings: dict[int, Ring] = {}
        """The rings by number."""
        self._numbers: dict[int, int] = {}
        """The numbers of rings, by the descriptors of their sockets."""
        self._down: set[int] = set()
        """Rings whose interfaces went down."""
        self._looked = 0.0
        """When these were last checked."""
        self._owed: dict[int, tuple[int, float]] = {}
        """For each ring that should end: how many frames it must have handed over in total first, and the deadline."""
        self._retire = self._mark_every = 0
        self._latest = 0
        """When packets were last put into the spool; 0 once a mark says that they are complete up to then."""
        self._marked = 0
        """When the last mark was made."""
        self._stopping = False
        self._closing = ThreadPoolExecutor(_CLOSING)

    def run(self) -> None:
        while not self._stopping or self._rings:
            for descriptor, events in self._poll.poll(self._timeout(), len(self._rings) + 1):
                if descriptor == self._control.fileno():
                    self._answer()
                else:
                    self._empty(self._numbers[descriptor], failed=bool(events & (select.EPOLLERR | select.EPOLLHUP)))
            if self._latest and time.time_ns() - self._marked >= self._mark_every:
                self._mark()
            if self._down and time.monotonic() - self._looked >= _LOOK_AGAIN:
                self._look()
            for number, (frames, deadline) in [*self._owed.items()]:
                if self._rings[number].taken >= frames or time.monotonic() > deadline:
                    self._end(number)
        self._out.mark(spool.END)
        os.eventfd_write(self._bell, 1)
        self._control.send(STOPPED)
        self._closing.shutdown()

    def _timeout(self) -> float | None:
        if self._owed or self._latest:
            return self._retire / 1000
        return _LOOK_AGAIN if self._down else None

    def _answer(self) -> None:
        request, descriptors, _, _ = socket.recv_fds(self._control, _LONGEST_REQUEST, 1)
        if request == STOP:
            self._stopping = True
            for number in self._rings:
                self._let_end(number)
            return
        if request in (QUIT, b""):
            for number in [*self._rings]:
                self._end(number)
            self._closing.shutdown()
            os._exit(0)
        if not descriptors:  # the process has no descriptors left
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        number, block, blocks, retire = NEW_RING.unpack(request)
        ring = Ring(socket.socket(fileno=descriptors[0]), block, blocks)
        self._rings[number] = ring
        self._numbers[ring.socket.fileno()] = number
        self._retire = max(self._retire, retire)
        self._mark_every = self._retire * 1_000_000 // _MARKS
        self._poll.register(ring.socket, select.EPOLLIN)

    def _empty(self, number: int, *, failed: bool) -> None:
        ring = self._rings[number]
        blocks = ring.ready()
        if blocks:
            self._out.blocks(number, blocks)
            ring.release(len(blocks))
            os.eventfd_write(self._bell, 1)
            self._latest = time.time_ns()
        if failed and ring.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # reading the error clears it
            self._down.add(number)

    def _mark(self) -> None:
        """Record up to what time all rings have been emptied."""
        self._marked = time.time_ns()
        complete = self._marked
        for number, ring in self._rings.items():
            ring.count()
            self._progress.tell(number, ring.received, ring.dropped, gone=False)
            complete = min(complete, ring.complete)
        self._out.mark(complete - _SLACK)
        os.eventfd_write(self._bell, 1)
        if complete - _SLACK >= self._latest:
            self._latest = 0

    def _look(self) -> None:
        """End the rings whose interfaces are gone."""
        self._looked = time.monotonic()
        for number in [*self._down]:
            if is_gone(self._rings[number].socket):
                self._down.discard(number)
                self._let_end(number)

    def _let_end(self, number: int) -> None:
        """Let a ring end once it has handed over the frames that it has now."""
        ring = self._rings[number]
        ring.count()
        self._owed[number] = ring.received - ring.dropped, time.monotonic() + _LONGEST_END

    def _end(self, number: int) -> None:
        ring = self._rings.pop(number)
        self._owed.pop(number, None)
        self._down.discard(number)
        self._poll.unregister(ring.socket)
        del self._numbers[ring.socket.fileno()]
        self._progress.tell(number, ring.received, ring.dropped, gone=is_gone(ring.socket))
        ring.unmap()
        self._closing.submit(os.close, ring.socket.detach())
        os.eventfd_write(self._bell, 1)
