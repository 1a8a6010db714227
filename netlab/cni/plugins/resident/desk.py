"""Where calls of the resident CNI process arrive: all of them at once in one thread, none of which holds another back.

A call goes on to a thread that answers it once its request and its standard input are here as a whole. A caller that
says nothing, or half of something, costs a descriptor for some seconds.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from queue import SimpleQueue

from netlab.cni.plugins import answer
from netlab.cni.plugins.call import DECLINED, PLUGINS, PROTOCOL, handlers
from netlab.cni.plugins.container_netns import setns
from netlab.descriptors import Closing, readable
from netlab.net.peers import Peer, why_refused

_DESCRIPTORS = 4
"""Standard input, output and error, and the caller's network namespace."""
_LARGEST_REQUEST = 1 << 20
_LARGEST_INPUT = 4 << 20
_PIECE = 1 << 16
_PAUSE = 0.01
_PATIENCE = 10.0
"""Seconds in which a caller has to go on with what it wants, or to take its answer."""
_MOST = 256
"""Calls that are not here as a whole; one more makes the oldest leave."""
_MOST_OF_ONE = 32
"""Those of one process, of which an executable makes one: likewise."""


class Call(Closing):
    """One call, as far as it has arrived. Use it as a context manager: it closes what came with it."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection = connection
        self.pid = pid
        self.deadline = time.monotonic() + _PATIENCE
        self.stdin = -1
        """The caller's, once the request is here and wants it."""
        self._request = b""
        self._received: list[int] = []
        self._input: list[bytes] = []
        self._name = ""
        self._environment: dict[str, str] = {}

    def close(self) -> None:
        """Close the connection and every descriptor that came by it."""
        self.connection.close()
        while self._received:
            os.close(self._received.pop())

    def receive(self) -> bool:
        """Take what has come of the request; whether it is here as a whole.

        Raises `OSError`, `ValueError` when it will never be, `DeclinedError` when it is not for this process.
        """
        # Not to be inherited by a plugin that another thread executes: its caller waits for the end of these streams.
        # socket.recv_fds() takes flags and passes them over (Python 3.11).
        numbers = array.array("i")
        size = socket.CMSG_SPACE(_DESCRIPTORS * numbers.itemsize)
        flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        text, ancillary, _, _ = self.connection.recvmsg(_PIECE, size, flags)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
        self._received += numbers
        self._request += text
        if not text or len(self._request) > _LARGEST_REQUEST or len(self._received) > _DESCRIPTORS:
            raise ValueError("the request is cut off")
        if not self._request.endswith(b"\0\0"):
            return False
        self._read_request()
        self.stdin = self._received[0]
        return True

    def _read_request(self) -> None:
        protocol, *rest = self._request[:-2].split(b"\0")
        if protocol != PROTOCOL or len(rest) < 2 or len(self._received) != _DESCRIPTORS:
            raise DeclinedError
        mounts, name, *variables = rest
        self._name = os.fsdecode(name)
        if mounts != os.readlink(b"/proc/self/ns/mnt") or self._name not in PLUGINS:  # noqa: PTH115
            raise DeclinedError
        self._environment = dict(os.fsdecode(each).split("=", 1) for each in variables)

    def read(self) -> bool:
        """Take what has come of the standard input; whether that was its end, as `answer.read_all` finds it.

        Raises `OSError`, `ValueError` when it is too long.
        """
        if not readable(self.stdin, timeout=0):
            return False  # another call, which has the same pipe, was first: read(2) would hold all of them back
        piece = os.read(self.stdin, _PIECE)
        self._input.append(piece)
        if sum(map(len, self._input)) > _LARGEST_INPUT:
            raise ValueError("the configuration is too long")
        return not piece

    def answer(self, home: int) -> None:
        """Do what is asked for in the caller's network namespace, and go `home`, the process's own.

        A thread that stayed there would keep that namespace. Raises `OSError` when the caller does not take its answer.
        """
        namespace = self._received[3]
        there = not os.path.sameopenfile(home, namespace)
        if there:
            setns(namespace)
        try:
            self._answer()
        finally:
            if there:
                setns(home)

    def _answer(self) -> None:
        _, stdout, stderr, _ = self._received
        config = b"".join(self._input)

        def send(status: int, output: str) -> None:
            _write(stdout, output.encode())
            self.connection.settimeout(_PATIENCE)
            self.connection.sendall(bytes([status]))

        answer.respond(handlers(self._name), self._environment, lambda: config, send, stderr, stays=True)


class DeclinedError(Exception):
    """A call that this process does not take; its executable does it itself."""


class Desk:
    """Accepts calls, and hands on those that are here as a whole."""

    def __init__(self, listener: socket.socket, calls: SimpleQueue[Call | None], admit: Callable[[], bool]) -> None:
        """Asks `admit` about each call, before anything is read that its executable could not read again."""
        self._admit = admit
        self._listener = listener
        self._calls = calls
        self._poll = select.poll()
        self._waiting: dict[int, Call] = {}
        """By the descriptor that is waited for: the connection's, then that of the standard input."""
        listener.setblocking(False)
        self._poll.register(listener, select.POLLIN)
        self._open = True
        self._last = False

    def serve(self, stop: int) -> None:
        """Take calls until `stop` is readable."""
        self._poll.register(stop, select.POLLIN)
        while stop not in (ready := self._wait()):
            self._attend(ready)
        self._poll.unregister(stop)

    def finish(self) -> None:
        """Take those who have connected before the listener was shut down, and wait for the rest of their calls."""
        self._last = True
        while self._open or self._waiting:
            self._attend(self._wait())

    def _wait(self) -> list[int]:
        first = min((call.deadline for call in self._waiting.values()), default=None)
        timeout = None if first is None else max(0.0, first - time.monotonic()) * 1000
        return [descriptor for descriptor, _ in self._poll.poll(timeout)]

    def _attend(self, ready: list[int]) -> None:
        for descriptor in ready:
            if descriptor == self._listener.fileno():
                self._accept()
            elif descriptor in self._waiting:
                self._go_on(descriptor)
        now = time.monotonic()
        for descriptor, call in list(self._waiting.items()):
            if call.deadline <= now:
                self._leave(descriptor, "it did not arrive in time")

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if isinstance(error, BlockingIOError):
                if self._last:
                    self._poll.unregister(self._listener)
                    self._open = False
            elif self._waiting:  # no descriptor is left: some caller has to go before another can be heard
                self._leave(next(iter(self._waiting)), "there are too many")
            else:
                time.sleep(_PAUSE)
            return
        try:
            with Peer(connection) as peer:
                pid = peer.pid
            refused = why_refused(connection, 0, None)
        except ProcessLookupError:
            refused = "the caller has ended"
        if refused:
            with connection, contextlib.suppress(OSError):
                connection.send(DECLINED, socket.MSG_DONTWAIT)
            return
        of_the_caller = [descriptor for descriptor, call in self._waiting.items() if call.pid == pid]
        if len(of_the_caller) >= _MOST_OF_ONE:
            self._leave(of_the_caller[0], f"process {pid} makes too many")
        elif len(self._waiting) >= _MOST:
            self._leave(next(iter(self._waiting)), "there are too many")
        self._expect(connection.fileno(), Call(connection, pid))

    def _expect(self, descriptor: int, call: Call) -> None:
        self._waiting[descriptor] = call
        self._poll.register(descriptor, select.POLLIN)

    def _forget(self, descriptor: int) -> Call:
        self._poll.unregister(descriptor)
        return self._waiting.pop(descriptor)

    def _go_on(self, descriptor: int) -> None:
        call = self._waiting[descriptor]
        try:
            if call.stdin < 0:
                if not call.receive():
                    return
                if not self._admit():
                    raise DeclinedError
                self._forget(descriptor)
                if os.isatty(call.stdin):
                    self._calls.put(call)  # nobody types a configuration there
                    return
                call.deadline = time.monotonic() + _PATIENCE
                self._expect(call.stdin, call)
            elif call.read():
                self._calls.put(self._forget(descriptor))
            else:
                call.deadline = time.monotonic() + _PATIENCE
        except BlockingIOError:
            return
        except DeclinedError:
            self._leave(descriptor, "")
        except Exception as error:
            self._leave(descriptor, str(error))

    def _leave(self, descriptor: int, why: str) -> None:
        """Give a call up. One that breaks off, or says nothing sensible, is no error of this process."""
        call = self._forget(descriptor)
        if why:
            print(f"a call was not answered: {why}", file=sys.stderr, flush=True)
        with call, contextlib.suppress(OSError):
            call.connection.send(DECLINED, socket.MSG_DONTWAIT)


def _write(stdout: int, output: bytes) -> None:
    """Write what fits, for as long as the caller takes it: one that does not must not hold a thread for ever."""
    poll = select.poll()
    poll.register(stdout, select.POLLOUT)
    while output:
        if not poll.poll(_PATIENCE * 1000):
            raise TimeoutError("the caller does not take its answer")
        output = output[os.write(stdout, output[: select.PIPE_BUF]) :]
