"""An object in a child process, which enters other namespaces so that this process need not."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
from typing import Any, NoReturn

from netlab.errors import NetlabError, UnavailableError
from netlab.net import syscalls

_LENGTH = struct.Struct("=I")


class Envoy:
    """A child process that holds an object, whose methods are called from here.

    A process that enters a user namespace cannot leave it, and a socket stays in the namespace it was made in. So a
    child goes there, and hands over what it makes. Make it while the process is single-threaded, and `close` it.
    """

    def __init__(self, sent: object, purpose: str) -> None:
        """`purpose` completes `the process that ...` in messages."""
        self._purpose = purpose
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.pid = os.fork()
        if self.pid == 0:
            self._connection.close()
            _serve(sent, theirs)
        theirs.close()

    def close(self) -> None:
        """End the child; sockets that it made stay open. May be called again."""
        self._connection.close()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0

    def call(self, method: str, *args: Any, descriptor: int | None = None) -> Any:
        """Call a method of the object in the child; return what it returns, raise what it raises.

        Arguments and result are pickled, but a socket can be returned, and a `descriptor` can be passed: it becomes
        the method's last argument. Raises `UnavailableError` when the child has ended.
        """
        request = pickle.dumps((method, args))
        try:
            _send(self._connection, request, descriptor)
            reply, received = _receive(self._connection)
        except (OSError, EOFError) as error:
            raise UnavailableError(f"the process that {self._purpose} has ended: {error}") from error
        done, value = pickle.loads(reply)  # noqa: S301 - from our own child
        if not done:
            raise value
        return value if received is None else socket.socket(fileno=received)


def _serve(sent: object, connection: socket.socket) -> NoReturn:
    """Answer until the connection ends, then leave by _exit: the child is a copy of its parent, with its handlers."""
    try:
        # Signals that a terminal or timeout(1) sends to the group are for the parent, which then ends this process.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        syscalls.set_parent_death_signal(signal.SIGKILL)
        while True:
            request, descriptor = _receive(connection)
            method, args = pickle.loads(request)  # noqa: S301 - from the parent
            if descriptor is not None:
                args = (*args, descriptor)
            try:
                value = getattr(sent, method)(*args)
            except Exception as error:
                _answer(connection, False, error)
            else:
                _answer(connection, True, value)
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)


def _answer(connection: socket.socket, done: bool, value: Any) -> None:
    if isinstance(value, socket.socket):
        with value:
            _send(connection, pickle.dumps((done, None)), value.fileno())
        return
    try:
        reply = pickle.dumps((done, value))
    except Exception as error:  # pickle cannot handle some libraries' exceptions
        reply = pickle.dumps((False, NetlabError(f"{type(value).__name__}: {value} ({error})")))
    _send(connection, reply)


def _send(connection: socket.socket, message: bytes, descriptor: int | None = None) -> None:
    head = _LENGTH.pack(len(message))
    if descriptor is None:
        connection.sendall(head + message)
    else:
        socket.send_fds(connection, [head], [descriptor])
        connection.sendall(message)


def _receive(connection: socket.socket) -> tuple[bytes, int | None]:
    head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, 1)
    if len(head) < _LENGTH.size:
        raise EOFError
    for each in descriptors:
        os.set_inheritable(each, False)
    (left,) = _LENGTH.unpack(head)
    chunks = []
    while left:
        chunk = connection.recv(min(left, 1 << 16))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks), descriptors[0] if descriptors else None
