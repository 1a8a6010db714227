"""Nobody gives away what they do not have: roles and bindings are limited to their author's own rules.

Except for those who may `escalate` the role, or `bind` the role that is bound (pkg/registry/rbac of upstream).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netlab.api.meta_types import Object
from netlab.api.rbac_types import (
    RBAC,
    AggregationRule,
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleRef,
)
from netlab.api.resources import CLUSTERROLES, ROLES, Resource
from netlab.api.server import refusals
from netlab.api.server.access.authorization import Authorizer
from netlab.api.server.access.rbac import Action, not_covered, shown
from netlab.api.server.identity import User
from netlab.api.server.registry.generic import Draft

_EVERYTHING = [
    PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"]),
    PolicyRule(verbs=["*"], nonResourceURLs=["*"]),
]


def check(authorizer: Authorizer, user: User, draft: Draft) -> None:
    """Raise `ApiError` (403) if a role or binding would give more than its author has."""
    if draft.resource.group != RBAC or not draft.changed:
        return
    obj = msgspec.convert(draft.obj, draft.resource.type)
    before = None if draft.before is None else msgspec.convert(draft.before.decode(), draft.resource.type)
    namespace = obj.metadata.namespace
    if isinstance(obj, Role | ClusterRole):
        if before is not None and _same_rules(obj, before):
            return
        if not authorizer.decide(user, _action("escalate", draft.resource, namespace, obj.metadata.name)).allowed:
            aggregates = isinstance(obj, ClusterRole) and obj.aggregationRule is not None
            _require(authorizer, user, namespace, draft, _EVERYTHING if aggregates else obj.rules or [])
    elif isinstance(obj, RoleBinding | ClusterRoleBinding):
        role = CLUSTERROLES if obj.roleRef.kind == CLUSTERROLES.kind else ROLES
        if not authorizer.decide(user, _action("bind", role, namespace, obj.roleRef.name)).allowed:
            _require(authorizer, user, namespace, draft, _rules_of(authorizer, obj.roleRef, namespace))


def _same_rules(new: Role | ClusterRole, old: Object) -> bool:
    assert isinstance(old, Role | ClusterRole)
    return (new.rules or []) == (old.rules or []) and _aggregation(new) == _aggregation(old)


def _aggregation(role: Role | ClusterRole) -> AggregationRule | None:
    return role.aggregationRule if isinstance(role, ClusterRole) else None


def _action(
    verb: str, resource: Resource[Object] | Resource[Role] | Resource[ClusterRole], namespace: str, name: str
) -> Action:
    return Action(verb, namespace, RBAC, resource.plural, name=name)


def _rules_of(authorizer: Authorizer, role: RoleRef, namespace: str) -> list[PolicyRule]:
    rules = authorizer.rules_of(role, namespace)
    if rules is None:
        raise refusals.not_found(CLUSTERROLES if role.kind == CLUSTERROLES.kind else ROLES, role.name)  # type: ignore[arg-type]
    return rules


def _require(authorizer: Authorizer, user: User, namespace: str, draft: Draft, wanted: Sequence[PolicyRule]) -> None:
    missing = not_covered(authorizer.rules(user, namespace), wanted)
    if missing:
        groups = " ".join(f'"{group}"' for group in user.groups)
        listed = "\n".join(dict.fromkeys(map(shown, missing)))
        why = f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:'
        raise refusals.forbidden(draft.resource, draft.obj["metadata"]["name"], f"{why}\n{listed}")
