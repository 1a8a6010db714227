"""A kubelet writes about its own node and the pods there, and nothing else (plugin/pkg/admission/noderestriction)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netlab.api.core_types import MIRROR_POD
from netlab.api.resources import NODES, PODS, Resource
from netlab.api.server import refusals
from netlab.api.server.admission import pod_references
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.admission.serviceaccount import is_mirror
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.store import Store
from netlab.api.server.storage.watch import Stored

_PODS: Resource[Any] = PODS
_NODES: Resource[Any] = NODES

_OWN_LABELS = (
    *("kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os"),
    *("beta.kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/instance-type"),
    *("topology.kubernetes.io/zone", "topology.kubernetes.io/region", "node.kubernetes.io/instance-type"),
    *("failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"),
)
"""The labels of Kubernetes' own that a kubelet may set (k8s.io/kubelet/pkg/apis, IsKubeletLabel)."""
_OWN_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_RESTRICTED = "node-restriction.kubernetes.io"


def validate(attributes: Attributes, store: Store) -> None:
    """Raise `ApiError` (403) if a kubelet writes what is not its own."""
    node = attributes.user.node
    if node is None:
        return
    if not node:
        raise attributes.forbidden(f'could not determine node from user "{attributes.user.name}"')
    check = _CHECKS.get((attributes.resource.group, attributes.resource.plural))
    if check is not None:
        check(attributes, node, store)


def _check_pod(attributes: Attributes, node: str, store: Store) -> None:
    match attributes.subresource, attributes.operation:
        case "", Operation.CREATE:
            _check_mirror(attributes, node, store)
        case "", Operation.DELETE:
            if _node_of(attributes.old) != node:
                raise attributes.forbidden(f'node "{node}" can only delete pods with spec.nodeName set to itself')
        case "", _:
            why = f'unexpected operation "UPDATE", node "{node}" can only create and delete mirror pods'
            raise attributes.forbidden(why)
        case "status", _:
            if _node_of(attributes.old) != node:
                why = "can only update pod status for pods with spec.nodeName set to itself"
                raise attributes.forbidden(f'node "{node}" {why}')
            if _labels(attributes.obj) != _labels(attributes.old or {}):
                raise attributes.forbidden(f'node "{node}" cannot update labels through pod status')
        case "eviction", _:
            if _node_of(_present(_PODS, attributes.namespace, attributes.name, store).decode()) != node:
                raise attributes.forbidden(f"node {node} can only evict pods with spec.nodeName set to itself")
        case other, _:
            why = f"unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed"
            raise attributes.forbidden(why)


def _node_of(pod: JSONObject | None) -> str:
    return str((pod or {}).get("spec", {}).get("nodeName") or "")


def _present(resource: Resource[Any], namespace: str, name: str, store: Store) -> Stored:
    stored = store.get(resource, namespace, name)
    if stored is None:
        raise refusals.not_found(resource, name)
    return stored


def _check_mirror(attributes: Attributes, node: str, store: Store) -> None:
    pod = attributes.obj
    if not is_mirror(pod):
        raise attributes.forbidden(
            f'pod does not have "{MIRROR_POD}" annotation, node "{node}" can only create mirror pods'
        )
    if _node_of(pod) != node:
        raise attributes.forbidden(f'node "{node}" can only create pods with spec.nodeName set to itself')
    owners = pod["metadata"].get("ownerReferences") or []
    if len(owners) > 1:
        why = f'node "{node}" can only create pods with a single owner reference set to itself'
        raise attributes.forbidden(why)
    if not owners or (owners[0]["apiVersion"], owners[0]["kind"], owners[0]["name"]) != ("v1", "Node", node):
        raise attributes.forbidden(f'node "{node}" can only create pods with an owner reference set to itself')
    (owner,) = owners
    if not owner.get("controller"):
        why = f'node "{node}" can only create pods with a controller owner reference set to itself'
        raise attributes.forbidden(why)
    if owner.get("blockOwnerDeletion"):
        raise attributes.forbidden(f'node "{node}" must not set blockOwnerDeletion on an owner reference')
    present = _present(_NODES, "", node, store)
    if owner["uid"] != present.uid:
        raise attributes.forbidden(f"node {node} UID mismatch: expected {owner['uid']} got {present.uid}")
    if referred := _what_it_refers_to(attributes.name, pod["spec"]):
        raise attributes.forbidden(f'node "{node}" can not create pods that reference {referred}')


def _what_it_refers_to(name: str, spec: Mapping[str, Any]) -> str:
    """The kinds of objects that a pod would have its kubelet read."""
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    found = {
        "secrets": any(pod_references.secrets(dict(spec))),
        "configmaps": any(pod_references.config_maps(dict(spec))),
        "persistentvolumeclaims": any(pod_references.claims(name, dict(spec))),
        "serviceaccounts": pod_references.has_token_volume(dict(spec)),
        "resourceclaims": bool(spec.get("resourceClaims")),
    }
    return next((plural for plural, is_there in found.items() if is_there), "")


def _check_node(attributes: Attributes, node: str, _: Store) -> None:
    if attributes.name != node:
        raise attributes.forbidden(f'node "{node}" is not allowed to modify node "{attributes.name}"')
    if attributes.operation is Operation.DELETE:
        return
    old, new = attributes.old or {}, attributes.obj
    changed = _differing(_labels(new), _labels(old))
    forbidden = sorted(label for label in changed if not _may_set(label))
    if attributes.operation is Operation.CREATE:
        if forbidden:
            listed = ", ".join(forbidden)
            raise attributes.forbidden(f'node "{node}" is not allowed to set the following labels: {listed}')
        return
    if (new.get("spec", {}).get("taints") or []) != (old.get("spec", {}).get("taints") or []):
        raise attributes.forbidden(f'node "{node}" is not allowed to modify taints')
    if (new["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
        raise attributes.forbidden(f'node "{node}" is not allowed to modify ownerReferences')
    if forbidden:
        raise attributes.forbidden(f"is not allowed to modify labels: {', '.join(forbidden)}")


def _labels(obj: Mapping[str, Any]) -> dict[str, str]:
    return obj.get("metadata", {}).get("labels") or {}


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> Iterable[str]:
    return {key for key, _ in one.items() ^ other.items()}


def _may_set(label: str) -> bool:
    prefix, slash, _ = label.partition("/")
    if not slash:
        return True
    if prefix == _RESTRICTED or prefix.endswith(f".{_RESTRICTED}"):
        return False
    is_kubernetes = prefix in ("kubernetes.io", "k8s.io") or prefix.endswith((".kubernetes.io", ".k8s.io"))
    is_own = any(prefix == each or prefix.endswith(f".{each}") for each in _OWN_PREFIXES)
    return not is_kubernetes or label in _OWN_LABELS or is_own


def _check_claim(attributes: Attributes, node: str, _: Store) -> None:
    if attributes.subresource != "status":
        raise attributes.forbidden("may only update PVC status")
    kept = ("phase", "accessModes", "currentVolumeAttributesClassName", "modifyVolumeStatus")
    new, old = (obj.get("status") or {} for obj in (attributes.obj, attributes.old or {}))
    if any(new.get(field) != old.get(field) for field in kept):
        why = f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
        raise attributes.forbidden(why)


def _check_account(attributes: Attributes, node: str, store: Store) -> None:
    if attributes.operation is not Operation.CREATE or attributes.subresource != "token":
        return
    spec = attributes.obj.get("spec") or {}
    bound = spec.get("boundObjectRef") or {}
    if (bound.get("apiVersion"), bound.get("kind")) != ("v1", "Pod") or not bound.get("name"):
        raise attributes.forbidden("node requested token not bound to a pod")
    if not bound.get("uid"):
        raise attributes.forbidden("node requested token with a pod binding without a uid")
    stored = _present(_PODS, attributes.namespace, bound["name"], store)
    if stored.uid != bound["uid"]:
        raise attributes.forbidden(
            f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
    pod = stored.decode()
    if _node_of(pod) != node:
        raise attributes.forbidden("node requested token bound to a pod scheduled on a different node")
    audiences = spec.get("audiences") or [""]
    if len(audiences) > 1:
        raise attributes.forbidden("node may only request 0 or 1 audiences")
    if audiences[0] not in _audiences(pod):
        user = attributes.user.name
        raise attributes.forbidden(
            f'audience "{audiences[0]}" not found in pod spec volume, {user} is not authorized to request tokens for '
            "this audience"
        )


def _audiences(pod: JSONObject) -> set[str]:
    sources = (
        source
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    )
    return {source["serviceAccountToken"].get("audience", "") for source in sources if "serviceAccountToken" in source}


def _check_lease(attributes: Attributes, node: str, _: Store) -> None:
    if attributes.operation is Operation.CREATE and attributes.name != node:
        raise attributes.forbidden("can only access node lease with the same name as the requesting node")


def _check_csi_node(attributes: Attributes, node: str, _: Store) -> None:
    if attributes.operation is Operation.CREATE and attributes.name != node:
        raise attributes.forbidden("can only access CSINode with the same name as the requesting node")


_CHECKS = {
    ("", "pods"): _check_pod,
    ("", "nodes"): _check_node,
    ("", "persistentvolumeclaims"): _check_claim,
    ("", "serviceaccounts"): _check_account,
    ("coordination.k8s.io", "leases"): _check_lease,
    ("storage.k8s.io", "csinodes"): _check_csi_node,
}
