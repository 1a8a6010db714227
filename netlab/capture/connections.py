"""Connections: which flows are one, by what the machines' connection tracking makes of them."""

from __future__ import annotations

import collections
from typing import NamedTuple

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


class _Place:
    """What the translations say of one flow: what it was before one of them, or between its halves; whom it answers."""

    __slots__ = ("answers", "behind", "halfway", "opens")

    def __init__(self) -> None:
        self.behind: list[tuple[_Entry, Sent]] = []
        self.halfway: list[tuple[_Entry, Sent]] = []
        self.answers: list[tuple[_Entry, Sent]] = []
        self.opens: list[tuple[_Entry, Sent]] = []

    @property
    def empty(self) -> bool:
        return not (self.behind or self.halfway or self.answers or self.opens)

    def before(self, time: int) -> Sent | None:
        """What the flow was; None if it was nothing else. A real connection of that name comes before half of one."""
        if not (self.behind or self.opens or self.answers):
            return _at(self.halfway, time)
        return _at(self.behind, time)


class Connections:
    """The connections of several machines, as far as they are known; the oldest are forgotten beyond the capacity."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._places: dict[Sent, _Place] = {}
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
        return flow in self._places

    def origin(self, flow: Sent, time: int) -> Sent:
        """The flow as it was sent, before all translations that made it what it is."""
        for _ in range(_LONGEST_CHAIN):
            place = self._places.get(flow)
            before = place and place.before(time)
            if not before:
                break
            flow = before
        return flow

    def client(self, origin: Sent, headers: Headers, time: int) -> tuple[Sent, bool]:
        """The connection of a flow as it was sent: the flow that its client sends, and whether this is the reply to it.

        Where connection tracking does not tell, it is who asked: by the headers, else who was seen first.
        """
        place = self._places.get(origin)
        asked = place and _at(place.answers, time)
        opened = place and _at(place.opens, time)
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
        for flow, field, leads_to in _says(entry):
            getattr(self._places.setdefault(flow, _Place()), field).append((entry, leads_to))
        if len(self._entries) > self._capacity:
            self._forget(self._entries.popleft())

    def _release(self, entry: _Entry) -> None:
        for key in entry.keys:
            if self._current.get(key) is entry:
                del self._current[key]

    def _forget(self, entry: _Entry) -> None:
        self._release(entry)
        for flow, field, leads_to in _says(entry):
            place = self._places[flow]
            getattr(place, field).remove((entry, leads_to))
            if place.empty:
                del self._places[flow]


def _says(entry: _Entry) -> list[tuple[Sent, str, Sent]]:
    """What an entry says of which flow."""
    original, reply = entry.original, entry.reply
    found = [(original, "opens", original), (reply, "answers", original)]
    if reply.answer == original:
        return found
    found += [(reply.answer, "behind", original), (original.answer, "behind", reply)]
    client, server = original.flow[:2], reply.flow[:2]
    if reply.flow[2:] != client and original.flow[2:] != server:
        # The destination is translated before routing and the source behind it: a bridge that has its packets filtered
        # as routed ones (br_netfilter) shows them in between.
        halfway = original._replace(flow=(*client, *server))
        found += [(halfway, "halfway", original), (halfway.answer, "halfway", reply)]
    return found


def _at(entries: list[tuple[_Entry, Sent]], time: int) -> Sent | None:
    """What the entry of that time says.

    That one is new or gone is heard after it is so. A packet may thus be earlier than the start of its entry, if no
    other fits better; it is not later than the end.
    """
    fitting = [(entry, leads_to) for entry, leads_to in entries if entry.end is None or time <= entry.end]
    if not fitting:
        return None
    return min(reversed(fitting), key=lambda each: max((each[0].start or 0) - time, 0))[1]


def _loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK
