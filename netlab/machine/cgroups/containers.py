"""The cgroups of a machine's containers that have limits of their own, made by the machine's pid 1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netlab.machine.cgroups import limits
from netlab.machine.cgroups.limits import Limits

_COUNTERS = (
    *("memory.current", "memory.swap.current", "memory.usage_in_bytes", "memory.stat"),
    *("cpu.stat", "cpuacct.usage"),
)
"""The files of both versions that say what a cgroup's processes have used."""


@dataclass(frozen=True, slots=True)
class Delegated:
    """The part of a lab's cgroup that belongs to the lab, in one hierarchy, as a descriptor of its directory."""

    directory: int
    version: int
    controllers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerCgroup:
    """A container's cgroup in every hierarchy that limits it; without any, it has none."""

    name: str
    parents: Sequence[Delegated]

    def make(self, wanted: Limits) -> None:
        """Make it, with these limits. Raises `OSError`, and leaves nothing behind."""
        try:
            for parent in self.parents:
                os.mkdir(self.name, dir_fd=parent.directory)
                with _opened(self.name, parent.directory) as directory:
                    limits.apply(directory, parent.version, parent.controllers, wanted)
                    if parent.version == 2 and "memory" in parent.controllers:
                        # As kubelets do since Kubernetes 1.28: all of the container ends, not its largest process.
                        limits.write("memory.oom.group", "1", directory)
        except OSError:
            self.remove()
            raise

    def enter(self) -> None:
        """Move this process, which must be single-threaded, into it. Raises `OSError`."""
        for parent in self.parents:
            with _opened(self.name, parent.directory) as directory:
                limits.write("tasks" if parent.version == 1 else "cgroup.procs", "0", directory)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of it because memory ran out."""
        return any(
            self._count(parent, "memory.oom_control" if parent.version == 1 else "memory.events") > 0
            for parent in self.parents
            if "memory" in parent.controllers
        )

    def counters(self) -> dict[str, str]:
        """What the kernel has counted of it: the texts of those files that its hierarchies have, by their names."""
        found = {}
        for parent in self.parents:
            with contextlib.suppress(OSError), _opened(self.name, parent.directory) as directory:
                for name in _COUNTERS:
                    with contextlib.suppress(FileNotFoundError):
                        found[name] = _read(name, directory)
        return found

    def _count(self, parent: Delegated, name: str) -> int:
        with contextlib.suppress(OSError), _opened(self.name, parent.directory) as directory:
            fields = _read(name, directory).split()
            return int(fields[fields.index("oom_kill") + 1]) if "oom_kill" in fields else 0
        return 0

    def remove(self) -> bool:
        """Remove it. Returns False if a process that ends is still in it."""
        gone = True
        for parent in self.parents:
            try:
                os.rmdir(self.name, dir_fd=parent.directory)
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone


def _read(name: str, directory: int) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        # The kernel writes each of these files in one piece, of less than a page or two.
        return os.read(descriptor, 16384).decode("ascii")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(name: str, parent: int) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
