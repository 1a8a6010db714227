"""Sockets that belong to another network namespace, used from here."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from typing import NoReturn

from netlab.errors import NetlabError, NotFoundError
from netlab.machine.join import join
from netlab.net import syscalls

_REQUEST = struct.Struct("ii")
_JOINED = b"joined"
_MADE = b"made"
_LONGEST_REPLY = 4096


class SocketFactory:
    """Makes sockets in the network namespace of the process behind `pidfd`.

    A socket stays in the namespace in which it was made, whoever uses it. A child process lives there and hands
    them over; this process moves nowhere. Call it from a single-threaded process, and `close` it.
    """

    def __init__(self, pidfd: int) -> None:
        """Raises as `join` does. The descriptor is no longer needed when this returns."""
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._child = os.fork()
        if self._child == 0:
            _serve(pidfd, theirs)
        theirs.close()
        try:
            greeting = self._connection.recv(_LONGEST_REPLY)
            if greeting != _JOINED:
                raise NotFoundError(greeting.decode(errors="replace") or "its network cannot be entered")
        except BaseException:
            self.close()
            raise

    def make(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A new socket. Raises `OSError` as socket(2) does there, `NetlabError` when the child was killed."""
        try:
            self._connection.send(_REQUEST.pack(family, kind))
            reply, descriptors, _, _ = socket.recv_fds(self._connection, _LONGEST_REPLY, 1)
        except OSError as error:
            raise NetlabError(f"the process that makes sockets in another namespace has ended: {error}") from error
        if not descriptors:
            number = int(reply or b"0")
            raise OSError(number, os.strerror(number))
        os.set_inheritable(descriptors[0], False)
        return socket.socket(family, kind, fileno=descriptors[0])

    def close(self) -> None:
        """End the child; sockets that were made live on. Repeated, it does nothing."""
        self._connection.close()
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, 0)
            self._child = 0


def _serve(pidfd: int, connection: socket.socket) -> NoReturn:
    """The child: it must leave by _exit, for it is a copy of everything its parent holds."""
    try:
        # The terminal's Ctrl-C is for the parent, which then ends this process.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            join(pidfd, syscalls.CLONE_NEWNET)
            # After the change of user namespace, which clears it.
            syscalls.set_parent_death_signal(signal.SIGKILL)
        except (NetlabError, OSError) as error:
            connection.send(str(error).encode()[:_LONGEST_REPLY])
            os._exit(1)
        connection.send(_JOINED)
        while request := connection.recv(_REQUEST.size):
            try:
                with socket.socket(*_REQUEST.unpack(request)) as made:
                    socket.send_fds(connection, [_MADE], [made.fileno()])
            except OSError as error:
                connection.send(str(error.errno).encode())
    finally:
        os._exit(0)
