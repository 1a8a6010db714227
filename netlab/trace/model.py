"""A followed packet: what `netlab trace -o json` writes."""

from __future__ import annotations

from typing import Literal

import msgspec

from netlab.capture.changes import Change
from netlab.capture.taps import Kind

Direction = Literal["in", "out"]


class Hop(msgspec.Struct, frozen=True):
    """A packet at one interface: the headers it had there, and what changed since the hop before.

    `direction` is `out` if the interface's owner sends the packet. Addresses and ports are those of the inner packet;
    `encapsulation` is the tunnel around it (`VXLAN 1 192.0.2.1 > 192.0.2.2`, or empty). `changed` says how the headers
    differ from the hop before, `by` what caused it (a Service's port and policy with its rule, a route). `nanoseconds`
    are since the first hop; in a prediction they are 0.
    """

    node: str
    owner: str
    interface: str
    kind: Kind
    direction: Direction
    src: str
    sport: int
    dst: str
    dport: int
    protocol: str
    ttl: int = 0
    encapsulation: str = ""
    changed: list[Change] = []
    by: list[str] = []
    nanoseconds: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """Where a packet ended and why: a word for programs and a sentence for people."""

    outcome: Literal["delivered", "refused", "rejected", "dropped"]
    node: str
    reason: str


class Path(msgspec.Struct, frozen=True):
    """The way there, and the way of the reply."""

    hops: list[Hop]
    reply: list[Hop]
    verdict: Verdict


class Trace(msgspec.Struct, frozen=True):
    """A packet that was followed, and the prediction from the lab's state.

    `predicted` are the paths that the state allows (one for each endpoint that a Service may choose); `agrees` says
    whether the observed path is one of them, and `differences` where it is not. `notes` have further information: that
    the destination is not ready, or that the lab changed in the meantime and the probe was sent again.
    """

    source: str
    destination: str
    protocol: str
    hops: list[Hop]
    reply: list[Hop]
    verdict: Verdict
    predicted: list[Path]
    agrees: bool
    differences: list[str] = []
    notes: list[str] = []
