"""What a kubelet says at `/metrics/resource`, and what two such texts say about the time between them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SHORTEST, USUAL, LONGEST = 1.0, 15.0, 60.0
"""Seconds between two scrapes: the least over which a rate is worth telling, metrics-server's --metric-resolution, and
the most after which it says nothing about the present."""

_LINE = re.compile(
    r"(node|container)_(cpu_usage_seconds_total|memory_working_set_bytes|start_time_seconds)"
    r"(?:\{([^}]*)\})? (\S+)(?: (-?[0-9]+))?"
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Container = tuple[str, str, str]
"""Namespace, pod and name."""


@dataclass(slots=True)
class Used:
    """Seconds of processor time since the beginning and bytes of memory, at a `moment` (seconds since the epoch)."""

    moment: float = 0.0
    cpu: float | None = None
    memory: int | None = None
    started_at: float | None = None


@dataclass(slots=True)
class Scrape:
    """What a kubelet said at one moment."""

    node: Used = field(default_factory=Used)
    containers: dict[Container, Used] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was used over so many seconds until a moment: processors on average, and bytes of memory at the end."""

    moment: float
    window: float
    cpu: float
    memory: int


def read(text: str) -> Scrape:
    """A scrape. What does not concern it is passed over."""
    scrape = Scrape()
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        kind, name, labels, number, milliseconds = match.groups()
        try:
            value = float(number)
        except ValueError:
            continue
        used = scrape.node
        if kind == "container":
            named = dict(_LABEL.findall(labels or ""))
            key = named.get("namespace", ""), named.get("pod", ""), named.get("container", "")
            used = scrape.containers.setdefault(key, Used())
        if milliseconds is not None:
            used.moment = int(milliseconds) / 1000
        if name == "cpu_usage_seconds_total":
            used.cpu = value
        elif name == "memory_working_set_bytes":
            used.memory = int(value)
        else:
            used.started_at = value
    return scrape


def baseline(now: Scrape, kept: Iterable[Scrape]) -> Scrape | None:
    """Of earlier scrapes, the one with which to compare; None if there is none of the right age."""
    ages = ((now.node.moment - each.node.moment, each) for each in kept)
    usable = [(abs(age - USUAL), each) for age, each in ages if SHORTEST <= age <= LONGEST]
    return min(usable, key=lambda pair: pair[0])[1] if usable else None


def measured(now: Used, before: Used | None) -> Measured | None:
    """What was used meanwhile; None if that cannot be said.

    A container that has started since, or again, is measured from its start, at which it had used nothing.
    """
    if now.cpu is None or now.memory is None:
        return None
    is_same = before is not None and before.started_at == now.started_at
    if before is not None and before.cpu is not None and is_same and now.cpu >= before.cpu:
        since, used = before.moment, now.cpu - before.cpu
    elif now.started_at is not None:
        since, used = now.started_at, now.cpu
    else:
        return None
    window = now.moment - since
    return Measured(now.moment, window, used / window, now.memory) if window > 0 else None


def of_containers(now: Scrape, before: Scrape | None) -> Mapping[Container, Measured]:
    """What each container of a node used."""
    earlier = before.containers if before is not None else {}
    pairs = ((key, measured(used, earlier.get(key))) for key, used in now.containers.items())
    return {key: found for key, found in pairs if found is not None}
