"""The objects of the cluster's DNS, as CoreDNS's own manifest has them (kubernetes, cluster/addons/dns/coredns).

Names, labels, ports and paths are those of CoreDNS, so that its image can take the place of the built-in one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from netlab.api.blocking import BlockingClient
from netlab.api.errors import ApiError
from netlab.api.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    DEPLOYMENTS,
    PODS,
    SERVICEACCOUNTS,
    SERVICES,
    Resource,
)
from netlab.lab.spec import CLUSTER_DOMAIN, LabSpec

NAMESPACE = "kube-system"
IMAGE = "cluster-dns"
"""The built-in image. CoreDNS's own has another name, and so is not mistaken for it."""

COREFILE = f"""\
.:53 {{
    errors
    nsid
    health {{
        lameduck 5s
    }}
    ready
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus :9153
    # A lab knows no other servers. To ask one: forward . ADDRESS
    cache 30
    loop
    reload 2s
    loadbalance
}}
"""

_PATIENCE = 5.0
"""Seconds for the scheduler, which takes milliseconds."""

_SELECTOR = {"k8s-app": "kube-dns"}
_LABELS = _SELECTOR | {"kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
_READING = ["list", "watch"]


def ensure(client: BlockingClient, spec: LabSpec) -> None:
    """Make what there is not of the objects; what is there, and may have been changed, stays. Raises `ApiError`.

    A new pod has its node when this returns, so that what comes next finds the lab the same every time.
    """
    made = False
    for resource, obj in objects(spec):
        try:
            client.request("POST", resource.path(obj["metadata"].get("namespace")), obj)
            made = resource is DEPLOYMENTS
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
    if made:
        params = {"labelSelector": "k8s-app=kube-dns", "fieldSelector": "spec.nodeName!="}
        with contextlib.suppress(TimeoutError):
            next(client.watch(PODS.path(NAMESPACE), params=params, idle_timeout=_PATIENCE), None)


def objects(spec: LabSpec) -> Iterator[tuple[Resource[Any], dict[str, Any]]]:
    """All objects, each after those that it needs."""
    yield SERVICEACCOUNTS, {"metadata": _meta("coredns")}
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": _READING},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READING},
    ]
    yield CLUSTERROLES, {"metadata": {"name": "system:coredns"}, "rules": rules}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    account = {"kind": "ServiceAccount", "name": "coredns", "namespace": NAMESPACE}
    yield CLUSTERROLEBINDINGS, {"metadata": {"name": "system:coredns"}, "roleRef": role, "subjects": [account]}
    yield CONFIGMAPS, {"metadata": _meta("coredns"), "data": {"Corefile": COREFILE}}
    yield SERVICES, _service(spec)
    yield DEPLOYMENTS, {"metadata": _meta("coredns", _LABELS), "spec": _deployment()}


def _meta(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE} | ({"labels": labels} if labels else {})


def _service(spec: LabSpec) -> dict[str, Any]:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "metrics", "port": 9153, "protocol": "TCP"},
    ]
    addresses = {"clusterIP": spec.dns_addresses[0], "clusterIPs": spec.dns_addresses}
    families = {
        "ipFamilies": spec.families,
        "ipFamilyPolicy": "SingleStack" if len(spec.families) == 1 else "RequireDualStack",
    }
    scraped = {"annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"}}
    meta = _meta("kube-dns", _LABELS) | scraped
    return {"metadata": meta, "spec": {"selector": _SELECTOR, "ports": ports, **addresses, **families}}


def _deployment() -> dict[str, Any]:
    return {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "selector": {"matchLabels": _SELECTOR},
        "template": {"metadata": {"labels": _SELECTOR}, "spec": _pod()},
    }


def _pod() -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": True}],
        "ports": [
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
            {"containerPort": 9153, "name": "metrics", "protocol": "TCP"},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": 8080, "scheme": "HTTP"},
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
            "successThreshold": 1,
            "failureThreshold": 5,
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181, "scheme": "HTTP"}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    apart = {
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}]},
            "topologyKey": "kubernetes.io/hostname",
        },
    }
    corefile = {"name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}]}
    return {
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": "coredns",
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "containers": [container],
        "dnsPolicy": "Default",
        "volumes": [{"name": "config-volume", "configMap": corefile}],
    }
