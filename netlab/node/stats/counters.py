"""What the kernel counts: of cgroups, of network interfaces; and counters that must not go back. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from netlab.node.stats.usage import Interface, Memory, Throttling, Usage

_SHORTEST = 1.0
"""Seconds over which a rate is worth telling: /proc counts hundredths."""


def of_cgroup(texts: Mapping[str, str], otherwise: Usage) -> Usage:
    """What a cgroup's files say (Documentation/admin-guide/cgroup-v1/, cgroup-v2.rst); the rest is as given.

    The working set is what upstream's is: all that is charged, without `inactive_file`.
    """
    usage = otherwise
    memory = _fields(texts.get("memory.stat", ""))
    if "memory.current" in texts:
        anonymous, cache, inactive = memory["anon"], memory["file"], memory["inactive_file"]
        used, swap = int(texts["memory.current"]), int(texts.get("memory.swap.current", "0"))
        faults = memory["pgfault"], memory["pgmajfault"]
    elif "memory.usage_in_bytes" in texts:
        anonymous, cache, inactive = memory["total_rss"], memory["total_cache"], memory["total_inactive_file"]
        used, swap = int(texts["memory.usage_in_bytes"]), memory.get("total_swap", 0)
        faults = memory["total_pgfault"], memory["total_pgmajfault"]
    else:
        used = None
    if used is not None:
        counted = Memory(used, max(used - inactive, 0), anonymous, cache, swap, *faults)
        usage = dataclasses.replace(usage, memory=counted)
    cpu = _fields(texts.get("cpu.stat", ""))
    if "usage_usec" in cpu:
        usage = usage.with_cpu(cpu["usage_usec"] * 1000)
    elif "cpuacct.usage" in texts:
        usage = usage.with_cpu(int(texts["cpuacct.usage"]))
    if "nr_periods" in cpu:
        # v1 counts nanoseconds, v2 microseconds.
        waited = cpu["throttled_usec"] * 1000 if "throttled_usec" in cpu else cpu["throttled_time"]
        throttling = Throttling(cpu["nr_periods"], cpu["nr_throttled"], waited)
        usage = dataclasses.replace(usage, throttling=throttling)
    return usage


def _fields(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def interfaces(text: str) -> list[Interface]:
    """The interfaces in the text of /proc/net/dev, but for the loopback: nothing on it leaves the namespace."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, counted = line.partition(":")
        numbers = [int(each) for each in counted.split()]
        if name.strip() != "lo":
            found.append(Interface(name.strip(), *numbers[0:4], *numbers[8:12]))
    return found


@dataclass(frozen=True, slots=True)
class Reading:
    """A counter of processor time, in nanoseconds, and how fast it went lately, in nanoseconds a second."""

    total: int
    rate: int | None


@dataclass(slots=True)
class _Known:
    raw: int
    total: int
    since: float
    total_then: int
    rate: int | None = None


class Rising:
    """Counters of processor time that never go back, and the rates at which they rise.

    The sum over the processes of a container falls when one ends that none of them waited for, as a command of
    `kubectl exec`; and that over the containers of a pod when one of them is started again.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def read(self, key: str, raw: int, moment: float) -> Reading:
        """What a counter stands at, with what was lost added; `moment` is in seconds on a steady clock."""
        known = self._known.get(key)
        if known is None:
            self._known[key] = _Known(raw, raw, moment, raw)
            return Reading(raw, None)
        known.total += max(raw - known.raw, 0)
        known.raw = raw
        passed = moment - known.since
        if passed >= _SHORTEST:
            known.rate = round((known.total - known.total_then) / passed)
            known.since, known.total_then = moment, known.total
        return Reading(known.total, known.rate)

    def keep(self, keys: Collection[str]) -> None:
        """Forget all others."""
        self._known = {key: self._known[key] for key in keys if key in self._known}
