"""What some processes use together."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, and page faults since the beginning.

    `working_set` is what the kernel could not simply take back: without the page cache that nobody has used lately, as
    upstream has it.
    """

    usage: int = 0
    working_set: int = 0
    rss: int = 0
    cache: int = 0
    swap: int = 0
    faults: int = 0
    major_faults: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(*(getattr(self, each) + getattr(other, each) for each in self.__slots__))


@dataclass(frozen=True, slots=True)
class Throttling:
    """What a limit of processor time did: its periods, those in which it was reached, nanoseconds spent waiting."""

    periods: int
    throttled: int
    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What some processes use, and have used: `cpu` in nanoseconds, `descriptors` open, `sockets` among them."""

    cpu: int = 0
    memory: Memory = field(default_factory=Memory)
    processes: int = 0
    threads: int = 0
    descriptors: int = 0
    sockets: int = 0
    throttling: Throttling | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.cpu + other.cpu,
            self.memory + other.memory,
            self.processes + other.processes,
            self.threads + other.threads,
            self.descriptors + other.descriptors,
            self.sockets + other.sockets,
        )

    def with_cpu(self, cpu: int) -> Usage:
        """The same with other processor time."""
        return dataclasses.replace(self, cpu=cpu)


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface's counters since it was made, as its own network namespace sees them."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int
