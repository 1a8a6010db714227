"""Sockets that belong to another network namespace, used from here."""

from __future__ import annotations

import signal
import socket

from netlab.machine.envoy import Envoy
from netlab.machine.join import join
from netlab.net import syscalls


class SocketFactory:
    """Makes sockets in the network namespace of the process behind `pidfd`.

    A socket stays in the namespace in which it was made. A child process enters that namespace and hands sockets over;
    this process stays where it is. Create it in a single-threaded process, and `close` it.
    """

    def __init__(self, pidfd: int) -> None:
        """Raises what `join` raises. The descriptor is not needed after this returns."""
        self._envoy = Envoy(_There(), "makes sockets in another namespace")
        try:
            self._envoy.call("enter", descriptor=pidfd)
        except BaseException:
            self.close()
            raise

    def make(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A new socket. Raises `OSError` from socket(2) there, `UnavailableError` when the child was killed."""
        made: socket.socket = self._envoy.call("make", family, kind)
        return made

    def close(self) -> None:
        """End the child; sockets that it made stay open. May be called again."""
        self._envoy.close()


class _There:
    """The object in the child."""

    def enter(self, pidfd: int) -> None:
        join(pidfd, syscalls.CLONE_NEWNET)
        # Again: the kernel clears it when the user namespace changes.
        syscalls.set_parent_death_signal(signal.SIGKILL)

    def make(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        return socket.socket(family, kind)
