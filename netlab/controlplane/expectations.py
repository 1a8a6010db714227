"""What a controller has requested but not seen yet, so that a lagging cache does not make it ask twice."""

from __future__ import annotations

import dataclasses
import time

TIMEOUT = 60.0
"""Seconds after which an expectation no longer blocks a controller: what it waits for will not come.

Upstream waits 5 minutes; the lab's API server is one Unix socket away, and a lab must not stand still that long.
"""


@dataclasses.dataclass
class _Expected:
    creations: int
    deletions: set[str]
    since: float


class Expectations:
    """Creations by number and deletions by uid for each key (client-go's UIDTrackingControllerExpectations)."""

    def __init__(self) -> None:
        self._by_key: dict[str, _Expected] = {}

    def satisfied(self, key: str) -> bool:
        """Whether everything requested has been seen, or has timed out."""
        expected = self._by_key.get(key)
        if expected is None:
            return True
        if expected.creations <= 0 and not expected.deletions:
            return True
        return time.monotonic() - expected.since > TIMEOUT

    def expect(self, key: str, *, creations: int = 0, deletions: set[str] | None = None) -> None:
        """Start waiting. Call it before the request: the result may be seen before the request returns."""
        self._by_key[key] = _Expected(creations, deletions or set(), time.monotonic())

    def created(self, key: str, number: int = 1) -> None:
        """Creations were seen, or failed and will never be seen."""
        if expected := self._by_key.get(key):
            expected.creations -= number

    def deleted(self, key: str, uid: str) -> None:
        """A deletion was seen, or failed and will never be seen."""
        if expected := self._by_key.get(key):
            expected.deletions.discard(uid)

    def forget(self, key: str) -> None:
        """The key's object is gone."""
        self._by_key.pop(key, None)
