"""What is in volumes that hold files: keys of ConfigMaps and Secrets, the pod's fields, tokens of its account."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api.client import Client
from netlab.api.core_types import (
    ConfigMapProjection,
    DownwardAPIProjection,
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
from netlab.errors import UsageError
from netlab.node import environment, resources
from netlab.node.atomicfiles import File
from netlab.node.root_certificates import ROOT_CA, RootCertificates

_RENEWED_AFTER = 0.8
"""Of a token's life (kubelet's token manager)."""
_REFRESHED_AFTER = 60.0
"""Seconds after which ConfigMaps and Secrets are read again (the kubelet's --sync-frequency)."""
_DEFAULT_MODE = 0o644
_PRIVATE_MODE = 0o600


class Projections:
    """The contents of one pod's volumes."""

    def __init__(
        self,
        client: Client,
        certificates: RootCertificates | None = None,
        allocatable: Mapping[str, Quantity] | None = None,
    ) -> None:
        """`allocatable` is what the node has for pods."""
        self._client = client
        self._certificates = certificates or RootCertificates(client)
        self._allocatable = allocatable or {}

    async def contents(self, pod: Pod, source: ProjectedVolumeSource) -> tuple[dict[str, File], float]:
        """A volume's files, and when they are to be read again. Raises `UsageError` for what is not there."""
        found: dict[str, File] = {}
        mode = _DEFAULT_MODE if source.defaultMode is None else source.defaultMode
        due = float("inf")
        try:
            for each in source.sources:
                if each.serviceAccountToken is not None:
                    token, renew = await self._token(pod, each.serviceAccountToken)
                    found[each.serviceAccountToken.path] = _private(pod, token, mode)
                    due = min(due, renew)
                for resource, wanted in ((CONFIGMAPS, each.configMap), (SECRETS, each.secret)):
                    if wanted is not None:
                        found |= await self._keys(pod, resource, wanted, mode)
                        if wanted.name != ROOT_CA:
                            due = min(due, time.time() + _REFRESHED_AFTER)
                if each.downwardAPI is not None:
                    found |= self._fields(pod, each.downwardAPI, mode)
        except ApiError as error:
            raise UsageError(str(error)) from None
        return found, due

    async def _token(self, pod: Pod, wanted: ServiceAccountTokenProjection) -> tuple[str, float]:
        """A token of the pod's account, and when to renew it."""
        meta = pod.metadata
        began = time.time()
        answer = await self._client.request_token(
            pod.spec.serviceAccountName or "default",
            meta.namespace,
            audiences=[wanted.audience] if wanted.audience else [],
            seconds=wanted.expirationSeconds,
            pod=(meta.name, meta.uid),
        )
        expires = datetime.datetime.fromisoformat(answer.expirationTimestamp or "").timestamp()
        return answer.token, began + (expires - began) * _RENEWED_AFTER

    async def _keys(
        self, pod: Pod, resource: Resource[Any], wanted: ConfigMapProjection | SecretProjection, mode: int
    ) -> dict[str, File]:
        """The keys of a ConfigMap or a Secret, as files."""
        try:
            content: dict[str, bytes] = (await self._source(pod, resource, wanted.name)).content()
        except ApiError as error:
            if error.reason != "NotFound":
                raise
            if not wanted.optional:
                raise UsageError(f'{resource.kind.lower()} "{wanted.name}" not found') from None
            content = {}
        if not wanted.items:
            return {key: File(value, mode) for key, value in content.items()}
        chosen = {}
        for item in wanted.items:
            if item.key in content:
                chosen[item.path] = File(content[item.key], mode if item.mode is None else item.mode)
            elif not wanted.optional:
                of_map = "configmap references non-existent config"
                what = of_map if resource is CONFIGMAPS else "references non-existent secret"
                raise UsageError(f"{what} key: {item.key}")
        return chosen

    async def _source(self, pod: Pod, resource: Resource[Any], name: str) -> Any:
        """A ConfigMap or a Secret."""
        namespace = pod.metadata.namespace
        if resource is CONFIGMAPS and name == ROOT_CA:
            return await self._certificates.of(namespace)
        return await self._client.get(resource, name, namespace)

    def _fields(self, pod: Pod, wanted: DownwardAPIProjection, mode: int) -> dict[str, File]:
        found = {}
        for item in wanted.items:
            if item.fieldRef is not None:
                text = _field(pod, item.fieldRef.fieldPath)
            elif item.resourceFieldRef is not None:
                text = resources.field(pod, item.resourceFieldRef, "", self._allocatable)
            else:
                continue
            found[item.path] = File(text.encode(), mode if item.mode is None else item.mode)
        return found


def _field(pod: Pod, path: str) -> str:
    """A field of a pod's metadata: there are no others in volumes. Raises `UsageError`."""
    maps = {"metadata.labels": pod.metadata.labels, "metadata.annotations": pod.metadata.annotations}
    if path in maps:
        # As fieldpath.FormatMap writes it; a variable cannot have all of a map.
        return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(maps[path].items()))
    if not path.startswith("metadata."):
        raise UsageError(f"fieldPath {path!r} is not supported in a volume: use metadata.name, metadata.labels, …")
    return environment.field(pod, path, [], [])


def _private(pod: Pod, token: str, mode: int) -> File:
    """A token, for the one user of a pod's containers, or for its group, alone (pkg/volume/projected)."""
    context = pod.spec.securityContext
    of_pod = None if context is None else context.runAsUser
    users = {
        of_pod
        if each.securityContext is None or each.securityContext.runAsUser is None
        else each.securityContext.runAsUser
        for each in (*pod.spec.initContainers, *pod.spec.containers)
    }
    user = users.pop() if len(users) == 1 else None
    is_private = user is not None or (context is not None and context.fsGroup is not None)
    return File(token.encode(), _PRIVATE_MODE if is_private else mode, user)


def sources(pod: Pod) -> Iterator[tuple[str, ProjectedVolumeSource]]:
    """The volumes of a pod that have files, by name, each as a projected one."""
    for volume in pod.spec.volumes:
        if (source := projected(volume)) is not None:
            yield volume.name, source


def projected(volume: Volume) -> ProjectedVolumeSource | None:
    """A volume that holds files, as a projected one; None for another."""
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
    return next(sources(pod), None) is not None
