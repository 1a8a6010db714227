"""Processes remembered across commands by pid and start time, so that a reused pid is never confused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from netlab import files
from netlab.descriptors import readable

READY = b"ready"
"""What the lab monitor writes once the lab's first machine and its services are running."""

_START_TIME_FIELD = 21
"""The index of starttime, from 0 (proc(5)). The second field, in parentheses, may contain spaces."""


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[_START_TIME_FIELD - 2]


def record(path: Path, pid: int) -> None:
    """Record a process in a file, atomically replacing an earlier record."""
    files.replace(path, f"{pid} {_start_time(pid)}\n")


def open_recorded(path: Path) -> int | None:
    """A pidfd of the process recorded at `path`; None if it has ended, or there is no record.

    A record written by another user is valid only for that user's own processes: a lab can write to its directory, and
    must not make root end arbitrary processes.
    """
    try:
        with path.open(encoding="ascii") as file:
            writer = os.fstat(file.fileno()).st_uid
            pid, start_time = file.read().split()
        descriptor = os.pidfd_open(int(pid))
        owner = Path("/proc", pid).stat().st_uid
    except (OSError, ValueError):
        return None
    trusted = writer in (0, owner)
    if not trusted or _start_time(int(pid)) != start_time or ended(descriptor, 0):
        os.close(descriptor)
        return None
    return descriptor


def ended(pidfd: int, timeout: float | None) -> bool:
    """Whether the process has ended, after waiting at most `timeout` seconds (None: without limit)."""
    return readable(pidfd, timeout=timeout)


def end(pidfd: int, grace: float) -> None:
    """End a process and wait for it: SIGTERM, and after `grace` seconds SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        if ended(pidfd, grace):
            return
