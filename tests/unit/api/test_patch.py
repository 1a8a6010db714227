from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api.kinds import table
from netlab.api.server.objects.patch import PatchError, json_merge, json_patch, strategic_merge

_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.text("ab", max_size=2))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


# --- RFC 7386 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "change", "result"),
    [
        # Appendix A of the RFC.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_json_merge_patch_as_the_rfc_shows(target: Any, change: Any, result: Any) -> None:
    assert json_merge(target, change) == result


@given(_VALUES, _VALUES)
def test_json_merge_twice_is_once_and_leaves_its_arguments(target: Any, change: Any) -> None:
    before = copy.deepcopy((target, change))
    once = json_merge(target, change)
    assert json_merge(once, change) == once
    assert (target, change) == before


# --- RFC 6902 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        # Appendix A of the RFC.
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        ({"foo": [1, 2, 3]}, [{"op": "replace", "path": "/foo/0", "value": 9}], {"foo": [9, 2, 3]}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"foo": [1, 2, 3, 4]}, [{"op": "move", "from": "/foo/1", "path": "/foo/3"}], {"foo": [1, 3, 4, 2]}),
        ({"a": [1]}, [{"op": "copy", "from": "/a/0", "path": "/a/-"}], {"a": [1, 1]}),
        ({"a": "b"}, [{"op": "test", "path": "/a", "value": "b"}], {"a": "b"}),
        ({"foo": None}, [{"op": "replace", "path": "/foo", "value": 1}], {"foo": 1}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"a/b": 1}, [{"op": "remove", "path": "/a~1b"}], {}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1}, [], {"a": 1}),
    ],
)
def test_json_patch_as_the_rfc_shows(target: Any, operations: Any, result: Any) -> None:
    before = copy.deepcopy(target)
    assert json_patch(target, operations) == result
    assert target == before


@pytest.mark.parametrize(
    ("operations", "complaint"),
    [
        ([{"op": "remove", "path": "/absent"}], 'operation 0: there is no "absent"'),
        ([{"op": "add", "path": "/absent/x", "value": 1}], 'operation 0: there is no "absent"'),
        ([{"op": "replace", "path": "/absent", "value": 1}], 'operation 0: there is no "absent"'),
        ([{"op": "test", "path": "/flag", "value": 1}], "operation 0: test of /flag failed"),
        ([{"op": "add", "path": "/list/9", "value": 1}], 'there is no index "9" in a list of 2'),
        ([{"op": "add", "path": "/list/01", "value": 1}], 'there is no index "01"'),
        ([{"op": "remove", "path": "/list/-"}], 'there is no index "-"'),
        ([{"op": "add", "path": "/list/0/x", "value": 1}], "cannot be added to a scalar"),
        ([{"op": "move", "from": "/map", "path": "/map/x"}], "cannot be moved into itself"),
        ([{"op": "add", "path": "list", "value": 1}], "is not a JSON pointer"),
        ([{"op": "explode", "path": "/list"}], 'unknown operation "explode"'),
        ([{"op": "add", "path": "/x"}], "'value' is missing"),
        ([{"path": "/x"}], "'op' is missing"),
        (["add"], "an operation is an object"),
        ({"op": "add"}, "a JSON patch is a list"),
    ],
)
def test_json_patch_that_cannot_be_applied(operations: Any, complaint: str) -> None:
    target = {"list": [1, 2], "flag": True, "map": {}}
    with pytest.raises(PatchError) as refused:
        json_patch(target, operations)
    assert complaint in str(refused.value)
    assert target == {"list": [1, 2], "flag": True, "map": {}}


@given(_VALUES, _VALUES)
def test_json_patch_undoes_what_it_added(target: Any, value: Any) -> None:
    document = {"at": target}
    add, remove = {"op": "add", "path": "/new", "value": value}, {"op": "remove", "path": "/new"}
    assert json_patch(document, [add, {"op": "test", "path": "/new", "value": value}, remove]) == document


# --- strategic merge -----------------------------------------------------------------------------------------------

_POD = {
    "metadata": {"name": "p", "finalizers": ["x"]},
    "spec": {
        "containers": [
            {"name": "a", "image": "1", "ports": [{"containerPort": 80, "name": "http"}]},
            {"name": "b", "image": "1"},
        ],
        "tolerations": [{"key": "old"}],
    },
    "status": {"conditions": [{"type": "Ready", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("change", "path", "result"),
    [
        (
            {"spec": {"containers": [{"name": "b", "image": "2"}]}},
            ("spec", "containers", 1),
            {"name": "b", "image": "2"},
        ),
        (
            {"spec": {"containers": [{"name": "c", "image": "3", "ports": None}]}},
            ("spec", "containers"),
            [{"name": "c", "image": "3"}, *_POD["spec"]["containers"]],  # type: ignore[index]
        ),
        (
            {"spec": {"containers": [{"$patch": "delete", "name": "a"}]}},
            ("spec", "containers"),
            [{"name": "b", "image": "1"}],
        ),
        (
            {"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}},
            ("spec", "containers"),
            [{"name": "z"}],
        ),
        (
            {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}]}]}},
            ("spec", "containers", 0, "ports"),
            [{"containerPort": 80, "name": "web"}],
        ),
        (
            {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": []}},
            ("spec", "containers", 0, "name"),
            "b",
        ),
        ({"spec": {"tolerations": [{"key": "new"}]}}, ("spec", "tolerations"), [{"key": "new"}]),
        ({"spec": {"tolerations": None}}, ("spec",), {"containers": _POD["spec"]["containers"]}),  # type: ignore[index]
        (
            {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}]}},
            ("status", "conditions"),
            [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}],
        ),
        ({"metadata": {"finalizers": ["y", "x"]}}, ("metadata", "finalizers"), ["y", "x"]),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}}, ("metadata", "finalizers"), []),
        ({"metadata": {"$patch": "replace", "name": "q"}}, ("metadata",), {"name": "q"}),
        ({"status": {"$patch": "delete"}}, ("status",), {}),
        ({"status": {"$retainKeys": ["phase"], "phase": "Running"}}, ("status",), {"phase": "Running"}),
    ],
)
def test_strategic_merge_patch(change: Any, path: tuple[Any, ...], result: Any) -> None:
    before = copy.deepcopy(_POD)
    merged: Any = strategic_merge(_POD, change, table.message("core.v1.Pod"))
    for step in path:
        merged = merged[step]
    assert merged == result
    assert before == _POD


@pytest.mark.parametrize(
    ("changes", "order", "result"),
    [
        ("b", "", "abc"),
        ("n", "", "nabc"),
        ("nm", "", "nmabc"),
        ("ca", "", "bca"),
        ("bn", "", "abnc"),
        ("nb", "", "nabc"),
        ("n", "bna", "bnac"),
        ("", "cb", "acb"),
        ("", "x", "abc"),
    ],
)
def test_items_are_in_upstreams_order(changes: str, order: str, result: str) -> None:
    def named(names: str) -> list[dict[str, str]]:
        return [{"name": name} for name in names]

    change = {"containers": named(changes)} | ({"$setElementOrder/containers": named(order)} if order else {})
    merged = strategic_merge({"spec": {"containers": named("abc")}}, {"spec": change}, table.message("core.v1.Pod"))
    assert "".join(item["name"] for item in merged["spec"]["containers"]) == result


def test_strategic_merge_keys_follow_the_types_and_not_the_names() -> None:
    service = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}
    merged = strategic_merge(
        service, {"spec": {"ports": [{"port": 81, "name": "c"}]}}, table.message("core.v1.Service")
    )
    assert [port["name"] for port in merged["spec"]["ports"]] == ["a", "c"]
    template = {"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}}
    change = {"spec": {"template": {"spec": {"containers": [{"name": "b"}]}}}}
    merged = strategic_merge(template, change, table.message("apps.v1.Deployment"))
    assert [item["name"] for item in merged["spec"]["template"]["spec"]["containers"]] == ["b", "a"]
    node = {"spec": {"podCIDRs": ["10.0.0.0/24"], "taints": [{"key": "a"}]}}
    merged = strategic_merge(
        node, {"spec": {"podCIDRs": ["fd00::/64"], "taints": [{"key": "b"}]}}, table.message("core.v1.Node")
    )
    assert merged["spec"] == {"podCIDRs": ["fd00::/64", "10.0.0.0/24"], "taints": [{"key": "b"}]}


@pytest.mark.parametrize(
    ("message", "path", "key"),
    [
        # The fields in a message's place, those of other groups, and those within a map of messages.
        ("core.v1.Pod", ("spec", "ephemeralContainers", 0, "env"), "name"),
        ("core.v1.Pod", ("spec", "containers", 0, "volumeMounts"), "mountPath"),
        ("batch.v1.CronJob", ("spec", "jobTemplate", "spec", "template", "spec", "hostAliases"), "ip"),
        ("rbac.v1.ClusterRole", ("aggregationRule", "clusterRoleSelectors"), ""),
        ("networking.v1.NetworkPolicy", ("spec", "ingress"), ""),
        ("core.v1.ServiceAccount", ("secrets",), "name"),
        ("autoscaling.v2.HorizontalPodAutoscaler", ("status", "conditions"), "type"),
        ("apiextensions.v1.JSONSchemaProps", ("properties", "any", "x-kubernetes-validations"), "rule"),
    ],
)
def test_every_kind_has_its_merge_keys(message: str, path: tuple[Any, ...], key: str) -> None:
    def at(items: list[dict[str, str]]) -> Any:
        value: Any = items
        for step in reversed(path):
            value = [{"name": "c", "ip": "c"} | value] if step == 0 else {step: value}
        return value

    one, other = [{(key or "a"): "1"}], [{(key or "a"): "2"}]
    merged: Any = strategic_merge(at(one), at(other), table.message(message))
    for step in path:
        merged = merged[step]
    assert merged == ([*other, *one] if key else other)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ([], "is an object"),
        ({"$patch": "explode"}, 'unknown directive $patch: "explode"'),
        ({"spec": {"$explode": 1}}, 'unknown directive "$explode"'),
        ({"spec": {"containers": [{"image": "x"}]}}, '"name" is missing'),
        ({"spec": {"containers": ["x"]}}, "holds objects only"),
        ({"spec": {"$retainKeys": 1}}, "$retainKeys is a list"),
    ],
)
def test_strategic_merge_that_cannot_be_applied(change: Any, complaint: str) -> None:
    with pytest.raises(PatchError) as refused:
        strategic_merge(_POD, change, table.message("core.v1.Pod"))
    assert complaint in str(refused.value)
