"""How it is noticed that a database has lost something: SQLite itself only says so when its own pages make no sense.

SQLite takes a write-ahead log up to the first frame with a wrong checksum and drops the rest without a word, and an
empty file is a new database. So the last revision that was written is in a file beside the database.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


class DamagedError(Exception):
    """The database is not as it was written; the message says what is wrong."""


class Written(NamedTuple):
    """The last revision that was written, and the boot of the machine in which it was."""

    revision: int
    boot: str


class Marker:
    """The file with the last revision. It costs a write(2) of 20 bytes for each change.

    It is written after the database and outlives the process like that. After a power cut, either may be older than
    the other.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = _BOOT_ID.read_text(encoding="ascii").strip()
        self._file: int | None = None

    def read(self) -> Written | None:
        """What was written last; None if nothing ever was. Raises `DamagedError` and `OSError`."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            revision, boot = text.decode("ascii").split()
            return Written(int(revision), boot)
        except ValueError:
            raise DamagedError(f"{self._path.name} beside it cannot be read") from None

    def begin(self, revision: int) -> None:
        """Write the whole file. Raises `OSError`."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._file, f"{revision:020d} {self._boot}\n".encode(), 0)

    def move(self, revision: int) -> None:
        """Note a revision that the database has."""
        assert self._file is not None
        # Its page is there already, so not even a full disk refuses. A number that is too low hides a loss at worst.
        with contextlib.suppress(OSError):
            os.pwrite(self._file, b"%020d" % revision, 0)

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def compare(self, written: Written | None, revision: int) -> None:
        """Raise `DamagedError` if a database with this revision has lost changes that were written."""
        if written is None or revision >= written.revision:
            return
        missing = f"the last {written.revision - revision} changes are missing, up to revision {written.revision}"
        if written.boot == self._boot:
            raise DamagedError(missing)
        log.warning("the machine was restarted, and %s", missing)


@contextlib.contextmanager
def kept_log(database: Path) -> Iterator[None]:
    """If what is done fails, the write-ahead log is there again: SQLite deletes it, with what it dropped of it."""
    wal, kept = database.with_name(database.name + "-wal"), database.with_name(database.name + "-wal.kept")
    kept.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # no log, or a file system without links
        kept.hardlink_to(wal)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            kept.rename(wal)
        raise
    finally:
        kept.unlink(missing_ok=True)  # rename(2) leaves two names of one file as they are
