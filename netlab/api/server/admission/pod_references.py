"""Which other objects a pod's spec refers to: what its kubelet has to read (pkg/api/pod, VisitPodSecretNames)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api.server.objects.schema import JSONObject

CONTAINERS = ("initContainers", "containers", "ephemeralContainers")

_SECRET_IN_VOLUME = {
    "azureFile": "secretName",
    "secret": "secretName",
}
_REFERENCE_IN_VOLUME = {
    "cephfs": "secretRef",
    "cinder": "secretRef",
    "flexVolume": "secretRef",
    "iscsi": "secretRef",
    "rbd": "secretRef",
    "scaleIO": "secretRef",
    "storageos": "secretRef",
    "csi": "nodePublishSecretRef",
}


def containers(spec: Mapping[str, Any]) -> Iterator[JSONObject]:
    """All containers of a pod."""
    for kind in CONTAINERS:
        yield from spec.get(kind) or ()


def secrets(spec: JSONObject) -> Iterator[str]:
    """The names of the Secrets."""
    for each in spec.get("imagePullSecrets") or ():
        yield each.get("name", "")
    yield from _of_variables(spec, "secretRef", "secretKeyRef")
    for volume in spec.get("volumes") or ():
        for kind, field in _SECRET_IN_VOLUME.items():
            if source := volume.get(kind):
                yield source.get(field, "")
        for kind, field in _REFERENCE_IN_VOLUME.items():
            if reference := (volume.get(kind) or {}).get(field):
                yield reference.get("name", "")
        for source in _projected(volume):
            if part := source.get("secret"):
                yield part.get("name", "")


def config_maps(spec: JSONObject) -> Iterator[str]:
    """The names of the ConfigMaps."""
    yield from _of_variables(spec, "configMapRef", "configMapKeyRef")
    for volume in spec.get("volumes") or ():
        if source := volume.get("configMap"):
            yield source.get("name", "")
        for part in _projected(volume):
            if found := part.get("configMap"):
                yield found.get("name", "")


def claims(pod: str, spec: JSONObject) -> Iterator[str]:
    """The names of the PersistentVolumeClaims of a pod of that name: an ephemeral volume's is made of both names."""
    for volume in spec.get("volumes") or ():
        if source := volume.get("persistentVolumeClaim"):
            yield source.get("claimName", "")
        if volume.get("ephemeral") is not None:
            yield f"{pod}-{volume.get('name', '')}"


def has_token_volume(spec: JSONObject) -> bool:
    """Whether a volume holds a token of the pod's service account."""
    return any(
        source.get("serviceAccountToken") for volume in spec.get("volumes") or () for source in _projected(volume)
    )


def _projected(volume: JSONObject) -> Iterator[JSONObject]:
    yield from (volume.get("projected") or {}).get("sources") or ()


def _of_variables(spec: JSONObject, all_of: str, one_of: str) -> Iterator[str]:
    for container in containers(spec):
        for source in container.get("envFrom") or ():
            if reference := source.get(all_of):
                yield reference.get("name", "")
        for variable in container.get("env") or ():
            if key := (variable.get("valueFrom") or {}).get(one_of):
                yield key.get("name", "")
