"""The standard streams of a container or a command: pipes and files, or a terminal in the container's own /dev/pts.

The `install` functions run in the forked child.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import termios
from collections.abc import Mapping

from netlab.machine.protocol import STREAMS, ContainerSpec


def install(streams: Mapping[str, int]) -> None:
    """Make descriptors the standard streams; those that are missing read nothing and drop what is written."""
    null = os.open("/dev/null", os.O_RDWR)
    # Not where they go to: one of them could be overwritten before its turn.
    sources = [os.dup(streams.get(name, null)) for name in STREAMS]
    for number, source in enumerate(sources):
        os.dup2(source, number)
        os.close(source)
    os.close(null)


def install_terminal(control: int) -> None:
    """Make a new terminal all three streams, and the session's; its other end is sent to the socket `control`."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    with socket.socket(fileno=control) as connection:
        socket.send_fds(connection, [b"\0"], [master])
    for number in range(len(STREAMS)):
        os.dup2(slave, number)
    os.close(master)
    os.close(slave)


class ContainerStreams:
    """Both ends of a container's streams, between the fork and its report."""

    def __init__(self, spec: ContainerSpec) -> None:
        """Raises `OSError` when there are no descriptors left."""
        self.kept: dict[str, int] = {}
        """The machine's ends: stdin is written, the others are read."""
        self._given: dict[str, int] = {}
        """The container's ends."""
        self._control: tuple[socket.socket, socket.socket] | None = None
        try:
            if spec.terminal:
                self._control = socket.socketpair()
                return
            for name in STREAMS if spec.stdin else STREAMS[1:]:
                read, write = os.pipe()
                self.kept[name], self._given[name] = (write, read) if name == "stdin" else (read, write)
        except OSError:
            self.close()
            raise

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the child must not close before it installs them."""
        return (*self._given.values(), *(() if self._control is None else (self._control[1].fileno(),)))

    def install(self) -> None:
        """In the child, with the container's file tree in place."""
        if self._control is not None:
            install_terminal(self._control[1].detach())
        else:
            install(self._given)

    def started(self) -> None:
        """In the machine, once the child has made its report: close the container's ends."""
        for each in self._given.values():
            os.close(each)
        self._given = {}
        if self._control is not None:
            ours, theirs = self._control
            theirs.close()
            ours.setblocking(False)
            with ours, contextlib.suppress(BlockingIOError):
                master = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)[1]
                if master:
                    self.kept = {"stdin": master[0], "stdout": os.dup(master[0])}
            self._control = None

    def close(self) -> None:
        """Close all of them."""
        for each in (*self.kept.values(), *self._given.values()):
            os.close(each)
        self.kept, self._given = {}, {}
        for end in self._control or ():
            end.close()
        self._control = None
