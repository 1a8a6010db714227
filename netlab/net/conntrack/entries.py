"""The connections that a network namespace tracks.

Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from netlab.net import netlink as nl
from netlab.net.conntrack import GET, TUPLE_ORIG, TUPLE_REPLY, Ends, ends

_COUNTERS = 9, 10  # CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY
_PACKETS, _BYTES = 1, 2  # CTA_COUNTERS_*


class Entry(NamedTuple):
    """A tracked connection: what its client sends, as it arrives, and the expected answer. A missing port is 0.

    `packets` and `bytes` are those of both directions; None if they are not counted (nf_conntrack_acct).
    """

    protocol: int
    original: Ends
    reply: Ends
    packets: int | None = None
    bytes: int | None = None


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
    counted = [dict(nl.attributes(found[each])) for each in _COUNTERS if each in found]
    packets, size = (
        sum(int.from_bytes(each[kind], "big") for each in counted) if counted else None for kind in (_PACKETS, _BYTES)
    )
    return Entry(protocol, original, reply, packets, size)
