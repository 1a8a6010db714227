"""How far each component has followed the API: the resourceVersion that it has put in force.

Each component writes two numbers into a file in the lab's directory: that costs one system call and needs no requests.
It holds a lock (flock) on the file while it is alive, so that the number of a process that has ended does not count;
its successor begins with a new file, at 0. The number of a process that hangs no longer changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from netlab import files
from netlab.lab.paths import LabPaths

CONTROLLER_MANAGER = "controller-manager"

_FORMAT = "{:020d} {:020d}\n"
_LENGTH = len(_FORMAT.format(0, 0))

log = logging.getLogger(__name__)


def kube_proxy(node: str) -> str:
    """The component name of a node's kube-proxy."""
    return f"kube-proxy-{node}"


def network_agent(node: str) -> str:
    """The component name of a node's agent of the pod network, which is part of the kubelet's process."""
    return f"pod-network-{node}"


def enforcer(node: str) -> str:
    """The component name of a node's enforcer of policies, which is part of the kubelet's process."""
    return f"policy-{node}"


class Standing(NamedTuple):
    """How far a component is: the resourceVersion up to which it has acted on everything.

    `writes` counts its own changes of objects until then. For a component that does not run, both are 0.
    """

    revision: int = 0
    writes: int = 0


class Publisher:
    """The file of a component that has just started; it is valid until the process ends."""

    def __init__(self, path: Path) -> None:
        """If the file cannot be made, that is logged, and the component counts as not running."""
        self._path = path
        self._descriptor: int | None = None
        fresh = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # Replace the old file only with one that is locked and at 0, so that no other process's number is read.
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, _FORMAT.format(0, 0).encode(), 0)
            fresh.rename(path)
            self._descriptor = descriptor
        except OSError as error:
            log.error("%s cannot be made: %s", path, error.strerror)

    def publish(self, revision: int, writes: int = 0) -> None:
        """Publish how far the component is. A failure is logged."""
        if self._descriptor is None:
            return
        try:
            os.pwrite(self._descriptor, _FORMAT.format(revision, writes).encode(), 0)
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error.strerror)


def read(path: Path) -> Standing:
    """How far the component with this file is; zeros if it does not run."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb"):
            if files.is_locked(descriptor):
                return Standing(*map(int, _stable(descriptor).split()))
    return Standing()


def _stable(descriptor: int) -> bytes:
    """The file's content, read until two reads agree: the kernel may show half of a write."""
    seen = os.pread(descriptor, _LENGTH, 0)
    while (again := os.pread(descriptor, _LENGTH, 0)) != seen:
        seen = again
    return seen


def read_all(paths: LabPaths, nodes: Sequence[str]) -> dict[str, Standing]:
    """How far each component is, by name: the controller manager, and each node's proxy, agent and enforcer."""
    names = [CONTROLLER_MANAGER, *(name(node) for node in nodes for name in (kube_proxy, network_agent, enforcer))]
    return {name: read(paths.revision(name)) for name in names}
