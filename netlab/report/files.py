"""Writes a report's files, with the umask's mode, and replaces each as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from netlab.errors import NetlabError, UsageError
from netlab.report.page import GENERATOR

_HEAD = 2048

_MARKS = (f'name="generator" content="{GENERATOR}"', f'data-generator="{GENERATOR}"')
"""What the head of netlab's pages and pictures contains."""


def write_page(path: Path, text: str) -> None:
    """Write a new page, or replace one of netlab's.

    Raises `UsageError` if another program's file is there, `NetlabError` when it cannot be written.
    """
    require_writable(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def require_writable(path: Path) -> None:
    """Raise `UsageError` if the page would replace a file that is not a report."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if head and not any(mark.encode() in head for mark in _MARKS):
        raise UsageError(f"{path}: not one of netlab's reports, so it is not overwritten; choose another place")


def copy(source: Path, target: Path) -> None:
    """Copy a file unless it is there already. Raises `NetlabError`."""
    try:
        if target.exists() and source.samefile(target):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        with source.open("rb") as old, target.open("xb") as new:
            shutil.copyfileobj(old, new)
    except OSError as error:
        raise _unwritable(target, error) from error


def _unwritable(path: Path, error: OSError) -> NetlabError:
    return NetlabError(f"{error.filename or path}: {error.strerror}: cannot write the report there")
