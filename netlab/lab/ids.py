"""The ids of this host that root's labs use: each lab has its own range, which no other lab and no other user has.

A range in use is a symbolic link in a directory of this boot, FIRST -> the lab's directory: one system call makes it
wholly or not at all. The lab remembers its range across boots in a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from netlab import files
from netlab.errors import ExhaustedError, UsageError
from netlab.lab.paths import LabPaths
from netlab.machine.userns import IdRange

_REGISTRY = Path("/run/netlab/ids")
_COUNT = 65536
_POOL = range(0x40000000, 0x6FFF0000, _COUNT)
"""systemd's range for containers (systemd.io/UIDS-GIDS), above the ids that shadow-utils assigns (login.defs(5))."""
_ROOTS = frozenset({"lock", "monitor.pid", "machine.pid", "ids", "cgroups", "kubeconfig"})
"""Files of a lab that belong to this host's root."""

_Ranges = list[tuple[str, int, int]]
"""Owner, first id, and the id after the last."""


def take(directory: Path) -> IdRange:
    """Take a range for the lab in `directory`. Only root may call this.

    A root in a user namespace with few ids has no ranges to give: like an ordinary user's, its labs run under its own
    id. Raises `ExhaustedError` when there is no range left, and `OSError`.
    """
    users, groups = _subordinate(Path("/etc/subuid")), _subordinate(Path("/etc/subgid"))
    here = [_mapped("uid"), _mapped("gid")]
    own = [first for first in _own_ranges(users, groups) if all(_within(first, ranges) for ranges in here)]
    pool = [first for first in _POOL if all(_within(first, ranges) for ranges in here)] if not own else []
    if not own and not pool:
        return IdRange(0, 1)
    free: Iterator[int] = (first for first in (*own, *pool) if first in own or not _overlaps(first, [*users, *groups]))
    with _registry() as registry:
        taken = {int(entry.name): entry.readlink() for entry in registry.iterdir() if entry.is_symlink()}
        mine = next((first for first, lab in taken.items() if lab == directory), None)
        if mine is None:
            remembered = _remembered(directory)
            if remembered in own or (remembered in pool and not _overlaps(remembered, [*users, *groups])):
                free = itertools.chain([remembered], free)
            # A range whose lab was removed by hand is free too.
            mine = next((first for first in free if first not in taken or not taken[first].is_dir()), None)
            if mine is None:
                raise ExhaustedError("every range of ids for root's labs is taken: `netlab down` gives one back")
            entry = registry / str(mine)
            entry.unlink(missing_ok=True)
            entry.symlink_to(directory)
    files.replace(LabPaths(directory).ids, f"{mine}\n")
    return IdRange(mine, _COUNT)


def of(directory: Path) -> IdRange | None:
    """The range of the lab in `directory` in this boot, or None."""
    with contextlib.suppress(OSError):
        for entry in _REGISTRY.iterdir():
            if entry.is_symlink() and entry.readlink() == directory:
                return IdRange(int(entry.name), _COUNT)
    return None


def give_back(directory: Path) -> None:
    """Free the range of a lab that is gone, if it had one."""
    if os.geteuid() != 0 or not _REGISTRY.is_dir():
        return
    with contextlib.suppress(OSError), _registry() as registry:
        for entry in registry.iterdir():
            if entry.is_symlink() and entry.readlink() == directory:
                entry.unlink()


def hand_over(directory: Path, ids: IdRange) -> None:
    """Change the owner of a lab's files to its root, except those by which this host's root finds and ends it."""
    for folder, _, names, descriptor in os.fwalk(directory, follow_symlinks=False):
        os.chown(descriptor, ids.first, ids.first)
        for name in names:
            owner = 0 if name in _ROOTS and Path(folder) == directory else ids.first
            with contextlib.suppress(FileNotFoundError):
                os.chown(name, owner, owner, dir_fd=descriptor, follow_symlinks=False)


def require_intact(directory: Path) -> None:
    """Raise `UsageError` for a symbolic link in the directory of a lab that is down: netlab never makes one.

    The lab's root could make one, and this host's root would write to its target when it restarts the lab. A directory
    that cannot be read passes: no link in it can be followed.
    """
    with contextlib.suppress(OSError):
        for path in (directory, *directory.iterdir()):
            if path.is_symlink():
                raise UsageError(f"{path} is a link, which no lab has: `netlab down` removes the lab")


def _remembered(directory: Path) -> int:
    """The range of an earlier boot, so that files need no new owner. The lab may have written anything there."""
    try:
        return int(LabPaths(directory).ids.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return -1


def _own_ranges(users: _Ranges, groups: _Ranges) -> list[int]:
    """The first ids of root's ranges in /etc/subuid and /etc/subgid."""
    of_root = [[each for each in listed if each[0] in ("root", "0")] for listed in (users, groups)]
    return [
        first
        for _, low, high in of_root[0]
        for first in range(low, high - _COUNT + 1, _COUNT)
        if _within(first, [(start, end) for _, start, end in of_root[1]])
    ]


def _subordinate(path: Path) -> _Ranges:
    """The owners and ranges in a subuid(5) file."""
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
                found.append((fields[0], int(fields[1]), int(fields[1]) + int(fields[2])))
    return found


def _mapped(kind: str) -> list[tuple[int, int]]:
    """The ids that the user namespace of this process has."""
    found = []
    for line in Path(f"/proc/self/{kind}_map").read_text(encoding="ascii").splitlines():
        first, _, count = map(int, line.split())
        found.append((first, first + count))
    return found


def _within(first: int, ranges: list[tuple[int, int]]) -> bool:
    return any(low <= first and first + _COUNT <= high for low, high in ranges)


def _overlaps(first: int, ranges: _Ranges) -> bool:
    return any(first < high and low < first + _COUNT for _, low, high in ranges)


@contextlib.contextmanager
def _registry() -> Iterator[Path]:
    """Lock the registry for the duration of the block."""
    _REGISTRY.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(_REGISTRY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _REGISTRY
    finally:
        os.close(descriptor)
