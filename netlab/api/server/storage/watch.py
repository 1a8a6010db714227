"""The recent events of each resource, and the open watches that receive them.

An event is encoded once and its bytes are shared by every watch that it concerns; the object inside it is the very
bytes that were stored. Everything here runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import functools
import operator
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from netlab.api import selectors
from netlab.api.selectors import Selector
from netlab.api.server import refusals
from netlab.api.server.objects import field_selectors
from netlab.api.server.objects.field_selectors import FieldSelector

HISTORY = 10_000
"""Events kept for each resource, so that a watch can go on where another broke off."""

AT_A_TIME = 100
"""Changes that are written for one watch between two other requests."""

BACKLOG = HISTORY // 2
"""Changes that may wait for a slow reader before it is dropped. Less than HISTORY: when it comes back, all that it
missed is still there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """One version of an object, as it is stored; `raw` is its JSON, `fields` its selectable fields."""

    namespace: str
    name: str
    uid: str
    revision: int
    raw: bytes
    labels: dict[str, str]
    fields: Mapping[str, str]

    def decode(self) -> dict[str, Any]:
        """A fresh copy of the object, to be changed at will."""
        obj: dict[str, Any] = msgspec.json.decode(self.raw)
        return obj


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which objects of a resource are asked for; no namespace means all."""

    namespace: str = ""
    labels: Selector = selectors.EVERYTHING
    fields: FieldSelector = field_selectors.EVERYTHING

    @property
    def takes_all(self) -> bool:
        """Whether nothing but the namespace selects."""
        return self.fields == field_selectors.EVERYTHING and self.labels == selectors.EVERYTHING

    def matches(self, stored: Stored) -> bool:
        """Whether an object is asked for."""
        return (
            (not self.namespace or stored.namespace == self.namespace)
            and self.fields.matches(stored.fields)
            and self.labels.matches(stored.labels)
        )


class Change:
    """What happened to an object, as a watch sees it: ADDED, MODIFIED or DELETED, and the object's JSON.

    BOOKMARK and ERROR are about no object.
    """

    def __init__(self, type: bytes, raw: bytes) -> None:
        self.type = type
        self.raw = raw

    @functools.cached_property
    def line(self) -> bytes:
        """As one line of JSON (metav1.WatchEvent)."""
        return b'{"type":"%b","object":%b}\n' % (self.type, self.raw)


@dataclasses.dataclass(frozen=True)
class Event:
    """A change: created (no `before`), changed, or deleted (no `after`; `gone` is its last state at that revision)."""

    revision: int
    before: Stored | None
    after: Stored | None
    gone: Stored | None = None

    def change_for(self, selection: Selection) -> Change | None:
        """What a watch of the selection sees of it; None if it does not concern it.

        Entering the selection is ADDED and leaving it is DELETED, whatever happened to the object.
        """
        was = self.before is not None and selection.matches(self.before)
        now = self.after is not None and selection.matches(self.after)
        if now:
            return self.modified if was else self.added
        return self.deleted if was else None

    @functools.cached_property
    def added(self) -> Change:
        """As one that is new."""
        assert self.after is not None
        return Change(b"ADDED", self.after.raw)

    @functools.cached_property
    def modified(self) -> Change:
        """As one that was there."""
        assert self.after is not None
        return Change(b"MODIFIED", self.after.raw)

    @functools.cached_property
    def deleted(self) -> Change:
        """As one that is gone: its last state that was selected, at the revision of the event."""
        if self.gone is not None:
            return Change(b"DELETED", self.gone.raw)
        assert self.before is not None
        last = self.before.decode()
        last["metadata"]["resourceVersion"] = str(self.revision)
        return Change(b"DELETED", msgspec.json.encode(last))


@dataclasses.dataclass(frozen=True)
class Wording:
    """What a watch's reader wants to receive."""

    write: Callable[[Change], bytes] = operator.attrgetter("line")
    """What is sent of a change."""
    bookmark: Callable[[int], Change] | None = None
    """The change that tells a revision; None if the reader has not asked for bookmarks."""


class Watch:
    """One open watch: what is to be sent waits here until its connection takes it."""

    def __init__(
        self, selection: Selection, changes: Iterable[Change], told: int = 0, wording: Wording | None = None
    ) -> None:
        """`told` is the revision that the reader knows once it has the `changes`."""
        self.selection = selection
        self._told = told
        self._wording = wording or Wording()
        self.closed = False
        """Nothing is to follow what waits: the server stops, or the reader was too slow."""
        self._changes = deque(changes)
        self._wake = asyncio.Event()
        if self._changes:
            self._wake.set()

    @property
    def waiting(self) -> bool:
        """Whether `take` returns at once."""
        return self._wake.is_set()

    def offer(self, event: Event) -> None:
        """Take note of an event, if it is one of those asked for."""
        change = event.change_for(self.selection)
        if change is None or self.closed:
            return
        if len(self._changes) >= BACKLOG:
            # The reader comes back with the last revision it saw.
            self.close()
            return
        self._say(change, event.revision)

    def progress(self, revision: int) -> None:
        """Tell a reader that asked for bookmarks that it has every change up to a revision, unless it knows."""
        if self._wording.bookmark is not None and revision > self._told and not self.closed:
            self._say(self._wording.bookmark(revision), revision)

    def remind(self, revision: int) -> None:
        """The same, even if the reader knows: for one that would take silence for a lost connection."""
        if self._wording.bookmark is not None and not self.closed:
            self._say(self._wording.bookmark(revision), revision)

    def _say(self, change: Change, revision: int) -> None:
        self._changes.append(change)
        self._told = revision
        self._wake.set()

    def close(self) -> None:
        """End the watch, from whichever side."""
        self.closed = True
        self._wake.set()

    @property
    def drained(self) -> bool:
        """Whether nothing waits, nor will: it is closed."""
        return self.closed and not self._changes

    async def take(self) -> bytes:
        """Wait for something to send; what waits, together, but not so much that others wait for its being written.

        Empty when the watch is closed and all was taken.
        """
        await self._wake.wait()
        count = min(len(self._changes), AT_A_TIME)
        sent = b"".join([self._wording.write(self._changes.popleft()) for _ in range(count)])
        if not self._changes and not self.closed:
            self._wake.clear()
        return sent


class _Feed:
    """The recent events of one resource, and its open watches."""

    def __init__(self, floor: int) -> None:
        self.floor = floor  # The changes after this revision are all in `events`.
        self.events: list[Event] = []
        self.watches: set[Watch] = set()

    def append(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) >= 2 * HISTORY:
            # Halved now and then, rather than shifted each time.
            self.floor = self.events[HISTORY - 1].revision
            del self.events[:HISTORY]
        for watch in self.watches:
            watch.offer(event)

    def compact(self, revision: int) -> None:
        count = bisect.bisect_right(self.events, revision, key=lambda event: event.revision)
        if count:
            self.floor = self.events[count - 1].revision
            del self.events[:count]


class Hub:
    """The events of all resources.

    What there is of history at a restart of the server is the backend's. A watch from before that, unless nothing had
    changed since, gets Expired and its client lists again, as every client must be able to.
    """

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._start = self._compacted = revision
        self._feeds: dict[str, _Feed] = {}
        self._observers: dict[str, list[Callable[[Event], None]]] = {}

    def observe(self, plural: str, observer: Callable[[Event], None]) -> None:
        """Have every event of a resource from now on told within this process, before any watch hears of it."""
        self._observers.setdefault(plural, []).append(observer)

    def publish(self, plural: str, event: Event) -> None:
        """Tell the watches of a resource."""
        self.revision = event.revision
        for observer in self._observers.get(plural, ()):
            observer(event)
        self._feed(plural).append(event)

    def progress(self) -> int:
        """Have every watch that asked for bookmarks get one, unless it knows the present revision; that revision.

        As etcd's progress request. Sent only when asked for: a bookmark a change for each of hundreds of watches
        would be most of what a large lab does.
        """
        for feed in self._feeds.values():
            for watch in feed.watches:
                watch.progress(self.revision)
        return self.revision

    def compact(self, revision: int) -> None:
        """Forget the changes up to a revision; a watch that knows the last change of its resource goes on."""
        self._compacted = revision
        for feed in self._feeds.values():
            feed.compact(revision)

    def check_known(self, revision: int) -> None:
        """Raise `ApiError` (Expired) if it is forgotten how all objects were at a revision."""
        if revision < self._compacted:
            raise refusals.expired(revision, self._compacted)

    def watch(self, plural: str, selection: Selection, since: int, wording: Wording | None = None) -> Watch:
        """Open a watch of all changes after a revision. Raises `ApiError` (Expired) when they are not all known."""
        feed = self._feed(plural)
        changes = (event.change_for(selection) for event in self.events_since(plural, since))
        return self._open(feed, Watch(selection, (each for each in changes if each is not None), since, wording))

    def events_since(self, plural: str, revision: int) -> list[Event]:
        """The events of a resource after a revision. Raises `ApiError` (Expired) when they are not all known."""
        feed = self._feed(plural)
        if not feed.floor <= revision <= self.revision:
            raise refusals.expired(revision, feed.floor)
        return feed.events[bisect.bisect_right(feed.events, revision, key=lambda event: event.revision) :]

    def recent(self, plural: str) -> list[Event]:
        """The events of a resource that are still known."""
        return self._feed(plural).events

    def watch_from_now(
        self,
        plural: str,
        selection: Selection,
        first: Iterable[Change] = (),
        wording: Wording | None = None,
        told: int = 0,
    ) -> Watch:
        """Open a watch of the changes from now on, after some that its reader sees first.

        `told` is the revision that it knows from those.
        """
        return self._open(self._feed(plural), Watch(selection, first, told, wording))

    def open_watches(self) -> dict[str, int]:
        """How many watches each resource has."""
        return {plural: len(feed.watches) for plural, feed in self._feeds.items()}

    def forget(self, plural: str, watch: Watch) -> None:
        """The watch's connection is gone."""
        self._feed(plural).watches.discard(watch)

    def close(self) -> None:
        """End all watches: the server stops. A bookmark lets their readers go on, if nothing happens meanwhile."""
        for plural in self._feeds:
            self.end(plural)

    def end(self, plural: str) -> None:
        """End the watches of a resource in the same way: its objects look different from now on, or are none."""
        for watch in self._feed(plural).watches:
            watch.remind(self.revision)
            watch.close()

    def _open(self, feed: _Feed, watch: Watch) -> Watch:
        feed.watches.add(watch)
        return watch

    def _feed(self, plural: str) -> _Feed:
        feed = self._feeds.get(plural)
        if feed is None:
            feed = self._feeds[plural] = _Feed(self._start)
        return feed
