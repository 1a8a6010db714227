"""Every pod has a service account, and unless it wants none, a token of it (plugin/pkg/admission/serviceaccount)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from netlab.api.core_types import MIRROR_POD
from netlab.api.resources import SERVICEACCOUNTS, Resource
from netlab.api.server.admission import pod_references
from netlab.api.server.admission.attributes import Attributes, Operation
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
_MODE = 0o644
_ENFORCED = "kubernetes.io/enforce-mountable-secrets"
_TRUE = ("1", "t", "T", "TRUE", "true", "True")  # strconv.ParseBool

_SERVICEACCOUNTS: Resource[Any] = SERVICEACCOUNTS


def admit(attributes: Attributes, store: Store) -> None:
    """Give a new pod its account, its account's secrets for images, and a volume with the account's token.

    Raises `ApiError` (403) if there is no such account. That of a namespace that has just been made may still be on
    its way: the pod's kubelet waits for it, where upstream's plugin would.

    Leaves a changed pod the mounts of its token: a merge patch with its containers, as `netlab apply` sends one,
    replaces the whole list, and its author has never seen the mounts.
    """
    if attributes.subresource:
        return
    if attributes.operation is Operation.UPDATE:
        assert attributes.old is not None
        _keep_mounts(attributes.obj, attributes.old)
    elif attributes.operation is Operation.CREATE and not is_mirror(attributes.obj):
        _give_account(attributes, store)


def validate(attributes: Attributes, _: Store) -> None:
    """Raise `ApiError` (403) for a mirror pod that would have a kubelet read what it has no right to."""
    if attributes.operation is not Operation.CREATE or attributes.subresource or not is_mirror(attributes.obj):
        return
    spec = attributes.obj["spec"]
    if spec.get("serviceAccountName"):
        raise attributes.forbidden("a mirror pod may not reference service accounts")
    if any(pod_references.secrets(spec)):
        raise attributes.forbidden("a mirror pod may not reference secrets")
    if pod_references.has_token_volume(spec):
        raise attributes.forbidden("a mirror pod may not use ServiceAccountToken volume projections")


def is_mirror(pod: JSONObject) -> bool:
    """Whether a pod stands for one that its kubelet has from elsewhere than the API."""
    return MIRROR_POD in (pod["metadata"].get("annotations") or {})


def _give_account(attributes: Attributes, store: Store) -> None:
    spec = attributes.obj["spec"]
    name = spec.get("serviceAccountName") or _DEFAULT
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    stored = store.get(_SERVICEACCOUNTS, attributes.namespace, name)
    if stored is None and name != _DEFAULT:
        place = f"{attributes.namespace}/{name}"
        why = f'error looking up service account {place}: serviceaccount "{name}" not found'
        raise attributes.forbidden(why)
    account = stored.decode() if stored is not None else {}
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken")
    if wanted is not False:
        _mount_token(spec)
    if not spec.get("imagePullSecrets") and (pulled := account.get("imagePullSecrets")):
        spec["imagePullSecrets"] = [{"name": each.get("name", "")} for each in pulled]
    if (account.get("metadata", {}).get("annotations") or {}).get(_ENFORCED) in _TRUE:
        _limit_secrets(attributes, account)


def _limit_secrets(attributes: Attributes, account: JSONObject) -> None:
    """Refuse secrets that the account does not list."""
    spec, name = attributes.obj["spec"], account["metadata"]["name"]
    mountable = {each.get("name", "") for each in account.get("secrets") or ()}
    for place, secret in _uses(spec):
        if secret not in mountable:
            raise attributes.forbidden(
                f'{place}secret.secretName="{secret}" is not allowed because service account {name} does not '
                "reference that secret"
            )
    pulled = {each.get("name", "") for each in account.get("imagePullSecrets") or ()}
    for number, each in enumerate(spec.get("imagePullSecrets") or ()):
        if each.get("name", "") not in pulled:
            raise attributes.forbidden(
                f'imagePullSecrets[{number}].name="{each.get("name", "")}" is not allowed because service account '
                f"{name} does not reference that imagePullSecret"
            )


def _uses(spec: JSONObject) -> Iterator[tuple[str, str]]:
    """How a pod uses secrets, in upstream's words, and their names."""
    for volume in spec.get("volumes") or ():
        if source := volume.get("secret"):
            yield "volume with ", source.get("secretName", "")
    for kind, word in (("initContainers", "init container"), ("containers", "container")):
        for container in spec.get(kind) or ():
            for variable in container.get("env") or ():
                if key := (variable.get("valueFrom") or {}).get("secretKeyRef"):
                    yield f"{word} {container['name']} with envVar {variable['name']} referencing ", key.get("name", "")
            for source in container.get("envFrom") or ():
                if reference := source.get("secretRef"):
                    yield f"{word} {container['name']} with envFrom referencing ", reference.get("name", "")


def _mount_token(spec: JSONObject) -> None:
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    lacking = [
        container
        for container in containers
        if not any(mount.get("mountPath") == MOUNT_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not lacking:
        return
    volume = f"{_VOLUME}{secrets.token_hex(3)[:5]}"
    source = {"defaultMode": _MODE, "sources": _sources()}
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": volume, "projected": source}]
    for container in lacking:
        _add_mount(container, volume)


def _add_mount(container: JSONObject, volume: str) -> None:
    mount = {"name": volume, "readOnly": True, "mountPath": MOUNT_PATH}
    container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def _keep_mounts(pod: JSONObject, old: JSONObject) -> None:
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
