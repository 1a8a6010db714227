"""Captures on disk, as journeys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from netlab.capture import pcapng
from netlab.capture.correlate import Journey, Sighting, journeys, sighting
from netlab.capture.headers import Flow, swapped
from netlab.capture.taps import Tap
from netlab.counted import counted
from netlab.errors import NetlabError


class Captured(NamedTuple):
    """The content of capture files: the taps that were watched, the packets with all their sightings in the order in
    which they began, and problems: a file that cannot be read, packets that were lost."""

    taps: list[Tap]
    journeys: list[Journey]
    troubles: list[str]


def captured(paths: Sequence[Path]) -> Captured:
    """Read pcapng files that were recorded together: a packet that is in several of them is one packet."""
    taps: dict[Tap, None] = {}
    seen: dict[Sighting, None] = {}
    troubles: list[str] = []
    for path in paths:
        try:
            recording = pcapng.read(path)
        except NetlabError as error:
            troubles.append(str(error))
            continue
        taps |= dict.fromkeys(recording.taps)
        # Two captures at one tap have the same packet with the same timestamp, as the packet carries it.
        found = (sighting(frame.tap, frame.time, frame.outgoing, frame.data) for frame in recording.frames)
        seen |= dict.fromkeys(each for each in found if each is not None)
        troubles += [
            f"{path.name}: {counted(lost, 'packet')} lost at {tap.name}"
            for tap, lost in recording.drops.items()
            if lost
        ]
    return Captured(list(taps), list(_directed(journeys(seen))), troubles)


def _directed(found: Iterable[Journey]) -> Iterator[Journey]:
    """The journeys; those that answer an earlier one are marked as replies.

    A file has no conntrack entries, which would say who is the client. The first packet seen is taken as the client's.
    """
    asked: set[tuple[int, Flow]] = set()
    for journey in found:
        flows = {(each.headers.protocol, each.headers.flow) for each in journey.sightings}
        answered = {(protocol, swapped(flow)) for protocol, flow in flows}
        reply = journey.reply or not asked.isdisjoint(answered)
        asked |= answered if reply else flows
        yield journey._replace(reply=reply)
