"""What the API server does for pods' service accounts: the admission plugin ServiceAccount of upstream."""

from __future__ import annotations

import secrets
from typing import Any

from netlab.api.resources import PODS, SERVICEACCOUNTS, Resource
from netlab.api.server import refusals
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.store import Store

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"
"""The ConfigMap, in each namespace, with the certificate of the cluster's authority."""

_DEFAULT = "default"
_VOLUME = "kube-api-access-"
"""How the name of the volume begins."""
_EXPIRES = 3607
"""Seconds: serviceaccount.WarnOnlyBoundTokenExpirationPeriod, an hour that is told apart from one that a user wants."""

_PODS: Resource[Any] = PODS
_SERVICEACCOUNTS: Resource[Any] = SERVICEACCOUNTS


def admit(pod: JSONObject, store: Store) -> None:
    """Give a new pod its account, and unless it does not want one, a volume with the account's token.

    Raises `ApiError` (403) if there is no such account. That of a namespace that has just been made may still be on
    its way: the pod's kubelet waits for it, where upstream's plugin would.
    """
    spec, meta = pod["spec"], pod["metadata"]
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or _DEFAULT
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    stored = store.get(_SERVICEACCOUNTS, meta["namespace"], name)
    if stored is None and name != _DEFAULT:
        place = f"{meta['namespace']}/{name}"
        why = f'error looking up service account {place}: serviceaccount "{name}" not found'
        raise refusals.forbidden(_PODS, meta["name"], why)
    account = stored.decode() if stored is not None else {}
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken")
    if wanted is not False:
        _mount_token(spec)


def _mount_token(spec: JSONObject) -> None:
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    lacking = [
        container
        for container in containers
        if not any(mount.get("mountPath") == MOUNT_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not lacking:
        return
    volume = f"{_VOLUME}{secrets.token_hex(3)[:5]}"
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": volume, "projected": {"sources": _sources()}}]
    for container in lacking:
        _add_mount(container, volume)


def _add_mount(container: JSONObject, volume: str) -> None:
    mount = {"name": volume, "readOnly": True, "mountPath": MOUNT_PATH}
    container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def keep(pod: JSONObject, old: JSONObject) -> None:
    """Leave a changed pod the mounts of its token: a merge patch with its containers, as `netlab apply` sends one,
    replaces the whole list, and its author has never seen the mounts."""
    mounted = {container["name"] for container in _containers(old) if _token_mount(container)}
    for container in _containers(pod):
        if container.get("name") in mounted and not _token_mount(container):
            _add_mount(container, next(each["name"] for each in old["spec"]["volumes"] if _is_made_here(each)))


def _containers(pod: JSONObject) -> list[JSONObject]:
    spec = pod.get("spec", {})
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _is_made_here(named: JSONObject) -> bool:
    return str(named["name"]).startswith(_VOLUME)


def _token_mount(container: JSONObject) -> bool:
    mounts = container.get("volumeMounts") or ()
    return any(each["mountPath"] == MOUNT_PATH and _is_made_here(each) for each in mounts)


def _sources() -> list[JSONObject]:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return [
        {"serviceAccountToken": {"expirationSeconds": _EXPIRES, "path": "token"}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
