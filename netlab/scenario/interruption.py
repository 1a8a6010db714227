"""Interruptions that are neither lost nor break off the cleaning up."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_AGAIN = 1.0
"""Seconds until an interruption that had no effect is repeated.

Python drops what a signal's handler raises while a finalizer runs, such as the close() of an HTTP response that is
deallocated (Modules/_io/iobase.c, iobase_finalize).
"""

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """Of this process, as its signals are."""

    pending: BaseException | None = None
    held = 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP end the block, as KeyboardInterrupt or SystemExit(128 + the signal's number).

    Only the first counts. Blocks of `uninterrupted` inside are not broken off.
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
    """Clean up in this block: an interruption waits for its end."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
    if _State.pending is not None and not _State.held:
        raise _State.pending


def _pass_over_interruptions(unraisable: sys.UnraisableHookArgs) -> None:
    """Say nothing of an interruption that Python drops: it is repeated."""
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
