"""The plan of a node's enforcer: which addresses are judged, to which class their peers belong, and what these may.

Two steps decide about a connection. The peer's address leads to its class: all addresses that the same selectors and
blocks match are of one class. The class and the judged pod's address lead to a profile: the ports that are admitted.
So there is an element for each peer, and one for each class that a judged pod admits, but none for each of its peers.

Classes and profiles have numbers that follow from what they are: every process gives them the same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from netlab.policy.ports import Ports, Span
from netlab.policy.rules import DIRECTIONS, Direction

ANY_CLASS = 0
"""Of peers whose class has no profile of its own for a pod."""

Part: TypeAlias = Literal["pods", "peers", "blocks", "profiles"]
"""`pods` are judged; `peers` and `blocks` lead to a class; `profiles` lead from a class and a pod's address on."""


class Place(NamedTuple):
    """A set or a map of the plan."""

    part: Part
    direction: Direction


class Range(NamedTuple):
    """Addresses from the first to the last. The ranges of a direction do not overlap."""

    first: str
    last: str


class Judged(NamedTuple):
    """A class of peers, and the address of a pod that judges them."""

    peers: int
    address: str


Key: TypeAlias = str | Range | Judged
Plan: TypeAlias = dict[Place, dict[Key, int]]
"""What each key leads to: a class or a profile; of `pods`, 0."""
Profiles: TypeAlias = dict[int, Ports]
"""The ports that each profile admits."""

PARTS: tuple[Part, ...] = ("peers", "blocks", "profiles", "pods")
PLACES = tuple(Place(part, direction) for direction in DIRECTIONS for part in PARTS)


class Transaction(NamedTuple):
    """The difference between two plans. Of each key: what it led to, and what it leads to (None: nothing)."""

    changes: Mapping[Place, Mapping[Key, tuple[int | None, int | None]]]
    profiles: Mapping[int, tuple[Ports | None, Ports | None]]
    unused: Mapping[Direction, Collection[int]]
    """Classes that have no members any more."""

    def __bool__(self) -> bool:
        return bool(self.profiles) or any(self.changes.values())

    def __len__(self) -> int:
        return len(self.profiles) + sum(map(len, self.changes.values()))


def spans_of(profiles: Profiles) -> Iterable[tuple[int, Span]]:
    """Each profile's spans."""
    return ((number, span) for number, ports in profiles.items() for span in ports)
