"""The C functions below Python's signal module.

That module converts every result to unneeded enums: 0.4 ms and 80 copied pages of a container's start.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed does not know it
from collections.abc import Callable, Iterable
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


def handle(numbers: Iterable[int], handler: Handler) -> None:
    """Call `handler` at these signals."""
    for number in numbers:
        _signal.signal(number, handler)


def handle_by_default(numbers: Iterable[int]) -> None:
    """Give these signals the kernel's default handling."""
    for number in numbers:
        _signal.signal(number, _signal.SIG_DFL)


def block(numbers: Iterable[int]) -> None:
    """Hold these signals back."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, numbers)


def unblock(numbers: Iterable[int]) -> None:
    """Deliver these signals, including those held back."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, numbers)


def unblock_all() -> None:
    """Deliver every signal."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def wake(descriptor: int) -> None:
    """Write a byte to a descriptor for each signal that has a handler; -1 turns this off."""
    _signal.set_wakeup_fd(descriptor)
