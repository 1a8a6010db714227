"""Structural schemas: what objects are refused by them, what is taken out, what is filled in."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.structural import checking, formats, rules, shaping
from netlab.api.server.objects.structural.nodes import compiled


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_SET = {"type": "array", "x-kubernetes-list-type": "set", "items": _TEXT}
_MAP = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {**_object(name=_TEXT, size={"type": "integer", "maximum": 5}), "required": ["name"]},
}
_EMBEDDED = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (_TEXT, "x", []),
        (_TEXT, 1, ['FieldValueTypeInvalid a: Invalid value: "integer": a in body must be of type string: "integer"']),
        (_TEXT, None, ['FieldValueTypeInvalid a: Invalid value: "null": a in body must be of type string: "null"']),
        ({**_TEXT, "nullable": True}, None, []),
        (_NUMBER, 3.0, []),
        (
            _NUMBER,
            True,
            ['FieldValueTypeInvalid a: Invalid value: "boolean": a in body must be of type integer: "boolean"'],
        ),
        ({"type": "number"}, 3, []),
        ({"x-kubernetes-int-or-string": True}, "50%", []),
        (
            {"x-kubernetes-int-or-string": True},
            [],
            ['FieldValueTypeInvalid a: Invalid value: "array": a in body must be of type integer,string: "array"'],
        ),
        (
            {**_NUMBER, "format": "int32"},
            1 << 31,
            ["FieldValueInvalid a: Invalid value: 2147483648: a in body must be of type integer with format int32"],
        ),
        (
            {**_TEXT, "enum": ["x", "y"]},
            "z",
            ['FieldValueNotSupported a: Unsupported value: "z": supported values: "x", "y"'],
        ),
        ({**_TEXT, "enum": ["x"], "nullable": True}, "x", []),
        ({**_TEXT, "maxLength": 2}, "xyz", ["FieldValueTooLong a: Too long: may not be more than 2 bytes"]),
        (
            {**_TEXT, "minLength": 2},
            "x",
            ['FieldValueInvalid a: Invalid value: "x": a in body should be at least 2 chars long'],
        ),
        (
            {**_NUMBER, "minimum": 1},
            0,
            ["FieldValueInvalid a: Invalid value: 0: a in body should be greater than or equal to 1"],
        ),
        (
            {**_NUMBER, "maximum": 1, "exclusiveMaximum": True},
            1,
            ["FieldValueInvalid a: Invalid value: 1: a in body should be less than 1"],
        ),
        ({"type": "number", "multipleOf": 0.1}, 0.3, []),
        (
            {**_NUMBER, "multipleOf": 5},
            6,
            ["FieldValueInvalid a: Invalid value: 6: a in body should be a multiple of 5"],
        ),
        (
            {"type": "array", "items": _TEXT, "maxItems": 1},
            ["x", "y"],
            ["FieldValueTooMany a: Too many: 2: must have at most 1 items"],
        ),
        (
            {"type": "array", "items": _TEXT, "minItems": 1},
            [],
            ["FieldValueInvalid a: Invalid value: 0: a in body should have at least 1 items"],
        ),
        (
            {"type": "object", "additionalProperties": _NUMBER, "maxProperties": 1},
            {"x": 1, "y": "z"},
            [
                "FieldValueTooMany a: Too many: 2: must have at most 1 items",
                'FieldValueTypeInvalid a.y: Invalid value: "string": a.y in body must be of type integer: "string"',
            ],
        ),
        ({**_object(x=_TEXT), "required": ["x"]}, {}, ["FieldValueRequired a.x: Required value"]),
        (_SET, ["x", "y", "x"], ['FieldValueDuplicate a[2]: Duplicate value: "x"']),
        (_MAP, [{"name": "x"}, {"name": "x"}], ['FieldValueDuplicate a[1]: Duplicate value: {"name":"x"}']),
        (
            {**_object(x=_TEXT, y=_TEXT), "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
            {"x": "1", "y": "2"},
            [
                'FieldValueInvalid <nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). '
                "Found 2 valid alternatives"
            ],
        ),
        (
            {**_object(x=_TEXT, y=_TEXT), "anyOf": [{"required": ["x"]}, {"required": ["y"]}]},
            {},
            [
                'FieldValueInvalid <nil>: Invalid value: "": "a" must validate at least one schema (anyOf)',
                "FieldValueRequired a.x: Required value",
            ],
        ),
        (
            {**_NUMBER, "allOf": [{"minimum": 2}, {"maximum": 5}]},
            1,
            [
                "FieldValueInvalid a: Invalid value: 1: a in body should be greater than or equal to 2",
                'FieldValueInvalid <nil>: Invalid value: "": "a" must validate all the schemas (allOf)',
            ],
        ),
        (
            {**_TEXT, "not": {"enum": ["x"]}},
            "x",
            ['FieldValueInvalid <nil>: Invalid value: "": "a" must not validate the schema (not)'],
        ),
        (
            _EMBEDDED,
            {"kind": "", "metadata": {"labels": {"/": "x"}}},
            [
                "FieldValueRequired a.apiVersion: Required value",
                'FieldValueInvalid a.kind: Invalid value: "": must not be empty',
                'FieldValueInvalid a.metadata.labels: Invalid value: "/": name part must be a qualified name',
            ],
        ),
        (
            {**_TEXT, "format": "date-time"},
            "yesterday",
            ['FieldValueTypeInvalid a: Invalid value: "yesterday": a in body must be of type date-time: "yesterday"'],
        ),
        ({**_TEXT, "format": "nobody-knows"}, "x", []),
    ],
)
def test_a_value(schema: dict[str, Any], value: Any, expected: list[str]) -> None:
    problems = Problems()
    checking.check({"a": value}, compiled(_object(a=schema)), problems)
    assert [f"{each.reason} {each.field}: {each.message}" for each in problems] == expected


@pytest.mark.parametrize(
    ("schema", "old", "new", "fields"),
    [
        ({**_NUMBER, "maximum": 5}, 7, 7, []),
        ({**_NUMBER, "maximum": 5}, 7, 8, ["a"]),
        (_MAP, [{"name": "x", "size": 7}], [{"name": "y", "size": 1}, {"name": "x", "size": 7}], []),
        (_MAP, [{"name": "x", "size": 7}], [{"name": "x", "size": 8}], ["a[0].size"]),
        (_SET, ["x", "x"], ["x", "x", "y", "y"], []),
    ],
)
def test_what_has_not_changed_is_let_be(schema: dict[str, Any], old: Any, new: Any, fields: list[str]) -> None:
    problems = Problems()
    checking.check({"a": new}, compiled(_object(a=schema)), problems, {"a": old})
    assert [each.field for each in problems] == fields


def test_an_object_that_takes_too_long_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "MOST_LOOKS", 20_000)
    inner = {**_NUMBER, "anyOf": [{"minimum": number} for number in range(1000, 2000)]}
    problems = Problems()
    checking.check({"a": [1] * 30}, compiled(_object(a={"type": "array", "items": inner})), problems)
    assert problems[-1].message.endswith("steps: make it smaller")
    assert len(problems) <= checking.MOST_PROBLEMS + 1


_OPEN = {"x-kubernetes-preserve-unknown-fields": True}


@pytest.mark.parametrize(
    ("schema", "value", "kept", "unknown"),
    [
        (_object(x=_TEXT), {"x": "1", "y": 2}, {"x": "1"}, ["a.y"]),
        (_object(x=_TEXT), {"metadata": {}}, {}, ["a.metadata"]),
        (
            {"type": "array", "items": _object(x=_TEXT)},
            [{"x": "1", "y": 2}, {"z": []}],
            [{"x": "1"}, {}],
            ["a[0].y", "a[1].z"],
        ),
        ({"type": "object", "additionalProperties": _object(x=_TEXT)}, {"k": {"y": 1}}, {"k": {}}, ["a.k.y"]),
        ({"type": "object", **_OPEN}, {"x": {"y": [{"z": 1}]}}, {"x": {"y": [{"z": 1}]}}, []),
        ({**_object(x=_object(z=_TEXT)), **_OPEN}, {"x": {"y": 1}, "w": {}}, {"x": {}, "w": {}}, ["a.x.y"]),
        (_EMBEDDED, {"kind": "K", "metadata": {"x": 1}}, {"kind": "K", "metadata": {"x": 1}}, []),
        (
            {**_object(spec=_object()), "x-kubernetes-embedded-resource": True},
            {"kind": "K", "spec": {"x": 1}, "status": {}},
            {"kind": "K", "spec": {}},
            ["a.spec.x", "a.status"],
        ),
    ],
)
def test_unknown_fields(schema: dict[str, Any], value: Any, kept: Any, unknown: list[str]) -> None:
    obj, found = {"apiVersion": "v", "kind": "K", "metadata": {"x": 1}, "a": value, "b": 1}, list[str]()
    shaping.prune(obj, compiled(_object(a=schema)), found.append)
    assert obj == {"apiVersion": "v", "kind": "K", "metadata": {"x": 1}, "a": kept}
    assert sorted(found) == sorted([*unknown, "b"])


@pytest.mark.parametrize(
    ("schema", "value", "filled"),
    [
        (_object(x={**_TEXT, "default": "d"}), {}, {"x": "d"}),
        (_object(x={**_TEXT, "default": "d"}), {"x": "given"}, {"x": "given"}),
        (_object(x={**_TEXT, "default": "d"}), {"x": None}, {"x": "d"}),
        (_object(x={**_TEXT, "default": "d", "nullable": True}), {"x": None}, {"x": None}),
        (_object(x=_TEXT), {"x": None}, {}),
        (_object(x={**_TEXT, "nullable": True}), {"x": None}, {"x": None}),
        (_object(x={**_object(y={**_NUMBER, "default": 1}), "default": {}}), {}, {"x": {"y": 1}}),
        ({"type": "array", "items": _object(y={**_NUMBER, "default": 1})}, [{}, {"y": 2}], [{"y": 1}, {"y": 2}]),
        ({"type": "object", "additionalProperties": _object(y={**_NUMBER, "default": 1})}, {"k": {}}, {"k": {"y": 1}}),
    ],
)
def test_defaults(schema: dict[str, Any], value: Any, filled: Any) -> None:
    root = compiled(_object(a=schema))
    obj = {"a": copy.deepcopy(value)}
    shaping.drop_nulls(obj, root)
    shaping.fill(obj, root)
    assert obj == {"a": filled}


def test_defaults_are_not_shared() -> None:
    root = compiled(_object(x={**_object(), "default": {"k": []}}))
    one: dict[str, Any] = {}
    shaping.fill(one, root)
    one["x"]["k"].append(1)
    other: dict[str, Any] = {}
    shaping.fill(other, root)
    assert other == {"x": {"k": []}}


@pytest.mark.parametrize(
    ("schema", "field", "text"),
    [
        ({}, "", "must not be empty at the root"),
        ({"type": "string"}, ".type", "must be object at the root"),
        ({"type": "object", "nullable": True}, ".nullable", "nullable cannot be true at the root"),
        ({"type": "object", "additionalProperties": True}, ".additionalProperties", "must not be used at the root"),
        ({"type": "object", "$ref": "#/x"}, ".$ref", "$ref is not supported"),
        (_object(a={}), ".properties[a].type", "must not be empty for specified object fields"),
        (_object(a={"type": "text"}), ".properties[a].type", 'Unsupported value: "text"'),
        (_object(a={"type": "null"}), ".properties[a].type", "use nullable as an alternative"),
        (_object(a={"type": "array"}), ".properties[a].items", "must be specified"),
        (
            _object(a={"type": "array", "items": {}}),
            ".properties[a].items.type",
            "must not be empty for specified array items",
        ),
        (_object(a={"type": "array", "items": [{"type": "string"}]}), ".properties[a].items", "not an array"),
        (_object(a={**_TEXT, "uniqueItems": True}), ".properties[a].uniqueItems", "becomes quadratic"),
        (
            _object(a={**_object(b=_TEXT), "additionalProperties": _TEXT}),
            ".properties[a].additionalProperties",
            "mutual exclusive",
        ),
        (
            _object(metadata={"type": "object", "properties": {"labels": {"type": "object"}}}),
            ".properties[metadata]",
            "must not specify anything other than name and generateName",
        ),
        (
            _object(metadata={"type": "object", "default": {}}),
            ".properties[metadata].default",
            "must not be set in top-level metadata",
        ),
        (
            {**_object(a=_TEXT), "anyOf": [{"properties": {"b": {"minLength": 1}}}]},
            ".properties[b]",
            "because it is defined in s.anyOf[0].properties[b]",
        ),
        (
            {**_object(a=_TEXT), "anyOf": [{"properties": {"a": {"type": "string"}}}]},
            ".anyOf[0].properties[a].type",
            "must be empty to be structural",
        ),
        (
            _object(a={"type": "object", "x-kubernetes-embedded-resource": True}),
            ".properties[a].properties",
            "must not be empty if x-kubernetes-embedded-resource is true",
        ),
        (_object(a={"x-kubernetes-int-or-string": True, **_OPEN}), ".x-kubernetes-preserve-unknown-fields", "false"),
        (
            _object(a={"type": "object", "x-kubernetes-preserve-unknown-fields": False}),
            ".x-kubernetes-preserve-unknown-fields",
            "must be true or undefined",
        ),
        (
            _object(a={**_MAP, "x-kubernetes-list-map-keys": ["size"]}),
            ".items.properties[size].default",
            "must have a default or be a required property",
        ),
        (
            _object(a={**_MAP, "x-kubernetes-list-map-keys": []}),
            ".x-kubernetes-list-map-keys",
            "must not be empty if x-kubernetes-list-type is map",
        ),
        (
            _object(a={**_SET, "items": _object()}),
            ".items.x-kubernetes-map-type",
            "must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        (_object(a={**_SET, "type": "object"}), ".properties[a].type", "must be array"),
        (_object(a={**_TEXT, "x-kubernetes-map-type": "atomic"}), ".properties[a].type", "must be object"),
        (_object(a={**_NUMBER, "default": "x"}), ".properties[a].default", "must be of type integer"),
        (
            _object(a={**_object(b=_TEXT), "default": {"b": "1", "c": 2}}),
            ".properties[a].default",
            "must not have unknown fields",
        ),
        (_object(a={**_TEXT, "x-kubernetes-validations": [{"rule": " "}]}), ".rule", "rule is not specified"),
    ],
)
def test_schemas_that_are_refused(schema: dict[str, Any], field: str, text: str) -> None:
    problems = Problems()
    rules.check(schema, "s", problems, has_status=False)
    assert any(each.field.endswith(field) and text in each.message for each in problems), problems


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", **_OPEN},
        _object(metadata=_object(name={"type": "string", "maxLength": 9}), kind=_TEXT, apiVersion=_TEXT),
        _object(a={"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        _object(
            a={
                "x-kubernetes-int-or-string": True,
                "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"enum": [1]}],
            }
        ),
        {**_object(a=_object(b=_TEXT)), "oneOf": [{"properties": {"a": {"required": ["b"]}}}]},
        _object(a=_MAP, b=_SET, c=_EMBEDDED),
    ],
)
def test_schemas_that_are_structural(schema: dict[str, Any]) -> None:
    problems = Problems()
    rules.check(schema, "s", problems, has_status=False)
    assert not problems


def test_the_root_is_plain_where_the_status_is_a_subresource() -> None:
    problems = Problems()
    rules.check({**_object(), "minProperties": 1}, "s", problems, has_status=True)
    assert "fields are allowed at the root of the schema if the status subresource is enabled" in problems[0].message


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("date-time", ["2024-02-29T12:00:00Z", "2024-01-01t00:00:00.5+02:00"], ["2023-02-29T12:00:00Z", "2024-01-01"]),
        ("date", ["2024-02-29"], ["2024-13-01", "x"]),
        ("duration", ["1h30m", "22 ns", "0"], ["1", "x"]),
        ("ipv4", ["10.0.0.1"], ["10.0.0.256", "::1"]),
        ("ipv6", ["::1"], ["10.0.0.1", "fe80::1%eth0"]),
        ("cidr", ["10.0.0.0/8", "fd00::/8"], ["10.0.0.0", "10.0.0.0/33"]),
        ("mac", ["00:1a:2B:3c:4d:5e"], ["00:1a:2b:3c:4d", "x"]),
        ("uuid", ["123E4567-e89b-12d3-a456-426614174000"], ["123"]),
        ("uuid4", ["123e4567-e89b-42d3-a456-426614174000"], ["123e4567-e89b-12d3-a456-426614174000"]),
        ("email", ["a@example.com"], ["a", "a@b@c"]),
        ("hostname", ["www.example.com"], ["-a", "a..b"]),
        ("uri", ["https://example.com/a", "/a"], ["a b", "::"]),
        ("byte", ["aGk="], ["x", "a$=="]),
        ("isbn", ["0321751043", "978-0321751041"], ["0321751044"]),
        ("creditcard", ["4111 1111 1111 1111"], ["4111 1111 1111 1112"]),
        ("hexcolor", ["#fff", "FFFFFF"], ["#ff"]),
        ("rgbcolor", ["rgb(255,0,1)"], ["rgb(256,0,0)"]),
        ("ssn", ["123-45-6789"], ["123"]),
        ("bsonobjectid", ["507f1f77bcf86cd799439011"], ["5"]),
        ("k8s-short-name", ["a-1"], ["-a", "a" * 64]),
        ("k8s-long-name", ["a.b-1"], ["a..b"]),
    ],
)
def test_formats(name: str, right: list[str], wrong: list[str]) -> None:
    check = formats.FORMATS[name.replace("-", "")]
    assert formats.is_known("string", name)
    assert [each for each in right if not check(each)] == []
    assert [each for each in wrong if check(each)] == []
