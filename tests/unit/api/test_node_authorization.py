"""What a kubelet may do: reads by what its pods refer to, writes by what is its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netlab.api.errors import ApiError
from netlab.api.resources import LEASES, NODES, PODS, SERVICEACCOUNTS, STORED
from netlab.api.server.access import policy
from netlab.api.server.access.authorization import Authorizer
from netlab.api.server.access.rbac import Action
from netlab.api.server.admission import chain, noderestriction
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.admission.chain import Chain
from netlab.api.server.identity import AUTHENTICATED, User, kubelet
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, pod, update

ANY_PODS: Any = PODS
ANY_NODES: Any = NODES

_KIND = {each.plural: each for each in STORED}

_SPEC: dict[str, Any] = {
    "nodeName": "n1",
    "serviceAccountName": "web",
    "imagePullSecrets": [{"name": "pull"}],
    "containers": [
        {
            "name": "c",
            "image": "pause",
            "envFrom": [{"configMapRef": {"name": "all"}}],
            "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}],
        }
    ],
    "volumes": [
        {"name": "s", "secret": {"secretName": "volume"}},
        {"name": "p", "projected": {"sources": [{"configMap": {"name": "part"}}, {"secret": {"name": "half"}}]}},
        {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}},
        {"name": "e", "ephemeral": {}},
    ],
}


@pytest.fixture
def cluster(registry: Registry) -> tuple[Registry, Authorizer]:
    policy.ensure(registry)
    authorizer = Authorizer(registry)
    create(registry, PODS, pod("web", **copy.deepcopy(_SPEC)))
    create(registry, PODS, pod("other", nodeName="n2"))
    create(registry, PODS, pod("free", imagePullSecrets=[{"name": "free"}]))
    claim = {"namespace": "default", "name": "claim"}
    create(registry, _KIND["persistentvolumes"], {"metadata": {"name": "disk"}, "spec": {"claimRef": claim}})
    attachment = {"attacher": "a", "nodeName": "n1", "source": {}}
    create(registry, _KIND["volumeattachments"], {"metadata": {"name": "attached"}, "spec": attachment})
    return registry, authorizer


def _of(resource: str, name: str = "", verb: str = "get", **rest: Any) -> Action:
    return Action(verb, "default", resource=resource, name=name, **rest)


_STORAGE = "storage.k8s.io"
_LEASES = "kube-node-lease"


def _lease(verb: str, name: str = "", namespace: str = _LEASES) -> Action:
    return Action(verb, namespace, "coordination.k8s.io", "leases", name=name)


ACTIONS: list[tuple[Action, str]] = [
    *((_of("secrets", name), "n1") for name in ("pull", "key", "volume", "half")),
    (_of("secrets", "half", "watch"), "n1"),
    (_of("secrets", "half", "update"), ""),
    (_of("secrets", "free"), ""),
    (_of("secrets", "unheard-of"), ""),
    (_of("secrets", verb="list"), ""),
    (Action("get", "kube-system", resource="secrets", name="pull"), ""),
    *((_of("configmaps", name), "n1") for name in ("all", "part")),
    (_of("persistentvolumeclaims", "claim"), "n1"),
    (_of("persistentvolumeclaims", "web-e"), "n1"),
    (_of("persistentvolumeclaims", "claim", "patch", subresource="status"), "n1"),
    (_of("persistentvolumeclaims", "claim", "patch"), ""),
    (Action("get", resource="persistentvolumes", name="disk"), "n1"),
    (Action("get", group=_STORAGE, resource="volumeattachments", name="attached"), "n1"),
    (Action("list", group=_STORAGE, resource="volumeattachments"), ""),
    (_of("serviceaccounts", "web", "create", subresource="token"), "n1"),
    (_of("serviceaccounts", "default", "create", subresource="token"), ""),
    (_of("pods", "web"), "n1"),
    (_of("pods", "other"), "n2"),
    (Action("watch", resource="pods", fields=(("spec.nodeName", "n1"),)), "n1"),
    (Action("list", resource="pods"), ""),
    (_of("pods", "web", "patch"), ""),
    # Of these NodeRestriction sees the objects.
    (_of("pods", "web", "patch", subresource="status"), "n1 n2"),
    (_of("pods", "web", "delete"), "n1 n2"),
    (_of("pods", "web", "create", subresource="eviction"), "n1 n2"),
    (_of("pods", "web", "create", subresource="exec"), ""),
    (Action("get", resource="nodes", name="n1"), "n1"),
    (Action("list", resource="nodes"), ""),
    (Action("patch", resource="nodes", subresource="status", name="n1"), "n1 n2"),
    (Action("delete", resource="nodes", name="n1"), ""),
    (_lease("patch", "n1"), "n1"),
    (_lease("create"), "n1 n2"),
    (_lease("get", "n1", "default"), ""),
    (_lease("list"), ""),
    (Action("get", group=_STORAGE, resource="csinodes", name="n1"), "n1"),
    (_of("services", verb="list"), "n1 n2"),
    (_of("events", verb="create"), "n1 n2"),
    (_of("events", verb="list"), ""),
    (_of("deployments", verb="get", group="apps"), ""),
    (_of("configmaps", "x", "create"), ""),
]


@pytest.mark.parametrize(("action", "nodes"), ACTIONS)
def test_a_kubelet_reads_what_its_pods_need(cluster: tuple[Registry, Authorizer], action: Action, nodes: str) -> None:
    allowed = [node for node in ("n1", "n2") if cluster[1].decide(kubelet(node), action).allowed]
    assert allowed == nodes.split()


@pytest.mark.parametrize(
    ("user", "action", "why"),
    [
        (kubelet("n2"), _of("secrets", "key"), "no relationship found between node 'n2' and this object"),
        (kubelet("n2"), Action("list", resource="nodes"), "node 'n2' cannot read all nodes, only its own Node object"),
        (
            kubelet("n2"),
            Action("list", resource="pods"),
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (User("root", ("system:nodes", AUTHENTICATED)), _of("secrets", "key"), 'unknown node for user "root"'),
        (User("system:node:n1", (AUTHENTICATED,)), _of("secrets", "key"), ""),
    ],
)
def test_why_not(cluster: tuple[Registry, Authorizer], user: User, action: Action, why: str) -> None:
    decision = cluster[1].decide(user, action)
    assert (decision.allowed, decision.reason) == (False, why)


def test_what_a_pod_needs_is_needed_while_it_is_there(cluster: tuple[Registry, Authorizer]) -> None:
    registry, authorizer = cluster

    def may(node: str, name: str) -> bool:
        return authorizer.decide(kubelet(node), _of("secrets", name)).allowed

    assert not may("n2", "free")
    registry.bind("default", "free", "n2")
    assert may("n2", "free")
    create(registry, PODS, pod("second", nodeName="n1", imagePullSecrets=[{"name": "pull"}]))
    registry.delete(ANY_PODS, "default", "web", DeleteOptions(gracePeriodSeconds=0))
    assert may("n1", "pull")
    assert not may("n1", "key")
    registry.delete(ANY_PODS, "default", "second", DeleteOptions(gracePeriodSeconds=0))
    assert not may("n1", "pull")
    # A server that starts again finds the same.
    assert Authorizer(registry).decide(kubelet("n2"), _of("secrets", "free")).allowed


def test_a_mirror_pod_gives_its_kubelet_nothing(cluster: tuple[Registry, Authorizer]) -> None:
    registry, authorizer = cluster
    mirror = pod("mirror", nodeName="n2", imagePullSecrets=[{"name": "wanted"}])
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    create(registry, PODS, mirror)
    assert authorizer.decide(kubelet("n2"), _of("pods", "mirror")).allowed
    assert not authorizer.decide(kubelet("n2"), _of("secrets", "wanted")).allowed


# --- writes ----------------------------------------------------------------------------------------------------------


def _said(registry: Registry, user: User, operation: Operation, resource: Any, name: str, **rest: Any) -> str:
    """What NodeRestriction refuses with; "" if it does not."""
    namespace = "default" if resource.namespaced else ""
    try:
        noderestriction.validate(Attributes(operation, resource, namespace, name, user, **rest), registry.store)
    except ApiError as error:
        return str(error).partition("is forbidden: ")[2] or str(error)
    return ""


@pytest.fixture
def nodes(registry: Registry) -> Registry:
    for name in ("n1", "n2"):
        create(registry, NODES, {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
    create(registry, SERVICEACCOUNTS, {"metadata": {"name": "web"}})
    token = {"serviceAccountToken": {"path": "t"}}, {"serviceAccountToken": {"path": "v", "audience": "vault"}}
    volumes = [{"name": "t", "projected": {"sources": list(token)}}]
    create(registry, PODS, pod("web", nodeName="n1", serviceAccountName="web", volumes=volumes))
    return registry


def _mirror(nodes: Registry, **changes: Any) -> dict[str, Any]:
    uid = nodes.get(ANY_NODES, "", "n1").uid
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": True}
    meta = {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
    made: dict[str, Any] = {"metadata": meta, "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}}
    for path, value in changes.items():
        part, _, field = path.partition("_")
        made["metadata" if part == "meta" else "spec"][field] = value
    return made


_REFERRING = [{"name": "v", "secret": {"secretName": "s"}}]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        (
            {"meta_annotations": {}},
            'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods',
        ),
        ({"spec_nodeName": "n2"}, 'node "n1" can only create pods with spec.nodeName set to itself'),
        ({"meta_ownerReferences": []}, 'node "n1" can only create pods with an owner reference set to itself'),
        ({"spec_volumes": _REFERRING}, 'node "n1" can not create pods that reference secrets'),
        ({"spec_serviceAccountName": "web"}, 'node "n1" can not create pods that reference serviceaccounts'),
    ],
)
def test_a_kubelet_makes_mirrors_of_its_own_pods(nodes: Registry, changes: dict[str, Any], why: str) -> None:
    said = _said(nodes, kubelet("n1"), Operation.CREATE, PODS, "m", obj=_mirror(nodes, **changes))
    assert said == why


@pytest.mark.parametrize(
    ("operation", "subresource", "why"),
    [
        (Operation.UPDATE, "status", 'node "n2" can only update pod status for pods with spec.nodeName set to itself'),
        (Operation.DELETE, "", 'node "n2" can only delete pods with spec.nodeName set to itself'),
        (Operation.CREATE, "eviction", "node n2 can only evict pods with spec.nodeName set to itself"),
    ],
)
def test_a_kubelet_writes_about_its_own_pods(nodes: Registry, operation: Operation, subresource: str, why: str) -> None:
    present = nodes.get(ANY_PODS, "default", "web").decode()
    rest = {"subresource": subresource, "old": present, "obj": present}
    assert _said(nodes, kubelet("n2"), operation, PODS, "web", **rest) == why
    assert _said(nodes, kubelet("n1"), operation, PODS, "web", **rest) == ""


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"mine": "1", "example.org/a": "1", "node.kubernetes.io/a": "1", "topology.kubernetes.io/zone": "a"}, ""),
        ({"node-restriction.kubernetes.io/safe": "1"}, "node-restriction.kubernetes.io/safe"),
        ({"a.node-restriction.kubernetes.io/b": "1"}, "a.node-restriction.kubernetes.io/b"),
        ({"node-role.kubernetes.io/control-plane": ""}, "node-role.kubernetes.io/control-plane"),
    ],
)
def test_a_kubelet_chooses_few_of_its_labels(nodes: Registry, labels: dict[str, str], why: str) -> None:
    old = nodes.get(ANY_NODES, "", "n1").decode()
    new = old | {"metadata": old["metadata"] | {"labels": old["metadata"]["labels"] | labels}}
    said = _said(nodes, kubelet("n1"), Operation.UPDATE, NODES, "n1", old=old, obj=new)
    assert said == (f"is not allowed to modify labels: {why}" if why else "")
    fresh = {"metadata": {"name": "n3", "labels": labels}}
    said = _said(nodes, kubelet("n3"), Operation.CREATE, NODES, "n3", obj=fresh)
    assert said == (f'node "n3" is not allowed to set the following labels: {why}' if why else "")


def test_a_kubelet_leaves_its_taints_and_other_nodes_alone(nodes: Registry) -> None:
    old = nodes.get(ANY_NODES, "", "n1").decode()
    tainted = old | {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}
    said = _said(nodes, kubelet("n1"), Operation.UPDATE, NODES, "n1", old=old, obj=tainted)
    assert said == 'node "n1" is not allowed to modify taints'
    said = _said(nodes, kubelet("n2"), Operation.UPDATE, NODES, "n1", old=old, obj=old, subresource="status")
    assert said == 'node "n2" is not allowed to modify node "n1"'


def _token_request(nodes: Registry, **changes: Any) -> dict[str, Any]:
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": nodes.get(ANY_PODS, "default", "web").uid}
    audiences = changes.pop("audiences", [])
    return {"spec": {"boundObjectRef": bound | changes, "audiences": audiences}}


_OTHER_AUDIENCE = (
    'audience "bank" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience'
)


@pytest.mark.parametrize(
    ("node", "changes", "why"),
    [
        ("n1", {}, ""),
        ("n1", {"audiences": ["vault"]}, ""),
        ("n2", {}, "node requested token bound to a pod scheduled on a different node"),
        ("n1", {"kind": "Secret"}, "node requested token not bound to a pod"),
        ("n1", {"uid": ""}, "node requested token with a pod binding without a uid"),
        ("n1", {"audiences": ["bank"]}, _OTHER_AUDIENCE),
        ("n1", {"audiences": ["vault", ""]}, "node may only request 0 or 1 audiences"),
    ],
)
def test_a_kubelet_asks_for_tokens_of_its_own_pods(
    nodes: Registry, node: str, changes: dict[str, Any], why: str
) -> None:
    rest = {"obj": _token_request(nodes, **changes), "subresource": "token"}
    assert _said(nodes, kubelet(node), Operation.CREATE, SERVICEACCOUNTS, "web", **rest) == why


def test_a_kubelet_has_one_lease(nodes: Registry) -> None:
    said = _said(nodes, kubelet("n1"), Operation.CREATE, LEASES, "n2", obj={})
    assert said == "can only access node lease with the same name as the requesting node"
    assert _said(nodes, kubelet("n1"), Operation.CREATE, LEASES, "n1", obj={}) == ""


def test_the_registry_asks_for_whoever_writes(nodes: Registry) -> None:
    nodes.admission = Chain(chain.ALL, nodes.store)
    node = nodes.get(ANY_NODES, "", "n1")
    changed = node.decode()
    changed["metadata"]["labels"]["node-restriction.kubernetes.io/safe"] = "yes"
    draft = nodes.draft_of_changed(ANY_NODES, node, changed, user=kubelet("n1"))
    with pytest.raises(ApiError, match="is not allowed to modify labels"):
        nodes.commit(draft)
    update(nodes, NODES, node.decode())
    with pytest.raises(ApiError, match="can only delete pods"):
        nodes.delete(ANY_PODS, "default", "web", DeleteOptions(), kubelet("n2"))
