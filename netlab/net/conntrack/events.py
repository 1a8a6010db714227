"""Events of connection tracking: connections as they come and go."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

from netlab.net.conntrack import DELETE, NEW
from netlab.net.conntrack.entries import Entry, unpacked
from netlab.net.multicast import Notices
from netlab.net.netlink import NETLINK_NETFILTER, NLM_F_CREATE, messages

_NEW_GROUP, _UPDATE_GROUP, _DESTROY_GROUP = 1, 2, 3
_RECEIVE_BUFFER = 8 << 20
"""Bytes: room for some 10,000 events, each of which the kernel counts as more than its length."""


class Event(NamedTuple):
    """An entry's event, and when it was received, in nanoseconds since the epoch.

    The event for a new entry comes when its first packet has passed all hooks, so it includes all NAT.
    """

    kind: Literal["new", "update", "destroy"]
    entry: Entry
    time: int


class Events(Notices):
    """Events of the connections of a network namespace: the current one, or that of an existing socket.

    To know of all connections, open this first and then list `entries`. By the kernel's default
    (net.netfilter.nf_conntrack_events=2, Linux 5.19) there are no events for what began before. `lost` counts how often
    there was no room for an event: list the entries again.
    """

    def __init__(self, made: socket.socket | None = None) -> None:
        super().__init__(NETLINK_NETFILTER, (_NEW_GROUP, _UPDATE_GROUP, _DESTROY_GROUP), _RECEIVE_BUFFER, made)

    def read(self) -> list[Event]:
        """The events since the last call, in order, without waiting."""
        told, now = self.datagrams(), time.time_ns()
        return [event for data in told for event in _events(data, now)]


def _events(data: bytes, now: int) -> Iterator[Event]:
    for kind, flags, _, payload in messages(data):
        if kind == DELETE:
            yield Event("destroy", unpacked(payload), now)
        elif kind == NEW:
            yield Event("new" if flags & NLM_F_CREATE else "update", unpacked(payload), now)
