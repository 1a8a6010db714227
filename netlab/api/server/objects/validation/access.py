"""ConfigMaps, ServiceAccounts, Endpoints, and the kinds of RBAC (pkg/apis/*/validation)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from netlab.api.config_types import ConfigMap, Endpoints, ServiceAccount
from netlab.api.rbac_types import RBAC, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import rules

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_LARGEST = 1024 * 1024
"""Bytes of a ConfigMap's values (v1.MaxSecretSize)."""


def config_map(new: ConfigMap, problems: Problems) -> None:
    """v1.ConfigMap."""
    size = 0
    for field, values in (("data", new.data), ("binaryData", new.binaryData)):
        for key, value in values.items():
            path = f"{field}[{key}]"
            if not _KEY.fullmatch(key) or key in (".", "..") or key.startswith(".."):
                problems.invalid(
                    path, key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                )
            size += len(value.encode()) if field == "data" else _decoded_size(path, value, problems)
    for key in sorted(new.data.keys() & new.binaryData.keys()):
        problems.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    if size > _LARGEST:
        problems.too_long("", _LARGEST)


def _decoded_size(path: str, value: str, problems: Problems) -> int:
    try:
        return len(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        problems.invalid(path, value, "must be base64")
        return 0


def config_map_update(new: ConfigMap, old: ConfigMap, problems: Problems) -> None:
    """One that is immutable stays as it is."""
    if not old.immutable:
        return
    if not new.immutable:
        problems.forbidden("immutable", "field is immutable when `immutable` is set")
    for field in ("data", "binaryData"):
        if getattr(new, field) != getattr(old, field):
            problems.forbidden(field, "field is immutable when `immutable` is set")


def service_account(new: ServiceAccount, problems: Problems) -> None:
    """v1.ServiceAccount has nothing beyond its name."""


def endpoints(new: Endpoints, problems: Problems) -> None:
    """v1.Endpoints."""
    for index, subset in enumerate(new.subsets):
        path = f"subsets[{index}]"
        if not subset.addresses and not subset.notReadyAddresses:
            problems.required(path, "must specify `addresses` or `notReadyAddresses`")
        for field in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(getattr(subset, field)):
                rules.ip(f"{path}.{field}[{number}].ip", address.ip, problems)
        for number, port in enumerate(subset.ports):
            rules.port(f"{path}.ports[{number}].port", port.port, problems)
            problems.one_of(f"{path}.ports[{number}].protocol", port.protocol, rules.PROTOCOLS)
            if not port.name and len(subset.ports) > 1:
                problems.required(f"{path}.ports[{number}].name")


def role(new: Role, problems: Problems) -> None:
    """rbac.v1.Role."""
    _rules(new.rules or (), problems, namespaced=True)


def cluster_role(new: ClusterRole, problems: Problems) -> None:
    """rbac.v1.ClusterRole."""
    _rules(new.rules or (), problems, namespaced=False)
    if new.aggregationRule is not None:
        path = "aggregationRule.clusterRoleSelectors"
        if not new.aggregationRule.clusterRoleSelectors:
            problems.required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")
        for index, selector in enumerate(new.aggregationRule.clusterRoleSelectors):
            rules.label_selector(f"{path}[{index}]", selector, problems)


def _rules(listed: Sequence[PolicyRule], problems: Problems, *, namespaced: bool) -> None:
    for index, rule in enumerate(listed):
        path = f"rules[{index}]"
        if not rule.verbs:
            problems.required(f"{path}.verbs", "verbs must contain at least one value")
        if rule.nonResourceURLs:
            if namespaced:
                problems.invalid(
                    f"{path}.nonResourceURLs",
                    rule.nonResourceURLs,
                    "namespaced rules cannot apply to non-resource URLs",
                )
            if rule.apiGroups or rule.resources or rule.resourceNames:
                problems.invalid(
                    f"{path}.nonResourceURLs",
                    rule.nonResourceURLs,
                    "rules cannot apply to both regular resources and non-resource URLs",
                )
            continue
        if not rule.apiGroups:
            problems.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not rule.resources:
            problems.required(f"{path}.resources", "resource rules must supply at least one resource")


def role_binding(new: RoleBinding, problems: Problems) -> None:
    """rbac.v1.RoleBinding."""
    _binding(new, ("Role", "ClusterRole"), problems)


def cluster_role_binding(new: ClusterRoleBinding, problems: Problems) -> None:
    """rbac.v1.ClusterRoleBinding."""
    _binding(new, ("ClusterRole",), problems)


def binding_update(
    new: RoleBinding | ClusterRoleBinding, old: RoleBinding | ClusterRoleBinding, problems: Problems
) -> None:
    """Which role is bound never changes: the right to change subjects is not the right to bind another role."""
    if new.roleRef != old.roleRef:
        problems.invalid("roleRef", new.roleRef, "cannot change roleRef")


def _binding(new: RoleBinding | ClusterRoleBinding, kinds: Sequence[str], problems: Problems) -> None:
    problems.one_of("roleRef.apiGroup", new.roleRef.apiGroup, (RBAC,))
    problems.one_of("roleRef.kind", new.roleRef.kind, kinds)
    if not new.roleRef.name:
        problems.required("roleRef.name")
    else:
        rules.path_segment("roleRef.name", new.roleRef.name, problems)
    for index, subject in enumerate(new.subjects):
        _subject(f"subjects[{index}]", subject, problems)


def _subject(path: str, subject: Subject, problems: Problems) -> None:
    if not subject.name:
        problems.required(f"{path}.name")
    problems.one_of(f"{path}.kind", subject.kind, ("ServiceAccount", "User", "Group"))
    if subject.kind == "ServiceAccount":
        problems.one_of(f"{path}.apiGroup", subject.apiGroup, ("",))
        if subject.name:
            rules.dns_subdomain(f"{path}.name", subject.name, problems)
        if not subject.namespace:
            problems.required(f"{path}.namespace")
    else:
        problems.one_of(f"{path}.apiGroup", subject.apiGroup, (RBAC,))
