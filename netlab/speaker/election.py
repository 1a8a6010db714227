"""Which node announces an address: one step of an election by a Lease. Pure.

As client-go's leaderelection, without trust in others' clocks: a Lease has run out when this node has seen it unchanged
for as long as it is good for. A holder stops announcing before others may take over.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal, NamedTuple

DURATION = 5
"""Seconds for which a Lease is good after it was renewed."""
RENEW = 1.5
"""Seconds between two renewals."""
DEADLINE = 4.0
"""Seconds after the last renewal at which a holder gives up."""
SPREAD = 0.25
"""Seconds: the first nodes to try to take a free Lease are different ones for different addresses."""

Deed = Literal["acquire", "renew", "release", "nothing"]


class Record(NamedTuple):
    """A Lease as this node has seen it; `seen` is when it first had this content, on the monotonic clock."""

    holder: str
    duration: float
    seen: float


class Standing(NamedTuple):
    """What a node is to an address. Times are seconds of the monotonic clock."""

    eligible: bool
    """Whether it may announce it."""
    ready: bool
    """Whether its rules for the address are in force: before that it does not begin."""
    since: float
    """Since when it has known that the address is to be announced."""
    renewed: float | None = None
    """When it last began to write the Lease with success; None: never, in this process."""


class Step(NamedTuple):
    """What to do now, whether to answer for the address meanwhile, and when to look again."""

    deed: Deed
    announce: bool = False
    again: float = math.inf


def step(node: str, address: str, standing: Standing, record: Record | None, now: float) -> Step:
    """The next step of `node` for `address`."""
    holds = record is not None and record.holder == node
    if not standing.eligible:
        return Step("release" if holds else "nothing")
    if holds:
        if standing.renewed is None:  # by an earlier process of this node
            return Step("renew")
        announce = now < standing.renewed + DEADLINE
        due = standing.renewed + RENEW
        if now >= due:
            return Step("renew", announce)
        return Step("nothing", announce, due)
    if not standing.ready:
        return Step("nothing")
    free = _free_since(record, standing.since) + _patience(node, address)
    return Step("acquire") if now >= free else Step("nothing", again=free)


def is_vacant(record: Record, now: float) -> bool:
    """Whether nobody holds the Lease any more."""
    return not record.holder or now >= record.seen + record.duration


def _free_since(record: Record | None, since: float) -> float:
    if record is None:
        return since
    return max(since, record.seen + (record.duration if record.holder else 0))


def _patience(node: str, address: str) -> float:
    digest = hashlib.blake2b(f"{node} {address}".encode(), digest_size=4).digest()
    return SPREAD * int.from_bytes(digest) / 2**32
