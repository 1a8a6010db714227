"""File descriptors: waiting for them, closing them, having many. pid 1 of every machine loads this."""

from __future__ import annotations

import os
import resource
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_END = 0x7FFFFFFF


class Closing:
    """Something that has descriptors, and is closed at the end of a `with` block at the latest."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError


def readable(*descriptors: int, timeout: float | None) -> bool:
    """Whether one of them is, or becomes, readable within `timeout` seconds (None: without limit)."""
    poll = select.poll()  # select(2) is for numbers up to 1,023
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def close_all_but(*kept: int) -> None:
    """In a forked child: close every descriptor but the standard streams and these, most of them the parent's."""
    low = 3
    for descriptor in sorted(kept):
        os.closerange(low, descriptor)
        low = max(low, descriptor + 1)
    os.closerange(low, _END)


def allow_many() -> None:
    """Raise this process's limit of open descriptors as far as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
