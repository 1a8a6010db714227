"""The connections that a network namespace tracks.

Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from netlab.net.conntrack import (
    GET,
    IP_V4_DST,
    IP_V4_SRC,
    IP_V6_DST,
    IP_V6_SRC,
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
from netlab.net.netlink import (
    NETLINK_NETFILTER,
    NFGENMSG,
    NLM_F_DUMP,
    Message,
    Netlink,
    attributes,
)

_ICMP_ID, _ICMPV6_ID = 4, 7
_SEEN_REPLY, _ASSURED = 1 << 1, 1 << 2  # enum ip_conntrack_status

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


def entries(family: int = socket.AF_UNSPEC) -> list[Entry]:
    """What the current network namespace tracks, for one family or both. Raises `NetlinkError`."""
    with Netlink(NETLINK_NETFILTER) as netlink:
        answers = netlink.ask(Message("connections", GET, NLM_F_DUMP, NFGENMSG.pack(family, 0, 0)))
    return [unpacked(answer) for answer in answers]


def unpacked(payload: bytes) -> Entry:
    """The entry in a message."""
    found = dict(attributes(payload, NFGENMSG.size))
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
