"""Connections: which flows belong together, according to the machines' connection tracking."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Literal, NamedTuple

from netlab.capture.headers import Flow, Headers, swapped
from netlab.net.conntrack.entries import Entry
from netlab.net.conntrack.events import Event

_LONGEST_CHAIN = 8
_LOOPBACK = bytes(15) + b"\1"


class Translation(NamedTuple):
    """A machine's conntrack entry for a connection.

    `machine` is the owner of the network namespace (`Tap.owner`). `original` is the client's flow as it arrives there,
    `reply` the expected answer as it arrives there. `start` is when the entry was known to be new, `end` when it was
    known to be gone, in nanoseconds since the epoch; None if unknown.
    """

    machine: str
    protocol: int
    original: Flow
    reply: Flow
    start: int | None = None
    end: int | None = None


def known(machine: str, entry: Entry) -> Translation:
    """A listed entry of a machine's connection tracking."""
    return Translation(machine, entry.protocol, entry.original, entry.reply)


def told(machine: str, event: Event) -> Translation:
    """The translation in an event of a machine's connection tracking."""
    start = event.time if event.kind == "new" else None
    end = event.time if event.kind == "destroy" else None
    return Translation(machine, event.entry.protocol, event.entry.original, event.entry.reply, start, end)


class Sent(NamedTuple):
    """A flow; `scope` is the owner of its loopback addresses, empty if it has none."""

    protocol: int
    scope: str
    flow: Flow

    @property
    def answer(self) -> Sent:
        """The other direction, untranslated."""
        return Sent(self.protocol, self.scope, swapped(self.flow))


def sent(protocol: int, flow: Flow, owner: str) -> Sent:
    """A flow that was seen in a network namespace."""
    return Sent(protocol, owner if _loopback(flow[0]) or _loopback(flow[2]) else "", flow)


class _Entry:
    """A translation that is remembered; its end may become known later."""

    __slots__ = ("end", "keys", "original", "reply", "start")

    def __init__(self, translation: Translation) -> None:
        self.original = sent(translation.protocol, translation.original, translation.machine)
        self.reply = sent(translation.protocol, translation.reply, translation.machine)
        self.start = translation.start
        self.end = translation.end
        # Connection tracking has one entry for each of these at a time.
        self.keys = (translation.machine, "original", self.original), (translation.machine, "reply", self.reply)


class _Note(NamedTuple):
    """What an entry says about a flow: that it opens a connection, answers one, is another flow translated (behind), or
    another with only its destination translated (halfway)."""

    says: Literal["opens", "answers", "behind", "halfway"]
    entry: _Entry
    other: Sent
    """The flow itself, the flow that it answers, or the flow before translation."""


class Connections:
    """The known connections of several machines; beyond the capacity, the oldest are forgotten."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._notes: dict[Sent, list[_Note]] = {}
        self._entries: collections.deque[_Entry] = collections.deque()
        self._current: dict[tuple[str, str, Sent], _Entry] = {}
        self._clients: collections.OrderedDict[Sent, None] = collections.OrderedDict()

    def learn(self, translation: Translation) -> None:
        """Add a translation: an existing one, a new one (with a start), or one that is gone (with an end)."""
        entry = _Entry(translation)
        first, second = (self._current.get(key) for key in entry.keys)
        if first is not None and first is second and (translation.start is None or translation.start == first.start):
            first.end = translation.end if translation.end is not None else first.end
            if first.end is not None:
                self._release(first)
            return
        for earlier in (first, second):
            if earlier is not None and translation.end is None:
                earlier.end = translation.start
                self._release(earlier)
        self._remember(entry)

    def knows(self, flow: Sent) -> bool:
        """Whether a translation is about the flow."""
        return flow in self._notes

    def origin(self, flow: Sent, time: int) -> Sent:
        """The flow as it was sent, before all translations."""
        for _ in range(_LONGEST_CHAIN):
            notes = self._notes.get(flow, ())
            before = _said(notes, "behind", time)
            # A real connection with that flow takes precedence over a half-translated one.
            if before is None and all(note.says == "halfway" for note in notes):
                before = _said(notes, "halfway", time)
            if before is None:
                break
            flow = before
        return flow

    def client(self, origin: Sent, headers: Headers, time: int) -> tuple[Sent, bool]:
        """The connection of a flow as it was sent: the client's flow, and whether this flow is the reply to it.

        If conntrack does not say, the client is taken from the headers, or is the side seen first.
        """
        notes = self._notes.get(origin, ())
        asked, opened = _said(notes, "answers", time), _said(notes, "opens", time)
        if asked and not opened:
            return self.origin(asked, time), True
        if opened and not asked:
            return origin, False
        # Nothing is known; or a machine that only the replies pass through takes them for requests.
        other = self.origin(asked, time) if asked else origin.answer
        if origin in self._clients:
            return origin, False
        if other in self._clients or headers.answers:
            return other, True
        self._clients[origin] = None
        if len(self._clients) > self._capacity:
            self._clients.popitem(last=False)
        return origin, False

    def _remember(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if entry.end is None:
            self._current.update(dict.fromkeys(entry.keys, entry))
        for flow, note in _notes(entry):
            self._notes.setdefault(flow, []).append(note)
        if len(self._entries) > self._capacity:
            self._forget(self._entries.popleft())

    def _release(self, entry: _Entry) -> None:
        for key in entry.keys:
            if self._current.get(key) is entry:
                del self._current[key]

    def _forget(self, entry: _Entry) -> None:
        self._release(entry)
        for flow, note in _notes(entry):
            notes = self._notes[flow]
            notes.remove(note)
            if not notes:
                del self._notes[flow]


def _notes(entry: _Entry) -> list[tuple[Sent, _Note]]:
    """What an entry says about each flow."""
    original, reply = entry.original, entry.reply
    found = [(original, _Note("opens", entry, original)), (reply, _Note("answers", entry, original))]
    if reply.answer == original:
        return found
    found += [(reply.answer, _Note("behind", entry, original)), (original.answer, _Note("behind", entry, reply))]
    client, server = original.flow[:2], reply.flow[:2]
    if reply.flow[2:] != client and original.flow[2:] != server:
        # The destination is translated before routing and the source after it. A bridge with br_netfilter shows
        # packets in between.
        halfway = original._replace(flow=(*client, *server))
        found += [(halfway, _Note("halfway", entry, original)), (halfway.answer, _Note("halfway", entry, reply))]
    return found


def _said(notes: Iterable[_Note], says: str, time: int) -> Sent | None:
    """What the entry that was in effect at that time says.

    Events arrive after the change itself. So a packet may be earlier than the start of its entry, if no other fits
    better; it is never later than the end.
    """
    fitting = [note for note in notes if note.says == says and (note.entry.end is None or time <= note.entry.end)]
    if not fitting:
        return None
    return min(reversed(fitting), key=lambda note: max((note.entry.start or 0) - time, 0)).other


def _loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK
