"""Which webhooks a request concerns, what they are asked, and how their answers are read."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from netlab.api import selectors
from netlab.api.admission_types import MatchCondition, Webhook
from netlab.api.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    EVENTS,
    EVENTS_V1,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    PODS,
    Resource,
)
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.identity import OWNER
from netlab.api.server.registry.generic import Registry
from netlab.api.server.webhooks import conditions, hooks, reviews
from netlab.api.server.webhooks.conditions import ConditionError
from netlab.api.server.webhooks.hooks import Hook
from netlab.api.server.webhooks.reviews import ReviewError
from tests.unit.api.cluster import create, refused

_RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
_HOOK = {
    "name": "a.example.com",
    "clientConfig": {"service": {"namespace": "default", "name": "hook"}},
    "rules": [_RULE],
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
}


def _hook(*, mutates: bool = False, **fields: Any) -> Hook:
    spec = msgspec.convert(_HOOK | fields, Webhook)
    both = (selectors.from_label_selector(each) for each in (spec.namespaceSelector, spec.objectSelector))
    return Hook(spec, mutates, *both)


def _asked(resource: Resource[Any] = PODS, subresource: str = "", name: str = "x", **fields: Any) -> Attributes:
    obj = {"metadata": {"name": name, "labels": {"of": "object"}}}
    namespace = "default" if resource.namespaced else ""
    values: dict[str, Any] = {"operation": Operation.CREATE, "obj": obj} | fields
    return Attributes(values.pop("operation"), resource, namespace, name, OWNER, subresource=subresource, **values)


_OF_NAMESPACE, _OF_OBJECT = {"matchLabels": {"of": "namespace"}}, {"matchLabels": {"of": "object"}}
_CORE: dict[str, Any] = {"resources": ["*"]}


@pytest.mark.parametrize(
    ("fields", "asked", "found"),
    [
        ({}, _asked(), True),
        ({}, _asked(operation=Operation.UPDATE), False),
        ({"rules": [_RULE | {"operations": ["*"]}]}, _asked(operation=Operation.CONNECT), True),
        ({"rules": [_RULE | {"apiGroups": ["apps"]}]}, _asked(), False),
        ({"rules": [_RULE | {"apiVersions": ["v2"]}]}, _asked(), False),
        ({"rules": [_RULE | {"apiVersions": ["*"]}]}, _asked(), True),
        ({}, _asked(subresource="attach"), False),
        ({"rules": [_RULE | _CORE]}, _asked(subresource="attach"), False),
        ({"rules": [_RULE | {"resources": ["pods/*"]}]}, _asked(subresource="attach"), True),
        ({"rules": [_RULE | {"resources": ["*/attach"]}]}, _asked(subresource="attach"), True),
        ({"rules": [_RULE | {"resources": ["*/*"]}]}, _asked(subresource="attach"), True),
        ({"rules": [_RULE | _CORE]}, _asked(CONFIGMAPS), True),
        ({"rules": [_RULE | _CORE | {"scope": "Namespaced"}]}, _asked(NAMESPACES), False),
        ({"rules": [_RULE | _CORE | {"scope": "Cluster"}]}, _asked(NAMESPACES), True),
        ({"rules": [_RULE | _CORE | {"scope": "Cluster"}]}, _asked(), False),
        ({"namespaceSelector": _OF_NAMESPACE}, _asked(), True),
        ({"namespaceSelector": _OF_OBJECT}, _asked(), False),
        # A new Namespace is judged by its own labels, one that is deleted by those it has.
        ({"namespaceSelector": _OF_OBJECT, "rules": [_RULE | _CORE]}, _asked(NAMESPACES), True),
        (
            {"namespaceSelector": _OF_OBJECT, "rules": [_RULE | _CORE | {"operations": ["*"]}]},
            _asked(NAMESPACES, operation=Operation.DELETE, obj={}),
            False,
        ),
        ({"objectSelector": _OF_OBJECT}, _asked(), True),
        ({"objectSelector": _OF_NAMESPACE}, _asked(), False),
        ({"objectSelector": _OF_OBJECT}, _asked(obj={}, old={"metadata": {"labels": {"of": "object"}}}), True),
    ],
)
def test_whom_a_request_concerns(fields: dict[str, Any], asked: Attributes, found: bool) -> None:
    version = hooks.version_for(_hook(**fields), asked, [asked.resource], lambda _: {"of": "namespace"})
    assert version is (asked.resource if found else None)


@pytest.mark.parametrize(
    ("policy", "group", "found"), [("Equivalent", "events.k8s.io", EVENTS_V1), ("Exact", "events.k8s.io", None)]
)
def test_a_rule_of_another_version(policy: str, group: str, found: Resource[Any] | None) -> None:
    hook = _hook(matchPolicy=policy, rules=[_RULE | {"apiGroups": [group], "resources": ["events"]}])
    assert hooks.version_for(hook, _asked(EVENTS), [EVENTS, EVENTS_V1], lambda _: {}) is found


def test_the_versions_of_a_resource(registry: Registry) -> None:
    assert registry.catalog.versions_of(EVENTS_V1) == [EVENTS_V1, EVENTS]
    assert registry.catalog.versions_of(PODS) == [PODS]


# --- reviews ---------------------------------------------------------------------------------------------------------

_PATCH = base64.b64encode(b'[{"op": "add", "path": "/a", "value": 1}]').decode()


def _review(hook: Hook) -> dict[str, Any]:
    asked = _asked(DEPLOYMENTS, "scale", dry_run=True)
    return reviews.review(hook, reviews.request(asked, DEPLOYMENTS, "7", {"username": "ann"}, {"spec": {}}, None))


def test_what_is_asked() -> None:
    review = _review(_hook(admissionReviewVersions=["v9", "v1beta1", "v1"]))
    assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1beta1", "AdmissionReview")
    request = review["request"]
    assert request["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert request["resource"] == {"group": "apps", "version": "v1", "resource": "deployments"}
    assert (request["subResource"], request["operation"], request["dryRun"]) == ("scale", "CREATE", True)
    with pytest.raises(ReviewError, match="does not accept known AdmissionReview versions"):
        _review(_hook(admissionReviewVersions=["v9"]))


def _answer(**response: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "7", "allowed": True} | response,
    }


@pytest.mark.parametrize(
    ("mutates", "answer", "why"),
    [
        (True, [], "webhook response was absent"),
        (True, {"response": 7}, "webhook response was absent"),
        (True, _answer(uid="8"), 'expected response.uid="7", got "8"'),
        (True, _answer() | {"kind": "Review"}, "expected webhook response of"),
        (False, _answer(patch=_PATCH, patchType="JSONPatch"), "may not return response.patch"),
        (True, _answer(patch=_PATCH), "response.patch but not response.patchType"),
        (True, _answer(patchType="JSONPatch"), "response.patchType but not response.patch"),
        (True, _answer(patch=_PATCH, patchType="Merge"), 'invalid response.patchType of "Merge"'),
        (True, _answer(patch="?", patchType="JSONPatch"), "base64|padding"),
        (True, _answer(patch=base64.b64encode(b"{}").decode(), patchType="JSONPatch"), "array"),
        (True, _answer(warnings="w"), "array"),
        (True, _answer(status=7), "object"),
    ],
)
def test_answers_that_make_no_sense(mutates: bool, answer: Any, why: str) -> None:
    hook = _hook(mutates=mutates)
    with pytest.raises(ReviewError, match=why):
        reviews.read(hook, _review(hook), answer)


def test_what_is_answered() -> None:
    hook = _hook(mutates=True)
    verdict = reviews.read(hook, _review(hook), _answer(patch=_PATCH, patchType="JSONPatch", warnings=["w"]))
    assert verdict.refusal is None
    assert (list(verdict.patch), verdict.warnings) == (json.loads(base64.b64decode(_PATCH)), ("w",))
    for said, code, text in (
        ({}, 400, " without explanation"),
        ({"reason": "r", "code": 200}, 400, ": r"),
        ({"message": "m", "code": 418, "status": "Success"}, 418, ": m"),
    ):
        refusal = reviews.read(hook, _review(hook), _answer(allowed=False, status=said)).refusal
        assert refusal is not None
        assert (refusal.code, refusal.status) == (code, "Failure")
        assert refusal.message == f'admission webhook "a.example.com" denied the request{text}'


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expressions", "holds"),
    [
        ([], True),
        (["true"], True),
        (["object.metadata.name == 'x'", "request.operation == 'CREATE'"], True),
        (["oldObject == null"], True),
        (["false", "object.none == 1"], False),
        (["object.none == 1", "false"], False),
        (["object.none == 1", "true"], None),
    ],
)
def test_conditions(expressions: list[str], holds: bool | None) -> None:
    listed = [MatchCondition(name=f"c{number}", expression=text) for number, text in enumerate(expressions)]
    request = {"operation": "CREATE", "object": {"metadata": {"name": "x"}}, "oldObject": None}
    if holds is None:
        with pytest.raises(ConditionError, match=r"^c0: "):
            conditions.hold(listed, request)
    else:
        assert conditions.hold(listed, request) is holds


# --- configurations --------------------------------------------------------------------------------------------------


def _configuration(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, "webhooks": [_HOOK | fields]}


def test_defaults(registry: Registry) -> None:
    rules = [{key: value for key, value in _RULE.items() if key != "scope"}]
    (made,) = create(registry, MUTATINGWEBHOOKCONFIGURATIONS, _configuration(rules=rules))["webhooks"]
    assert (made["timeoutSeconds"], made["failurePolicy"], made["reinvocationPolicy"]) == (10, "Fail", "Never")
    assert (made["rules"][0]["scope"], made["clientConfig"]["service"]["port"]) == ("*", 443)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": "a.b"}, "at least three segments"),
        ({"sideEffects": "Some"}, "sideEffects: Unsupported value"),
        ({"sideEffects": None}, "sideEffects: Required value: must specify one of None, NoneOnDryRun"),
        ({"timeoutSeconds": 31}, "between 1 and 30 seconds"),
        ({"failurePolicy": "Perhaps"}, "failurePolicy: Unsupported value"),
        ({"admissionReviewVersions": ["v9"]}, "must include at least one of v1, v1beta1"),
        ({"admissionReviewVersions": ["v1", "v1"]}, "Duplicate value"),
        ({"rules": [_RULE | {"operations": []}]}, "operations: Required value"),
        ({"rules": [_RULE | {"operations": ["*", "CREATE"]}]}, "must not specify other operations"),
        ({"rules": [_RULE | {"operations": ["PATCH"]}]}, "Unsupported value"),
        ({"rules": [_RULE | {"resources": ["*", "pods"]}]}, "must not specify other resources"),
        ({"rules": [_RULE | {"resources": ["pods/*", "pods/exec"]}]}, "must not specify pods/exec"),
        ({"clientConfig": {}}, "exactly one of url or service"),
        ({"clientConfig": {"url": "http://a"}}, "'https' is the only allowed URL scheme"),
        ({"clientConfig": {"url": "https://u@a?b#c"}}, "user information is not permitted"),
        ({"clientConfig": {"url": "https://a:x"}}, "must be a valid URL"),
        ({"clientConfig": {"service": {"namespace": "d", "name": "n", "path": "x"}}}, "must start with a '/'"),
        ({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}, "not a valid label selector"),
        ({"matchConditions": [{"name": "n", "expression": "... [}"}]}, "compilation failed"),
        ({"matchConditions": [{"name": "n", "expression": "authorizer == null"}]}, "compilation failed: undeclared"),
    ],
)
def test_configurations_that_are_refused(registry: Registry, fields: dict[str, Any], why: str) -> None:
    with refused(422, why):
        create(registry, MUTATINGWEBHOOKCONFIGURATIONS, _configuration(**fields))
