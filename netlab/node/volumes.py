"""A pod's volumes: tokens of its account, ConfigMaps, Secrets and the pod's fields as files; empty ones; its node's.

Most are in the node's /run, which ends with the node, as the pods do. A container has them by a mount. A file that
changes is replaced whole; an empty volume is a tmpfs of its own, so that it has a size and leaves the node its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from netlab import files
from netlab.api import quantities
from netlab.api.client import Client
from netlab.api.core_types import (
    ConfigMapProjection,
    Container,
    DownwardAPIProjection,
    EmptyDirVolumeSource,
    Pod,
    ProjectedVolumeSource,
    SecretProjection,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from netlab.api.errors import ApiError
from netlab.api.meta_types import Quantity
from netlab.api.resources import CONFIGMAPS, SECRETS, Resource
from netlab.errors import NetlabError, UsageError
from netlab.net import syscalls
from netlab.node import environment, hostpaths, resources, subpaths
from netlab.node.root_certificates import ROOT_CA, RootCertificates
from netlab.node.runtime.service import BIDIRECTIONAL, HOST_TO_CONTAINER, PRIVATE, Mount

ROOT = Path("/run/netlab/pods")
"""Of all pods of a node, by uid."""

_RENEWED_AFTER = 0.8
"""Of a token's life (kubelet's token manager)."""
_RETRY = 10.0
"""Seconds until a token that could not be renewed is asked for again."""
_PATIENCE, _POLL = 2.0, 0.1
"""Seconds that a container waits for what its volumes are made of, and between two attempts."""
_REFRESHED_AFTER = 60.0
"""Seconds after which ConfigMaps and Secrets are read again (the kubelet's --sync-frequency)."""
_LONGEST_REST = 600.0
"""Seconds between two looks at what is due."""
_MESSAGES = ".messages"
"""A directory beside the volumes, whose names have no dot."""
_DEFAULT_MODE = 0o644
_DEFAULT_SIZE = 256 << 20
"""Bytes of an empty volume without a limit."""
_ROOT_CA = "kube-root-ca.crt"
"""A ConfigMap that every pod has, and that never changes."""

_PROPAGATION = {"HostToContainer": HOST_TO_CONTAINER, "Bidirectional": BIDIRECTIONAL}

log = logging.getLogger(__name__)


class Volumes:
    """The volumes of one pod."""

    def __init__(
        self,
        client: Client,
        pod: Pod,
        node_ips: list[str],
        root: Path = ROOT,
        certificates: RootCertificates | None = None,
        allocatable: Mapping[str, Quantity] | None = None,
    ) -> None:
        """`certificates` are those that all pods of the node share; `allocatable` is what the node has for pods.

        Elsewhere than in the node's /run, what is mounted here is not seen by those who make containers: there the
        empty volumes are plain directories.
        """
        self._mounts = root == ROOT
        self._allocatable = allocatable or {}
        self._client = client
        self._certificates = certificates or RootCertificates(client)
        self._pod = pod
        self._node_ips = node_ips
        self._directory = root / pod.metadata.uid
        self._made: dict[str, _Made] = {}
        self._changed = asyncio.Event()

    def update(self, pod: Pod) -> None:
        """The pod's object has changed: its labels and annotations may be in its volumes."""
        old, self._pod = self._pod.metadata, pod
        if (old.labels, old.annotations) != (pod.metadata.labels, pod.metadata.annotations):
            for name, source in _sources(pod):
                if name in self._made and any(each.downwardAPI is not None for each in source.sources):
                    self._made[name].due = 0.0
                    self._changed.set()

    async def mounts(self, container: Container, pod_ips: list[str], env: Mapping[str, str]) -> list[Mount]:
        """What a container with these variables mounts, written.

        Raises `UsageError` for what there is not, or not yet; and `OSError`.
        """
        volumes = {volume.name: volume for volume in self._pod.spec.volumes}
        sources = dict(_sources(self._pod))
        listed = []
        # The outer before the inner.
        for mount in sorted(container.volumeMounts, key=lambda each: len(each.mountPath)):
            volume = volumes.get(mount.name)
            if volume is None:
                continue
            if volume.emptyDir is not None:
                source = self._emptied(mount.name, volume.emptyDir)
            elif volume.hostPath is not None:
                source = hostpaths.source(mount.name, volume.hostPath)
            elif mount.name in sources:
                source = await self._written(mount.name, sources[mount.name], pod_ips)
            else:
                continue  # of a kind that is not made here, as the API server has warned
            inside = subpaths.wanted(mount, container.name, env)
            if inside:
                subpaths.make(mount, container.name, source, inside)
            read_only = mount.readOnly or mount.name in sources
            propagation = _PROPAGATION.get(mount.mountPropagation or "", PRIVATE)
            if propagation != PRIVATE:
                _share(source)
            listed.append(
                Mount(
                    source=source,
                    target=mount.mountPath,
                    read_only=read_only,
                    inside=inside,
                    recursive_read_only=read_only and mount.recursiveReadOnly in ("Enabled", "IfPossible"),
                    propagation=propagation,
                )
            )
        return listed

    async def keep(self) -> None:
        """Renew the tokens before they expire, and what else has changed, until cancelled."""
        while True:
            due = min((made.due for made in self._made.values()), default=time.time() + _RETRY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(1.0, due - time.time()), _LONGEST_REST)):
                    await self._changed.wait()
            self._changed.clear()
            for name, source in _sources(self._pod):
                made = self._made.get(name)
                if made is not None and made.due <= time.time():
                    try:
                        await self._write(name, source, made.pod_ips)
                    except (NetlabError, OSError) as error:
                        made.due = time.time() + _RETRY
                        log.warning("pod %s: volume %s cannot be renewed: %s", self._pod.key, name, error)

    @property
    def _group(self) -> int | None:
        """Whose the volumes are, besides root."""
        return None if self._pod.spec.securityContext is None else self._pod.spec.securityContext.fsGroup

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
        size = _DEFAULT_SIZE if source.sizeLimit is None else int(quantities.parse(str(source.sizeLimit)))
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

    async def _written(self, name: str, source: ProjectedVolumeSource, pod_ips: list[str]) -> str:
        # A namespace that has just been made gets its account and its ConfigMap in a moment.
        patience = time.monotonic() + _PATIENCE
        while name not in self._made:
            try:
                await self._write(name, source, pod_ips)
            except UsageError:
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(_POLL)
        return str(self._directory / name)

    async def _write(self, name: str, source: ProjectedVolumeSource, pod_ips: list[str]) -> None:
        contents: dict[str, tuple[bytes, int]] = {}
        mode = _DEFAULT_MODE if source.defaultMode is None else source.defaultMode
        due = float("inf")
        try:
            for each in source.sources:
                if each.serviceAccountToken is not None:
                    token, renew = await self._token(each.serviceAccountToken)
                    contents[each.serviceAccountToken.path] = (token.encode(), mode)
                    due = min(due, renew)
                for resource, wanted in ((CONFIGMAPS, each.configMap), (SECRETS, each.secret)):
                    if wanted is not None:
                        contents |= await self._keys(resource, wanted, mode)
                        if wanted.name != _ROOT_CA:
                            due = min(due, time.time() + _REFRESHED_AFTER)
                if each.downwardAPI is not None:
                    contents |= self._fields(each.downwardAPI, mode, pod_ips)
        except ApiError as error:
            raise UsageError(f"volume {name}: {error}") from None
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        if bad := next((path for path in contents if path.startswith("/") or ".." in path.split("/")), None):
            raise UsageError(f"volume {name}: {bad!a} is not inside of it")
        for path, (content, file_mode) in contents.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            if self._group is None:
                files.replace(directory / path, content, file_mode)
            else:
                # Of a volume that is only read (pkg/volume, SetVolumeOwnership).
                files.replace(directory / path, content, file_mode | 0o440)
                os.chown(directory / path, -1, self._group)
        for path in _files(directory) - contents.keys():
            (directory / path).unlink()
        self._made[name] = _Made(due, pod_ips)

    async def _token(self, wanted: ServiceAccountTokenProjection) -> tuple[str, float]:
        """A token of the pod's account, and when to renew it."""
        meta = self._pod.metadata
        began = time.time()
        answer = await self._client.request_token(
            self._pod.spec.serviceAccountName or "default",
            meta.namespace,
            audiences=[wanted.audience] if wanted.audience else [],
            seconds=wanted.expirationSeconds,
            pod=(meta.name, meta.uid),
        )
        expires = datetime.datetime.fromisoformat(answer.expirationTimestamp or "").timestamp()
        return answer.token, began + (expires - began) * _RENEWED_AFTER

    async def _keys(
        self, resource: Resource[Any], wanted: ConfigMapProjection | SecretProjection, mode: int
    ) -> dict[str, tuple[bytes, int]]:
        """The keys of a ConfigMap or a Secret, as files."""
        try:
            found = await self._source(resource, wanted.name)
        except ApiError as error:
            if error.reason == "NotFound" and wanted.optional:
                return {}
            raise
        content: dict[str, bytes] = found.content()
        if not wanted.items:
            return {key: (value, mode) for key, value in content.items()}
        chosen = {}
        for item in wanted.items:
            if item.key in content:
                chosen[item.path] = (content[item.key], mode if item.mode is None else item.mode)
            elif not wanted.optional:
                raise UsageError(f"{resource.kind} {wanted.name} has no key {item.key!r}")
        return chosen

    async def _source(self, resource: Resource[Any], name: str) -> Any:
        """A ConfigMap or a Secret."""
        namespace = self._pod.metadata.namespace
        if resource is CONFIGMAPS and name == ROOT_CA:
            return await self._certificates.of(namespace)
        return await self._client.get(resource, name, namespace)

    def _fields(self, wanted: DownwardAPIProjection, mode: int, pod_ips: list[str]) -> dict[str, tuple[bytes, int]]:
        found = {}
        for item in wanted.items:
            if item.fieldRef is not None:
                text = self._field(item.fieldRef.fieldPath, pod_ips)
            elif item.resourceFieldRef is not None:
                text = resources.field(self._pod, item.resourceFieldRef, "", self._allocatable)
            else:
                continue
            found[item.path] = (text.encode(), mode if item.mode is None else item.mode)
        return found

    def _field(self, path: str, pod_ips: list[str]) -> str:
        meta = self._pod.metadata
        maps = {"metadata.labels": meta.labels, "metadata.annotations": meta.annotations}
        if path not in maps:
            return environment.field(self._pod, path, pod_ips, self._node_ips)
        # As fieldpath.FormatMap writes it; a variable cannot have all of a map.
        return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(maps[path].items()))


class _Made:
    """When a volume is to be written again, and with which addresses of the pod."""

    def __init__(self, due: float, pod_ips: list[str]) -> None:
        self.due = due
        self.pod_ips = pod_ips


def _sources(pod: Pod) -> Iterator[tuple[str, ProjectedVolumeSource]]:
    """The volumes of a pod that have files, by name, each as a projected one."""
    for volume in pod.spec.volumes:
        if (source := _projected(volume)) is not None:
            yield volume.name, source


def _projected(volume: Volume) -> ProjectedVolumeSource | None:
    if (config := volume.configMap) is not None:
        keys = ConfigMapProjection(name=config.name, items=config.items, optional=config.optional)
        return ProjectedVolumeSource([VolumeProjection(configMap=keys)], config.defaultMode)
    if (secret := volume.secret) is not None:
        kept = SecretProjection(name=secret.secretName, items=secret.items, optional=secret.optional)
        return ProjectedVolumeSource([VolumeProjection(secret=kept)], secret.defaultMode)
    if (fields := volume.downwardAPI) is not None:
        own = DownwardAPIProjection(items=fields.items)
        return ProjectedVolumeSource([VolumeProjection(downwardAPI=own)], fields.defaultMode)
    return volume.projected


def has_files(pod: Pod) -> bool:
    """Whether a volume of a pod holds what may change."""
    return next(_sources(pod), None) is not None


def _files(directory: Path) -> set[str]:
    """The paths of all files in a volume."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


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
