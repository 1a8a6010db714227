"""Interruptions that are not lost, and do not stop the clean-up half-way."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_AGAIN = 1.0
"""Seconds until an interruption that had no effect is repeated.

Python drops an exception that a signal handler raises while a finalizer runs, such as the close() of an HTTP response
that is deallocated (Modules/_io/iobase.c, iobase_finalize).
"""

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """The state of this process, as signals are per process."""

    pending: BaseException | None = None
    held = 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the block, by KeyboardInterrupt or SystemExit(128 + the signal's number).

    Only the first counts. `uninterrupted` blocks inside are completed first.
    """
    before = {number: signal.signal(number, _interrupt) for number in (*_NUMBERS, signal.SIGALRM)}
    report, sys.unraisablehook = sys.unraisablehook, _pass_over_interruptions
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.setitimer(signal.ITIMER_REAL, 0)
        _State.pending = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """For clean-up: an interruption waits for the end of the block."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
    if _State.pending is not None and not _State.held:
        raise _State.pending


def _pass_over_interruptions(unraisable: sys.UnraisableHookArgs) -> None:
    """Do not report an interruption that Python drops: it will be repeated."""
    if unraisable.exc_value is not _State.pending:
        sys.__unraisablehook__(unraisable)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number != signal.SIGALRM and _State.pending is None:
        _State.pending = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
    elif number != signal.SIGALRM:
        return
    if _State.pending is not None and not _State.held:
        raise _State.pending
