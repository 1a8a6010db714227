"""How often rules are synced: upstream's BoundedFrequencyRunner, a bucket of tokens. Pure: the caller has the clock."""

from __future__ import annotations


class Pace:
    """Allows `burst` syncs in immediate succession, and one every `period` seconds in the long run.

    A first change is therefore applied at once, and a long burst causes no more syncs than its time allows.
    """

    def __init__(self, period: float, burst: int) -> None:
        self._period = period
        self._burst = burst
        self._tokens = float(burst)
        self._at = 0.0

    def delay(self, now: float) -> float:
        """Seconds from `now`, on a clock that only goes forward, until the next sync may begin."""
        self._refill(now)
        return max(0.0, 1 - self._tokens) * self._period

    def spend(self, now: float) -> None:
        """Record the start of a sync."""
        self._refill(now)
        self._tokens = max(0.0, self._tokens - 1)

    def _refill(self, now: float) -> None:
        grown = (now - self._at) / self._period if self._period else self._burst
        self._tokens = min(float(self._burst), self._tokens + grown)
        self._at = now
