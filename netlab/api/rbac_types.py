"""rbac.authorization.k8s.io/v1, with the field names of the Kubernetes API (1.37)."""

from __future__ import annotations

from netlab.api.meta_types import LabelSelector, Object, Struct

RBAC = "rbac.authorization.k8s.io"


class PolicyRule(Struct):
    """rbac.v1.PolicyRule: verbs that may be done with resources, or with paths of no resource; `*` is all."""

    verbs: list[str]
    apiGroups: list[str] = []
    resources: list[str] = []
    resourceNames: list[str] = []
    nonResourceURLs: list[str] = []


class Role(Object):
    """rbac.v1.Role: rules within its namespace."""

    rules: list[PolicyRule] | None = None


class AggregationRule(Struct):
    """rbac.v1.AggregationRule: a role whose rules are those of all that are selected."""

    clusterRoleSelectors: list[LabelSelector] = []


class ClusterRole(Object):
    """rbac.v1.ClusterRole."""

    rules: list[PolicyRule] | None = None
    aggregationRule: AggregationRule | None = None


class Subject(Struct):
    """rbac.v1.Subject; kind is User, Group or ServiceAccount."""

    kind: str
    name: str
    apiGroup: str = ""
    namespace: str = ""


class RoleRef(Struct):
    """rbac.v1.RoleRef; kind is Role or ClusterRole."""

    kind: str
    name: str
    apiGroup: str = ""


class RoleBinding(Object, kw_only=True):
    """rbac.v1.RoleBinding: gives a role's rules to subjects, within its namespace."""

    roleRef: RoleRef
    subjects: list[Subject] = []


class ClusterRoleBinding(Object, kw_only=True):
    """rbac.v1.ClusterRoleBinding: gives a role's rules to subjects, everywhere."""

    roleRef: RoleRef
    subjects: list[Subject] = []
