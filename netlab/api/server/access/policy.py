"""The roles and bindings that every cluster has (rbac/bootstrappolicy of upstream), made at the start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from netlab.api.metrics_types import METRICS
from netlab.api.rbac_types import RBAC
from netlab.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES, Resource
from netlab.api.server.access import components
from netlab.api.server.access.rbac import READING
from netlab.api.server.access.rules import Rule, paths, rule
from netlab.api.server.identity import AUTHENTICATED, MASTERS, NODES, UNAUTHENTICATED
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry.generic import Registry

SYSTEM_NAMESPACE = "kube-system"

AUTHENTICATION_CONFIG = "extension-apiserver-authentication"
"""The ConfigMap there that tells servers of other API groups how to know their callers."""

AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
"""The label that makes a ClusterRole part of `admin`, `edit` or `view`."""

_AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_BOOTSTRAP = {"kubernetes.io/bootstrapping": "rbac-defaults"}

_CHANGES = ("create", "delete", "deletecollection", "patch", "update")
_DISCOVERY = ("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz")
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version", "/version/")

_BOOTSTRAPPERS = "system:bootstrappers:kubeadm:default-node-token"
_REQUESTS = "system:certificates.k8s.io:certificatesigningrequests"

_WORKLOADS = (
    ("apps", ("deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale")),
    ("apps", ("daemonsets", "statefulsets", "statefulsets/scale")),
    ("batch", ("cronjobs", "jobs")),
    ("autoscaling", ("horizontalpodautoscalers",)),
    ("networking.k8s.io", ("ingresses", "networkpolicies")),
    ("policy", ("poddisruptionbudgets",)),
)
_VIEW = (
    rule(
        READING,
        "",
        *("configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods"),
        *("replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services", "services/status"),
        *("bindings", "events", "limitranges", "namespaces/status", "pods/log", "pods/status"),
        *("replicationcontrollers/status", "resourcequotas", "resourcequotas/status", "namespaces"),
    ),
    rule(READING, "discovery.k8s.io", "endpointslices"),
    rule(READING, "apps", "controllerrevisions", "deployments/status", "replicasets/status"),
    *(rule(READING, group, *resources) for group, resources in _WORKLOADS),
)
_EDIT = (
    rule(READING, "", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"),
    rule("impersonate", "", "serviceaccounts"),
    rule(_CHANGES, "", "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"),
    rule("create", "", "pods/eviction"),
    rule(
        _CHANGES,
        "",
        *("configmaps", "events", "persistentvolumeclaims", "replicationcontrollers", "replicationcontrollers/scale"),
        *("secrets", "serviceaccounts", "services", "services/proxy"),
    ),
    rule("create", "", "serviceaccounts/token"),
    *(rule(_CHANGES, group, *resources) for group, resources in _WORKLOADS),
    rule((*_CHANGES, *READING), "coordination.k8s.io", "leases"),
)
_ADMIN = (
    rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    rule((*_CHANGES, *READING), RBAC, "rolebindings", "roles"),
)
_ROLES: dict[str, tuple[Rule, ...]] = {
    "cluster-admin": (
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ),
    "system:discovery": (paths(*_DISCOVERY, "/version", "/version/"),),
    "system:public-info-viewer": (paths(*_PUBLIC),),
    "system:basic-user": (
        rule("create", "authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
        rule("create", "authentication.k8s.io", "selfsubjectreviews"),
    ),
    "system:auth-delegator": (
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    ),
    "system:monitoring": (paths("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*"),),
    "system:service-account-issuer-discovery": (paths("/.well-known/openid-configuration", "/openid/v1/jwks"),),
    **{
        f"{_REQUESTS}:{subresource}": (
            rule("create", "certificates.k8s.io", f"certificatesigningrequests/{subresource}"),
        )
        for subresource in ("nodeclient", "selfnodeclient")
    },
    **components.ROLES,
}

_SYSTEM_ROLES: dict[str, tuple[Rule, ...]] = {
    "extension-apiserver-authentication-reader": (rule(READING, "", "configmaps", names=(AUTHENTICATION_CONFIG,)),),
}
"""Those in the namespace kube-system."""

_AGGREGATED: dict[str, tuple[tuple[Rule, ...], tuple[str, ...]]] = {
    # The part that netlab's own rules are, and the roles that it is added to.
    "view": (_VIEW, ("view",)),
    "edit": (_EDIT, ("edit",)),
    "admin": (_ADMIN, ("admin",)),
}
_PARTS: dict[str, tuple[tuple[Rule, ...], tuple[str, ...]]] = {
    # As metrics-server's manifest has it.
    "system:aggregated-metrics-reader": ((rule(READING, METRICS, "pods", "nodes"),), ("view", "edit", "admin")),
}
"""Other parts of aggregated roles."""
_WIDER = {"view": "edit", "edit": "admin"}
"""What each aggregated role is itself part of."""

_BINDINGS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "cluster-admin": ("cluster-admin", (("Group", MASTERS),)),
    "system:discovery": ("system:discovery", (("Group", AUTHENTICATED),)),
    "system:basic-user": ("system:basic-user", (("Group", AUTHENTICATED),)),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        (("Group", AUTHENTICATED), ("Group", UNAUTHENTICATED)),
    ),
    "system:monitoring": ("system:monitoring", (("Group", "system:monitoring"),)),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        (("Group", "system:serviceaccounts"),),
    ),
    # As kubeadm: nodes renew their own certificates, and those that join by a bootstrap token get a first one.
    "kubeadm:node-autoapprove-certificate-rotation": (f"{_REQUESTS}:selfnodeclient", (("Group", NODES),)),
    "kubeadm:node-autoapprove-bootstrap": (f"{_REQUESTS}:nodeclient", (("Group", _BOOTSTRAPPERS),)),
    **{role: (role, (("User", user),)) for role, user in components.USERS.items()},
}


def ensure(registry: Registry) -> None:
    """Make what there is not of the cluster's own roles and bindings, and give roles what they lack. Raises `ApiError`.

    A role whose annotation says that it is not to be updated stays as it is (reconciliation of upstream).
    """
    for resource, obj in _objects():
        namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        stored = registry.store.get(resource, namespace, name)
        if stored is None:
            registry.create(resource, namespace, obj)
            continue
        present = stored.decode()
        lacking = [each for each in obj.get("rules") or () if each not in (present.get("rules") or ())]
        if lacking and (present["metadata"].get("annotations") or {}).get(_AUTOUPDATE) == "true":
            present["rules"] = [*(present.get("rules") or ()), *lacking]
            registry.update(resource, namespace, name, present)


def _objects() -> Iterator[tuple[Resource[Any], JSONObject]]:
    roles: Resource[Any] = CLUSTERROLES
    bindings: Resource[Any] = CLUSTERROLEBINDINGS
    for name, rules in _ROLES.items():
        yield roles, {"metadata": _meta(name), "rules": list(rules)}
    for name, (rules, targets) in _AGGREGATED.items():
        yield roles, {"metadata": _meta(f"system:aggregate-to-{name}", _parts_of(targets)), "rules": list(rules)}
        labels = {f"{AGGREGATE}{_WIDER[name]}": "true"} if name in _WIDER else {}
        selector = {"clusterRoleSelectors": [{"matchLabels": {f"{AGGREGATE}{name}": "true"}}]}
        yield roles, {"metadata": _meta(name, labels), "aggregationRule": selector, "rules": []}
    for name, (rules, targets) in _PARTS.items():
        yield roles, {"metadata": _meta(name, _parts_of(targets)), "rules": list(rules)}
    for name, rules in _SYSTEM_ROLES.items():
        yield ROLES, {"metadata": _meta(name) | {"namespace": SYSTEM_NAMESPACE}, "rules": list(rules)}
    for name, (role, subjects) in _BINDINGS.items():
        yield bindings, {"metadata": _meta(name), **_bound(role, subjects)}
    within: Resource[Any] = ROLEBINDINGS
    for role, (user, namespace) in components.WITHIN.items():
        yield within, {"metadata": _meta(role) | {"namespace": namespace}, **_bound(role, (("User", user),))}


def _bound(role: str, subjects: Iterable[tuple[str, str]]) -> JSONObject:
    listed = [{"apiGroup": RBAC, "kind": kind, "name": subject} for kind, subject in subjects]
    return {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, "subjects": listed}


def _parts_of(roles: tuple[str, ...]) -> dict[str, str]:
    return {f"{AGGREGATE}{role}": "true" for role in roles}


def _meta(name: str, labels: dict[str, str] | None = None) -> JSONObject:
    return {"name": name, "labels": _BOOTSTRAP | (labels or {}), "annotations": {_AUTOUPDATE: "true"}}
