"""Who may do what: upstream's RBAC authorizer over the stored roles and bindings, asked before every request."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from netlab.api.errors import ApiError
from netlab.api.rbac_types import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject
from netlab.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES, VERB_OF_METHOD, Resource
from netlab.api.server import refusals
from netlab.api.server.access.authentication import caller, set_caller
from netlab.api.server.access.components import NODE_RULES
from netlab.api.server.access.nodes import NodeAuthorizer
from netlab.api.server.access.rbac import Action, allows
from netlab.api.server.access.tokens import groups as account_groups
from netlab.api.server.access.tokens import user_name
from netlab.api.server.identity import AUTHENTICATED, MASTERS, User
from netlab.api.server.registry.generic import Registry
from netlab.api.server.rest import responses
from netlab.api.server.rest.lists import is_true

_CLUSTERROLES: Resource[Any] = CLUSTERROLES
_ROLES: Resource[Any] = ROLES

_MOST_REMEMBERED = 10_000
"""Decisions: the names in them are anyone's."""

_ACCOUNT = "system:serviceaccount:"


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether something is allowed, and why."""

    allowed: bool
    reason: str = ""
    error: str = ""
    """What could not be found out on the way."""


class _Grant(NamedTuple):
    """What a binding gives one subject."""

    namespace: str
    """Empty: everywhere."""
    binding: str
    subject: str
    role: RoleRef


class Authorizer:
    """Decides by the roles and bindings of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._nodes = NodeAuthorizer(registry.store)
        self._read_at = -1
        self._allowed: dict[tuple[object, ...], Decision] = {}
        """What was allowed whatever the name of the object is, since the policy last changed."""
        self._grants: dict[tuple[str, str], list[_Grant]] = {}
        self._rules: dict[tuple[str, str], list[PolicyRule]] = {}
        """By namespace (empty: a ClusterRole) and name."""

    def decide(self, user: User, action: Action) -> Decision:
        """Whether a user may do something."""
        if MASTERS in user.groups:
            return Decision(True)
        denied = ""
        if user.node is not None:
            of_node = self._nodes.decide(user, action)
            if of_node is not None and of_node[0]:
                return Decision(True)
            if of_node is None and any(allows(rule, action) for rule in NODE_RULES):
                return Decision(True)
            denied = of_node[1] if of_node is not None else ""
        self._refresh()
        key = (
            *(user.name, user.groups, action.verb, action.namespace),
            *(action.group, action.resource, action.subresource, action.path),
        )
        if (known := self._allowed.get(key)) is not None:
            return known
        missing = []
        for grant, rules in self._granted(user, action.namespace):
            if rules is None:
                missing.append(f'{grant.role.kind.lower()}.rbac.authorization.k8s.io "{grant.role.name}" not found')
            elif (rule := next((each for each in rules if allows(each, action)), None)) is not None:
                role = f'{grant.role.kind} "{grant.role.name}"'
                decision = Decision(True, f"RBAC: allowed by {grant.binding} of {role} to {grant.subject}")
                if not rule.resourceNames:
                    self._remember(key, decision)
                return decision
        listed = missing[0] if len(missing) == 1 else f"[{', '.join(missing)}]"
        reasons = [*([denied] if denied else []), *([f"RBAC: {listed}"] if missing else [])]
        return Decision(False, ", ".join(reasons), listed if missing else "")

    def _remember(self, key: tuple[object, ...], decision: Decision) -> None:
        if len(self._allowed) >= _MOST_REMEMBERED:
            self._allowed.clear()
        self._allowed[key] = decision

    def rules(self, user: User, namespace: str) -> list[PolicyRule]:
        """All rules that a user has in a namespace; without one, everywhere."""
        if MASTERS in user.groups:
            everything = PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"])
            return [everything, PolicyRule(verbs=["*"], nonResourceURLs=["*"])]
        return [rule for _, rules in self._granted(user, namespace) for rule in rules or ()]

    def rules_of(self, role: RoleRef, namespace: str) -> list[PolicyRule] | None:
        """The rules of a role that a binding in a namespace names; None if there is no such role."""
        self._refresh()
        return self._rules.get(("" if role.kind == CLUSTERROLES.kind else namespace, role.name))

    def _granted(self, user: User, namespace: str) -> Iterator[tuple[_Grant, list[PolicyRule] | None]]:
        self._refresh()
        for key in (("User", user.name), *(("Group", group) for group in user.groups)):
            for grant in self._grants.get(key, ()):
                if not grant.namespace or grant.namespace == namespace:
                    yield grant, self.rules_of(grant.role, grant.namespace)

    def _refresh(self) -> None:
        """Read the roles and bindings again if one has changed."""
        if self._read_at == self._registry.policy_changes:
            return
        self._read_at = self._registry.policy_changes
        self._rules, self._grants = {}, {}
        self._allowed.clear()
        store = self._registry.store
        for stored in store.all(_CLUSTERROLES):
            self._rules["", stored.name] = msgspec.json.decode(stored.raw, type=ClusterRole).rules or []
        for stored in store.all(_ROLES):
            self._rules[stored.namespace, stored.name] = msgspec.json.decode(stored.raw, type=Role).rules or []
        everywhere: Resource[Any] = CLUSTERROLEBINDINGS
        for stored in store.all(everywhere):
            self._add(msgspec.json.decode(stored.raw, type=ClusterRoleBinding), f'ClusterRoleBinding "{stored.name}"')
        local: Resource[Any] = ROLEBINDINGS
        for stored in store.all(local):
            name = f'RoleBinding "{stored.name}/{stored.namespace}"'
            self._add(msgspec.json.decode(stored.raw, type=RoleBinding), name)

    def _add(self, binding: RoleBinding | ClusterRoleBinding, name: str) -> None:
        for subject in binding.subjects:
            key, shown = _key(subject)
            grant = _Grant(binding.metadata.namespace, name, shown, binding.roleRef)
            self._grants.setdefault(key, []).append(grant)


def _key(subject: Subject) -> tuple[tuple[str, str], str]:
    if subject.kind == "ServiceAccount":
        shown = f'ServiceAccount "{subject.name}/{subject.namespace}"'
        return ("User", user_name(subject.namespace, subject.name)), shown
    return (subject.kind, subject.name), f'{subject.kind} "{subject.name}"'


class Authorization:
    """An application, and before it the question whether the caller may do what the request asks for."""

    def __init__(self, app: ASGIApp, authorizer: Authorizer) -> None:
        self._app = app
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it (403)."""
        try:
            impersonated = self._impersonated(scope)
            if impersonated is not None:
                set_caller(scope, impersonated)
            user = caller(scope)
            # The owner's requests, which are nearly all, are not even looked at.
            if MASTERS not in user.groups:
                self._require(user, action_of(scope))
        except ApiError as error:
            await responses.refusal(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _require(self, user: User, action: Action) -> None:
        decision = self._authorizer.decide(user, action)
        if not decision.allowed:
            raise refused(user, action, decision.reason)

    def _impersonated(self, scope: Scope) -> User | None:
        """The user as whom the request is to be answered, if it asks for that (headers Impersonate-*)."""
        wanted = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name.startswith(b"impersonate-")
        ]
        if not wanted:
            return None
        name = next((value for header, value in wanted if header == "impersonate-user"), "")
        if not name:
            raise refusals.bad_request("requested impersonation without impersonating a user")
        groups = [value for header, value in wanted if header == "impersonate-group"]
        uid = next((value for header, value in wanted if header == "impersonate-uid"), "")
        extra: dict[str, tuple[str, ...]] = {}
        for header, value in wanted:
            if header.startswith("impersonate-extra-"):
                key = unquote(header.removeprefix("impersonate-extra-"))
                extra[key] = (*extra.get(key, ()), value)
        asker = caller(scope)
        for action in _impersonations(name, groups, uid, extra):
            self._require(asker, action)
        if name.startswith(_ACCOUNT) and not groups:
            groups = list(account_groups(name.split(":")[2]))
        if AUTHENTICATED not in groups and name != "system:anonymous":
            groups.append(AUTHENTICATED)
        return User(name, tuple(groups), uid, extra)


def _impersonations(name: str, groups: list[str], uid: str, extra: dict[str, tuple[str, ...]]) -> Iterator[Action]:
    account = name.removeprefix(_ACCOUNT).split(":") if name.startswith(_ACCOUNT) else []
    if len(account) == 2:
        yield Action("impersonate", namespace=account[0], resource="serviceaccounts", name=account[1])
    else:
        yield Action("impersonate", resource="users", name=name)
    for group in groups:
        yield Action("impersonate", resource="groups", name=group)
    authentication = "authentication.k8s.io"
    if uid:
        yield Action("impersonate", group=authentication, resource="uids", name=uid)
    for key, values in extra.items():
        for value in values:
            yield Action("impersonate", group=authentication, resource="userextras", subresource=key, name=value)


def action_of(scope: Scope) -> Action:
    """What a request asks for, whether or not there is such a thing (apiserver's RequestInfo)."""
    verb = VERB_OF_METHOD.get(scope["method"], scope["method"].lower())
    raw = scope["raw_path"].decode("ascii", errors="replace")
    parts = [unquote(part) for part in raw.strip("/").split("/")]
    nothing = Action(scope["method"].lower(), path=scope["path"])
    if parts[0] == "api" and len(parts) >= 3:
        group, parts = "", parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, parts = parts[1], parts[3:]
    else:
        return nothing
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts = parts[2:]
    resource, name, subresource = (*parts, "", "")[:3]
    fields: tuple[tuple[str, str], ...] = ()
    if not name:
        verb, fields = _of_collection(scope, verb)
        name = dict(fields).get("metadata.name", "")
    return Action(verb, namespace, group, resource, subresource, name, fields=fields)


def _of_collection(scope: Scope, verb: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The verb, and what a field selector demands."""
    if verb == "delete":
        return "deletecollection", ()
    if verb != "get":
        return verb, ()
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    watches = is_true(query["watch"][-1]) if "watch" in query else False
    terms = (term.partition("=") for term in query.get("fieldSelector", [""])[-1].split(","))
    equal = ((field, value) for field, equals, value in terms if equals and not field.endswith("!"))
    fields = tuple((field, value.removeprefix("=")) for field, value in equal)
    return "watch" if watches else "list", fields


def refused(user: User, action: Action, reason: str = "") -> ApiError:
    """403, in upstream's words (apiserver pkg/endpoints/handlers/responsewriters/errors.go)."""
    why = f": {reason}" if reason else ""
    if action.path:
        return refusals.path_forbidden(user.name, action.verb, action.path, why)
    place = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    said = (
        f'User "{user.name}" cannot {action.verb} resource "{action.qualified_resource}" in API group '
        f'"{action.group}" {place}{why}'
    )
    return refusals.not_authorized(action.group, action.resource, action.name, said)
