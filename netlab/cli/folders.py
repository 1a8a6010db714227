"""Folders that a command will write to."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from netlab.errors import UsageError


def require_writable(folder: Path, option: str) -> None:
    """Find out, by trying, whether files can be made in a folder, which need not exist; nothing is left of the trial.

    Raises `UsageError` that tells to name another by `option`.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder}: {error.strerror}: cannot write there; choose another folder with {option}"
        ) from None
    finally:
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()
