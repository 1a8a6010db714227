"""Why a lab does not come up: the reason for the failure of its start, in one line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from netlab.errors import NO_ROOM, ExhaustedError, NetlabError, UnavailableError, UnsupportedError, UsageError
from netlab.lab.paths import FABRIC, LabPaths
from netlab.machine.client import Machine

_LEAST_ROOM = 1 << 20
_LEAST_ROOM_OF_A_NODE = 64 << 10
"""Bytes. A lab's database, logs and configuration take about 200 KiB when it comes up, and 30 KiB for each node."""

_FAILED_TWICE = 1
"""Restarts. A process that fails again after a restart will not recover on its own."""

_LOG_PREFIX = re.compile(r"(?:\S+ \S+ )?(?:ERROR|WARNING) [\w.]+: |netlab-apiserver: ")
_TAIL = 8192
"""How many bytes of a log are searched for its last line."""

_ELSEWHERE = "set NETLAB_HOME to a directory of yours"
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_DIRECTORY = frozenset({errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG})


def explained(error: OSError, directory: Path) -> NetlabError:
    """An error from reading or writing the lab's files, with its remedy."""
    path = error.filename or directory
    if error.errno in NO_ROOM and not _has_room(directory, _LEAST_ROOM):
        return ExhaustedError(f"{path}: no space left on the disk; free some, or set NETLAB_HOME to another disk")
    if error.errno in _FORBIDDEN:
        return UnsupportedError(f"{path}: {error.strerror}: {_ELSEWHERE}")
    if error.errno in _NO_DIRECTORY:
        return UsageError(f"{path}: {error.strerror}: {_ELSEWHERE}")
    return NetlabError(f"{path}: {error.strerror}")


def require_room(directory: Path, nodes: int) -> None:
    """Raise `ExhaustedError` when the disk, or a quota, has no room for a lab. Also raises `OSError`."""
    wanted = _LEAST_ROOM + nodes * _LEAST_ROOM_OF_A_NODE
    if not _has_room(directory, wanted):
        raise ExhaustedError(
            f"{directory}: no space is left on the disk: the lab needs {wanted >> 10} KiB to start; free some, or set "
            "NETLAB_HOME to another disk"
        )


def _has_room(directory: Path, size: int) -> bool:
    """Whether the file system has room. Tried with a file, because statvfs(3) does not know about quotas."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno in NO_ROOM:
            return False
        raise
    return True


def raise_failed(paths: LabPaths) -> None:
    """If a process of the lab failed, and failed again after a restart, raise the reason.

    A killed process does not count. Raises `UnavailableError` when the lab's first machine does not answer.
    """
    for name, code in _failed_services(paths) or _failed_components(paths):
        with contextlib.suppress(OSError):
            require_room(paths.directory, 0)
        reason = last_words(paths, name) or f"it exited with status {code} and no message"
        failure = NetlabError(f"lab {paths.name}: its {name} failed: {reason}")
        failure.exit_status = code
        raise failure


def _failed_services(paths: LabPaths) -> list[tuple[str, int]]:
    with Machine(paths.machine_socket(FABRIC)) as fabric:
        services = fabric.services()
    return [
        (each.name, each.last_exit_code)
        for each in services
        if each.last_exit_code is not None and _failed(each.restarts, each.last_exit_code)
    ]


def _failed_components(paths: LabPaths) -> list[tuple[str, int]]:
    return [
        (each["name"], each["lastExitCode"])
        for each in component_states(paths)
        if _failed(each["restarts"], each["lastExitCode"])
    ]


def component_states(paths: LabPaths) -> list[dict[str, Any]]:
    """What the daemon says about its components; empty before it has started them."""
    try:
        listed: list[dict[str, Any]] = json.loads(paths.components.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return listed


def _failed(restarts: int, code: int) -> bool:
    return restarts >= _FAILED_TWICE and 0 < code < 128  # from 128 on it was killed by a signal


def last_words(paths: LabPaths, component: str) -> str:
    """The last line of a component's log, without its date and level; empty when there is none."""
    try:
        with (paths.logs / f"{component}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return _LOG_PREFIX.sub("", lines[-1], count=1) if lines else ""


def raise_ended(paths: LabPaths) -> None:
    """Raise `UnavailableError`: the whole lab has ended while it started."""
    reason = last_words(paths, "monitor") or last_words(paths, "daemon") or "it was killed"
    raise UnavailableError(f"lab {paths.name}: it ended during start-up: {reason}")
