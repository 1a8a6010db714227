"""Processes as /proc tells of them (proc(5)), and which container each belongs to. Pure.

This is what is known of a container without a cgroup: the processor time of its processes and of those that they have
waited for, and the memory that is theirs, with the part of what they share that falls to them (Pss). The page cache,
files in a tmpfs that no process has mapped, and the kernel's own memory are in no process, and so not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netlab.node.stats.usage import Memory, Usage

_NANOSECONDS = 1_000_000_000


UNKNOWN = 0
"""The mount namespace of a process that may not be looked into."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, what it uses, and by what its container is known: its parent and its mount namespace (an inode)."""

    pid: int
    parent: int
    mounts: int
    usage: Usage


def read(pid: int, mounts: int, stat: str, smaps: str, descriptors: Iterable[str], ticks: int) -> Process:
    """A process by the texts of its `stat` and `smaps_rollup`, and where its descriptors lead.

    `ticks` are those of a second (sysconf(3), _SC_CLK_TCK). A process that has just ended has empty texts, and of one
    that may not be looked into there is its `stat` alone. Raises `ValueError` for what is no `stat`.
    """
    # The name, in brackets, may hold anything.
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 18:
        raise ValueError(f"process {pid}: not a stat of proc(5)")
    numbers = [int(each) for each in fields[1:18]]
    opened = list(descriptors)
    sizes = _sizes(smaps)
    whole = sizes.get("Pss", 0)
    # Linux before 5.4 does not tell them apart.
    anonymous = sizes.get("Pss_Anon", whole)
    usage = Usage(
        cpu=sum(numbers[10:14]) * _NANOSECONDS // ticks,
        memory=Memory(
            usage=whole,
            working_set=whole,
            rss=anonymous,
            cache=whole - anonymous,
            swap=sizes.get("SwapPss", 0),
            faults=numbers[6],
            major_faults=numbers[8],
        ),
        processes=1,
        threads=numbers[16],
        descriptors=len(opened),
        sockets=sum(each.startswith("socket:") for each in opened),
    )
    return Process(pid, numbers[0], mounts, usage)


def _sizes(smaps: str) -> dict[str, int]:
    sizes = {}
    for line in smaps.splitlines():
        name, _, rest = line.partition(":")
        amount = rest.split()
        if len(amount) == 2 and amount[1] == "kB":
            sizes[name] = int(amount[0]) * 1024
    return sizes


def by_container(processes: Mapping[int, Process], first: Mapping[str, int]) -> dict[str | None, Usage]:
    """What each container's processes use together; by None, what those use that are of no container.

    `first` has each container's pid 1. Its processes are those in its mount namespace, commands that were run in it
    among them, and those below them that have gone to another.
    """
    of_mounts = {processes[pid].mounts: name for name, pid in first.items() if pid in processes}
    of_mounts.pop(UNKNOWN, None)
    owners: dict[int, str | None] = {pid: name for name, pid in first.items()}

    def owner(process: Process) -> str | None:
        chain = []
        at: Process | None = process
        found: str | None = None
        while at is not None:
            if at.pid in owners:
                found = owners[at.pid]
                break
            chain.append(at.pid)
            if at.mounts in of_mounts:
                found = of_mounts[at.mounts]
                break
            at = processes.get(at.parent) if at.parent not in chain else None
        owners.update(dict.fromkeys(chain, found))
        return found

    totals: dict[str | None, Usage] = {None: Usage(), **{name: Usage() for name in first}}
    for process in processes.values():
        name = owner(process)
        totals[name] += process.usage
    return totals
