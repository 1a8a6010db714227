"""Who is at the other end of a Unix socket: how deep in pid namespaces, which a process enters and never leaves again.

What runs in a container is a pid namespace deeper than the machine that runs it, whatever socket it has got hold of
and whatever other namespaces it has joined. pid 1 of every machine loads this: its imports stay few.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
import threading

OUTSIDE = -1
"""The depth of a caller that is not in this process's pid namespace, nor in one beneath it."""

GUARD = "monitor.sock"
"""The socket, in a lab's directory, of the one process of a lab that sees all of this host."""

_SO_PEERPIDFD = 77  # include/uapi/asm-generic/socket.h (Linux 6.5)
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""
_NOBODY = 65534
"""Who has no number in this user namespace; of them only the host's root gets past a socket's mode."""
_TRUSTED = b"\1"
_PATIENCE = 2.0
"""Seconds in which the guard has to answer; it takes a tenth of a millisecond."""


class Peer:
    """The process that connected a socket, held so that its pid stays its own. Use it as a context manager."""

    def __init__(self, connection: socket.socket) -> None:
        """Raises `ProcessLookupError` when it has ended."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid: int
        self.uid: int
        self.pid, self.uid, _ = _CREDENTIALS.unpack(credentials)
        self._pidfd = -1
        try:
            self._pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise ProcessLookupError(errno.ESRCH, "the caller has ended") from error

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def depth(self) -> int:
        """How many pid namespaces beneath this process's own it is; 0 is the same one, OUTSIDE none of them.

        Raises `ProcessLookupError` when it has ended.
        """
        if self.pid == 0:
            return OUTSIDE
        described = f"/proc/{self.pid}/status" if self._pidfd < 0 else f"/proc/self/fdinfo/{self._pidfd}"
        with contextlib.suppress(FileNotFoundError), open(described, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("NSpid:"):
                    numbers = line.split()[1:]
                    if numbers[0] == "-1":
                        break
                    return OUTSIDE if numbers[0] == "0" else len(numbers) - 1
        raise ProcessLookupError(errno.ESRCH, "the caller has ended")

    def pid_namespace(self) -> str:
        """The name of its pid namespace. Raises `OSError` when this process may not know, or it has ended."""
        name = os.readlink(f"/proc/{self.pid}/ns/pid")  # noqa: PTH115
        self.depth()  # still the same process
        return name


def why_refused(connection: socket.socket, deepest: int, guard: str | None) -> str:
    """Why a caller is not to be served, as part of a sentence; "" if it is.

    It is served from up to `deepest` pid namespaces beneath this process's own; from outside if the `guard` of this
    lab says that it is on the host itself.
    """
    try:
        with Peer(connection) as peer:
            depth = peer.depth()
            if depth > deepest:
                return "the caller is in a container"
            if depth == OUTSIDE:
                return (
                    "" if guard is not None and _vouched(connection, guard) else "the caller is not on the lab's host"
                )
            return "" if peer.uid in (0, os.geteuid(), _NOBODY) else f"the caller is uid {peer.uid}"
    except ProcessLookupError:
        return "the caller has ended"


def _vouched(connection: socket.socket, guard: str) -> bool:
    """Ask the guard, which may see what this process does not, about the other end of a connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        descriptors = array.array("i", [connection.fileno(), theirs.fileno()])
        ours.settimeout(_PATIENCE)
        asking.settimeout(_PATIENCE)
        try:
            asking.connect(guard)
            asking.sendmsg([b"?"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            theirs.close()
            return ours.recv(1) == _TRUSTED
        except OSError:
            return False


def bound(path: str, kind: int) -> socket.socket:
    """A Unix socket at a path, for its owner alone; it replaces that of a dead predecessor.

    Raises `OSError` that names the path.
    """
    made = socket.socket(socket.AF_UNIX, kind)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
    before = os.umask(0o177)
    try:
        made.bind(path)
    except OSError as error:
        made.close()
        raise OSError(error.errno or errno.ENAMETOOLONG, error.strerror or str(error), path) from error
    finally:
        os.umask(before)
    return made


def _socket(descriptor: int) -> socket.socket:
    """A socket by a descriptor of its own. Raises `OSError` for what is none."""
    own = os.dup(descriptor)
    try:
        return socket.socket(fileno=own)
    except OSError:
        os.close(own)
        raise


class Guard:
    """Answers, on the host, which callers of a lab's sockets are to be trusted.

    Those of this process's own pid namespace, by this user or root; and what is in the lab's first machine itself.
    A question is one datagram with the connection and a socket for the answer: nothing is kept of who asks.
    """

    def __init__(self, path: str) -> None:
        """Raises `OSError`."""
        self._socket = bound(path, socket.SOCK_DGRAM)
        self._machine = ""

    def start(self, machine: int) -> None:
        """Answer from now on, in a thread. `machine` is the pid of the lab's first machine. Raises `OSError`."""
        self._machine = os.readlink(f"/proc/{machine}/ns/pid")  # noqa: PTH115
        threading.Thread(target=self._serve, name="guard", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._answer()

    def _answer(self) -> None:
        """Answer one question; what makes no sense has no answer."""
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 2)
        try:
            if len(descriptors) == 2:
                with _socket(descriptors[0]) as connection, _socket(descriptors[1]) as reply:
                    if self._trusts(connection):
                        reply.send(_TRUSTED, socket.MSG_DONTWAIT)
        except OSError:
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _trusts(self, connection: socket.socket) -> bool:
        with Peer(connection) as peer:
            depth = peer.depth()
            if depth == 0:
                return peer.uid in (0, os.geteuid())
            return depth > 0 and peer.pid_namespace() == self._machine
