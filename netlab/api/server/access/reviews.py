"""Questions about who someone is, and tokens for service accounts: requests that store nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Scope

from netlab.api.errors import ApiError
from netlab.api.meta_types import Object, now
from netlab.api.rbac_types import PolicyRule
from netlab.api.resources import (
    LOCALSUBJECTACCESSREVIEWS,
    NODES,
    PODS,
    SELFSUBJECTACCESSREVIEWS,
    SELFSUBJECTREVIEWS,
    SELFSUBJECTRULESREVIEWS,
    SERVICEACCOUNTS,
    SUBJECTACCESSREVIEWS,
    TOKENREVIEWS,
    Resource,
)
from netlab.api.review_types import (
    SelfSubjectAccessReview,
    SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview,
    SubjectAccessReview,
    TokenRequest,
    TokenRequestSpec,
    TokenReview,
)
from netlab.api.server import refusals
from netlab.api.server.access import escalation, signers
from netlab.api.server.access.authentication import caller
from netlab.api.server.access.authorization import Authorizer, action_of, refused
from netlab.api.server.access.rbac import Action
from netlab.api.server.access.tokens import ISSUER, TokenError, Tokens
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.identity import OWNER, User
from netlab.api.server.objects import reading
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry.generic import Draft, Registry
from netlab.api.server.rest import responses
from netlab.api.server.rest.requests import Call
from netlab.api.server.storage.watch import Stored

Handler = Callable[[Call], Awaitable[Response]]

_LEAST, _MOST = 600, 1 << 32
"""Seconds that a token may be asked for (pkg/apis/authentication/validation)."""
_HOUR = 3600

_PODS: Resource[Any] = PODS
_NODES: Resource[Any] = NODES
_SERVICEACCOUNTS: Resource[Any] = SERVICEACCOUNTS
_TOKEN_REQUEST: Resource[Any] = Resource(
    "authentication.k8s.io", "v1", "TokenRequest", "tokenrequests", TokenRequest, verbs=("create",)
)


class Reviews:
    """The handlers of what is asked and not stored."""

    def __init__(self, registry: Registry, tokens: Tokens | None, authorizer: Authorizer) -> None:
        self._registry = registry
        self._tokens = tokens
        self._authorizer = authorizer
        self._handlers: dict[str, Handler] = {
            TOKENREVIEWS.plural: self._review_token,
            SELFSUBJECTREVIEWS.plural: self._review_self,
            SELFSUBJECTACCESSREVIEWS.plural: self._review_own_access,
            SUBJECTACCESSREVIEWS.plural: self._review_access,
            LOCALSUBJECTACCESSREVIEWS.plural: self._review_access,
            SELFSUBJECTRULESREVIEWS.plural: self._review_own_rules,
        }

    def handler(self, call: Call) -> Handler | None:
        """What answers a request; None if it is about something else."""
        if call.target.subresource:
            return self._request_token if call.target.subresource == "token" else None
        return self._handlers.get(call.target.resource.collection)

    async def _review_self(self, call: Call) -> Response:
        sent = _read(call, call.target.resource)
        return _answered(call, sent, {"userInfo": user_info(self.caller(call))})

    async def _review_token(self, call: Call) -> Response:
        tokens = self._required_tokens(call)
        sent = _read(call, call.target.resource)
        spec = msgspec.convert(sent, TokenReview).spec
        if not spec.token:
            raise refusals.bad_request("token is required for TokenReview in authentication")
        try:
            verified = tokens.verify(spec.token, spec.audiences)
        except TokenError as error:
            return _answered(call, sent, {"user": {}, "error": f"[invalid bearer token, {error}]"})
        status = {"authenticated": True, "user": user_info(verified.user), "audiences": list(verified.audiences)}
        return _answered(call, sent, status)

    async def _review_own_access(self, call: Call) -> Response:
        sent = _read(call, call.target.resource)
        spec = msgspec.convert(sent, SelfSubjectAccessReview).spec
        return self._decided(call, sent, self.caller(call), spec)

    async def _review_access(self, call: Call) -> Response:
        sent = _read(call, call.target.resource)
        spec = msgspec.convert(sent, SubjectAccessReview).spec
        problems = Problems()
        if not spec.user and not spec.groups:
            problems.required("spec.user", "at least one of user or group must be specified")
        attributes = spec.resourceAttributes
        if call.target.namespace and (attributes is None or attributes.namespace != call.target.namespace):
            named = "" if attributes is None else attributes.namespace
            problems.invalid("spec.resourceAttributes.namespace", named, "must match metadata.namespace")
        if problems:
            raise refusals.invalid(call.target.resource, "", problems)
        extra = {key: tuple(values) for key, values in spec.extra.items()}
        return self._decided(call, sent, User(spec.user, tuple(spec.groups), spec.uid, extra), spec)

    def _decided(self, call: Call, sent: JSONObject, user: User, spec: SelfSubjectAccessReviewSpec) -> Response:
        resource, path = spec.resourceAttributes, spec.nonResourceAttributes
        if (resource is None) == (path is None):
            problems = Problems()
            why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            problems.invalid("spec.resourceAttributes", None, why)
            raise refusals.invalid(call.target.resource, "", problems)
        if resource is not None:
            action = Action(
                resource.verb,
                resource.namespace,
                resource.group,
                resource.resource,
                resource.subresource,
                resource.name,
            )
        else:
            assert path is not None
            action = Action(path.verb, path=path.path)
        decision = self._authorizer.decide(user, action)
        status: JSONObject = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        if decision.error:
            status["evaluationError"] = decision.error
        return _answered(call, sent, status)

    async def _review_own_rules(self, call: Call) -> Response:
        sent = _read(call, call.target.resource)
        namespace = msgspec.convert(sent, SelfSubjectRulesReview).spec.namespace
        if not namespace:
            raise refusals.bad_request("no namespace on request")
        rules = self._authorizer.rules(self.caller(call), namespace)
        status = {
            "resourceRules": [_resource_rule(rule) for rule in rules if not rule.nonResourceURLs],
            "nonResourceRules": [
                {"verbs": rule.verbs, "nonResourceURLs": rule.nonResourceURLs} for rule in rules if rule.nonResourceURLs
            ],
            "incomplete": False,
        }
        return _answered(call, sent, status)

    def check_grants(self, call: Call, draft: Draft) -> None:
        """Raise `ApiError` (403) if a role or binding would give more than its author has, or a request for a
        certificate is decided by who may not."""
        user = self.caller(call)
        escalation.check(self._authorizer, user, draft)
        signers.check(self._authorizer, user, draft)

    def refusal(self, call: Call, verb: str) -> ApiError | None:
        """Why the caller may not do something else with what a request is about; None if that is allowed."""
        user = self.caller(call)
        action = dataclasses.replace(action_of(call.request.scope), verb=verb)
        decision = self._authorizer.decide(user, action)
        return None if decision.allowed else refused(user, action, decision.reason)

    def caller(self, call: Call) -> User:
        """Who asks. A server that knows no callers is its owner's alone."""
        return self.caller_of(call.request.scope)

    def caller_of(self, scope: Scope) -> User:
        """The same of a request that is passed on."""
        return OWNER if self._tokens is None else caller(scope)

    async def _request_token(self, call: Call) -> Response:
        tokens, target = self._required_tokens(call), call.target
        account = self._registry.get(_SERVICEACCOUNTS, target.namespace, target.name)
        sent = _read(call, _TOKEN_REQUEST)
        self._registry.admission.validate(
            Attributes(
                Operation.CREATE,
                target.resource,
                target.namespace,
                target.name,
                self.caller(call),
                sent,
                subresource=target.subresource,
            )
        )
        spec = msgspec.convert(sent, TokenRequest).spec
        seconds = _HOUR if spec.expirationSeconds is None else spec.expirationSeconds
        _check_seconds(seconds)
        bound = self._bound(spec, account)
        token, expires = tokens.sign(account, spec.audiences, seconds, bound)
        if not call.dry_run:
            sent["status"] = {"token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
        sent["metadata"] |= {"name": target.name, "namespace": target.namespace, "creationTimestamp": now()}
        sent["spec"] = {"audiences": spec.audiences or [ISSUER], "expirationSeconds": seconds} | {
            name: sent["spec"][name] for name in ("boundObjectRef",) if name in sent.get("spec", {})
        }
        return responses.document(_encoded(_TOKEN_REQUEST, sent), 201, format=call.answer.format)

    def _bound(self, spec: TokenRequestSpec, account: Stored) -> tuple[Resource[Object], Stored] | None:
        """The object whose end is the token's. Raises `ApiError`."""
        reference = spec.boundObjectRef
        if reference is None:
            return None
        kinds = {("v1", "Pod"): _PODS, ("v1", "Node"): _NODES}
        resource = kinds.get((reference.apiVersion, reference.kind))
        if resource is None:
            raise refusals.bad_request(f"cannot bind token to object of type {reference.apiVersion}, {reference.kind}")
        stored = self._registry.get(resource, account.namespace if resource.namespaced else "", reference.name)
        if reference.uid and reference.uid != stored.uid:
            why = f"the UID in the bound object reference ({reference.uid}) does not match the UID in record. "
            raise refusals.conflict(
                resource, stored.name, why + "The object might have been deleted and then recreated"
            )
        if resource is _PODS and stored.decode()["spec"].get("serviceAccountName") != account.name:
            why = f'cannot bind token for serviceaccount "{account.name}" to pod running with '
            raise refusals.bad_request(why + "different serviceaccount name.")
        return resource, stored

    def _required_tokens(self, call: Call) -> Tokens:
        if self._tokens is None:
            raise refusals.no_such_path(call.request.url.path)
        return self._tokens


def user_info(user: User) -> JSONObject:
    """authentication.v1.UserInfo."""
    info: JSONObject = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def _resource_rule(rule: PolicyRule) -> JSONObject:
    found = {"verbs": rule.verbs, "apiGroups": rule.apiGroups, "resources": rule.resources}
    return found | ({"resourceNames": rule.resourceNames} if rule.resourceNames else {})


def _check_seconds(seconds: int) -> None:
    problems = Problems()
    path = "spec.expirationSeconds"
    if seconds < _LEAST:
        problems.invalid(path, seconds, "may not specify a duration less than 10 minutes")
    if seconds > _MOST:
        problems.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")
    if problems:
        raise refusals.invalid(_TOKEN_REQUEST, "", problems)


def _read(call: Call, resource: Resource[Any]) -> JSONObject:
    sent = call.object()
    reading.read(resource, sent, call.field_validation)
    return sent


def _answered(call: Call, sent: JSONObject, status: JSONObject) -> Response:
    raw = _encoded(call.target.resource, sent | {"status": status})
    return responses.document(raw, 201, format=call.answer.format)


def _encoded(resource: Resource[Any], obj: JSONObject) -> bytes:
    named = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": obj["metadata"]}
    return msgspec.json.encode(named | obj)
