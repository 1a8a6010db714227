"""Carries connections from the host's loopback to the API server, which is in the lab's network.

Only bytes go into the lab, never a socket of the host: whoever has one can connect it anew, to anything that the host
reaches (connect(2), AF_UNSPEC). TLS ends in the API server, so nothing here looks at the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from netlab.errors import NetlabError
from netlab.net.addresses import socket_family

_CHUNK = 64 * 1024
_MOST = 200
"""Connections at once. The monitor carries them, and may have 1,024 descriptors; some it needs as a guard."""
_BACKLOG = 128
_IDLE, _INTERVAL, _PROBES = 60, 10, 3
"""Seconds of silence after which a client's machine is asked whether it still exists, and how often."""


def listen(address: str, remembered: int) -> socket.socket:
    """A listening socket at an address of this host, at the port `remembered` if that is free, else at any.

    Raises `NetlabError` when the address is not this host's.
    """
    # Only a port of the kernel's own choice: the lab may have written the file in which it is remembered.
    for port in [remembered, 0] if remembered in _ephemeral_ports() else [0]:
        try:
            return _listening(address, port)
        except OSError as error:
            if port and error.errno == errno.EADDRINUSE:
                continue
            raise NetlabError(
                f"the API cannot listen on {address}: {error.strerror}: give --api-address an address of this host"
            ) from None
    raise AssertionError("unreachable: port 0 is never taken")


def _ephemeral_ports() -> range:
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    return range(int(first), int(last) + 1)


def _listening(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket_family(address), socket.SOCK_STREAM)
    try:
        # A port that was just given back has connections in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class Relay:
    """Carries what comes to a listening socket to a Unix socket of the lab."""

    def __init__(self, listener: socket.socket, target: Path, owner: int) -> None:
        """`owner` is the user whose socket `target` must be."""
        self._listener = listener
        self._target = target
        self._owner = owner
        self._selector = selectors.DefaultSelector()
        self._pairs = 0

    def start(self) -> None:
        """Carry from now on, in a thread."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    key.data.carry()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it has gone again, or there is no descriptor for it
        if self._pairs >= _MOST:
            client.close()
            return
        try:
            _notice_silence(client)
            server = self._connected()
        except OSError:
            client.close()  # it has gone again, or the server is being restarted
            return
        self._pairs += 1
        _Pair(self._selector, client, server, self._ended)

    def _connected(self) -> socket.socket:
        """A connection to the server. Raises `OSError`."""
        # The lab may have put a link in the socket's place: never follow one, nor talk to another user's server.
        place = os.open(self._target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(place)
            if not stat.S_ISSOCK(status.st_mode) or status.st_uid != self._owner:
                raise PermissionError(errno.EPERM, "not the lab's socket", str(self._target))
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                server.setblocking(False)
                server.connect(f"/proc/self/fd/{place}")
            except OSError:
                server.close()
                raise
            return server
        finally:
            os.close(place)

    def _ended(self) -> None:
        self._pairs -= 1


def _notice_silence(client: socket.socket) -> None:
    """Have the kernel end the connection of a client whose machine has gone: a watch may be silent for hours."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Flow:
    """What one connection sends, on its way to another."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.waiting = memoryview(b"")
        self.ended = False

    def carry(self) -> None:
        """Move what can be moved now. Raises `OSError` when a connection is broken."""
        with contextlib.suppress(BlockingIOError):
            if not self.waiting and not self.ended:
                self.waiting = memoryview(self.source.recv(_CHUNK))
                if not self.waiting:
                    self.ended = True
                    self.sink.shutdown(socket.SHUT_WR)
            if self.waiting:
                self.waiting = self.waiting[self.sink.send(self.waiting) :]


class _Pair:
    """Two connections, of which each gets what the other sends."""

    def __init__(
        self, selector: selectors.BaseSelector, client: socket.socket, server: socket.socket, ended: Callable[[], None]
    ) -> None:
        self._selector = selector
        self._ended = ended
        client.setblocking(False)
        self._flows = (_Flow(client, server), _Flow(server, client))
        self._watched: dict[socket.socket, int] = {client: 0, server: 0}
        self._watch()

    def carry(self) -> None:
        """Move what can be moved, and end when there is nothing more to come."""
        try:
            for flow in self._flows:
                flow.carry()
        except OSError:
            self._close()
            return
        if all(flow.ended for flow in self._flows):
            self._close()
        else:
            self._watch()

    def _watch(self) -> None:
        wanted = dict.fromkeys(self._watched, 0)
        for flow in self._flows:
            if flow.waiting:
                wanted[flow.sink] |= selectors.EVENT_WRITE
            elif not flow.ended:
                wanted[flow.source] |= selectors.EVENT_READ
        for connection, events in wanted.items():
            before, self._watched[connection] = self._watched[connection], events
            if not before and events:
                self._selector.register(connection, events, self)
            elif before and not events:
                self._selector.unregister(connection)
            elif before != events:
                self._selector.modify(connection, events, self)

    def _close(self) -> None:
        if not self._watched:
            return  # the other connection had an event in the same round
        for connection, events in self._watched.items():
            if events:
                self._selector.unregister(connection)
            connection.close()
        self._watched = {}
        self._ended()
