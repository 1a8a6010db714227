"""A lab's cgroups on the host: made, entered and removed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from netlab.machine.cgroups import hierarchies, limits
from netlab.machine.cgroups.hierarchies import Parent
from netlab.machine.cgroups.limits import Limits

PREFIX = "netlab-"
"""How the name of every lab's cgroup begins."""

_PATIENCE = 5.0
"""Seconds until a process that was killed has left its cgroup."""
_POLL = 0.01
_MOST_CGROUPS = "4096"
"""Below a lab's: several times what a lab's containers need. Each takes memory of the host's kernel."""


@dataclass(frozen=True, slots=True)
class LabCgroup:
    """The lab's cgroup in one hierarchy."""

    version: int
    path: str
    controllers: tuple[str, ...]

    @property
    def delegated(self) -> str:
        """The part that belongs to the lab."""
        return f"{self.path}/lab"

    @property
    def machines(self) -> str:
        """Where the lab's processes are."""
        return f"{self.delegated}/machines"


def plan(parents: Sequence[Parent], name: str) -> list[LabCgroup]:
    """The cgroups of a lab whose name among all labs of the host is `name`."""
    return [LabCgroup(each.version, f"{each.path}/{PREFIX}{name}", each.controllers) for each in parents]


def enter(cgroups: Sequence[LabCgroup], wanted: Limits, owner: int) -> None:
    """Make the cgroups, and move this process, which must be single-threaded, into them.

    `owner` is the user to whom their inner parts are given. Raises `OSError`; then some may be made.
    """
    for each in cgroups:
        os.makedirs(each.machines)  # noqa: PTH103
        join(each.version, each.machines)
        if each.version == 2:
            _give_controllers(each)
        directory = os.open(each.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            limits.apply(directory, each.version, each.controllers, wanted)
        finally:
            os.close(directory)
        # What a delegatee writes to (cgroup-v2.rst, "Model of Delegation"), without cgroup.subtree_control.
        os.chown(each.delegated, owner, owner)
        os.chown(f"{each.delegated}/cgroup.procs", owner, owner)


def join(version: int, cgroup: str) -> None:
    """Move this process, which must be single-threaded, into a cgroup. Raises `OSError`."""
    # In v1 a thread that moves itself waits for nobody; a process waits for an RCU grace period, 10 ms.
    limits.write(f"{cgroup}/{'tasks' if version == 1 else 'cgroup.procs'}", "0")


def follow(pid: int) -> None:
    """Move this process, which must be single-threaded, into the cgroups that a lab's process has, where it may."""
    with contextlib.suppress(OSError):
        memberships = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        for each in hierarchies.read(memberships, mounts):
            if f"/{PREFIX}" in each.own:
                with contextlib.suppress(OSError):
                    join(each.version, each.own)


def _give_controllers(cgroup: LabCgroup) -> None:
    listed = " ".join(f"+{each}" for each in cgroup.controllers)
    parent = os.path.dirname(cgroup.path)  # noqa: PTH120
    given = Path(parent, "cgroup.subtree_control").read_text(encoding="ascii").split()
    if not {*cgroup.controllers} <= {*given}:
        limits.write(f"{parent}/cgroup.subtree_control", listed)
    limits.write(f"{cgroup.path}/cgroup.max.descendants", _MOST_CGROUPS)
    for path in (cgroup.path, cgroup.delegated):
        limits.write(f"{path}/cgroup.subtree_control", listed)


def remove(paths: Sequence[str]) -> None:
    """Remove cgroups of labs that are down, and all below them; end processes that are left in them.

    What is not there any more, or is no cgroup of a lab, is left out. Raises `OSError` when one is still in use.
    """
    for path in paths:
        if os.path.basename(path).startswith(PREFIX) and _is_cgroup(path):  # noqa: PTH119
            _remove(path)


def _remove(path: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    for directory, _, _ in os.walk(path, topdown=False):
        while True:
            try:
                os.rmdir(directory)  # noqa: PTH106
            except FileNotFoundError:
                break
            except OSError:
                _end_processes(directory)
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL)
            else:
                break


def _end_processes(directory: str) -> None:
    for pid in _processes(directory):
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _processes(directory: str) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from map(int, Path(directory, "cgroup.procs").read_text(encoding="ascii").split())


def _is_cgroup(path: str) -> bool:
    return os.path.isfile(f"{path}/cgroup.procs") and not os.path.islink(path)  # noqa: PTH113, PTH114
