"""What each component of the cluster may do, and no more (rbac/bootstrappolicy of upstream).

Upstream's rules are for all that its components can do; these are for what netlab's do.
"""

from __future__ import annotations

import msgspec

from netlab.api.load_balancers import LEASE_NAMESPACE
from netlab.api.rbac_types import RBAC, PolicyRule
from netlab.api.server.access.rbac import READING
from netlab.api.server.access.rules import EVENTS, Rule, rule

KUBE_PROXY, SCHEDULER = "system:kube-proxy", "system:kube-scheduler"
CONTROLLER_MANAGER = "system:kube-controller-manager"
NETWORK_AGENT = "system:netlab-network"
"""The agent of the pod network and the enforcer of policies, on each node: plugins, and no part of Kubernetes."""
SPEAKER = "system:netlab-speaker"
"""What announces load balancers' addresses, on each node."""

_WATCHING = ("list", "watch")
_WRITING = ("patch", "update")

_NODE = (
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "localsubjectaccessreviews", "subjectaccessreviews"),
    rule(READING, "", "services"),
    rule(("create", *READING), "", "nodes"),
    rule(_WRITING, "", "nodes/status", "nodes"),
    *EVENTS,
    rule(READING, "", "pods"),
    rule(("create", "delete"), "", "pods"),
    rule(_WRITING, "", "pods/status"),
    rule("create", "", "pods/eviction", "serviceaccounts/token"),
    rule(READING, "", "configmaps", "secrets"),
    rule("get", "", "persistentvolumeclaims", "persistentvolumes", "serviceaccounts"),
    rule(("create", *READING), "certificates.k8s.io", "certificatesigningrequests"),
    rule(("create", "delete", "get", *_WRITING), "coordination.k8s.io", "leases"),
    rule(READING, "node.k8s.io", "runtimeclasses"),
)
"""Of kubelets. Which objects of these kinds each of them is about, the node authorizer and the admission plugin
NodeRestriction decide: the role is bound to nobody."""

_PROXIER = (
    rule(_WATCHING, "", "services"),
    rule(READING, "", "nodes"),
    *EVENTS,
    rule(_WATCHING, "discovery.k8s.io", "endpointslices"),
    rule(_WATCHING, "networking.k8s.io", "servicecidrs"),
)
_SCHEDULER = (
    *EVENTS,
    rule(READING, "", "nodes", "namespaces"),
    rule(("delete", *READING), "", "pods"),
    rule("create", "", "pods/binding"),
    rule(_WRITING, "", "pods/status"),
    rule(READING, "", "replicationcontrollers", "services"),
    rule(READING, "apps", "replicasets", "statefulsets"),
    rule(READING, "scheduling.k8s.io", "priorityclasses"),
)
_CONTROLLERS = (
    # The garbage collector and the namespace controller look after objects of every kind.
    rule(("delete", "deletecollection", *READING, *_WRITING), "*", "*"),
    *EVENTS,
    rule("create", "", "configmaps", "endpoints", "persistentvolumeclaims", "pods", "serviceaccounts"),
    rule("create", "apps", "controllerrevisions", "replicasets"),
    rule("create", "batch", "jobs"),
    rule("create", "discovery.k8s.io", "endpointslices"),
    # The aggregation of ClusterRoles gives them rules that the controller does not have.
    rule("escalate", RBAC, "clusterroles"),
    rule(("approve", "sign"), "certificates.k8s.io", "signers"),
    rule("create", "authorization.k8s.io", "subjectaccessreviews"),
)
"""All controllers' together, as they are one process: upstream gives each an account of its own."""
_NETWORK_AGENT = (
    rule(_WATCHING, "", "nodes", "namespaces", "pods"),
    rule(_WATCHING, "networking.k8s.io", "networkpolicies"),
    rule(_WATCHING, "policy.networking.k8s.io", "clusternetworkpolicies"),
    rule(_WATCHING, "apiextensions.k8s.io", "customresourcedefinitions"),
)
_SPEAKER = (rule(("create", "delete", "patch", *_WATCHING), "coordination.k8s.io", "leases"),)

ROLES: dict[str, tuple[Rule, ...]] = {
    "system:node": _NODE,
    "system:node-proxier": _PROXIER,
    SCHEDULER: _SCHEDULER,
    CONTROLLER_MANAGER: _CONTROLLERS,
    NETWORK_AGENT: _NETWORK_AGENT,
    SPEAKER: _SPEAKER,
}
"""By the name of the ClusterRole."""

USERS = {
    "system:node-proxier": KUBE_PROXY,
    SCHEDULER: SCHEDULER,
    CONTROLLER_MANAGER: CONTROLLER_MANAGER,
    NETWORK_AGENT: NETWORK_AGENT,
}
"""Who is bound to each of them."""

WITHIN = {SPEAKER: (SPEAKER, LEASE_NAMESPACE)}
"""Who is bound to a role in one namespace alone: nodes' heartbeats are Leases, too."""

NODE_RULES = [msgspec.convert(each, PolicyRule) for each in _NODE]
