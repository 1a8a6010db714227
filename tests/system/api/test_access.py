"""Who may do what over TLS: users, service accounts, impersonation, and the questions about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from netlab.api.blocking import BlockingClient
from netlab.api.server.access.certificates import Signed
from tests.system.api.secured import SecureServer, serving_securely

RBAC = "/apis/rbac.authorization.k8s.io/v1"
AUTHENTICATION, AUTHORIZATION = "/apis/authentication.k8s.io/v1", "/apis/authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def server() -> Iterator[SecureServer]:
    with serving_securely() as running:
        owner = BlockingClient(running.socket)
        owner.request("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
        for name in ("web", "other"):
            owner.request("POST", "/api/v1/namespaces/shop/serviceaccounts", {"metadata": {"name": name}})
        pod = {
            "metadata": {"name": "p"},
            "spec": {"serviceAccountName": "web", "containers": [{"name": "c", "image": "x"}]},
        }
        owner.request("POST", "/api/v1/namespaces/shop/pods", pod)
        subjects = (("Group", "viewers", "reader"), ("User", "helper", "impersonator"), ("User", "patcher", "patcher"))
        for kind, name, role in subjects:
            rules = {
                "reader": [{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}],
                "impersonator": [
                    {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["alice"]}
                ],
                "patcher": [{"verbs": ["patch"], "apiGroups": [""], "resources": ["pods"]}],
            }[role]
            owner.request("POST", f"{RBAC}/clusterroles", {"metadata": {"name": role}, "rules": rules})
            binding = {
                "metadata": {"name": role},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
            }
            owner.request("POST", f"{RBAC}/clusterrolebindings", binding)
        yield running


@pytest.fixture(scope="module")
def alice(server: SecureServer) -> Signed:
    return server.authority.issue_client("alice", ["viewers"])


@pytest.fixture(scope="module")
def helper(server: SecureServer) -> Signed:
    return server.authority.issue_client("helper", [])


def test_what_a_role_allows(server: SecureServer, alice: Signed) -> None:
    status, answer = server.ask("/api/v1/namespaces/shop/pods", signed=alice)
    assert (status, [item["metadata"]["name"] for item in answer["items"]]) == (200, ["p"])
    assert server.ask("/api/v1/namespaces/shop/pods/p", signed=alice)[0] == 200
    assert server.ask("/apis", signed=alice)[0] == 200
    assert server.ask("/version", signed=alice)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        (
            "DELETE",
            "/api/v1/namespaces/shop/pods/p",
            'pods "p" is forbidden: User "alice" cannot delete resource "pods" in API group "" in the namespace "shop"',
        ),
        (
            "GET",
            "/api/v1/nodes",
            'nodes is forbidden: User "alice" cannot list resource "nodes" in API group "" at the cluster scope',
        ),
        (
            "GET",
            "/apis/no.such/v1/things",
            'things.no.such is forbidden: User "alice" cannot list resource "things" in API group "no.such" at the '
            "cluster scope",
        ),
        ("GET", "/netlab/snapshot", 'forbidden: User "alice" cannot get path "/netlab/snapshot"'),
        ("POST", "/netlab/progress", 'forbidden: User "alice" cannot post path "/netlab/progress"'),
        (
            "POST",
            "/api/v1/namespaces/shop/serviceaccounts/web/token",
            'serviceaccounts "web" is forbidden: User "alice" cannot create resource "serviceaccounts/token" in API '
            'group "" in the namespace "shop"',
        ),
    ],
)
def test_what_no_role_allows(server: SecureServer, alice: Signed, method: str, path: str, message: str) -> None:
    status, answer = server.ask(path, method, signed=alice)
    assert (status, answer["reason"], answer["message"]) == (403, "Forbidden", message)


def test_who_may_patch_may_apply_to_what_is_there(server: SecureServer) -> None:
    patcher = server.authority.issue_client("patcher", [])

    def apply(name: str) -> tuple[int, Any]:
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": "1"}}}
        path = f"/api/v1/namespaces/shop/pods/{name}?fieldManager=m"
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return server.ask(path, "PATCH", signed=patcher, body=body, headers=headers)

    assert apply("p")[0] == 200
    code, refused = apply("absent")
    assert (code, refused["reason"]) == (403, "Forbidden")
    assert 'User "patcher" cannot create resource "pods"' in refused["message"]


def test_no_form_of_a_path_goes_round_the_question(server: SecureServer, alice: Signed) -> None:
    for path in (
        "/api/v1/secrets/",
        "//api/v1/nodes",
        "/api//v1/nodes",
        "/api/v1//nodes",
        "/api/v1/./nodes",
        "/api/v1/pods/../nodes",
        "/api/v1/namespaces//nodes",
        "/api/v1/n%6fdes",
        "/api/v1/nodes?watch=1",
        "/api/v1/nodes?fieldSelector=metadata.name%3Dx",
        "/API/v1/nodes",
    ):
        status, answer = server.ask(path, signed=alice)
        assert status in (403, 404), (path, status, answer)


def account_token(server: SecureServer, account: str, **spec: Any) -> str:
    owner = BlockingClient(server.socket)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = owner.request("POST", f"/api/v1/namespaces/shop/serviceaccounts/{account}/token", body)
    token: str = answer["status"]["token"]
    return token


def test_a_service_account_is_known_by_its_token(server: SecureServer) -> None:
    token = account_token(server, "web")
    status, answer = server.ask(f"{AUTHENTICATION}/selfsubjectreviews", "POST", token=f"Bearer {token}", body={})
    assert (status, answer["status"]["userInfo"]["username"]) == (201, "system:serviceaccount:shop:web")
    status, answer = server.ask("/api/v1/namespaces/shop/pods", token=f"Bearer {token}")
    assert (status, answer["message"]) == (
        403,
        'pods is forbidden: User "system:serviceaccount:shop:web" cannot list resource "pods" in API group "" in the '
        'namespace "shop"',
    )


def test_a_token_for_another_audience_is_not_for_the_api(server: SecureServer) -> None:
    token = account_token(server, "web", audiences=["vault"])
    assert server.ask("/version", token=f"Bearer {token}")[0] == 401
    review = {"spec": {"token": token, "audiences": ["vault"]}}
    answer = BlockingClient(server.socket).request("POST", f"{AUTHENTICATION}/tokenreviews", review)
    assert answer["status"]["authenticated"] is True
    assert answer["status"]["audiences"] == ["vault"]
    answer = BlockingClient(server.socket).request("POST", f"{AUTHENTICATION}/tokenreviews", {"spec": {"token": token}})
    assert "authenticated" not in answer["status"]
    assert "audiences" in answer["status"]["error"]


def test_a_token_ends_with_its_pod(server: SecureServer) -> None:
    owner = BlockingClient(server.socket)
    pod = {
        "metadata": {"name": "q"},
        "spec": {"serviceAccountName": "web", "containers": [{"name": "c", "image": "x"}]},
    }
    owner.request("POST", "/api/v1/namespaces/shop/pods", pod)
    token = account_token(server, "web", boundObjectRef={"apiVersion": "v1", "kind": "Pod", "name": "q"})
    assert server.ask("/version", token=f"Bearer {token}")[0] == 200
    owner.request("DELETE", "/api/v1/namespaces/shop/pods/q")
    assert server.ask("/version", token=f"Bearer {token}")[0] == 401


@pytest.mark.parametrize(
    ("account", "spec", "code"),
    [
        ("none", {}, 404),
        ("web", {"expirationSeconds": 599}, 422),
        ("web", {"expirationSeconds": 1 << 33}, 422),
        ("web", {"expirationSeconds": "x"}, 400),
        ("web", {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "none"}}, 404),
        ("web", {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "x"}}, 409),
        ("other", {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}, 400),
        ("web", {"boundObjectRef": {"apiVersion": "v1", "kind": "Event", "name": "p"}}, 400),
    ],
)
def test_a_token_that_cannot_be_had(server: SecureServer, account: str, spec: dict[str, Any], code: int) -> None:
    from netlab.api.errors import ApiError

    with pytest.raises(ApiError) as refused:
        account_token(server, account, **spec)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("attributes", "allowed"),
    [
        ({"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "shop"}}, True),
        ({"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": "shop"}}, False),
        ({"nonResourceAttributes": {"verb": "get", "path": "/apis"}}, True),
        ({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}, False),
    ],
)
def test_reviews_tell_the_truth(server: SecureServer, alice: Signed, attributes: dict[str, Any], allowed: bool) -> None:
    status, own = server.ask(
        f"{AUTHORIZATION}/selfsubjectaccessreviews", "POST", signed=alice, body={"spec": attributes}
    )
    assert (status, own["status"]["allowed"]) == (201, allowed)
    about = {"spec": attributes | {"user": "alice", "groups": ["viewers", "system:authenticated"]}}
    answer = BlockingClient(server.socket).request("POST", f"{AUTHORIZATION}/subjectaccessreviews", about)
    assert answer["status"]["allowed"] is allowed
    assert server.ask(f"{AUTHORIZATION}/subjectaccessreviews", "POST", signed=alice, body=about)[0] == 403


def test_all_that_one_may_do(server: SecureServer, alice: Signed) -> None:
    body = {"spec": {"namespace": "shop"}}
    _, answer = server.ask(f"{AUTHORIZATION}/selfsubjectrulesreviews", "POST", signed=alice, body=body)
    found = {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}
    assert found in answer["status"]["resourceRules"]
    assert answer["status"]["incomplete"] is False


@pytest.mark.parametrize(
    ("headers", "code", "name"),
    [
        ({"Impersonate-User": "alice"}, 201, "alice"),
        ({"Impersonate-User": "bob"}, 403, 'users "bob" is forbidden'),
        ({"Impersonate-User": "alice", "Impersonate-Group": "system:masters"}, 403, 'groups "system:masters" is'),
        ({"Impersonate-User": "alice", "Impersonate-Uid": "1"}, 403, "uids.authentication.k8s.io"),
        ({"Impersonate-User": "alice", "Impersonate-Extra-scopes": "x"}, 403, "userextras/scopes"),
        ({"Impersonate-User": "system:serviceaccount:shop:web"}, 403, 'serviceaccounts "web" is forbidden'),
        ({"Impersonate-Group": "viewers"}, 400, "without impersonating a user"),
    ],
)
def test_impersonation(server: SecureServer, helper: Signed, headers: dict[str, str], code: int, name: str) -> None:
    status, answer = server.ask(f"{AUTHENTICATION}/selfsubjectreviews", "POST", signed=helper, body={}, headers=headers)
    assert status == code
    assert name in (answer["status"]["userInfo"]["username"] if code == 201 else answer["message"])


def test_one_who_is_impersonated_has_no_more_than_their_own(server: SecureServer, helper: Signed) -> None:
    """Its groups are those that were asked for, not the helper's nor those of a certificate of alice's."""
    path = "/api/v1/namespaces/shop/pods"
    assert server.ask(path, signed=helper, headers={"Impersonate-User": "alice"})[0] == 403


def test_roles_are_limited_to_their_authors_own_rules(server: SecureServer, alice: Signed) -> None:
    owner = BlockingClient(server.socket)
    group = "rbac.authorization.k8s.io"
    managing = {"verbs": ["create", "update"], "apiGroups": [group], "resources": ["roles", "rolebindings"]}
    manage = {"metadata": {"name": "manager"}, "rules": [managing]}
    owner.request("POST", f"{RBAC}/namespaces/shop/roles", manage)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "manager"}
    subjects = [{"kind": "User", "name": "alice"}]
    binding = {"metadata": {"name": "manager"}, "roleRef": reference, "subjects": subjects}
    owner.request("POST", f"{RBAC}/namespaces/shop/rolebindings", binding)
    place = f"{RBAC}/namespaces/shop/roles"
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    assert server.ask(place, "POST", signed=alice, body={"metadata": {"name": "a"}, "rules": rules})[0] == 201
    rules[0]["resources"].append("secrets")
    status, answer = server.ask(place, "POST", signed=alice, body={"metadata": {"name": "b"}, "rules": rules})
    assert status == 403
    assert answer["message"] == (
        'roles.rbac.authorization.k8s.io "b" is forbidden: user "alice" (groups=["viewers" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
    )
    admin = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    greedy = {"metadata": {"name": "greedy"}, "roleRef": admin, "subjects": subjects}
    assert server.ask(f"{RBAC}/namespaces/shop/rolebindings", "POST", signed=alice, body=greedy)[0] == 403
