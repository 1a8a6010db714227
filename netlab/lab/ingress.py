"""The objects of a lab's ingress: what serves Ingresses, as `netlab up --ingress` asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api.blocking import BlockingClient
from netlab.api.errors import ApiError
from netlab.api.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    DEPLOYMENTS,
    INGRESSCLASSES,
    SERVICEACCOUNTS,
    SERVICES,
    Resource,
)
from netlab.ingress.rules import CLASS, CONTROLLER
from netlab.lab.spec import LabSpec

NAMESPACE = "kube-system"
NAME = "ingress"
IMAGE = "netlab-ingress"
_ROLE = "system:netlab-ingress"
_LABELS = {"app.kubernetes.io/name": NAME}
_READY = 8181
_READING = ["list", "watch"]


def ensure(client: BlockingClient, spec: LabSpec) -> None:
    """Make what there is not of the objects; what is there, and may have been changed, stays. Raises `ApiError`."""
    for resource, obj in objects(spec):
        try:
            client.request("POST", resource.path(obj["metadata"].get("namespace")), obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise


def objects(spec: LabSpec) -> Iterator[tuple[Resource[Any], dict[str, Any]]]:
    """All objects, each after those that it needs."""
    yield SERVICEACCOUNTS, {"metadata": _META}
    yield CLUSTERROLES, {"metadata": {"name": _ROLE}, "rules": _RULES}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _ROLE}
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    yield CLUSTERROLEBINDINGS, {"metadata": {"name": _ROLE}, "roleRef": role, "subjects": [account]}
    yield INGRESSCLASSES, {"metadata": {"name": CLASS}, "spec": {"controller": CONTROLLER}}
    yield SERVICES, _service(spec)
    yield DEPLOYMENTS, {"metadata": _META, "spec": _DEPLOYMENT}


_META = {"name": NAME, "namespace": NAMESPACE, "labels": _LABELS}

_RULES = [
    # Certificates are in Secrets of any namespace. It asks for those of their type alone, which no rule can say.
    {"apiGroups": [""], "resources": ["services", "secrets"], "verbs": _READING},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READING},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "ingressclasses"], "verbs": _READING},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
]


def _service(spec: LabSpec) -> dict[str, Any]:
    ports = [{"name": name, "port": port, "protocol": "TCP"} for name, port in (("http", 80), ("https", 443))]
    policy = "SingleStack" if len(spec.families) == 1 else "RequireDualStack"
    return {
        "metadata": _META,
        "spec": {
            "type": "LoadBalancer",
            # The node of the pod announces the address, and the proxy sees the client's own.
            "externalTrafficPolicy": "Local",
            "selector": _LABELS,
            "ports": ports,
            "ipFamilies": spec.families,
            "ipFamilyPolicy": policy,
        },
    }


_CONTAINER = {
    "name": NAME,
    "image": IMAGE,
    "args": [f"{NAMESPACE}/{NAME}"],
    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
    "ports": [
        {"containerPort": 80, "name": "http", "protocol": "TCP"},
        {"containerPort": 443, "name": "https", "protocol": "TCP"},
    ],
    "volumeMounts": [{"name": "files", "mountPath": "/run/ingress"}],
    "readinessProbe": {"httpGet": {"path": "/ready", "port": _READY}, "periodSeconds": 1},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
}

_DEPLOYMENT = {
    "replicas": 1,
    # A new pod is ready before the old one goes, so that somebody serves at each moment.
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
    "selector": {"matchLabels": _LABELS},
    "template": {
        "metadata": {"labels": _LABELS},
        "spec": {
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "priorityClassName": "system-cluster-critical",
            "serviceAccountName": NAME,
            "containers": [_CONTAINER],
            "volumes": [{"name": "files", "emptyDir": {"medium": "Memory"}}],
        },
    },
}
