"""The lab's log files, kept from filling the disk.

Their writers hold them open and append, so a file that has grown too large is not renamed: its end is copied to
NAME.log.1 and the file emptied (logrotate's copytruncate). What is written between the two is lost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from netlab.node.logs import earlier

LIMIT = 10 * 1024 * 1024
"""Bytes of a file before it is emptied; as many of its end are kept (kubelet's containerLogMaxSize)."""

_COPIED_AT_ONCE = 1024 * 1024


def bound(folder: Path, limit: int = LIMIT) -> None:
    """Empty the log files in a folder, and in those beneath it, that are too large. Files may vanish meanwhile."""
    for each in _folders(folder):
        for entry in _entries(each):
            with contextlib.suppress(FileNotFoundError):
                if entry.name.endswith(".log") and entry.stat(follow_symlinks=False).st_size > limit:
                    _empty(Path(entry.path), limit)


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
