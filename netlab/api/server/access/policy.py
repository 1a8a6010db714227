"""The roles and bindings that every cluster has (rbac/bootstrappolicy of upstream), made at the start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api.rbac_types import RBAC
from netlab.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, Resource
from netlab.api.server.access.rbac import READING
from netlab.api.server.identity import AUTHENTICATED, MASTERS, UNAUTHENTICATED
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry.generic import Registry

AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
"""The label that makes a ClusterRole part of `admin`, `edit` or `view`."""

_AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_BOOTSTRAP = {"kubernetes.io/bootstrapping": "rbac-defaults"}

_CHANGES = ("create", "delete", "deletecollection", "patch", "update")
_DISCOVERY = ("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz")
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version", "/version/")

_Rule = JSONObject


def _rule(verbs: tuple[str, ...] | str, group: str, *resources: str, names: tuple[str, ...] = ()) -> _Rule:
    listed = [verbs] if isinstance(verbs, str) else list(verbs)
    rule: _Rule = {"verbs": listed, "apiGroups": [group], "resources": list(resources)}
    return rule | ({"resourceNames": list(names)} if names else {})


def _paths(*urls: str) -> _Rule:
    return {"verbs": ["get"], "nonResourceURLs": list(urls)}


_EVENTS = (
    _rule(("create", "patch", "update"), "", "events"),
    _rule(("create", "patch", "update"), "events.k8s.io", "events"),
)

_WORKLOADS = (
    ("apps", ("deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale")),
    ("apps", ("daemonsets", "statefulsets", "statefulsets/scale")),
    ("batch", ("cronjobs", "jobs")),
    ("autoscaling", ("horizontalpodautoscalers",)),
    ("networking.k8s.io", ("ingresses", "networkpolicies")),
    ("policy", ("poddisruptionbudgets",)),
)
_VIEW = (
    _rule(
        READING,
        "",
        *("configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods"),
        *("replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services", "services/status"),
        *("bindings", "events", "limitranges", "namespaces/status", "pods/log", "pods/status"),
        *("replicationcontrollers/status", "resourcequotas", "resourcequotas/status", "namespaces"),
    ),
    _rule(READING, "discovery.k8s.io", "endpointslices"),
    _rule(READING, "apps", "controllerrevisions", "deployments/status", "replicasets/status"),
    *(_rule(READING, group, *resources) for group, resources in _WORKLOADS),
)
_EDIT = (
    _rule(READING, "", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"),
    _rule("impersonate", "", "serviceaccounts"),
    _rule(_CHANGES, "", "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"),
    _rule("create", "", "pods/eviction"),
    _rule(
        _CHANGES,
        "",
        *("configmaps", "events", "persistentvolumeclaims", "replicationcontrollers", "replicationcontrollers/scale"),
        *("secrets", "serviceaccounts", "services", "services/proxy"),
    ),
    _rule("create", "", "serviceaccounts/token"),
    *(_rule(_CHANGES, group, *resources) for group, resources in _WORKLOADS),
    _rule((*_CHANGES, *READING), "coordination.k8s.io", "leases"),
)
_ADMIN = (
    _rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    _rule((*_CHANGES, *READING), RBAC, "rolebindings", "roles"),
)
_NODE = (
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "localsubjectaccessreviews", "subjectaccessreviews"),
    _rule(READING, "", "services"),
    _rule(("create", *READING), "", "nodes"),
    _rule(("patch", "update"), "", "nodes/status", "nodes"),
    *_EVENTS,
    _rule(READING, "", "pods"),
    _rule(("create", "delete"), "", "pods"),
    _rule(("patch", "update"), "", "pods/status"),
    _rule("create", "", "pods/eviction", "serviceaccounts/token"),
    _rule(READING, "", "configmaps", "secrets"),
    _rule(("create", "delete", "get", "patch", "update"), "coordination.k8s.io", "leases"),
)
_PROXIER = (
    _rule(("list", "watch"), "", "endpoints", "services"),
    _rule(READING, "", "nodes"),
    *_EVENTS,
    _rule(("list", "watch"), "discovery.k8s.io", "endpointslices"),
    _rule(("list", "watch"), "networking.k8s.io", "servicecidrs"),
)
_SCHEDULER = (
    *_EVENTS,
    _rule("create", "coordination.k8s.io", "leases"),
    _rule(READING, "", "nodes", "namespaces"),
    _rule(("delete", *READING), "", "pods"),
    _rule("create", "", "bindings", "pods/binding"),
    _rule(("patch", "update"), "", "pods/status"),
    _rule(READING, "", "replicationcontrollers", "services"),
    _rule(READING, "apps", "replicasets", "statefulsets"),
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews"),
)

_ROLES: dict[str, tuple[_Rule, ...]] = {
    "cluster-admin": (
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ),
    "system:discovery": (_paths(*_DISCOVERY, "/version", "/version/"),),
    "system:public-info-viewer": (_paths(*_PUBLIC),),
    "system:basic-user": (
        _rule("create", "authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
        _rule("create", "authentication.k8s.io", "selfsubjectreviews"),
    ),
    "system:auth-delegator": (
        _rule("create", "authentication.k8s.io", "tokenreviews"),
        _rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    ),
    "system:monitoring": (_paths("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*"),),
    "system:node": _NODE,
    "system:node-proxier": _PROXIER,
    "system:kube-scheduler": _SCHEDULER,
}

_AGGREGATED: dict[str, tuple[tuple[_Rule, ...], tuple[str, ...]]] = {
    # The part that netlab's own rules are, and the roles that it is added to.
    "view": (_VIEW, ("view",)),
    "edit": (_EDIT, ("edit",)),
    "admin": (_ADMIN, ("admin",)),
}
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
    "system:node-proxier": ("system:node-proxier", (("User", "system:kube-proxy"),)),
    "system:kube-scheduler": ("system:kube-scheduler", (("User", "system:kube-scheduler"),)),
}


def ensure(registry: Registry) -> None:
    """Make what there is not of the cluster's own roles and bindings. Raises `ApiError`."""
    for resource, obj in _objects():
        if registry.store.get(resource, "", obj["metadata"]["name"]) is None:
            registry.create(resource, "", obj)


def _objects() -> Iterator[tuple[Resource[Any], JSONObject]]:
    roles: Resource[Any] = CLUSTERROLES
    bindings: Resource[Any] = CLUSTERROLEBINDINGS
    for name, rules in _ROLES.items():
        yield roles, {"metadata": _meta(name), "rules": list(rules)}
    for name, (rules, targets) in _AGGREGATED.items():
        part_labels = {f"{AGGREGATE}{target}": "true" for target in targets}
        yield roles, {"metadata": _meta(f"system:aggregate-to-{name}", part_labels), "rules": list(rules)}
        labels = {f"{AGGREGATE}{_WIDER[name]}": "true"} if name in _WIDER else {}
        selector = {"clusterRoleSelectors": [{"matchLabels": {f"{AGGREGATE}{name}": "true"}}]}
        yield roles, {"metadata": _meta(name, labels), "aggregationRule": selector, "rules": []}
    for name, (role, subjects) in _BINDINGS.items():
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
        listed = [{"apiGroup": RBAC, "kind": kind, "name": subject} for kind, subject in subjects]
        yield bindings, {"metadata": _meta(name), "roleRef": reference, "subjects": listed}


def _meta(name: str, labels: dict[str, str] | None = None) -> JSONObject:
    return {"name": name, "labels": _BOOTSTRAP | (labels or {}), "annotations": {_AUTOUPDATE: "true"}}
