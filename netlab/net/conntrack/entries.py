"""The connections that a network namespace tracks.

Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from netlab.net import netlink as nl
from netlab.net.conntrack import GET, TUPLE_ORIG, TUPLE_REPLY, Ends, ends


class Entry(NamedTuple):
    """A tracked connection: what its client sends, as it arrives, and the expected answer. A missing port is 0."""

    protocol: int
    original: Ends
    reply: Ends


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
    return Entry(protocol, original, reply)
