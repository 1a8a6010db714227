"""Raw ctnetlink: the connections that a network namespace tracks, listed, and told as they come and go.

Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple, Self

from netlab.net.netlink import NLM_F_CREATE, NLM_F_DUMP, Message, Netlink, attributes

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_NEW_GROUP, _UPDATE_GROUP, _DESTROY_GROUP = 1, 2, 3
_NEW, _GET, _DELETE = 1 << 8 | 0, 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _ZONE = 1, 2, 3, 18
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_V4_SOURCE, _V4_DESTINATION, _V6_SOURCE, _V6_DESTINATION = 1, 2, 3, 4
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT, _ICMP_ID, _ICMPV6_ID = 1, 2, 3, 4, 7
_SEEN_REPLY, _ASSURED = 1 << 1, 1 << 2  # enum ip_conntrack_status
_HEADER = struct.Struct("!BBH")  # nfgenmsg: family, version, resource
_MESSAGE = struct.Struct("=IHHII")
_RECEIVE_BUFFER = 8 << 20
"""Bytes: some 10,000 events, each of which the kernel charges with more than it is long."""
_LARGEST = 1 << 16
_SO_RCVBUFFORCE = 33

Ends = tuple[bytes, int, bytes, int]
"""Source, its port, destination, its port; addresses packed, an ICMP query's identifier for both ports."""


class Entry(NamedTuple):
    """A connection that is tracked: what its client sends, as it arrives, and what is expected as the answer to it.

    `replied` says that there was an answer, `assured` that it is kept when the table is full. Ports are 0 for protocols
    that have none.
    """

    protocol: int
    original: Ends
    reply: Ends
    replied: bool = False
    assured: bool = False
    zone: int = 0


class Event(NamedTuple):
    """What became of an entry, and when it was heard, in nanoseconds since the epoch.

    A new one is told when the first packet has passed all hooks, so with all that NAT made of it.
    """

    kind: Literal["new", "update", "destroy"]
    entry: Entry
    time: int


def entries(family: int = socket.AF_UNSPEC) -> list[Entry]:
    """What the present network namespace tracks, of one family or of both. Raises `NetlinkError`."""
    with Netlink(_NETLINK_NETFILTER) as netlink:
        answers = netlink.ask(Message("connections", _GET, NLM_F_DUMP, _HEADER.pack(family, 0, 0)))
    return [_entry(answer) for answer in answers]


class Events:
    """What becomes of the connections of a network namespace: that of its making, or that of a socket made elsewhere.

    Whoever wants to know of all connections opens this first and lists `entries` then. By the kernel's default
    (net.netfilter.nf_conntrack_events=2, Linux 5.19) nothing is told of what began before. `lost` counts how often
    there was no room for an event: list the entries again. Closed by `close`, or as a block. Raises `OSError`.
    """

    def __init__(self, made: socket.socket | None = None) -> None:
        """`made` is a socket of family AF_NETLINK, type SOCK_RAW and protocol 12; it is closed with this."""
        self.lost = 0
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = made or socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        try:
            self._socket.setblocking(False)
            self._enlarge()
            self._socket.bind((0, 0))
            for group in (_NEW_GROUP, _UPDATE_GROUP, _DESTROY_GROUP):
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def fileno(self) -> int:
        """For select(2): readable when there are events."""
        return self._socket.fileno()

    def read(self) -> list[Event]:
        """The events since the last call, in their order; it does not wait for any."""
        found: list[Event] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self._socket.recv(_LARGEST)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self.lost += 1
                else:
                    found += _events(data, time.time_ns())
        return found

    def _enlarge(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:  # the right to it is the host's: an ordinary user has what net.core.rmem_max allows
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


def _events(data: bytes, now: int) -> Iterator[Event]:
    offset = 0
    while offset + _MESSAGE.size <= len(data):
        length, kind, flags, _, _ = _MESSAGE.unpack_from(data, offset)
        payload = data[offset + _MESSAGE.size : offset + length]
        if kind == _DELETE:
            yield Event("destroy", _entry(payload), now)
        elif kind == _NEW:
            yield Event("new" if flags & NLM_F_CREATE else "update", _entry(payload), now)
        offset += length + 3 & ~3


def _entry(payload: bytes) -> Entry:
    found = dict(attributes(payload, _HEADER.size))
    protocol, original = _ends(found[_TUPLE_ORIG])
    _, reply = _ends(found[_TUPLE_REPLY])
    status = int.from_bytes(found.get(_STATUS, b""), "big")
    zone = int.from_bytes(found.get(_ZONE, b""), "big")
    return Entry(protocol, original, reply, bool(status & _SEEN_REPLY), bool(status & _ASSURED), zone)


def _ends(value: bytes) -> tuple[int, Ends]:
    found = dict(attributes(value))
    ip, transport = dict(attributes(found[_TUPLE_IP])), dict(attributes(found[_TUPLE_PROTO]))
    query = transport.get(_ICMP_ID) or transport.get(_ICMPV6_ID) or b""
    source = int.from_bytes(transport.get(_SOURCE_PORT, query), "big")
    destination = int.from_bytes(transport.get(_DESTINATION_PORT, query), "big")
    if _V4_SOURCE in ip:
        ends = (ip[_V4_SOURCE], source, ip[_V4_DESTINATION], destination)
    else:
        ends = (ip[_V6_SOURCE], source, ip[_V6_DESTINATION], destination)
    return transport[_NUMBER][0], ends
