"""The processes of a container that is not pid 1 of a pid namespace: the kernel does not end them with it.

They are those in the container's mount namespace, which only a privileged process can leave, and which no other
container has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator


class Members:
    """A container's processes, to be ended with the first of them. Both ends: the machine's, and the forked child's."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)

    @property
    def descriptor(self) -> int:
        """What the child must not close before `tell`."""
        return self._theirs.fileno()

    def tell(self) -> None:
        """In the child, once it has its mount namespace: which it is."""
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(self._theirs, [b"\0"], [namespace])
        os.close(namespace)
        self._theirs.close()

    def kill(self) -> None:
        """In the machine, once the child has ended: end the others."""
        with contextlib.suppress(BlockingIOError):
            for namespace in socket.recv_fds(self._ours, 1, 1, socket.MSG_CMSG_CLOEXEC)[1]:
                # Held open, so that its number is not that of another one by now.
                _kill_all(os.fstat(namespace).st_ino)
                os.close(namespace)
        self.close()

    def close(self) -> None:
        """Give up both ends."""
        self._ours.close()
        self._theirs.close()


def _kill_all(namespace: int) -> None:
    """Kill every process of this pid namespace, and of those below, that is in a mount namespace."""
    killed: set[int] = set()
    # One that is being killed forks no more, so that this ends without waiting for any of them.
    while new := {*_found(namespace)} - killed:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= new


def _found(namespace: int) -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - pid 1 stays small
        if name.isdecimal():
            # What has ended has no namespaces any more.
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/mnt").st_ino == namespace:  # noqa: PTH116
                    yield int(name)
