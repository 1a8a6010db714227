"""The lab's log files, kept from filling the disk.

Their writers hold them open and append, so a file that has grown too large is not renamed: its end is copied to
NAME.log.1 and the file emptied (logrotate's copytruncate). What is written between the two is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

LIMIT = 10 * 1024 * 1024
"""Bytes of a file before it is emptied; as many of its end are kept (kubelet's containerLogMaxSize)."""

RUNS_KEPT = 2
"""Of a container: the present run and the one before, which `netlab logs --previous` shows."""

_COPIED_AT_ONCE = 1024 * 1024


def earlier(path: Path) -> Path:
    """Where the end of a log file lies that was emptied."""
    return path.with_name(f"{path.name}.1")


def bound(logs: Path, pods: Path, limit: int = LIMIT) -> None:
    """Empty the files beneath `logs` that are too large, and remove those of runs that nobody can ask for.

    `pods` is the folder of POD/CONTAINER/RUN.log. Files may vanish meanwhile.
    """
    for folder in _folders(logs):
        files = {entry.name: entry for entry in _entries(folder) if entry.name.endswith(".log")}
        if folder.parent.parent == pods:
            runs = sorted((name for name in files if name.removesuffix(".log").isdecimal()), key=_run)
            for name in runs[:-RUNS_KEPT]:
                for path in (folder / name, earlier(folder / name)):
                    path.unlink(missing_ok=True)
                del files[name]
        for entry in files.values():
            try:
                if entry.stat(follow_symlinks=False).st_size > limit:
                    _empty(folder / entry.name, limit)
            except FileNotFoundError:
                continue


def _run(name: str) -> int:
    return int(name.removesuffix(".log"))


def _folders(top: Path) -> Iterator[Path]:
    yield top
    for entry in _entries(top):
        if entry.is_dir(follow_symlinks=False):
            yield from _folders(Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _empty(path: Path, limit: int) -> None:
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    with (
        os.fdopen(descriptor, "rb+") as file,
        os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as kept,
    ):
        file.seek(max(0, file.seek(0, os.SEEK_END) - limit))
        if file.tell():
            file.readline(limit)  # the rest of a line
        left = limit
        while left > 0 and (chunk := file.read(min(left, _COPIED_AT_ONCE))):
            kept.write(chunk)
            left -= len(chunk)
        file.truncate(0)
    fresh.replace(earlier(path))
