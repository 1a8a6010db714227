"""Volumes of the type hostPath: what the node itself has at a path (pkg/volume/hostpath of upstream)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from netlab.api.core_types import HostPathVolumeSource
from netlab.errors import UsageError

_KINDS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}
_CREATED = "OrCreate"


def source(volume: HostPathVolumeSource) -> str:
    """The path of a volume, made if its type says so. Raises `UsageError` for what is of another type; and `OSError`.

    Without a type, a directory is made where there is nothing, as containerd does.
    """
    path, kind = Path(volume.path), volume.type or f"Directory{_CREATED}"
    if not path.exists():
        if kind == f"Directory{_CREATED}":
            path.mkdir(mode=0o755, parents=True)
        elif kind == f"File{_CREATED}":
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    is_right, words = _KINDS[kind.removesuffix(_CREATED)]
    try:
        right = not volume.type or is_right(path.stat().st_mode)
    except OSError:
        right = False
    if not right:
        raise UsageError(f"hostPath type check failed: {path} is not {words}")
    return str(path)
