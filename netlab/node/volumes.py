"""A pod's volumes: tokens of its account, ConfigMaps, Secrets and the pod's fields as files; empty ones; its node's.

Most are in the node's /run, which ends with the node, as the pods do. A container has them by a mount. Files change all
at once; an empty volume is a tmpfs of its own, so that it has a size and leaves the node its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from netlab.api import quantities
from netlab.api.client import Client
from netlab.api.core_types import Container, EmptyDirVolumeSource, Pod, ProjectedVolumeSource, Volume, VolumeMount
from netlab.api.meta_types import Quantity
from netlab.errors import NetlabError, UsageError
from netlab.net import syscalls
from netlab.node import atomicfiles, hostpaths, projections, subpaths
from netlab.node.projections import Projections
from netlab.node.root_certificates import RootCertificates
from netlab.node.runtime.service import BIDIRECTIONAL, HOST_TO_CONTAINER, PRIVATE, Mount

ROOT = Path("/run/netlab/pods")
"""Of all pods of a node, by uid."""

_RETRY = 10.0
"""Seconds until a token that could not be renewed is asked for again."""
_PATIENCE, _POLL = 2.0, 0.1
"""Seconds that a pod waits for what its volumes are made of before it says so, and between two attempts."""
_LONGEST_REST = 600.0
"""Seconds between two looks at what is due."""
_MESSAGES = ".messages"
"""A directory beside the volumes, whose names have no dot."""
_DEFAULT_SIZE = 256 << 20
"""Bytes of an empty volume without a limit."""

_BLOCK = 512
"""Bytes of what stat(2) calls a block."""
_PROPAGATION = {"HostToContainer": HOST_TO_CONTAINER, "Bidirectional": BIDIRECTIONAL}

log = logging.getLogger(__name__)


class MountError(NetlabError):
    """A volume is not there, in the words of upstream's event FailedMount."""


class Volumes:
    """The volumes of one pod."""

    def __init__(
        self,
        client: Client,
        pod: Pod,
        root: Path = ROOT,
        certificates: RootCertificates | None = None,
        allocatable: Mapping[str, Quantity] | None = None,
    ) -> None:
        """`certificates` are those that all pods of the node share; `allocatable` is what the node has for pods.

        Elsewhere than in the node's /run, what is mounted here is not seen by those who make containers: there the
        empty volumes are plain directories.
        """
        self._mounts = root == ROOT
        self._projections = Projections(client, certificates, allocatable)
        self._pod = pod
        self._directory = root / pod.metadata.uid
        self._due: dict[str, float] = {}
        """When each volume that holds files is to be written again."""
        self._sources: dict[str, str] = {}
        """The path of each volume that is set up."""
        self._changed = asyncio.Event()

    def update(self, pod: Pod) -> None:
        """The pod's object has changed: its labels and annotations may be in its volumes."""
        old, self._pod = self._pod.metadata, pod
        if (old.labels, old.annotations) != (pod.metadata.labels, pod.metadata.annotations):
            for name, source in projections.sources(pod):
                if name in self._due and any(each.downwardAPI is not None for each in source.sources):
                    self._due[name] = 0.0
                    self._changed.set()

    async def set_up(self) -> None:
        """Make the volumes that containers mount, and what is in them. Raises `MountError` for what is not there."""
        mounted = {mount.name for container in self._pod.spec.all_containers() for mount in container.volumeMounts}
        for volume in self._pod.spec.volumes:
            if volume.name in mounted and volume.name not in self._sources:
                try:
                    await self._set_up(volume)
                except (UsageError, OSError) as error:
                    raise MountError(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from error

    async def _set_up(self, volume: Volume) -> None:
        projected = projections.projected(volume)
        if volume.emptyDir is not None:
            self._sources[volume.name] = self._emptied(volume.name, volume.emptyDir)
        elif volume.hostPath is not None:
            self._sources[volume.name] = hostpaths.source(volume.hostPath)
        elif projected is not None:
            await self._written(volume.name, projected)
            self._sources[volume.name] = str(self._directory / volume.name)
        # Of a kind that is not made here, the API server has warned.

    def mounts(self, container: Container, env: Mapping[str, str]) -> list[Mount]:
        """What a container with these variables mounts, of volumes that are set up.

        Raises `UsageError` for a part that cannot be had; and `OSError`.
        """
        # The outer before the inner.
        listed = sorted(container.volumeMounts, key=lambda each: len(each.mountPath))
        return [self._mount(container, each, env) for each in listed if each.name in self._sources]

    def _mount(self, container: Container, mount: VolumeMount, env: Mapping[str, str]) -> Mount:
        source = self._sources[mount.name]
        inside = subpaths.wanted(mount, container.name, env)
        if inside:
            subpaths.make(mount, container.name, source, inside)
        read_only = mount.readOnly or mount.name in self._due
        propagation = _PROPAGATION.get(mount.mountPropagation or "", PRIVATE)
        if propagation != PRIVATE:
            _share(source)
        return Mount(
            source=source,
            target=mount.mountPath,
            read_only=read_only,
            inside=inside,
            recursive_read_only=read_only and mount.recursiveReadOnly in ("Enabled", "IfPossible"),
            propagation=propagation,
        )

    async def keep(self) -> None:
        """Renew the tokens before they expire, and what else has changed, until cancelled."""
        while True:
            due = min(self._due.values(), default=time.time() + _RETRY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(1.0, due - time.time()), _LONGEST_REST)):
                    await self._changed.wait()
            self._changed.clear()
            for name, source in projections.sources(self._pod):
                if self._due.get(name, float("inf")) <= time.time():
                    try:
                        await self._write(name, source)
                    except (NetlabError, OSError) as error:
                        self._due[name] = time.time() + _RETRY
                        log.warning("pod %s: volume %s cannot be renewed: %s", self._pod.key, name, error)

    @property
    def _group(self) -> int | None:
        """Whose the volumes are, besides root."""
        return None if self._pod.spec.securityContext is None else self._pod.spec.securityContext.fsGroup

    def over_limit(self) -> str | None:
        """What to say of an empty volume that holds more than its sizeLimit, if one does (pkg/kubelet/eviction)."""
        for volume in self._pod.spec.volumes:
            limit = None if volume.emptyDir is None else _limit(volume.emptyDir)
            if limit and volume.name in self._sources and self._used(self._sources[volume.name]) > limit:
                assert volume.emptyDir is not None
                return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{volume.emptyDir.sizeLimit}". '
        return None

    def _used(self, source: str) -> int:
        """The bytes that an empty volume takes."""
        with contextlib.suppress(OSError):
            if self._mounts:
                status = os.statvfs(source)
                return (status.f_blocks - status.f_bfree) * status.f_frsize
            return sum(path.lstat().st_blocks for path in Path(source).rglob("*")) * _BLOCK
        return 0

    def remove(self) -> None:
        """Remove what is left of them."""
        _remove(self._directory)

    def message_path(self, container: str, attempt: int) -> Path:
        """The file of the termination message of a container's run; it goes with the volumes."""
        return self._directory / _MESSAGES / f"{container}_{attempt}"

    def make_message(self, container: str, attempt: int) -> Path:
        """Make that file, for any user in the container, where only messages have room. Raises `OSError`."""
        path = self._tmpfs(_MESSAGES, "mode=0700,size=1m") / f"{container}_{attempt}"
        path.touch()
        path.chmod(0o666)
        return path

    def _emptied(self, name: str, source: EmptyDirVolumeSource) -> str:
        """An empty volume, which stays while its pod does. Raises `OSError`."""
        size, limit = _DEFAULT_SIZE, _limit(source)
        if source.medium == "Memory":
            size = limit or size
        elif limit:
            # Room to exceed it, for which the pod is evicted.
            size = max(size, 2 * limit)
        owned = "mode=0777" if self._group is None else f"mode=2777,gid={self._group}"
        return str(self._tmpfs(name, f"{owned},size={max(size, 1)}"))

    def _tmpfs(self, name: str, options: str) -> Path:
        directory = self._directory / name
        if not self._mounts:
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700 if name == _MESSAGES else 0o777)
        elif not directory.is_mount():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.mkdir(exist_ok=True)
            syscalls.mount("tmpfs", str(directory), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
        return directory

    async def _written(self, name: str, source: ProjectedVolumeSource) -> None:
        # A namespace that has just been made gets its account and its ConfigMap in a moment.
        patience = time.monotonic() + _PATIENCE
        while name not in self._due:
            try:
                await self._write(name, source)
            except UsageError:
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(_POLL)

    async def _write(self, name: str, source: ProjectedVolumeSource) -> None:
        contents, due = await self._projections.contents(self._pod, source)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomicfiles.write(self._directory / name, contents, self._group)
        self._due[name] = due


def _limit(source: EmptyDirVolumeSource) -> int:
    """Bytes; 0: none."""
    return 0 if source.sizeLimit is None else int(quantities.parse(str(source.sizeLimit)))


def _share(source: str) -> None:
    """Have what is mounted on the node below a path reach containers, and the other way round. Raises `OSError`."""
    path = Path(source).resolve()
    mounted = next(each for each in (path, *path.parents) if each.is_mount())
    syscalls.mount(None, mounted, None, syscalls.MS_SHARED)


def _remove(directory: Path) -> None:
    """Remove the volumes of a pod, of which the empty ones are mounted."""
    with contextlib.suppress(OSError):
        for volume in directory.iterdir():
            if volume.is_mount():
                syscalls.umount(volume, syscalls.MNT_DETACH)
    shutil.rmtree(directory, ignore_errors=True)


def remove_others(present: frozenset[str], root: Path = ROOT) -> None:
    """Remove the volumes of pods that are no longer here; `present` are the uids of those that are."""
    with contextlib.suppress(OSError):
        for directory in root.iterdir():
            if directory.name not in present:
                _remove(directory)
