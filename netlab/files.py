"""Files written so that a reader finds the old content or the new, and never half of either."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, text: str) -> None:
    """Replace a file, whole and atomically, readable by its owner only (mode 0600). Raises `OSError` with its name."""
    fresh = path.with_name(path.name + ".new")
    try:
        # Never through a link, nor into a file that is there: others may write to a directory of root's lab.
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
        fresh.rename(path)
    except OSError as error:
        error.filename = error.filename or str(fresh)  # write(2) has none
        fresh.unlink(missing_ok=True)
        raise
