"""Which sightings are of the same packet: from hop to hop, through DNAT, SNAT and VXLAN, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from netlab.capture.headers import Flow, Headers
from netlab.capture.taps import Tap


class Sighting(NamedTuple):
    """A packet at a tap: when (nanoseconds since the epoch), whether the tap's owner sent it there, and its headers."""

    tap: Tap
    time: int
    outgoing: bool
    headers: Headers


class Translation(NamedTuple):
    """What a machine's connection tracking makes of a connection: an entry of conntrack.

    `machine` is the owner of the network namespace (`Tap.owner`). `original` is what the machine sees its client send,
    `reply` what it expects as the answer. It held from `start` to `end` (nanoseconds since the epoch; None: unknown, or
    it still holds).
    """

    machine: str
    protocol: int
    original: Flow
    reply: Flow
    start: int | None = None
    end: int | None = None


class Journey(NamedTuple):
    """One packet: its sightings in the order of its way.

    `client` is the flow of its connection as the client sends it before any translation, the same for both directions;
    `reply` says that this packet goes back to the client.
    """

    sightings: tuple[Sighting, ...]
    client: Flow
    reply: bool


def journeys(sightings: Iterable[Sighting], translations: Iterable[Translation] = ()) -> list[Journey]:
    """One journey for each packet, in the order in which they began."""
    raise NotImplementedError


def changes(before: Headers, after: Headers, *, reply: bool = False) -> list[str]:
    """What happened to a packet between two sightings, in words; nothing where it only went on."""
    raise NotImplementedError
