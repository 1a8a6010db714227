"""The lab's log files, kept from filling the disk.

Their writers hold them open and append, so no file is renamed or emptied. The file system takes back the part before
the last LIMIT bytes (FALLOC_FL_PUNCH_HOLE, fallocate(2)), and what is written in the meantime stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netlab import files
from netlab.net import syscalls

LIMIT = 10 * 1024 * 1024
"""Bytes of a file's end that are kept (kubelet's containerLogMaxSize). A file with twice as many is shortened."""

GLANCE = 0.25
"""Seconds between checks of the free space on the disk."""
LOOK = 5.0
"""Seconds between checks of the files."""
_BURST = 64 * 1024 * 1024
"""If the free space shrinks by this many bytes, the files are checked sooner."""

_BLOCK = 4096
_UNIT = 512
"""The unit of st_blocks (stat(2))."""
_CHUNK = 1024 * 1024


@dataclass
class Pace:
    """When to check the files: scanning the folders of a thousand pods takes too long to do it all the time."""

    looked: float
    free: int

    def is_due(self, now: float, free: int) -> bool:
        """Whether to check now, given the monotonic time in seconds and the free bytes of the disk."""
        self.free = max(self.free, free)
        if now - self.looked < LOOK and self.free - free < _BURST:
            return False
        self.looked, self.free = now, free
        return True


def free(folder: Path) -> int:
    """Free bytes of the disk that a folder is on. Raises `OSError`."""
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


def bound(folder: Path, limit: int = LIMIT) -> None:
    """Shorten the log files in a folder and its subfolders that are too large. Files may vanish in the meantime."""
    for each in _folders(folder):
        for entry in _entries(each):
            with contextlib.suppress(FileNotFoundError):
                if entry.name.endswith(".log"):
                    found = entry.stat(follow_symlinks=False)
                    if found.st_blocks * _UNIT > 2 * limit:
                        _shorten(Path(entry.path), found.st_size - limit)


def kept(path: Path, limit: int = LIMIT) -> tuple[bytes, int]:
    """The whole lines that are kept of a log file, and the offset at which they end. Raises `OSError`."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        first = file.seek(files.data_from(file.fileno(), max(0, size - 2 * limit)))
        text = file.read(max(0, size - first))
    end = first + len(text)
    if first or text.startswith(b"\0"):
        # Drop the rest of a line, unless it is the only one.
        text = text.partition(b"\n")[2] or text.lstrip(b"\0")
    return text, end


def grown(path: Path, offset: int, poll: float) -> Iterator[bytes]:
    """What is appended to a log file, until the file is removed; checks every `poll` seconds."""
    with path.open("rb") as file, contextlib.suppress(FileNotFoundError):
        while True:
            if path.stat().st_size < offset:
                offset = 0  # emptied (_shorten)
            offset = files.data_from(file.fileno(), offset)
            chunk = os.pread(file.fileno(), _CHUNK, offset)
            offset += len(chunk)
            if chunk:
                yield chunk
            else:
                time.sleep(poll)


def _shorten(path: Path, length: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        syscalls.punch_hole(descriptor, 0, length // _BLOCK * _BLOCK)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        # Some file systems, such as NFS before 4.2, have no holes.
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


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
