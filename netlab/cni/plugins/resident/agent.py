"""The process that a call of an installed plugin leaves behind: it answers the next ones, and ends by itself.

One serves for each folder of plugins. It ends after some seconds without a call, and as soon as a file that it was
loaded from is no longer the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path

from netlab.cni.plugins.call import agent_socket
from netlab.cni.plugins.resident.serve import serve, signalled
from netlab.descriptors import readable
from netlab.net.peers import Peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOOK = 1.0
"""Seconds between two looks at what is current while nothing calls."""
_PATIENCE = 15.0
"""Seconds in which an agent that was asked to end answers the calls under way."""


def run(folder: str, is_current: Callable[[], bool], seconds: float) -> None:
    """Serve the plugins in a folder until there was no call for some seconds, or what was loaded is not current.

    Returns at once where another agent serves already, or where no socket can be kept from others. Raises `OSError`.
    """
    path = Path(agent_socket(folder))
    if not _is_private(path.parent):
        return
    with _locked(path.with_suffix(".lock")) as alone:
        if alone:
            Path("/proc/self/comm").write_text("netlab-cni", encoding="ascii")  # for ps(1)
            stop, wake = signalled(signal.SIGTERM, signal.SIGINT)
            rest = Rest(is_current, seconds, wake)
            threading.Thread(target=rest.watch, daemon=True).start()
            serve(path, stop, rest.admit)


class Rest:
    """Decides when the agent ends, and says so by the descriptor `wake`."""

    def __init__(self, is_current: Callable[[], bool], seconds: float, wake: int) -> None:
        self._is_current = is_current
        self._seconds = seconds
        self._wake = wake
        self._last = time.monotonic()

    def admit(self) -> bool:
        """Whether to take a call: what has changed since it was loaded must not answer it."""
        self._last = time.monotonic()
        if self._is_current():
            return True
        self._end()
        return False

    def watch(self) -> None:
        """Return when the agent is to end."""
        while (left := self._last + self._seconds - time.monotonic()) > 0 and self._is_current():
            time.sleep(min(left, _LOOK))
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b".")


@contextlib.contextmanager
def dismissed(path: str) -> Iterator[None]:
    """Take an agent's files away within: after it, the agent at a socket has ended, its calls under way answered.

    It is looked up before as well: one that notices what is taken away closes its socket, and ends a moment later.
    """
    with contextlib.ExitStack() as opened:
        agents = [_process(path, opened)]
        yield
        agents.append(_process(path, opened))
        for agent in agents:
            if agent is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(agent, signal.SIGTERM)
                readable(agent, timeout=_PATIENCE)


def _process(path: str, opened: contextlib.ExitStack) -> int | None:
    """A descriptor of the process that listens at a socket, if it is this user's."""
    if not (pid := _listener(path)):
        return None
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    opened.callback(os.close, process)
    # It still listens: so the descriptor is the agent's, not that of a process that has got its number.
    return process if _listener(path) == pid else None


def _listener(path: str) -> int:
    """The process that listens at a socket, if it is this user's; 0 otherwise."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError:
            return 0
        with contextlib.suppress(ProcessLookupError), Peer(connection) as peer:
            return peer.pid if peer.uid == os.geteuid() else 0
    return 0


def _is_private(folder: Path) -> bool:
    """Whether nobody else can put a file into a folder, which is made if needed."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock that ends with this process, whatever ends it; whether it was free. The file goes with it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before may have removed it, and another made a new one.
            alone = _is_at(path, descriptor)
        except BlockingIOError:
            alone = False
        try:
            yield alone
        finally:
            if alone:
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether a path leads to an open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
