"""Captures on disk, as journeys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from netlab.capture import pcapng
from netlab.capture.correlate import Journey, journeys, sighting
from netlab.capture.headers import Flow


def journeys_of(path: Path) -> list[Journey]:
    """The packets of a pcapng file, each with all its sightings, in the order in which they began.

    Raises `NetlabError` for a file that cannot be read.
    """
    frames = pcapng.read(path).frames
    seen = (sighting(frame.tap, frame.time, frame.outgoing, frame.data) for frame in frames)
    return list(_directed(journeys(each for each in seen if each is not None)))


def _directed(found: Iterable[Journey]) -> Iterator[Journey]:
    """The journeys, those marked as replies that answer an earlier one.

    A file has no entries of conntrack, which say who is the client; but who was seen first is.
    """
    asked: set[tuple[int, Flow]] = set()
    for journey in found:
        flows = {(each.headers.protocol, each.headers.flow) for each in journey.sightings}
        reply = journey.reply or any((protocol, _answer(flow)) in asked for protocol, flow in flows)
        if not reply:
            asked |= flows
        yield journey._replace(reply=reply)


def _answer(flow: Flow) -> Flow:
    source, sport, destination, dport = flow
    return destination, dport, source, sport
