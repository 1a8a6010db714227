"""The connections that a network namespace tracks.

Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from netlab.net import netlink as nl
from netlab.net.conntrack import GET, STATUS, TUPLE_ORIG, TUPLE_REPLY, ZONE, Ends, ends

_SEEN_REPLY, _ASSURED = 1 << 1, 1 << 2  # enum ip_conntrack_status


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


def entries(family: int = socket.AF_UNSPEC) -> list[Entry]:
    """What the current network namespace tracks, for one family or both. Raises `NetlinkError`."""
    with nl.Netlink(nl.NETLINK_NETFILTER) as netlink:
        answers = netlink.ask(nl.Message("connections", GET, nl.NLM_F_DUMP, nl.NFGENMSG.pack(family, 0, 0)))
    return [unpacked(answer) for answer in answers]


def unpacked(payload: bytes) -> Entry:
    """The entry in a message."""
    found = dict(nl.attributes(payload, nl.NFGENMSG.size))
    protocol, original = ends(found[TUPLE_ORIG])
    _, reply = ends(found[TUPLE_REPLY])
    status = int.from_bytes(found.get(STATUS, b""), "big")
    zone = int.from_bytes(found.get(ZONE, b""), "big")
    return Entry(protocol, original, reply, bool(status & _SEEN_REPLY), bool(status & _ASSURED), zone)
