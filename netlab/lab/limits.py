"""Compares what the machine allows a user with what a lab needs, before anything is made."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from netlab.counted import counted
from netlab.errors import UnsupportedError

_TASKS_OF_A_NODE, _TASKS = 24, 30
"""Processes and threads: a node's (pid 1, kubelet, kube-proxy and the resident CNI's sixteen), and the lab's own."""
_DESCRIPTORS_OF_A_NODE, _DESCRIPTORS = 8, 100
"""Descriptors of the API server, which has the most: its connections."""
_MACHINES_BESIDE_NODES = 3
"""Sets of namespaces besides the nodes': fabric, outside, and one for trying and joining."""

_NAMESPACES = ("net", "mnt", "pid", "uts", "ipc")


class Limit(NamedTuple):
    """A resource: how much a lab needs, and how much is free."""

    what: str
    needed: int
    free: int
    name: str
    """What sets the limit."""
    remedy: str


def require(nodes: int) -> None:
    """Raise `UnsupportedError` if a lab of so many nodes, without pods, exceeds a limit of this user."""
    for limit in found(nodes):
        if limit.needed > limit.free:
            raise UnsupportedError(
                f"a lab of {counted(nodes, 'node')} needs {limit.needed:,} {limit.what}, and {limit.name} leaves "
                f"{limit.free:,}: "
                f"{limit.remedy}, or make fewer nodes"
            )


def found(nodes: int) -> Iterator[Limit]:
    """The limits that apply here."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = nodes * _DESCRIPTORS_OF_A_NODE + _DESCRIPTORS
    yield Limit(
        "file descriptors in one process",
        needed,
        descriptors,
        "RLIMIT_NOFILE (`ulimit -Hn`)",
        "raise `nofile` in /etc/security/limits.conf",
    )
    tasks = nodes * _TASKS_OF_A_NODE + _TASKS
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and most != resource.RLIM_INFINITY:
        remedy = "raise `nproc` in /etc/security/limits.conf"
        yield Limit("processes and threads", tasks, most - _own_tasks(), "RLIMIT_NPROC (`ulimit -u`)", remedy)
    for directory in _cgroups():
        allowed, used = _number(directory / "pids.max"), _number(directory / "pids.current")
        if allowed is not None and used is not None:
            remedy = "raise TasksMax of the systemd unit, or the container's limit"
            yield Limit("processes and threads", tasks, allowed - used, f"{directory}/pids.max", remedy)
    for kind in _NAMESPACES:
        setting = f"user.max_{kind}_namespaces"
        allowed = _number(Path("/proc/sys") / setting.replace(".", "/"))
        if allowed is not None:
            sets = nodes + _MACHINES_BESIDE_NODES
            yield Limit(f"{kind} namespaces", sets, allowed, setting, f"`sysctl {setting}=15000`")


def _own_tasks() -> int:
    """The number of this user's processes and threads."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == os.geteuid():
                    count += len(os.listdir(f"/proc/{entry.name}/task"))  # noqa: PTH208
    return count


def _cgroups() -> Iterator[Path]:
    """The cgroups that limit the number of processes: this process's own and those above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "pids"):
            root = Path("/sys/fs/cgroup") / controllers
            own = root / path.lstrip("/")
            yield from (each for each in (own, *own.parents) if each.is_relative_to(root))


def _number(path: Path) -> int | None:
    """The number in a file; None for `max`, or if there is no such file."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
