"""Commands' and containers' streams: carried between the engine's connections and the callers' descriptors."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import APIClient

_CHUNK = 32 * 1024
HEAD = struct.Struct("!BxxxI")
"""Of a piece of output: stdout (1) or stderr (2), and its length (Docker's API, "Attach to a container")."""
NAMES = {1: "stdout", 2: "stderr"}
_SIZE = struct.Struct("HHHH")
_GLANCE = 0.1
"""Seconds between two looks at a terminal's size: nobody tells of it who has not the terminal for their own."""


class Exec:
    """A command in a running container."""

    def __init__(self, client: APIClient, container: str, command: Sequence[str], **options: Any) -> None:
        """`options` are those of the library's exec_create. Raises what the library does."""
        self._client = client
        self._id = client.exec_create(container, list(command), **options)["Id"]
        self._terminal = bool(options.get("tty"))

    def start(self) -> socket.socket:
        """Begin; its streams."""
        return _own(self._client.exec_start(self._id, tty=self._terminal, socket=True))

    def resize(self, rows: int, columns: int) -> None:
        """Set its terminal's size."""
        self._client.exec_resize(self._id, height=rows, width=columns)

    def exit_code(self) -> int:
        """How it ended, which it has."""
        while (code := self._client.exec_inspect(self._id)["ExitCode"]) is None:
            time.sleep(0.005)  # its output ends a moment before
        return int(code)

    @property
    def pid(self) -> int:
        """Its process on this host, 0 when it has ended."""
        return int(self._client.exec_inspect(self._id)["Pid"])


def attached(client: APIClient, container: str, streams: Sequence[str]) -> socket.socket:
    """The streams of a running container."""
    return _own(client.attach_socket(container, {"stream": 1, **dict.fromkeys(streams, 1)}))


def _own(given: Any) -> socket.socket:
    """A socket of the library's, without its time limit."""
    with contextlib.closing(given):
        made = socket.socket(fileno=os.dup(given.fileno()))
    made.settimeout(None)
    return made


def pieces(connection: socket.socket) -> Iterator[tuple[str, bytes]]:
    """What comes from a connection without a terminal, and on which stream, until its end."""
    with connection.makefile("rb") as reader:
        while len(head := reader.read(HEAD.size)) == HEAD.size:
            number, length = HEAD.unpack(head)
            yield NAMES.get(number, "stdout"), reader.read(length)


def carry(connection: socket.socket, streams: Mapping[str, int]) -> None:
    """Carry everything between a connection without a terminal and descriptors, until its output has ended.

    Closes the descriptors.
    """
    given = dict(streams)
    stdin = given.pop("stdin", None)
    if stdin is not None:
        threading.Thread(target=_feed, args=(connection, stdin), daemon=True).start()
    try:
        for name, data in pieces(connection):
            if name in given and not _written(given[name], data):
                os.close(given.pop(name))
    except OSError:
        return  # the engine has gone
    finally:
        for each in given.values():
            os.close(each)


def _feed(connection: socket.socket, stdin: int) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := os.read(stdin, _CHUNK):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
    finally:
        os.close(stdin)


def _written(descriptor: int, data: bytes) -> bool:
    """Write all of it. Returns whether anybody reads it."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        return False
    return True


def carry_terminal(connection: socket.socket, resize: Callable[[int, int], None]) -> tuple[int, threading.Thread]:
    """A terminal whose other end is a connection's, and what carries between them until either has gone."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    carrying = threading.Thread(target=_carry_terminal, args=(connection, theirs, resize), daemon=True)
    carrying.start()
    return ours, carrying


def _carry_terminal(connection: socket.socket, terminal: int, resize: Callable[[int, int], None]) -> None:
    size = _size(terminal)
    try:
        while True:
            ready, _, _ = select.select([connection.fileno(), terminal], [], [], _GLANCE)
            if (new := _size(terminal)) != size:
                with contextlib.suppress(Exception):  # too early, or too late: the command does not run
                    resize(*new)
                    size = new
            if connection.fileno() in ready:
                data = connection.recv(_CHUNK)
                if not data or not _written(terminal, data):
                    return
            if terminal in ready:
                connection.sendall(os.read(terminal, _CHUNK))
    except OSError:
        return
    finally:
        os.close(terminal)
        connection.close()


def _size(terminal: int) -> tuple[int, int]:
    rows, columns, _, _ = _SIZE.unpack(fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(_SIZE.size)))
    return rows, columns
