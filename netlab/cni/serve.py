"""A resident process that answers CNI calls: what an executable would do, without loading anything first.

The executables in cni_plugins/ look for its socket first. They hand over their standard streams, their network
namespace and their environment; a thread of this process then runs the very code that the executable would have run,
in the caller's network namespace.
"""

from __future__ import annotations

import array
import errno
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from netlab.cni import plugin
from netlab.cni.call import DECLINED, PLUGINS, PROTOCOL, SOCKET, handlers
from netlab.cni.netns import setns

_DESCRIPTORS = 4
"""Standard input, output and error, and the caller's network namespace."""
_LARGEST_REQUEST = 1 << 20
_PIECE = 1 << 16
_BACKLOG = 128
_THREADS = 16
"""Calls at once: deleting a link waits some 20 ms in the kernel, during which others go on."""
_REQUEST_TIMEOUT = 10.0
"""Seconds in which a caller has to go on with what it wants."""
_PAUSE = 0.01
_PEER = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


def main(path: Path = Path(SOCKET)) -> None:
    """Serve until SIGTERM or SIGINT; calls under way are answered first, and the socket is removed.

    The socket is replaced if it is there. Only its owner may use it, and root. Raises `OSError`.
    """
    for name in PLUGINS:
        handlers(name)
    listener = _listen(path)
    mine = path.stat().st_ino
    stop = _signalled(signal.SIGTERM, signal.SIGINT)
    with listener:
        threads = [threading.Thread(target=_accept, args=(listener,)) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        os.read(stop, 1)
        # A successor may have put its own there meanwhile.
        if path.exists() and path.stat().st_ino == mine:
            path.unlink()
        # Who has connected is answered; then accept(2) fails, and connect(2) does at once.
        listener.shutdown(socket.SHUT_RD)
        for thread in threads:
            thread.join()


def _accept(listener: socket.socket) -> None:
    """Answer calls until the listener is shut down."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno == errno.EINVAL:
                return
            time.sleep(_PAUSE)  # more calls than descriptors: they wait in the backlog
            continue
        _serve(connection)


def _signalled(*signals: signal.Signals) -> int:
    """A descriptor that becomes readable with one of the signals: an exception could come between any two lines."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in signals:
        signal.signal(number, lambda *_: None)
    return read_end


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    listener.bind(str(fresh))
    os.umask(mask)
    listener.listen(_BACKLOG)
    # Only now: who finds the socket can connect to it.
    fresh.rename(path)
    return listener


def _serve(connection: socket.socket) -> None:
    """Answer one call. A caller that breaks off is nobody's error here, and one that says nothing sensible too."""
    received: list[int] = []
    with connection:
        try:
            _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            connection.settimeout(_REQUEST_TIMEOUT)
            name, environment = _receive(connection, received)
            if name and uid in {0, os.geteuid()}:
                _call(connection, name, environment, received)
            else:
                connection.sendall(DECLINED)
        except Exception as error:
            print(f"a call was not answered: {error}", file=sys.stderr, flush=True)
        finally:
            for descriptor in received:
                os.close(descriptor)


def _receive(connection: socket.socket, received: list[int]) -> tuple[str, dict[str, str]]:
    """The plugin's name and the environment of a call; no name if it is not for this process.

    The descriptors that come along are appended to `received`. Raises `OSError`, `ValueError`.
    """
    # Not to be inherited by a plugin that another thread executes: its caller waits for the end of these streams.
    # socket.recv_fds() takes flags and passes them over (Python 3.11).
    numbers = array.array("i")
    size = socket.CMSG_SPACE(_DESCRIPTORS * numbers.itemsize)
    text, ancillary, _, _ = connection.recvmsg(_PIECE, size, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    received += numbers
    while not text.endswith(b"\0\0"):
        more = connection.recv(_PIECE)
        if not more or len(text) > _LARGEST_REQUEST:
            raise ValueError("the request is cut off")
        text += more
    protocol, mounts, *rest = text[:-2].split(b"\0")
    if protocol != PROTOCOL or mounts != os.readlink(b"/proc/self/ns/mnt") or len(received) != _DESCRIPTORS:  # noqa: PTH115
        return "", {}
    name, *variables = map(os.fsdecode, rest)
    if name not in PLUGINS:
        return "", {}
    return name, dict(variable.split("=", 1) for variable in variables)


def _call(connection: socket.socket, name: str, environment: dict[str, str], received: list[int]) -> None:
    stdin, stdout, stderr, namespace = received
    # The thread stays there until its next call, which says anew where it is to work.
    setns(namespace)
    config = _read(stdin, connection)

    def send(status: int, output: str) -> None:
        plugin.write_all(stdout, output)
        connection.sendall(bytes([status]))

    plugin.respond(handlers(name), environment, lambda: config, send, stderr)


def _read(stdin: int, connection: socket.socket) -> bytes:
    """What `plugin.read_all` reads, for as long as the caller lives: others may hold the other end of its input.

    Raises `OSError`, `ValueError`.
    """
    if os.isatty(stdin):
        return b""
    poll = select.poll()
    poll.register(stdin, select.POLLIN)
    poll.register(connection, select.POLLRDHUP)
    chunks: list[bytes] = []
    while True:
        ready = dict(poll.poll(_REQUEST_TIMEOUT * 1000))
        if stdin not in ready:
            raise ValueError("the caller has gone, or does not give its standard input")
        chunk = os.read(stdin, _PIECE)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
