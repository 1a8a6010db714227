"""Parts of volumes that containers have alone: `subPath` and `subPathExpr` (pkg/volume/util/subpath of upstream).

A pod may put links into its volumes: no path here leads out of one.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from netlab.api.core_types import VolumeMount
from netlab.errors import UsageError
from netlab.net import syscalls
from netlab.node import environment

_LEFT = re.compile(r"\$\([^)]*\)")
_MODE = 0o777
"""As the volume's own, which anybody in the pod may write to."""


def wanted(mount: VolumeMount, container: str, env: Mapping[str, str]) -> str:
    """The path in the volume that a mount asks for; empty: all of it. Raises `UsageError` for one that cannot be."""
    path = environment.expand(mount.subPathExpr, env) if mount.subPathExpr else mount.subPath
    if mount.subPathExpr and (missing := _LEFT.search(path)):
        why = f"{missing[0]} is no variable of the container"
    elif path.startswith("/"):
        why = f"{path} must not be an absolute path"
    elif ".." in path.split("/"):
        why = f"{path} must not contain '..'"
    else:
        return str(PurePosixPath(path)) if path else ""
    raise _refused(mount, container, why)


def make(mount: VolumeMount, container: str, volume: str, path: str) -> None:
    """Make what is not there of a path in a volume, as directories. Raises `UsageError`; and `OSError`."""
    root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parent = "."
        for part in PurePosixPath(path).parts:
            inner = f"{parent}/{part}"
            try:
                os.close(syscalls.open_beneath(root, inner, os.O_PATH))
            except FileNotFoundError:
                _make_directory(root, parent, part)
            parent = inner
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise _refused(mount, container, f"a link in {path} leads out of the volume") from None
        if error.errno == errno.ENOTDIR:
            raise _refused(mount, container, f"{path} leads through a file") from None
        raise
    finally:
        os.close(root)


def _make_directory(root: int, parent: str, name: str) -> None:
    directory = syscalls.open_beneath(root, parent, os.O_PATH | os.O_DIRECTORY)
    try:
        os.mkdir(name, _MODE, dir_fd=directory)
    finally:
        os.close(directory)


def _refused(mount: VolumeMount, container: str, why: str) -> UsageError:
    return UsageError(f'failed to prepare subPath for volumeMount "{mount.name}" of container "{container}": {why}')
