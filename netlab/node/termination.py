"""What a container leaves behind for people to read: its termination message (kuberuntime, getTerminationMessage)."""

from __future__ import annotations

import os
from pathlib import Path

from netlab.api.core_types import Container

LONGEST = 4096
"""Bytes of a message."""
_LONGEST_OF_LOG, _LINES_OF_LOG = 2048, 80

_DEFAULT_PATH = "/dev/termination-log"


def place(spec: Container) -> str:
    """Where in the container the file of its message is."""
    return spec.terminationMessagePath or _DEFAULT_PATH


def message(spec: Container, exit_code: int, path: Path, log: Path) -> str:
    """The end of what a container wrote into its file; if that is nothing, and the spec says so, the end of its log."""
    text = _end(path, LONGEST)
    if text or exit_code == 0 or spec.terminationMessagePolicy != "FallbackToLogsOnError":
        return text
    return "".join(_end(log, _LONGEST_OF_LOG).splitlines(keepends=True)[-_LINES_OF_LOG:])


def _end(path: Path, length: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - length))
            return file.read(length).decode(errors="replace")
    except OSError:
        return ""
