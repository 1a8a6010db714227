"""Raw ctnetlink: the connections that a network namespace tracks: a list, and events as they come and go.

Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

from netlab.net.conntrack import (
    DELETE,
    GET,
    HEADER,
    IP_V4_DST,
    IP_V4_SRC,
    IP_V6_DST,
    IP_V6_SRC,
    NETLINK_NETFILTER,
    PROTO_DST_PORT,
    PROTO_NUM,
    PROTO_SRC_PORT,
    STATUS,
    TUPLE_IP,
    TUPLE_ORIG,
    TUPLE_PROTO,
    TUPLE_REPLY,
    ZONE,
)
from netlab.net.netlink import NLM_F_CREATE, NLM_F_DUMP, Message, Netlink, attributes, messages
from netlab.net.notices import Notices

_NEW = 1 << 8 | 0  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW
_NEW_GROUP, _UPDATE_GROUP, _DESTROY_GROUP = 1, 2, 3
_ICMP_ID, _ICMPV6_ID = 4, 7
_SEEN_REPLY, _ASSURED = 1 << 1, 1 << 2  # enum ip_conntrack_status
_RECEIVE_BUFFER = 8 << 20
"""Bytes: room for some 10,000 events, each of which the kernel counts as more than its length."""

Ends = tuple[bytes, int, bytes, int]
"""Source, its port, destination, its port; addresses packed, an ICMP query's identifier for both ports."""


class Entry(NamedTuple):
    """A tracked connection: what its client sends, as it arrives, and the expected answer.

    `replied` says that there was an answer, `assured` that it is kept when the table is full. Ports are 0 for protocols
    without ports.
    """

    protocol: int
    original: Ends
    reply: Ends
    replied: bool = False
    assured: bool = False
    zone: int = 0


class Event(NamedTuple):
    """An entry's event, and when it was received, in nanoseconds since the epoch.

    The event for a new entry comes when its first packet has passed all hooks, so it includes all NAT.
    """

    kind: Literal["new", "update", "destroy"]
    entry: Entry
    time: int


def entries(family: int = socket.AF_UNSPEC) -> list[Entry]:
    """What the current network namespace tracks, for one family or both. Raises `NetlinkError`."""
    with Netlink(NETLINK_NETFILTER) as netlink:
        answers = netlink.ask(Message("connections", GET, NLM_F_DUMP, HEADER.pack(family, 0, 0)))
    return [_entry(answer) for answer in answers]


class Events(Notices):
    """Events of the connections of a network namespace: the current one, or that of an existing socket.

    To know of all connections, open this first and then list `entries`. By the kernel's default
    (net.netfilter.nf_conntrack_events=2, Linux 5.19) there are no events for what began before. `lost` counts how often
    there was no room for an event: list the entries again.
    """

    def __init__(self, made: socket.socket | None = None) -> None:
        super().__init__((_NEW_GROUP, _UPDATE_GROUP, _DESTROY_GROUP), _RECEIVE_BUFFER, made)

    def read(self) -> list[Event]:
        """The events since the last call, in order, without waiting."""
        told, now = self.datagrams(), time.time_ns()
        return [event for data in told for event in _events(data, now)]


def _events(data: bytes, now: int) -> Iterator[Event]:
    for kind, flags, _, payload in messages(data):
        if kind == DELETE:
            yield Event("destroy", _entry(payload), now)
        elif kind == _NEW:
            yield Event("new" if flags & NLM_F_CREATE else "update", _entry(payload), now)


def _entry(payload: bytes) -> Entry:
    found = dict(attributes(payload, HEADER.size))
    protocol, original = _ends(found[TUPLE_ORIG])
    _, reply = _ends(found[TUPLE_REPLY])
    status = int.from_bytes(found.get(STATUS, b""), "big")
    zone = int.from_bytes(found.get(ZONE, b""), "big")
    return Entry(protocol, original, reply, bool(status & _SEEN_REPLY), bool(status & _ASSURED), zone)


def _ends(value: bytes) -> tuple[int, Ends]:
    found = dict(attributes(value))
    ip, transport = dict(attributes(found[TUPLE_IP])), dict(attributes(found[TUPLE_PROTO]))
    query = transport.get(_ICMP_ID) or transport.get(_ICMPV6_ID) or b""
    source = int.from_bytes(transport.get(PROTO_SRC_PORT, query), "big")
    destination = int.from_bytes(transport.get(PROTO_DST_PORT, query), "big")
    if IP_V4_SRC in ip:
        ends = (ip[IP_V4_SRC], source, ip[IP_V4_DST], destination)
    else:
        ends = (ip[IP_V6_SRC], source, ip[IP_V6_DST], destination)
    return transport[PROTO_NUM][0], ends
