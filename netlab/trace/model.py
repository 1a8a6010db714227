"""A followed packet: what `netlab trace -o json` writes."""

from __future__ import annotations

from typing import Literal

import msgspec

from netlab.capture.changes import Change
from netlab.capture.taps import Kind
from netlab.counted import counted
from netlab.errors import NotFoundError

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


class Query(msgspec.Struct, frozen=True):
    """A question, and what a server said to it.

    `status` is the response code, or why there is none; `answers` are addresses and the names of aliases; `by` is who
    answered by its own word (NSID), else empty.
    """

    name: str
    type: str
    server: str
    status: str
    answers: list[str] = []
    by: str = ""
    nanoseconds: int = 0


class Lookup(msgspec.Struct, frozen=True):
    """A name, by which rules it was looked up, and every question."""

    name: str
    searches: list[str]
    ndots: int
    queries: list[Query]

    @property
    def addresses(self) -> list[str]:
        """What the name has, in the order of the questions."""
        aliases = (each for query in self.queries for each in query.answers)
        return [each for each in aliases if not each.endswith(".")]


class NoAddressError(NotFoundError):
    """A name without an address; `lookup` has what was asked."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        tried = counted(len({query.name for query in lookup.queries}), "name")
        said = ", ".join(dict.fromkeys(query.status for query in lookup.queries))
        super().__init__(f"{lookup.name!r} has no address: DNS was asked for {tried}, and said {said}")


class Trace(msgspec.Struct, frozen=True):
    """A packet that was followed, and the prediction from the lab's state.

    `predicted` are the paths that the state allows (one for each endpoint that a Service may choose); `agrees` says
    whether the observed path is one of them, and `differences` where it is not. `notes` have further information: that
    the destination is not ready, or that the lab changed in the meantime and the probe was sent again. `lookup` is what
    DNS said of the destination, where it is a name.
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
    lookup: Lookup | None = None
