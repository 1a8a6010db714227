"""A pod's projected volumes: tokens of its service account, ConfigMaps and the pod's own fields, as files.

They are in the node's /run, which ends with the node, as the pods do. A container has them by a mount; a file that
changes is replaced whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import shutil
import time
from pathlib import Path

from netlab import files
from netlab.api.client import Client
from netlab.api.config_types import ConfigMap
from netlab.api.core_types import (
    ConfigMapProjection,
    Container,
    DownwardAPIProjection,
    Pod,
    ProjectedVolumeSource,
    ServiceAccountTokenProjection,
    Volume,
)
from netlab.api.errors import ApiError
from netlab.api.resources import CONFIGMAPS
from netlab.errors import NetlabError, UsageError
from netlab.machine.protocol import Mount
from netlab.node import environment

ROOT = Path("/run/netlab/pods")
"""Of all pods of a node, by uid."""

_RENEWED_AFTER = 0.8
"""Of a token's life (kubelet's token manager)."""
_RETRY = 10.0
"""Seconds until a token that could not be renewed is asked for again."""
_PATIENCE, _POLL = 2.0, 0.1
"""Seconds that a container waits for what its volumes are made of, and between two attempts."""
_DEFAULT_MODE = 0o644

log = logging.getLogger(__name__)


class Volumes:
    """The volumes of one pod."""

    def __init__(self, client: Client, pod: Pod, node_ips: list[str], root: Path = ROOT) -> None:
        self._client = client
        self._pod = pod
        self._node_ips = node_ips
        self._directory = root / pod.metadata.uid
        self._made: dict[str, _Made] = {}

    async def mounts(self, container: Container, pod_ips: list[str]) -> list[Mount]:
        """What a container mounts, written. Raises `UsageError` for what there is not, or not yet; and `OSError`."""
        volumes = {volume.name: volume for volume in self._pod.spec.volumes}
        listed = []
        for mount in container.volumeMounts:
            volume = volumes.get(mount.name)
            if volume is None or volume.projected is None:
                continue  # of a kind that is not made here, as the API server has warned
            directory = await self._written(volume, volume.projected, pod_ips)
            listed.append(Mount(source=str(directory), target=mount.mountPath, read_only=True))
        return listed

    async def keep(self) -> None:
        """Renew the tokens before they expire, until cancelled."""
        while True:
            due = min((made.due for made in self._made.values()), default=time.time() + _RETRY)
            await asyncio.sleep(max(1.0, due - time.time()))
            for volume in self._pod.spec.volumes:
                made = self._made.get(volume.name)
                if made is not None and made.due <= time.time() and volume.projected is not None:
                    try:
                        await self._write(volume.name, volume.projected, made.pod_ips)
                    except (NetlabError, OSError) as error:
                        made.due = time.time() + _RETRY
                        log.warning("pod %s: volume %s cannot be renewed: %s", self._pod.key, volume.name, error)

    def remove(self) -> None:
        """Remove what is left of them."""
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _written(self, volume: Volume, source: ProjectedVolumeSource, pod_ips: list[str]) -> Path:
        # A namespace that has just been made gets its account and its ConfigMap in a moment.
        patience = time.monotonic() + _PATIENCE
        while volume.name not in self._made:
            try:
                await self._write(volume.name, source, pod_ips)
            except UsageError:
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(_POLL)
        return self._directory / volume.name

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
                if each.configMap is not None:
                    contents |= await self._config_map(each.configMap, mode)
                if each.downwardAPI is not None:
                    contents |= self._fields(each.downwardAPI, mode, pod_ips)
        except ApiError as error:
            raise UsageError(f"volume {name}: {error}") from None
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        for path, (content, file_mode) in contents.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            files.replace(directory / path, content, file_mode)
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

    async def _config_map(self, wanted: ConfigMapProjection, mode: int) -> dict[str, tuple[bytes, int]]:
        try:
            found: ConfigMap = await self._client.get(CONFIGMAPS, wanted.name, self._pod.metadata.namespace)
        except ApiError as error:
            if error.reason == "NotFound" and wanted.optional:
                return {}
            raise
        content = found.content()
        if not wanted.items:
            return {key: (value, mode) for key, value in content.items()}
        chosen = {}
        for item in wanted.items:
            if item.key in content:
                chosen[item.path] = (content[item.key], mode if item.mode is None else item.mode)
            elif not wanted.optional:
                raise UsageError(f"ConfigMap {wanted.name} has no key {item.key!r}")
        return chosen

    def _fields(self, wanted: DownwardAPIProjection, mode: int, pod_ips: list[str]) -> dict[str, tuple[bytes, int]]:
        found = {}
        for item in wanted.items:
            if item.fieldRef is not None:
                text = environment.field(self._pod, item.fieldRef.fieldPath, pod_ips, self._node_ips)
                found[item.path] = (text.encode(), mode if item.mode is None else item.mode)
        return found


class _Made:
    """When a volume is to be written again, and with which addresses of the pod."""

    def __init__(self, due: float, pod_ips: list[str]) -> None:
        self.due = due
        self.pod_ips = pod_ips


def remove_others(present: frozenset[str], root: Path = ROOT) -> None:
    """Remove the volumes of pods that are no longer here; `present` are the uids of those that are."""
    with contextlib.suppress(OSError):
        for directory in root.iterdir():
            if directory.name not in present:
                shutil.rmtree(directory, ignore_errors=True)
