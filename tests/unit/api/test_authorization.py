"""What a request asks for, and who may do what by the stored roles."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.errors import ApiError
from netlab.api.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    NAMESPACES,
    ROLEBINDINGS,
    ROLES,
    Resource,
)
from netlab.api.server.access import escalation, policy
from netlab.api.server.access.authorization import Authorizer, action_of, refused
from netlab.api.server.access.rbac import Action
from netlab.api.server.identity import ANONYMOUS, OWNER, User
from netlab.api.server.registry.generic import Registry


def scope(method: str, target: str) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {"method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode()}


@pytest.mark.parametrize(
    ("method", "target", "action"),
    [
        ("GET", "/api/v1/pods", Action("list", resource="pods")),
        ("GET", "/api/v1/namespaces/a/pods", Action("list", "a", resource="pods")),
        ("GET", "/api/v1/namespaces/a/pods?watch=true", Action("watch", "a", resource="pods")),
        ("GET", "/api/v1/namespaces/a/pods?watch=false", Action("list", "a", resource="pods")),
        (
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name=x",
            Action("list", resource="pods", name="x", fields=(("metadata.name", "x"),)),
        ),
        (
            "GET",
            "/api/v1/pods?fieldSelector=spec.nodeName%3D%3Dn,status.phase!%3DFailed&watch=1",
            Action("watch", resource="pods", fields=(("spec.nodeName", "n"),)),
        ),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name!%3Dx", Action("list", resource="pods")),
        ("GET", "/api/v1/namespaces/a/pods/x", Action("get", "a", resource="pods", name="x")),
        ("GET", "/api/v1/namespaces/a/pods/x/log", Action("get", "a", resource="pods", subresource="log", name="x")),
        ("POST", "/api/v1/namespaces/a/pods", Action("create", "a", resource="pods")),
        ("PUT", "/api/v1/namespaces/a/pods/x", Action("update", "a", resource="pods", name="x")),
        ("PATCH", "/api/v1/namespaces/a/pods/x", Action("patch", "a", resource="pods", name="x")),
        ("DELETE", "/api/v1/namespaces/a/pods/x", Action("delete", "a", resource="pods", name="x")),
        ("DELETE", "/api/v1/namespaces/a/pods", Action("deletecollection", "a", resource="pods")),
        ("GET", "/api/v1/namespaces", Action("list", resource="namespaces")),
        ("GET", "/api/v1/namespaces/a", Action("get", "a", resource="namespaces", name="a")),
        (
            "PUT",
            "/api/v1/namespaces/a/finalize",
            Action("update", "a", resource="namespaces", subresource="finalize", name="a"),
        ),
        ("GET", "/apis/apps/v1/deployments", Action("list", group="apps", resource="deployments")),
        ("GET", "/apis/made.up/v1/things/x", Action("get", group="made.up", resource="things", name="x")),
        ("GET", "/api/v1", Action("get", path="/api/v1")),
        ("GET", "/apis/apps/v1", Action("get", path="/apis/apps/v1")),
        ("GET", "/apis/apps/v1/", Action("get", path="/apis/apps/v1/")),
        ("GET", "/healthz", Action("get", path="/healthz")),
        ("POST", "/netlab/credentials", Action("post", path="/netlab/credentials")),
        ("GET", "/", Action("get", path="/")),
    ],
)
def test_a_request_asks_for(method: str, target: str, action: Action) -> None:
    assert action_of(scope(method, target)) == action


ALICE = User("alice", ("dev", "system:authenticated"))
ACCOUNT = User(
    "system:serviceaccount:shop:web", ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
)


def create(registry: Registry, resource: Resource[Any], name: str, namespace: str = "", **fields: Any) -> None:
    registry.create(resource, namespace, {"metadata": {"name": name}, **fields})


def reference(kind: str, name: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}


@pytest.fixture
def shop(registry: Registry) -> Registry:
    policy.ensure(registry)
    create(registry, NAMESPACES, "shop")
    pods = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    create(registry, ROLES, "reader", "shop", rules=pods)
    create(
        registry,
        ROLEBINDINGS,
        "readers",
        "shop",
        roleRef=reference("Role", "reader"),
        subjects=[{"kind": "Group", "name": "dev"}, {"kind": "ServiceAccount", "name": "web", "namespace": "shop"}],
    )
    create(registry, CLUSTERROLES, "node-reader", rules=[{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}])
    create(
        registry,
        CLUSTERROLEBINDINGS,
        "node-readers",
        roleRef=reference("ClusterRole", "node-reader"),
        subjects=[{"kind": "User", "name": "alice"}],
    )
    return registry


@pytest.mark.parametrize(
    ("user", "action", "reason"),
    [
        (OWNER, Action("delete", resource="nodes"), ""),
        (OWNER, Action("post", path="/anything"), ""),
        (
            ALICE,
            Action("get", "shop", resource="pods"),
            'RBAC: allowed by RoleBinding "readers/shop" of Role "reader" to Group "dev"',
        ),
        (
            ACCOUNT,
            Action("get", "shop", resource="pods"),
            'RBAC: allowed by RoleBinding "readers/shop" of Role "reader" to ServiceAccount "web/shop"',
        ),
        (
            ALICE,
            Action("get", resource="nodes"),
            'RBAC: allowed by ClusterRoleBinding "node-readers" of ClusterRole "node-reader" to User "alice"',
        ),
        (
            ANONYMOUS,
            Action("get", path="/livez"),
            'RBAC: allowed by ClusterRoleBinding "system:public-info-viewer" of ClusterRole '
            '"system:public-info-viewer" to Group "system:unauthenticated"',
        ),
        (
            ACCOUNT,
            Action("create", group="authentication.k8s.io", resource="selfsubjectreviews"),
            'RBAC: allowed by ClusterRoleBinding "system:basic-user" of ClusterRole "system:basic-user" to Group '
            '"system:authenticated"',
        ),
    ],
)
def test_allowed(shop: Registry, user: User, action: Action, reason: str) -> None:
    decision = Authorizer(shop).decide(user, action)
    assert (decision.allowed, decision.reason) == (True, reason)


@pytest.mark.parametrize(
    ("user", "action"),
    [
        (ALICE, Action("get", "default", resource="pods")),
        (ALICE, Action("get", resource="pods")),
        (ALICE, Action("list", "shop", resource="pods")),
        (ACCOUNT, Action("get", resource="nodes")),
        (User("web"), Action("get", "shop", resource="pods")),
        (User("dev"), Action("get", "shop", resource="pods")),
        (User("x", ("alice",)), Action("get", resource="nodes")),
        (ANONYMOUS, Action("get", path="/api")),
        (User("x", ("system:authenticated",)), Action("post", path="/netlab/credentials")),
        (User("x", ("system:authenticated",)), Action("get", path="/netlab/snapshot")),
    ],
)
def test_not_allowed(shop: Registry, user: User, action: Action) -> None:
    assert not Authorizer(shop).decide(user, action).allowed


def test_a_change_counts_at_once(shop: Registry) -> None:
    from netlab.api.server.registry.deletions import DeleteOptions

    authorizer = Authorizer(shop)
    action = Action("get", "shop", resource="pods")
    assert authorizer.decide(ALICE, action).allowed
    shop.delete(ROLES, "shop", "reader", DeleteOptions())  # type: ignore[arg-type]
    decision = authorizer.decide(ALICE, action)
    assert not decision.allowed
    assert decision.reason == 'RBAC: role.rbac.authorization.k8s.io "reader" not found'


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            Action("list", "default", resource="pods"),
            'pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "default"',
        ),
        (
            Action("get", resource="nodes", name="n"),
            'nodes "n" is forbidden: User "alice" cannot get resource "nodes" in API group "" at the cluster scope',
        ),
        (
            Action("patch", "a", "apps", "deployments", "scale", "d"),
            'deployments.apps "d" is forbidden: User "alice" cannot patch resource "deployments/scale" in API group '
            '"apps" in the namespace "a"',
        ),
        (Action("get", path="/metrics"), 'forbidden: User "alice" cannot get path "/metrics"'),
    ],
)
def test_a_refusal_is_upstreams_sentence(action: Action, message: str) -> None:
    error = refused(ALICE, action)
    assert (error.code, error.reason, str(error)) == (403, "Forbidden", message)


PODS = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
SECRETS = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}


@pytest.mark.parametrize(
    ("resource", "namespace", "fields", "refusal"),
    [
        (ROLES, "shop", {"rules": [PODS]}, ""),
        (ROLES, "shop", {"rules": [PODS, SECRETS]}, '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'),
        (ROLES, "default", {"rules": [PODS]}, '{APIGroups:[""], Resources:["pods"], Verbs:["get"]}'),
        (CLUSTERROLES, "", {"rules": [PODS]}, '{APIGroups:[""], Resources:["pods"], Verbs:["get"]}'),
        (
            CLUSTERROLES,
            "",
            {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}},
            'Resources:["*"]',
        ),
        (ROLEBINDINGS, "shop", {"roleRef": reference("Role", "reader")}, ""),
        (ROLEBINDINGS, "shop", {"roleRef": reference("ClusterRole", "node-reader")}, ""),
        (ROLEBINDINGS, "shop", {"roleRef": reference("ClusterRole", "cluster-admin")}, 'Resources:["*"]'),
        (
            ROLEBINDINGS,
            "shop",
            {"roleRef": reference("Role", "none")},
            'roles.rbac.authorization.k8s.io "none" not found',
        ),
        (CLUSTERROLEBINDINGS, "", {"roleRef": reference("ClusterRole", "cluster-admin")}, 'Resources:["*"]'),
    ],
)
def test_nobody_gives_more_than_they_have(
    shop: Registry, resource: Resource[Any], namespace: str, fields: dict[str, Any], refusal: str
) -> None:
    authorizer = Authorizer(shop)
    draft = shop.draft_of_new(resource, namespace, {"metadata": {"name": "new"}, **fields})
    escalation.check(authorizer, OWNER, draft)
    if not refusal:
        escalation.check(authorizer, ALICE, draft)
        return
    with pytest.raises(ApiError) as refused_with:
        escalation.check(authorizer, ALICE, draft)
    assert refusal in str(refused_with.value)


def test_who_may_bind_or_escalate_gives_what_they_do_not_have(shop: Registry) -> None:
    allowed = [
        {"verbs": ["escalate"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"]},
        {
            "verbs": ["bind"],
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["clusterroles"],
            "resourceNames": ["view"],
        },
    ]
    create(shop, CLUSTERROLES, "trusted", rules=allowed)
    subjects = [{"kind": "User", "name": "alice"}]
    create(shop, CLUSTERROLEBINDINGS, "trusted", roleRef=reference("ClusterRole", "trusted"), subjects=subjects)
    authorizer = Authorizer(shop)
    role = shop.draft_of_new(ROLES, "shop", {"metadata": {"name": "new"}, "rules": [SECRETS]})  # type: ignore[arg-type]
    escalation.check(authorizer, ALICE, role)
    for name, allowed_to_bind in (("view", True), ("cluster-admin", False)):
        sent = {"metadata": {"name": "new"}, "roleRef": reference("ClusterRole", name)}
        binding = shop.draft_of_new(ROLEBINDINGS, "shop", sent)  # type: ignore[arg-type]
        if allowed_to_bind:
            escalation.check(authorizer, ALICE, binding)
        else:
            with pytest.raises(ApiError):
                escalation.check(authorizer, ALICE, binding)
