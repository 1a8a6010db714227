"""Files: replaced so that a reader finds the old content or the new, never half of either; and where they have data."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


def replace(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Replace a file, whole and atomically; by default only its owner may read it. Raises `OSError` with its name."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        # Never through a link, nor into a file that is there: others may write to a directory of root's lab.
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content.encode() if isinstance(content, str) else content)
            os.fchmod(descriptor, mode)  # regardless of the umask
        fresh.rename(path)
    except OSError as error:
        error.filename = error.filename or str(fresh)  # write(2) has none
        fresh.unlink(missing_ok=True)
        raise


def is_locked(descriptor: int) -> bool:
    """Whether a process holds the lock (flock) on an open file; otherwise this takes a share of it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def data_from(descriptor: int, offset: int) -> int:
    """The offset of the next data in a file: after the hole, or at the end of the file."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return os.fstat(descriptor).st_size
