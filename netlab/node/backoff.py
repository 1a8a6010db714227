"""Exponential back-off as a value."""

from __future__ import annotations

import dataclasses
from typing import Self


@dataclasses.dataclass(frozen=True)
class Backoff:
    """How long to wait after a failure: nothing after the first, then `first` seconds, doubling up to `last`.

    A failure more than twice `last` seconds after the previous start counts as a first one again (client-go's
    flowcontrol.Backoff: 10 minutes for a container's 300 s).
    """

    first: float
    last: float
    delay: float = 0.0
    since: float = 0.0

    def ready_at(self, failed_at: float) -> float:
        """The earliest time of the next attempt after a failure at `failed_at`, in seconds of the same clock."""
        return failed_at + (0.0 if self._expired(failed_at) else self.delay)

    def next(self, failed_at: float, now: float) -> Self:
        """The back-off once that next attempt is made, at `now`."""
        fresh = self.delay == 0 or self._expired(failed_at)
        delay = self.first if fresh else min(self.delay * 2, self.last)
        return dataclasses.replace(self, delay=delay, since=now)

    def _expired(self, failed_at: float) -> bool:
        return failed_at - self.since > 2 * self.last


CRASH_LOOP = Backoff(first=10, last=300)
"""For a container that keeps exiting (CrashLoopBackOff)."""

SANDBOX = Backoff(first=0.5, last=10)
"""For a pod whose sandbox cannot be made. Shorter than upstream's: a person is waiting for the lab."""

SYNC = Backoff(first=1, last=30)
"""For a pod on which the kubelet fails unexpectedly."""
