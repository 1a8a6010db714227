"""Working inside another network namespace, by file descriptor and never by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from netlab.net import syscalls


@contextlib.contextmanager
def entered(namespace: int) -> Iterator[None]:
    """Enter the network namespace of `namespace` (an ns file's descriptor, or a pidfd) for the block.

    It moves the calling thread; sockets opened in the block stay in that namespace. Raises `OSError`.
    """
    with _away(lambda: syscalls.setns(namespace, syscalls.CLONE_NEWNET)):
        yield


@contextlib.contextmanager
def thrown_away() -> Iterator[None]:
    """Enter a new network namespace, which ends with the block. Otherwise like `entered`. Raises `OSError`."""
    with _away(lambda: syscalls.unshare(syscalls.CLONE_NEWNET)):
        yield


@contextlib.contextmanager
def _away(leave: Callable[[], None]) -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        leave()
        try:
            yield
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)


def network_namespace_of(pidfd: int) -> int:
    """A descriptor of the network namespace of a process: for netlink, which does not always accept a pidfd."""
    with entered(pidfd):
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def write_sysctls(settings: dict[str, str], *, optional: bool = False) -> None:
    """Set sysctls of the current network namespace, such as `net/ipv4/ip_forward`.

    With `optional`, skips those that this kernel does not have.
    """
    for name, value in settings.items():
        try:
            (Path("/proc/sys") / name).write_text(value, encoding="ascii")
        except FileNotFoundError:
            if not optional:
                raise
