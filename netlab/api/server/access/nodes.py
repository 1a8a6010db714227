"""What a kubelet may do: what its own pods need (plugin/pkg/auth/authorizer/node of upstream).

Which objects a node's pods refer to is kept as pods are bound and go, and not looked for when a kubelet asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from netlab.api.resources import LEASES, NODE_LEASES, PODS, STORED, Resource
from netlab.api.server.access.rbac import READING, Action
from netlab.api.server.admission import pod_references
from netlab.api.server.admission.serviceaccount import is_mirror
from netlab.api.server.identity import User
from netlab.api.server.storage.store import Store
from netlab.api.server.storage.watch import Event, Stored

_PODS: Resource[Any] = PODS
_BY_PLURAL = {each.plural: each for each in STORED}

Reference = tuple[str, str, str]
"""The plural of a kind, a namespace and a name."""

_WRITING = ("update", "patch")

_VERBS: dict[str, dict[str, tuple[str, ...]]] = {
    "secrets": {"": READING},
    "configmaps": {"": READING},
    "persistentvolumeclaims": {"": ("get",), "status": _WRITING},
    "serviceaccounts": {"": ("get",), "token": ("create",)},
}
"""What may be done with objects that a pod of the node refers to, by their subresources."""

_LEFT_TO_ADMISSION = {
    ("pods", ""): ("create", "delete"),
    ("pods", "status"): _WRITING,
    ("pods", "eviction"): ("create",),
    ("nodes", ""): ("create", *_WRITING),
    ("nodes", "status"): _WRITING,
}
"""What the admission plugin NodeRestriction decides, which sees the objects."""


class NodeGraph:
    """The objects that the pods of each node refer to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._nodes: dict[Reference, Counter[str]] = {}
        """By an object, how many references each node's pods have to it."""
        self._of_pod: dict[tuple[str, str], tuple[str, list[Reference]]] = {}
        for stored in store.all(_PODS):
            self._bind(stored)
        store.hub.observe(PODS.plural, self._changed)

    def has(self, node: str, plural: str, namespace: str, name: str) -> bool:
        """Whether a pod of the node refers to an object, or is it."""
        return node in self._nodes.get((plural, namespace, name), ())

    def has_volume(self, node: str, name: str) -> bool:
        """Whether a claim that a pod of the node refers to has that PersistentVolume."""
        volume = self._store.get(_BY_PLURAL["persistentvolumes"], "", name)
        claim = volume.decode().get("spec", {}).get("claimRef") if volume is not None else None
        return claim is not None and self.has(
            node, "persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", "")
        )

    def has_attachment(self, node: str, name: str) -> bool:
        """Whether a VolumeAttachment is the node's."""
        attachment = self._store.get(_BY_PLURAL["volumeattachments"], "", name)
        return attachment is not None and attachment.decode().get("spec", {}).get("nodeName") == node

    def _changed(self, event: Event) -> None:
        # Of a pod's references only those of ephemeral containers come after it was bound.
        before, after = event.before, event.after
        if before is not None and after is not None and _is_same(before, after):
            return
        if before is not None:
            self._forget(before)
        if after is not None:
            self._bind(after)

    def _bind(self, stored: Stored) -> None:
        node = stored.fields.get("spec.nodeName", "")
        if node:
            references = list(_references(stored))
            self._of_pod[stored.namespace, stored.name] = node, references
            for each in references:
                self._nodes.setdefault(each, Counter())[node] += 1

    def _forget(self, stored: Stored) -> None:
        node, references = self._of_pod.pop((stored.namespace, stored.name), ("", []))
        for each in references:
            nodes = self._nodes[each]
            nodes[node] -= 1
            if not nodes[node]:
                del nodes[node]
            if not nodes:
                del self._nodes[each]


def _is_same(before: Stored, after: Stored) -> bool:
    return (
        before.uid == after.uid
        and before.fields.get("spec.nodeName") == after.fields.get("spec.nodeName")
        and b'"ephemeralContainers"' not in after.raw
    )


def _references(stored: Stored) -> Iterator[Reference]:
    yield "pods", stored.namespace, stored.name
    pod = stored.decode()
    if is_mirror(pod):
        return  # it is written by the kubelet, which would give itself what it names
    spec = pod["spec"]
    if account := spec.get("serviceAccountName"):
        yield "serviceaccounts", stored.namespace, account
    for plural, names in (
        ("secrets", pod_references.secrets(spec)),
        ("configmaps", pod_references.config_maps(spec)),
        ("persistentvolumeclaims", pod_references.claims(stored.name, spec)),
    ):
        for name in set(names):
            yield plural, stored.namespace, name


class NodeAuthorizer:
    """Decides about kubelets."""

    def __init__(self, store: Store) -> None:
        self._graph = NodeGraph(store)

    def decide(self, user: User, action: Action) -> tuple[bool, str] | None:
        """Whether a kubelet may do something, and why not; None if it is for the rules of `system:node` to say."""
        node = user.node
        if node is None or action.path:
            return None
        if not node:
            return False, f'unknown node for user "{user.name}"'
        if action.group == LEASES.group:
            return self._lease(node, action)
        if action.group == "storage.k8s.io":
            return self._storage(node, action)
        if action.group:
            return None
        return self._core(node, action)

    def _core(self, node: str, action: Action) -> tuple[bool, str] | None:
        if action.resource in ("pods", "nodes"):
            return self._pods_and_nodes(node, action)
        if action.resource == "persistentvolumes":
            allowed = action.verb == "get" and not action.subresource and self._graph.has_volume(node, action.name)
            return allowed, _NOT_RELATED.format(node)
        verbs = _VERBS.get(action.resource)
        if verbs is None:
            return None
        return self._related(node, action, verbs.get(action.subresource, ()))

    def _pods_and_nodes(self, node: str, action: Action) -> tuple[bool, str]:
        if action.verb in _LEFT_TO_ADMISSION.get((action.resource, action.subresource), ()):
            return True, ""
        if action.subresource or action.verb not in READING:
            return False, ""
        if action.resource == "nodes":
            asked = f"'{action.name}'" if action.name else "all nodes"
            return action.name == node, f"node '{node}' cannot read {asked}, only its own Node object"
        if action.verb != "get" and ("spec.nodeName", node) in action.fields:
            return True, ""
        if action.name:
            return self._graph.has(node, "pods", action.namespace, action.name), _NOT_RELATED.format(node)
        return False, "can only list/watch pods with spec.nodeName field selector"

    def _related(self, node: str, action: Action, verbs: tuple[str, ...]) -> tuple[bool, str]:
        if not verbs:
            return False, f"cannot {action.verb} subresource"
        if action.verb not in verbs:
            return False, f"can only {'/'.join(verbs)} resources of this type"
        if not action.name:
            return False, "No Object name found"
        allowed = self._graph.has(node, action.resource, action.namespace, action.name)
        return allowed, _NOT_RELATED.format(node)

    def _lease(self, node: str, action: Action) -> tuple[bool, str]:
        if action.resource != LEASES.plural or action.verb not in ("get", "create", *_WRITING, "delete"):
            return False, "can only get, create, update, patch, or delete a node lease"
        if action.namespace != NODE_LEASES:
            return False, f'can only access leases in the "{NODE_LEASES}" system namespace'
        # The name of a new one is not in the path: NodeRestriction looks at it.
        allowed = action.verb == "create" or action.name == node
        return allowed, "can only access node lease with the same name as the requesting node"

    def _storage(self, node: str, action: Action) -> tuple[bool, str] | None:
        if action.resource == "volumeattachments":
            allowed = action.verb == "get" and not action.subresource
            return allowed and self._graph.has_attachment(node, action.name), _NOT_RELATED.format(node)
        if action.resource == "csinodes":
            allowed = not action.subresource and action.verb in ("get", "create", *_WRITING, "delete")
            is_own = action.verb == "create" or action.name == node
            return allowed and is_own, "can only access CSINode with the same name as the requesting node"
        return None


_NOT_RELATED = "no relationship found between node '{}' and this object"
