"""Rules against actions, and what a rule covers of another."""

from __future__ import annotations

import pytest

from netlab.api.rbac_types import PolicyRule
from netlab.api.server.access import rbac
from netlab.api.server.access.rbac import Action


def rule(verbs: str, groups: str = "-", resources: str = "", names: str = "", urls: str = "") -> PolicyRule:
    """Words are separated by blanks; the core group is written as core."""
    listed = ["" if group == "core" else group for group in groups.split()] if groups != "-" else []
    return PolicyRule(
        verbs=verbs.split(),
        apiGroups=listed,
        resources=resources.split(),
        resourceNames=names.split(),
        nonResourceURLs=urls.split(),
    )


PODS = rule("get list", "core", "pods")
NAMED = rule("get update", "core", "configmaps", "one two")
LOGS = rule("get", "core", "pods/log")
EVERYTHING = rule("*", "*", "*")
URLS = rule("get", urls="/healthz /api/*")


@pytest.mark.parametrize(
    ("given", "action", "allowed"),
    [
        (PODS, Action("get", resource="pods"), True),
        (PODS, Action("get", resource="pods", name="one"), True),
        (PODS, Action("get", resource="pods", namespace="any"), True),
        (PODS, Action("delete", resource="pods"), False),
        (PODS, Action("get", resource="services"), False),
        (PODS, Action("get", resource="pods", group="apps"), False),
        (PODS, Action("get", resource="pods", subresource="log"), False),
        (PODS, Action("get", path="/pods"), False),
        (LOGS, Action("get", resource="pods", subresource="log"), True),
        (LOGS, Action("get", resource="pods"), False),
        (LOGS, Action("get", resource="nodes", subresource="log"), False),
        (rule("get", "core", "*/log"), Action("get", resource="pods", subresource="log"), True),
        (rule("get", "core", "*/log"), Action("get", resource="pods", subresource="status"), False),
        (rule("get", "core", "*/log"), Action("get", resource="pods"), False),
        (NAMED, Action("get", resource="configmaps", name="one"), True),
        (NAMED, Action("get", resource="configmaps", name="three"), False),
        (NAMED, Action("list", resource="configmaps"), False),
        (rule("list", "core", "configmaps", "one"), Action("list", resource="configmaps"), False),
        (rule("create", "core", "configmaps", "one"), Action("create", resource="configmaps"), False),
        (EVERYTHING, Action("delete", resource="pods", subresource="log", group="x"), True),
        (EVERYTHING, Action("get", path="/healthz"), False),
        (rule("*", "core", "pods"), Action("anything", resource="pods"), True),
        (rule("get", "*", "pods"), Action("get", resource="pods", group="any"), True),
        (URLS, Action("get", path="/healthz"), True),
        (URLS, Action("get", path="/healthz/x"), False),
        (URLS, Action("get", path="/api/v1"), True),
        (URLS, Action("get", path="/api"), False),
        (URLS, Action("post", path="/healthz"), False),
        (rule("*", urls="*"), Action("post", path="/anything"), True),
        (PolicyRule(verbs=["get"]), Action("get", resource="pods"), False),
    ],
)
def test_a_rule_allows(given: PolicyRule, action: Action, allowed: bool) -> None:
    assert rbac.allows(given, action) is allowed


@pytest.mark.parametrize(
    ("held", "wanted", "missing"),
    [
        ([EVERYTHING], [PODS, NAMED, LOGS], []),
        ([EVERYTHING], [URLS], [rule("get", urls="/healthz"), rule("get", urls="/api/*")]),
        ([rule("*", urls="*")], [URLS], []),
        ([URLS], [rule("get", urls="/api/v1/*")], []),
        ([URLS], [rule("get", urls="/*")], [rule("get", urls="/*")]),
        ([PODS], [PODS], []),
        ([PODS], [rule("get", "core", "pods", "one")], []),
        ([PODS], [rule("get delete", "core", "pods")], [rule("delete", "core", "pods")]),
        ([PODS], [rule("get", "core apps", "pods")], [rule("get", "apps", "pods")]),
        ([PODS], [LOGS], [LOGS]),
        ([PODS], [EVERYTHING], [EVERYTHING]),
        ([rule("get", "core", "pods"), rule("list", "core", "pods")], [PODS], []),
        ([NAMED], [rule("get", "core", "configmaps", "one")], []),
        ([NAMED], [rule("get", "core", "configmaps", "one three")], [rule("get", "core", "configmaps", "three")]),
        ([NAMED], [rule("get", "core", "configmaps")], [rule("get", "core", "configmaps")]),
        ([rule("get", "core", "*/log")], [LOGS], []),
        ([LOGS], [rule("get", "core", "*/log")], [rule("get", "core", "*/log")]),
        ([rule("get", "core", "*/log")], [rule("get", "core", "*/log")], []),
        ([], [PODS], [rule("get", "core", "pods"), rule("list", "core", "pods")]),
        ([], [], []),
    ],
)
def test_what_is_not_covered(held: list[PolicyRule], wanted: list[PolicyRule], missing: list[PolicyRule]) -> None:
    assert rbac.not_covered(held, wanted) == missing


def test_a_rule_is_shown_as_upstream_shows_it() -> None:
    assert rbac.shown(rule("get", "core", "pods", "one")) == (
        '{APIGroups:[""], Resources:["pods"], ResourceNames:["one"], Verbs:["get"]}'
    )
    assert rbac.shown(rule("get", urls="/x")) == '{NonResourceURLs:["/x"], Verbs:["get"]}'
