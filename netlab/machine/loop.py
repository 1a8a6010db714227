"""pid 1's loop: one thread that waits for descriptors and for points in time."""

from __future__ import annotations

import contextlib
import heapq
import selectors
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


@dataclass(slots=True, order=True)
class Timer:
    """A call at a point in time, unless it is cancelled first."""

    deadline: float
    number: int
    action: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        """Do not call."""
        self.action = None


class Loop:
    """Makes the calls that are due. An exception in one call is printed and does not stop the others."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._timer_count = 0

    def watch(self, descriptor: int, action: Callable[[], object], events: int = READ) -> None:
        """Call `action` whenever the descriptor is ready; this replaces an earlier watch of it."""
        try:
            self._selector.modify(descriptor, events, action)
        except KeyError:
            self._selector.register(descriptor, events, action)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching, if it is watched. Call this before closing the descriptor."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call `action` once, after `seconds`."""
        self._timer_count += 1
        timer = Timer(time.monotonic() + seconds, self._timer_count, action)
        heapq.heappush(self._timers, timer)
        return timer

    def run(self) -> NoReturn:
        """Serve forever."""
        while True:
            for key, _ in self._selector.select(self._time_to_next_timer()):
                # An earlier call of this round may have stopped the watch, and closed the descriptor.
                if self._is_watched(key.fd, key.data):
                    guarded(key.data)
            for timer in self._due_timers():
                if timer.action is not None:
                    guarded(timer.action)

    def _is_watched(self, descriptor: int, action: Callable[[], None]) -> bool:
        try:
            return self._selector.get_key(descriptor).data is action
        except KeyError:
            return False

    def _time_to_next_timer(self) -> float | None:
        return max(0.0, self._timers[0].deadline - time.monotonic()) if self._timers else None

    def _due_timers(self) -> Iterator[Timer]:
        while self._timers and self._timers[0].deadline <= time.monotonic():
            yield heapq.heappop(self._timers)


def guarded(action: Callable[[], object]) -> None:
    """Call `action`; an exception is printed and goes no further."""
    try:
        action()
    except Exception:
        traceback.print_exc()
