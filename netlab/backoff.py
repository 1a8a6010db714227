"""Exponential back-off as a value. pid 1 of every machine loads this: its imports stay few."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Backoff:
    """How long to wait before the next attempt: `first` seconds after a failure, doubling with each up to `last`.

    After an attempt that lasted longer than `steady` seconds it begins again.
    """

    first: float
    last: float
    steady: float = math.inf
    delay: float = 0.0
    """Seconds to wait now; none before the first failure."""

    def after(self, lasted: float) -> Backoff:
        """The back-off once an attempt has lasted that many seconds."""
        return dataclasses.replace(self, delay=0.0) if lasted > self.steady else self

    def failed(self, lasted: float = 0.0) -> Backoff:
        """The back-off after one more failure, of an attempt that lasted that many seconds."""
        delay = self.after(lasted).delay
        return dataclasses.replace(self, delay=min(delay * 2, self.last) if delay else self.first)


RESTART = Backoff(first=0.1, last=5, steady=10)
"""For processes that are to run always: what pid 1 and a lab's daemon supervise."""
