"""Netlink's notifications: what the kernel sends to multicast groups."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable

from netlab.descriptors import Closing
from netlab.net.netlink import NETLINK_ADD_MEMBERSHIP, SOL_NETLINK

RTNLGRP_LINK = 1
_SO_RCVBUFFORCE = 33
_LARGEST = 1 << 16


class Notices(Closing):
    """Datagrams to multicast groups of a netlink family, of the current network namespace or of an existing socket's.

    `room` is how many bytes may wait to be read, as the kernel counts them, 0 the kernel's default. `lost` counts how
    often there was no room for more. Close it, or use it in a `with` block. Raises `OSError`.
    """

    def __init__(self, protocol: int, groups: Iterable[int], room: int = 0, made: socket.socket | None = None) -> None:
        """`made` is a socket of family AF_NETLINK, type SOCK_RAW and that protocol; it is closed with this."""
        self.lost = 0
        self._socket = made or socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.setblocking(False)
            if room:
                self._enlarge(room)
            # A socket without a port number gets nothing: it looks like the sender, the kernel, whose number is 0.
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def fileno(self) -> int:
        """For select(2): readable when there is something to be read."""
        return self._socket.fileno()

    def datagrams(self) -> list[bytes]:
        """The datagrams since the last call, in order, without waiting."""
        found: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    found.append(self._socket.recv(_LARGEST))
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self.lost += 1
        return found

    def _enlarge(self, room: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, room)
        except PermissionError:  # needs the host's privilege: an ordinary user gets what net.core.rmem_max allows
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
