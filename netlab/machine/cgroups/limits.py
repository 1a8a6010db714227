"""Limits, and the kernel's files for them (Documentation/admin-guide/cgroup-v1, cgroup-v2.rst). pid 1 loads this."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_PERIOD = 100_000
"""Microseconds in which a quota of processor time is used up: Kubernetes' and the kernel's default."""
_LEAST_QUOTA = 1_000
"""The kernel takes no less (kernel/sched/core.c); kubelets give as much to a container that may have less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a cgroup's processes may have together; None is as much as there is.

    `memory` is in bytes, and includes swap; `cpu` is in thousandths of a processor; `pids` counts processes and
    threads.
    """

    memory: int | None = None
    cpu: int | None = None
    pids: int | None = None

    def of(self, controller: str) -> int | None:
        """The limit that a controller enforces."""
        value: int | None = getattr(self, controller)
        return value


def settings(version: int, controller: str, limit: int) -> Iterator[tuple[str, str]]:
    """The files to write, in this order, and their contents."""
    if controller == "pids":
        yield "pids.max", str(limit)
    elif controller == "cpu":
        quota = max(limit * _PERIOD // 1000, _LEAST_QUOTA)
        if version == 2:
            yield "cpu.max", f"{quota} {_PERIOD}"
        else:
            yield "cpu.cfs_period_us", str(_PERIOD)
            yield "cpu.cfs_quota_us", str(quota)
    elif version == 2:
        yield "memory.max", str(limit)
        yield "memory.swap.max", "0"
    else:
        yield "memory.limit_in_bytes", str(limit)
        yield "memory.memsw.limit_in_bytes", str(limit)


_WITH_SWAP = ("memory.swap.max", "memory.memsw.limit_in_bytes")
"""Files that a kernel without swap, or without accounting for it, does not have."""


def apply(cgroup: int, version: int, controllers: Collection[str], limits: Limits) -> None:
    """Set those limits of a cgroup (a descriptor of its directory) that its controllers enforce. Raises `OSError`."""
    for controller in controllers:
        limit = limits.of(controller)
        if limit is not None:
            for name, value in settings(version, controller, limit):
                try:
                    write(name, value, cgroup)
                except FileNotFoundError:
                    if name not in _WITH_SWAP:
                        raise


def write(name: str, value: str, directory: int | None = None) -> None:
    """Write one of the kernel's files. Raises `OSError` with its name."""
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.write(descriptor, value.encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError as error:
        error.filename = name
        raise
