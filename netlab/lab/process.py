"""Processes remembered across commands: by pid and start time, so that a reused pid is never mistaken."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from netlab import files

READY = b"ready"
"""What the lab monitor writes once the lab's first machine and its services run."""

_START_TIME_FIELD = 21
"""starttime, counted from 0 (proc(5)); the second field, in parentheses, may itself hold spaces."""


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[_START_TIME_FIELD - 2]


def record(path: Path, pid: int) -> None:
    """Write down a process; replaces what stood there, atomically."""
    files.replace(path, f"{pid} {_start_time(pid)}\n")


def open_recorded(path: Path) -> int | None:
    """A pidfd of the process written down at `path`; None if it has ended, or nothing is written there.

    What somebody else has written down there counts only for that user's own processes: a lab may write to its
    directory, and is not to have root end what it likes.
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
    """Whether the process has ended, waiting for at most `timeout` seconds, or without end."""
    return bool(select.select([pidfd], [], [], timeout)[0])


def end(pidfd: int, grace: float) -> None:
    """End a process and wait for it: SIGTERM, and after `grace` seconds SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        if ended(pidfd, grace):
            return
