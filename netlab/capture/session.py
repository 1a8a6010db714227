"""Follows the packets of captured frames from tap to tap, and writes a file with comments on what changed."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import NamedTuple

from netlab.capture.changes import Change, changes
from netlab.capture.correlate import SETTLED, Correlator, Journey, Sighting, Translation, sighting
from netlab.capture.headers import Headers
from netlab.capture.pcapng import Writer
from netlab.capture.ring import Frame
from netlab.capture.taps import Tap

FOLLOWED = 100
"""When there are too many packets, so many of each flow at each tap are still followed."""

_FLOWS = 1 << 16
"""For how many flows packets are counted for that."""

_LATE = 4 * SETTLED
"""Nanoseconds after which a frame is written, even if its packet's journey has not ended."""

_WAITING = 50_000
"""How many frames may wait to be written."""

Cause = Callable[[Headers, Headers, Change], Change]
"""Adds the cause to a change, given the headers before and after it."""


class Seen(NamedTuple):
    """What is new: sightings at once, and journeys when they have ended."""

    sightings: list[Sighting]
    journeys: list[Journey]


class _Entry:
    __slots__ = ("comment", "done", "frame")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.comment = ""
        self.done = False


class Session:
    """Takes frames in order of time, follows their packets, and writes them to a file, if there is one.

    A frame waits until its packet's journey has ended, because its comment is not known earlier. When packets come
    faster than they can be followed (`crowded`), only the first 100 of each flow at each tap are followed; the others
    are written and counted (`unfollowed`). Memory is always bounded.
    """

    def __init__(self, writer: Writer | None, cause: Cause) -> None:
        self.frames = 0
        """How many frames were added."""
        self.unfollowed = 0
        self._writer = writer
        self._cause = cause
        self._correlator = Correlator()
        self._waiting: collections.deque[_Entry] = collections.deque()
        self._entries: dict[int, _Entry] = {}
        """Entries by the id() of their sightings."""
        self._flows: dict[tuple[Tap, bytes], int] = {}

    def learn(self, translations: Iterable[Translation]) -> None:
        """Add what connection tracking reports."""
        for each in translations:
            self._correlator.learn(each)

    def add(self, frames: list[Frame], *, crowded: bool) -> Seen:
        """Add the next frames. Raises what the writer raises."""
        seen = Seen([], [])
        for frame in frames:
            self._add(frame, seen, crowded)
        if frames:
            self._write(frames[-1].time)
        self.frames += len(frames)
        return seen

    def advance(self, time: int) -> list[Journey]:
        """The journeys that have ended, if no frame from before `time` will come. Raises what the writer raises."""
        found = self._ended(self._correlator.advance(time))
        self._write(time)
        return found

    def finish(self) -> list[Journey]:
        """The journeys that had not ended; every frame is written. Raises what the writer raises."""
        found = self._ended(self._correlator.flush())
        self._write(None)
        return found

    def explained(self, journey: Journey) -> list[list[Change]]:
        """What changed at each sighting since the one before, and the cause."""
        found: list[list[Change]] = [[]]
        for before, after in zip(journey.sightings, journey.sightings[1:], strict=False):
            said = changes(before.headers, after.headers, reply=journey.reply)
            found.append([self._cause(before.headers, after.headers, each) for each in said])
        return found

    def _add(self, frame: Frame, seen: Seen, crowded: bool) -> None:
        entry = _Entry(frame)
        packet = None
        if crowded and self._is_common(frame):
            self.unfollowed += 1
        else:
            packet = sighting(frame.tap, frame.time, frame.outgoing, frame.data)
        if packet is None:
            entry.done = True
        else:
            if self._writer is not None:
                self._entries[id(packet)] = entry
            seen.sightings.append(packet)
            seen.journeys.extend(self._ended(self._correlator.add(packet)))
        if self._writer is not None:
            self._waiting.append(entry)

    def _is_common(self, frame: Frame) -> bool:
        """Whether enough packets of its flow have been followed."""
        flow = (frame.tap, _flow(frame.data))
        count = self._flows.get(flow, 0) + 1
        if len(self._flows) > _FLOWS:
            self._flows.clear()
        self._flows[flow] = count
        return count > FOLLOWED

    def _ended(self, journeys: list[Journey]) -> list[Journey]:
        if self._writer is not None:
            for journey in journeys:
                for packet, said in zip(journey.sightings, self.explained(journey), strict=True):
                    entry = self._entries.pop(id(packet), None)
                    if entry is not None:
                        entry.comment = "; ".join(each.comment for each in said)
                        entry.done = True
        return journeys

    def _write(self, time: int | None) -> None:
        """Write what need not wait any longer at that time (None: everything)."""
        writer = self._writer
        if writer is None:
            return
        waiting = self._waiting
        while waiting:
            first = waiting[0]
            if not (first.done or time is None or first.frame.time < time - _LATE or len(waiting) > _WAITING):
                break
            writer.write(first.frame, first.comment)
            waiting.popleft()


def _flow(data: bytes) -> bytes:
    """The bytes of a frame that roughly identify its flow, without parsing: the addresses, and what follows them."""
    if data[12:14] == b"\x08\x00":
        return data[23:24] + data[26:38]
    return data[22:58]
