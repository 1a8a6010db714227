"""Connections: which flows are one, by what the machines' connection tracking makes of them."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Literal, NamedTuple

from netlab.capture.headers import Flow, Headers, swapped
from netlab.net.nfconntrack import Entry, Event

_LONGEST_CHAIN = 8
_LOOPBACK = bytes(15) + b"\1"


class Translation(NamedTuple):
    """What a machine's connection tracking makes of a connection: an entry of conntrack.

    `machine` is the owner of the network namespace (`Tap.owner`). `original` is what its client sends, as it arrives
    there, `reply` what is expected as the answer, as it arrives there. `start` is when the entry was known to be new
    and `end` when it was known to be gone, in nanoseconds since the epoch; None: unknown.
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
    """What a machine's connection tracking told."""
    start = event.time if event.kind == "new" else None
    end = event.time if event.kind == "destroy" else None
    return Translation(machine, event.entry.protocol, event.entry.original, event.entry.reply, start, end)


class Sent(NamedTuple):
    """A flow in a place: `scope` is whose loopback addresses are meant, empty where there are none."""

    protocol: int
    scope: str
    flow: Flow

    @property
    def answer(self) -> Sent:
        """The other direction, untranslated."""
        return Sent(self.protocol, self.scope, swapped(self.flow))


def sent(protocol: int, flow: Flow, owner: str) -> Sent:
    """A flow that is seen in a network namespace."""
    return Sent(protocol, owner if _loopback(flow[0]) or _loopback(flow[2]) else "", flow)


class _Entry:
    """A translation that is remembered; its end may come to be known later."""

    __slots__ = ("end", "keys", "original", "reply", "start")

    def __init__(self, translation: Translation) -> None:
        self.original = sent(translation.protocol, translation.original, translation.machine)
        self.reply = sent(translation.protocol, translation.reply, translation.machine)
        self.start = translation.start
        self.end = translation.end
        # Of either, connection tracking has one entry at a time.
        self.keys = (translation.machine, "original", self.original), (translation.machine, "reply", self.reply)


class _Note(NamedTuple):
    """What an entry says of a flow: that it opens a connection, answers one, is what another becomes, or halfway so."""

    says: Literal["opens", "answers", "behind", "halfway"]
    entry: _Entry
    other: Sent
    """The flow that it is, that it answers, or that it was."""


class Connections:
    """The connections of several machines, as far as they are known; the oldest are forgotten beyond the capacity."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._notes: dict[Sent, list[_Note]] = {}
        self._entries: collections.deque[_Entry] = collections.deque()
        self._current: dict[tuple[str, str, Sent], _Entry] = {}
        self._clients: collections.OrderedDict[Sent, None] = collections.OrderedDict()

    def learn(self, translation: Translation) -> None:
        """Take in a translation: that it is there, new (with a start), or gone (with an end)."""
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
        """The flow as it was sent, before all translations that made it what it is."""
        for _ in range(_LONGEST_CHAIN):
            notes = self._notes.get(flow, ())
            before = _said(notes, "behind", time)
            # A real connection of that name comes before half of another.
            if before is None and all(note.says == "halfway" for note in notes):
                before = _said(notes, "halfway", time)
            if before is None:
                break
            flow = before
        return flow

    def client(self, origin: Sent, headers: Headers, time: int) -> tuple[Sent, bool]:
        """The connection of a flow as it was sent: the flow that its client sends, and whether this is the reply to it.

        Where connection tracking does not tell, it is who asked: by the headers, else who was seen first.
        """
        notes = self._notes.get(origin, ())
        asked, opened = _said(notes, "answers", time), _said(notes, "opens", time)
        if asked and not opened:
            return self.origin(asked, time), True
        if opened and not asked:
            return origin, False
        # Nothing is known; or a machine that the replies alone pass through takes them for what was asked.
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
    """What an entry says of which flow."""
    original, reply = entry.original, entry.reply
    found = [(original, _Note("opens", entry, original)), (reply, _Note("answers", entry, original))]
    if reply.answer == original:
        return found
    found += [(reply.answer, _Note("behind", entry, original)), (original.answer, _Note("behind", entry, reply))]
    client, server = original.flow[:2], reply.flow[:2]
    if reply.flow[2:] != client and original.flow[2:] != server:
        # The destination is translated before routing and the source behind it: a bridge that has its packets filtered
        # as routed ones (br_netfilter) shows them in between.
        halfway = original._replace(flow=(*client, *server))
        found += [(halfway, _Note("halfway", entry, original)), (halfway.answer, _Note("halfway", entry, reply))]
    return found


def _said(notes: Iterable[_Note], says: str, time: int) -> Sent | None:
    """What the entry of that time says.

    That one is new or gone is heard after it is so. A packet may thus be earlier than the start of its entry, if no
    other fits better; it is not later than the end.
    """
    fitting = [note for note in notes if note.says == says and (note.entry.end is None or time <= note.entry.end)]
    if not fitting:
        return None
    return min(reversed(fitting), key=lambda note: max((note.entry.start or 0) - time, 0)).other


def _loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK
