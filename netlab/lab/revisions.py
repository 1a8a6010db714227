"""How far each component has followed the API: the resourceVersion that it has put in force.

A component has a file in the lab's directory and writes two numbers into it: no one asks, and it costs one system
call. It holds a lock (flock) on the file for as long as it lives, so that the number of one that has ended does not
count; its successor begins with a file of its own, at 0. One that hangs no longer moves.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from netlab.lab.paths import LabPaths

CONTROLLER_MANAGER = "controller-manager"

_FORMAT = "{:020d} {:020d}\n"
_LENGTH = len(_FORMAT.format(0, 0))

log = logging.getLogger(__name__)


def kube_proxy(node: str) -> str:
    """The name of a node's kube-proxy."""
    return f"kube-proxy-{node}"


def network_agent(node: str) -> str:
    """The name of a node's agent of the pod network, which is part of the kubelet's process."""
    return f"pod-network-{node}"


class Standing(NamedTuple):
    """How far a component is: the resourceVersion up to which it has acted upon everything, and what it has changed.

    `writes` counts its own changes of objects by then. A component that does not run has 0 of both.
    """

    revision: int = 0
    writes: int = 0


class Publisher:
    """The file of a component that has just started. It is the component's until its process ends."""

    def __init__(self, path: Path) -> None:
        """A file that cannot be made is logged; the component then never counts as having followed."""
        self._path = path
        self._descriptor: int | None = None
        fresh = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # The one before is replaced only when this one is locked and at 0: no number of another process is ours.
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, _FORMAT.format(0, 0).encode(), 0)
            fresh.rename(path)
            self._descriptor = descriptor
        except OSError as error:
            log.error("%s cannot be made: %s", path, error.strerror)

    def publish(self, revision: int, writes: int = 0) -> None:
        """Say how far the component is. A failure is logged."""
        if self._descriptor is None:
            return
        try:
            os.pwrite(self._descriptor, _FORMAT.format(revision, writes).encode(), 0)
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error.strerror)


def read(path: Path) -> Standing:
    """How far the component of a file is; nowhere if it does not run."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb"):
            if _is_locked(descriptor):
                return Standing(*map(int, _stable(descriptor).split()))
    return Standing()


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _stable(descriptor: int) -> bytes:
    """What is in the file, and was there twice: the kernel may show half of a write."""
    seen = os.pread(descriptor, _LENGTH, 0)
    while (again := os.pread(descriptor, _LENGTH, 0)) != seen:
        seen = again
    return seen


def read_all(paths: LabPaths, nodes: Sequence[str]) -> dict[str, Standing]:
    """How far what serves these nodes is, by component: the controller manager, and each node's proxy and agent."""
    names = [CONTROLLER_MANAGER, *(name(node) for node in nodes for name in (kube_proxy, network_agent))]
    return {name: read(paths.revision(name)) for name in names}
