"""Writing a report: files for their owner alone, replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from netlab.errors import NetlabError, UsageError
from netlab.report.page import GENERATOR

_HEAD = 2048

_MARKS = (f'name="generator" content="{GENERATOR}"', f'data-generator="{GENERATOR}"')
"""What a page and a picture of netlab's have in their head."""


def write_page(path: Path, text: str) -> None:
    """Write a page in the place of one of netlab's own, or where there was nothing.

    Raises `UsageError` when somebody else's file is there, `NetlabError` when it cannot be written.
    """
    require_writable(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(beside, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def require_writable(path: Path) -> None:
    """Raise `UsageError` for a page that would replace a file which is not a report."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if head and not any(mark.encode() in head for mark in _MARKS):
        raise UsageError(f"{path}: is not a report of netlab's, and would be replaced: name another file or directory")


def copy(source: Path, target: Path) -> None:
    """Copy a file unless it is there already. Raises `NetlabError`."""
    try:
        if target.exists() and source.samefile(target):
            return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        with source.open("rb") as old, open(target, "xb", opener=_private) as new:
            shutil.copyfileobj(old, new)
    except OSError as error:
        raise _unwritable(target, error) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _unwritable(path: Path, error: OSError) -> NetlabError:
    return NetlabError(f"{error.filename or path}: {error.strerror}: the report cannot be written there")
