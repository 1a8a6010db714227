"""Carries connections between the host's network and servers: into the lab to its own, out of it to another cluster's.

Only bytes go into the lab, never a socket of the host: its holder could connect it anew, to anything that the host
reaches (connect(2), AF_UNSPEC). TLS ends in the API server, so nothing here looks at the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netlab.errors import NetlabError
from netlab.net.addresses import host_port, socket_family

_CHUNK = 64 * 1024
_MOST = 200
"""Connections at once. The monitor carries them, and may have 1,024 descriptors; some it needs as a guard."""
_PATIENCE = 1.0
"""Seconds that one more waits for another to end."""
_BACKLOG = 128
_DIALLING = 10.0
"""Seconds in which another host has to take a connection."""
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


def listen_at(address: str, port: int) -> socket.socket:
    """A listening socket at just that place. Raises `NetlabError` when it cannot be had."""
    try:
        return _listening(address, port)
    except OSError as error:
        raise NetlabError(
            f"the kubelet cannot listen on {host_port(address, port)}: {error.strerror}: "
            "give --node-ip an address of this host, and --kubelet-port one that is free"
        ) from None


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


def into(target: Path, owner: int) -> Callable[[], socket.socket]:
    """What connects to a Unix socket of the lab; `owner` is the user whose socket it must be."""

    def connect() -> socket.socket:
        # The lab may have put a link in the socket's place: never follow one, nor talk to another user's server.
        place = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(place)
            if not stat.S_ISSOCK(status.st_mode) or status.st_uid != owner:
                raise PermissionError(errno.EPERM, "not the lab's socket", str(target))
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                server.connect(f"/proc/self/fd/{place}")
            except OSError:
                server.close()
                raise
            return server
        finally:
            os.close(place)

    return connect


def out_to(host: str, port: int) -> Callable[[], socket.socket]:
    """What connects to a server of the host's network, whose name is looked up each time."""

    def connect() -> socket.socket:
        server = socket.create_connection((host, port), _DIALLING)
        server.settimeout(None)
        _notice_silence(server)
        return server

    return connect


def listen_within(path: Path) -> socket.socket:
    """A listening Unix socket in the lab's directory, in the place of an earlier one. Raises `OSError`."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(_BACKLOG)
    return listener


class Relay:
    """Carries what comes to a listening socket to a server."""

    def __init__(self, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        """`connect` makes a connection to the server. Raises `OSError`."""
        self._listener = listener
        self._connect = connect
        self._free = threading.Semaphore(_MOST)

    def start(self) -> None:
        """Carry from now on, in threads: one that accepts, and two for each connection."""
        _in_thread(self._accept)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue  # it has gone again, or there is no descriptor for it
            if self._free.acquire(timeout=_PATIENCE):
                _in_thread(self._carry, client)
            else:
                client.close()

    def _carry(self, client: socket.socket) -> None:
        # An error: it has gone again, or the server is being restarted.
        with contextlib.suppress(OSError), client:
            if client.family != socket.AF_UNIX:
                _notice_silence(client)
            with self._connect() as server:
                if _is_tls(server):
                    _shuttle(client, server)
                else:
                    back = _in_thread(_copy, server, client)
                    _copy(client, server)
                    back.join()
        self._free.release()


def _is_tls(connection: socket.socket) -> bool:
    return hasattr(connection, "pending")


def _shuttle(client: socket.socket, server: Any) -> None:
    """Carry both ways in one thread, to the end of either: a connection of TLS is not for two (ssl, SSL_read(3))."""
    poll = select.poll()
    for each in (client, server):
        poll.register(each, select.POLLIN)
    while True:
        ready = {server.fileno()} if server.pending() else {descriptor for descriptor, _ in poll.poll()}
        for source, sink in ((client, server), (server, client)):
            if source.fileno() in ready:
                chunk = source.recv(_CHUNK)
                if not chunk:
                    return
                sink.sendall(chunk)


def _notice_silence(client: socket.socket) -> None:
    """Have the kernel end the connection of a client whose machine has gone: a watch may be silent for hours."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Send on what comes, to its end. When a connection breaks, the other direction ends too."""
    try:
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _in_thread(work: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, name="relay", daemon=True)
    thread.start()
    return thread
