"""Which cgroup of this host may hold a lab's, by the hierarchies that are mounted. It looks, and changes nothing.

A lab's cgroup is made below that of the process which starts the lab, or as close as the kernel allows: the limits that
the process has apply to the lab too. In cgroup v2 a cgroup with processes cannot have controllers in its children
("no internal processes"), so it is mostly made beside that of the process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CONTROLLERS = ("memory", "pids", "cpu")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy: where it is, and the directory of this process's cgroup in it.

    `controllers` are those that a v1 hierarchy has; in v2 each cgroup has its own.
    """

    version: int
    mount: str
    own: str
    controllers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Level:
    """A cgroup of v2, as a parent for a lab's: its controllers, and those that it gives to its children.

    `ours` says that it holds this process alone, which may therefore change what its children have.
    """

    path: str
    writable: bool
    ours: bool
    controllers: frozenset[str]
    given: frozenset[str]

    @property
    def usable(self) -> frozenset[str]:
        """The controllers that a child made by this process has."""
        return (self.controllers if self.ours else self.given) & {*CONTROLLERS} if self.writable else frozenset()


@dataclass(frozen=True, slots=True)
class Parent:
    """A cgroup in which a lab's can be made, and the controllers that the lab's will have."""

    version: int
    path: str
    controllers: tuple[str, ...]


@dataclass(slots=True)
class Found:
    """The parents for a lab's cgroups, and why there is none with a controller."""

    parents: list[Parent] = field(default_factory=list)
    lacking: dict[str, str] = field(default_factory=dict)
    unified: bool = False
    """Whether there is a hierarchy of cgroup v2 with a controller to give."""


def find() -> Found:
    """Look at the hierarchies that this process can see."""
    mounted = read(_text("/proc/self/cgroup"), _text("/proc/self/mountinfo"))
    found = Found()
    for hierarchy in mounted:
        if hierarchy.version == 2:
            _choose_v2(hierarchy, found)
        elif of_interest := _ordered(hierarchy.controllers):
            if _writable(hierarchy.own):
                found.parents.append(Parent(1, hierarchy.own, of_interest))
            else:
                found.lacking |= dict.fromkeys(of_interest, _why_not_v1(hierarchy.own))
    having = {each for parent in found.parents for each in parent.controllers}
    for controller in CONTROLLERS:
        if controller not in having:
            found.lacking.setdefault(controller, "no cgroup hierarchy with it is mounted")
    return found


def read(memberships: str, mounts: str) -> list[Hierarchy]:
    """The hierarchies in the text of /proc/PID/cgroup (cgroups(7)) and /proc/PID/mountinfo (proc(5))."""
    places = _mounts(mounts)
    found = []
    for line in memberships.splitlines():
        number, names, path = line.split(":", 2)
        version = 2 if number == "0" else 1
        controllers = frozenset(names.split(",")) if version == 1 else frozenset[str]()
        for kind, root, mount, options in places:
            matches = kind == "cgroup2" if version == 2 else kind == "cgroup" and controllers <= options
            # With a cgroup namespace (/..), or a bind mount, the process may be outside what is mounted here.
            if matches and not path.startswith("/..") and (path == root or path.startswith(f"{root.rstrip('/')}/")):
                own = f"{mount}/{path.removeprefix(root).lstrip('/')}".rstrip("/")
                found.append(Hierarchy(version, mount, own, controllers))
                break
    return found


def choose(levels: Iterable[Level]) -> Level | None:
    """The nearest level that can limit memory, or else one that can limit anything, of this process's own and up."""
    usable = [level for level in levels if level.usable]
    return next((level for level in usable if "memory" in level.usable), usable[0] if usable else None)


def _mounts(text: str) -> list[tuple[str, str, str, frozenset[str]]]:
    """The cgroup mounts: kind, the cgroup that is mounted, where, and the options of the hierarchy."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, described = before.split(), after.split()
        if described and described[0] in ("cgroup", "cgroup2"):
            found.append((described[0], fields[3], fields[4], frozenset(described[-1].split(","))))
    return found


def _choose_v2(hierarchy: Hierarchy, found: Found) -> None:
    levels = [_level(path) for path in _upwards(hierarchy)]
    level = choose(levels)
    usable: frozenset[str] = frozenset()
    if level is not None:
        usable = level.usable
        found.parents.append(Parent(2, level.path, _ordered(usable)))
    present = {name for each in levels for name in each.controllers}
    found.unified = bool(present & {*CONTROLLERS})
    for controller in _ordered(present - usable):
        found.lacking[controller] = (
            f"uid {os.geteuid()} may divide no cgroup that has it: not {hierarchy.own}, nor one above"
        )


def _upwards(hierarchy: Hierarchy) -> Sequence[str]:
    """This process's cgroup and those above it."""
    own = Path(hierarchy.own)
    return [str(each) for each in (own, *own.parents) if each.is_relative_to(hierarchy.mount)]


def _level(path: str) -> Level:
    processes = _text(f"{path}/cgroup.procs").split()
    return Level(
        path,
        writable=_writable(path) and _writable(f"{path}/cgroup.procs"),
        # The root has no type. What its children have is the host's business.
        ours=processes == [str(os.getpid())] and os.path.exists(f"{path}/cgroup.type"),  # noqa: PTH110
        controllers=frozenset(_text(f"{path}/cgroup.controllers").split()),
        given=frozenset(_text(f"{path}/cgroup.subtree_control").split()),
    )


def _why_not_v1(path: str) -> str:
    if os.geteuid() != 0:
        return "cgroup v1 is for root alone; a host with cgroup v2 and systemd gives ordinary users their own"
    return f"{path} is not writable"


def _ordered(controllers: Iterable[str]) -> tuple[str, ...]:
    present = set(controllers)
    return tuple(each for each in CONTROLLERS if each in present)


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK, effective_ids=True)


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
