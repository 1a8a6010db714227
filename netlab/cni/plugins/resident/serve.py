"""A resident process that answers CNI calls: the work of an executable, without loading anything first.

The executables in cni_plugins/ look for its socket first. They hand over their standard streams, their network
namespace and their environment; a thread of this process then runs the very code that the executable would have run,
in the caller's network namespace.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from netlab.cni.plugins.call import PLUGINS, SOCKET, handlers
from netlab.cni.plugins.resident.desk import Call, Desk
from netlab.net.peers import bound

_BACKLOG = 128
_THREADS = 16
"""Calls at once: while one waits for the kernel or for a lock, others go on."""


def main(path: Path = Path(SOCKET)) -> None:
    """Serve until SIGTERM or SIGINT; calls under way are answered first, and the socket is removed.

    The socket is replaced if it is there. Only its owner may use it, and root. Raises `OSError`.
    """
    stop, _ = signalled(signal.SIGTERM, signal.SIGINT)
    serve(path, stop)


def serve(path: Path, stop: int, admit: Callable[[], bool] = lambda: True) -> None:
    """`main`, until `stop` is readable, for calls that `admit` takes."""
    for name in PLUGINS:
        handlers(name)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    listener = _listen(path)
    mine = path.stat().st_ino
    calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
    with listener:
        threads = [threading.Thread(target=_work, args=(calls, home)) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        desk = Desk(listener, calls, admit)
        desk.serve(stop)
        # A successor may have put its own there meanwhile.
        if path.exists() and path.stat().st_ino == mine:
            path.unlink()
        # Who has connected is answered; then accept(2) fails, and connect(2) does at once.
        listener.shutdown(socket.SHUT_RD)
        desk.finish()
        for _ in threads:
            calls.put(None)
        for thread in threads:
            thread.join()
    os.close(home)


def _work(calls: queue.SimpleQueue[Call | None], home: int) -> None:
    """Answer calls that have arrived as a whole, until there is None."""
    while (call := calls.get()) is not None:
        with call:
            try:
                call.answer(home)
            except Exception as error:
                print(f"a call was not answered: {error}", file=sys.stderr, flush=True)


def signalled(*signals: signal.Signals) -> tuple[int, int]:
    """A pipe that becomes readable with one of the signals: an exception could come between any two lines."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in signals:
        signal.signal(number, lambda *_: None)
    return read_end, write_end


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    listener = bound(str(fresh), socket.SOCK_STREAM)
    listener.listen(_BACKLOG)
    # Only now: who finds the socket can connect to it.
    fresh.rename(path)
    return listener


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
