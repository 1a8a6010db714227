"""Rules in CEL: what they see of a value, when they are looked at, and what is said of those that are broken."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.server.objects import definitions
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.structural import checking, expressions, rules
from netlab.api.server.objects.structural.nodes import compiled
from tests.unit.api.definitions import definition, version

pytest.importorskip("cel_expr_python", reason="run `make setup`")

_NUMBER, _TEXT = {"type": "integer"}, {"type": "string"}
_NOTHING = object()


def _object(rule: str = "", **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return schema | ({"x-kubernetes-validations": [{"rule": rule}]} if rule else {})


def _broken(schema: dict[str, Any], value: Any, old: Any = _NOTHING) -> list[str]:
    problems = Problems()
    before = None if old is _NOTHING else {"a": old}
    checking.check({"a": value}, compiled(_object(a=schema)), problems, before)
    return [f"{each.field}: {each.message}" for each in problems]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (_object("self.least <= self.most", least=_NUMBER, most=_NUMBER), {"least": 1, "most": 2}),
        (_object("!has(self.x) || self.x == 1", x=_NUMBER), {}),
        (
            _object("self.__namespace__ == 'n' && self.a__dash__b == 1", **{"namespace": _TEXT, "a-b": _NUMBER}),
            {"namespace": "n", "a-b": 1},
        ),
        (_object("self.x > 1.5", x={"type": "number"}), {"x": 2}),
        (_object("type(self.x) == int", x=_NUMBER), {"x": 2.0}),
        (
            _object("self.x.all(k, self.x[k] > 0)", x={"type": "object", "additionalProperties": _NUMBER}),
            {"x": {"a.b": 1}},
        ),
        (_object("self.?x.orValue(3) == 3", x=_NUMBER), {}),
        (_object("self.x.lowerAscii().split(',').size() == 2", x=_TEXT), {"x": "A,B"}),
        (_object("isIP(self.x) && !isCIDR(self.x) && isCIDR(self.x + '/8')", x=_TEXT), {"x": "10.0.0.1"}),
        (
            _object(
                "self.x.isSorted() && self.x.sum() == 3 && self.x.max() == 2", x={"type": "array", "items": _NUMBER}
            ),
            {"x": [1, 2]},
        ),
        (
            _object(
                "sets.contains(self.x, [2]) && !sets.intersects(self.x, [3])", x={"type": "array", "items": _NUMBER}
            ),
            {"x": [1, 2]},
        ),
        (_object("self.x.find('[0-9]+') == '12' && self.x.matches('^a')", x=_TEXT), {"x": "a12b"}),
        # What the schema does not have, a rule does not see.
        ({**_object("!has(self.y)", x=_NUMBER), "x-kubernetes-preserve-unknown-fields": True}, {"y": 1}),
    ],
)
def test_rules_that_hold(schema: dict[str, Any], value: Any) -> None:
    assert _broken(schema, value) == []


def test_the_root_knows_its_names() -> None:
    problems = Problems()
    rule = "self.metadata.name.startsWith('a') && self.kind == 'K' && !has(self.metadata.labels)"
    obj = {"kind": "K", "metadata": {"name": "abc", "labels": {}}}
    checking.check(obj, compiled(_object(rule)), problems)
    assert not problems


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"message": "too small"}, 'a: Invalid value: "integer": too small'),
        ({}, 'a: Invalid value: "integer": failed rule: self > 1'),
        ({"messageExpression": "'%d is too small'.format([self])"}, 'a: Invalid value: "integer": 1 is too small'),
        ({"messageExpression": "1 / 0", "message": "m"}, 'a: Invalid value: "integer": m'),
        ({"reason": "FieldValueForbidden", "message": "m"}, "a: Forbidden: m"),
        ({"reason": "FieldValueRequired", "message": "m"}, "a: Required value: m"),
        ({"reason": "FieldValueDuplicate", "message": "m"}, 'a: Duplicate value: "integer"'),
        ({"fieldPath": ".b", "message": "m"}, 'a.b: Invalid value: "integer": m'),
    ],
)
def test_what_is_said_of_a_broken_rule(rule: dict[str, str], expected: str) -> None:
    assert _broken({**_NUMBER, "x-kubernetes-validations": [{"rule": "self > 1"} | rule]}, 1) == [expected]


_LIST = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": _object("self.size >= oldSelf.size", name=_TEXT, size=_NUMBER) | {"required": ["name"]},
}


@pytest.mark.parametrize(
    ("schema", "old", "new", "broken"),
    [
        ({**_NUMBER, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}, _NOTHING, 1, 0),
        ({**_NUMBER, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}, 1, 1, 0),
        ({**_NUMBER, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}, 1, 2, 1),
        # What was wrong before, and is the same, is let be.
        ({**_NUMBER, "x-kubernetes-validations": [{"rule": "self > 5"}]}, 1, 1, 0),
        (_LIST, [{"name": "x", "size": 2}], [{"name": "y", "size": 1}, {"name": "x", "size": 3}], 0),
        (_LIST, [{"name": "x", "size": 2}], [{"name": "y", "size": 1}, {"name": "x", "size": 1}], 1),
    ],
)
def test_rules_about_changes(schema: dict[str, Any], old: Any, new: Any, broken: int) -> None:
    assert len(_broken(schema, new, old)) == broken


def test_rules_are_not_asked_about_what_has_another_shape() -> None:
    [wrong, unasked] = _broken(_object("self.x > 1", x=_NUMBER), {"x": "1"})
    assert wrong.startswith("a.x: Invalid value")
    assert "some validation rules were not checked" in unasked


def test_a_rule_that_takes_too_long() -> None:
    rule = "self.x.all(a, self.x.all(b, self.x.all(c, a + b + c < 1000000)))"
    [said] = _broken(_object(rule, x={"type": "array", "items": _NUMBER}), {"x": list(range(300))})
    assert "call cost exceeds limit evaluating rule" in said


def test_rules_that_take_too_long_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "MOST_SECONDS", -1.0)
    [said] = _broken({**_NUMBER, "x-kubernetes-validations": [{"rule": "self > 1"}]}, 2)
    assert "running out of cost budget, no further validation rules will be run" in said


def test_rules_of_a_definition() -> None:
    problems = Problems()
    rules.check(_object("self.x >"), "s", problems, has_status=False)
    assert "compilation failed: ERROR: <input>:1:9: Syntax error" in problems[0].message
    problems.clear()
    rules.check(
        _object("self.x + self.y.size() > self.size() && 'self.z' != ''", x=_NUMBER), "s", problems, has_status=False
    )
    assert [each.message.rpartition(": ")[2] for each in problems] == ["undefined field 'y'"]
    problems.clear()
    schema = _object("quantity(self.x).isGreaterThan(quantity('1'))", x=_TEXT)
    rules.check(schema, "s", problems, has_status=False)
    assert not problems
    [warning] = definitions.warnings(definition("Box", version(schema={"openAPIV3Schema": schema})))
    assert "nothing in netlab evaluates" in warning
    assert "undeclared reference to 'quantity'" in warning
    assert _broken(schema, {"x": "0"}) == []


_CHANGE = {**_NUMBER, "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}
_KEYED = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}


def _list_of(items: dict[str, Any], **said: Any) -> dict[str, Any]:
    return {"type": "array", "items": items} | said


@pytest.mark.parametrize(
    ("schema", "within"),
    [
        (_object(a=_CHANGE), None),
        (_object(a={"type": "object", "additionalProperties": _CHANGE}), None),
        (_object(a=_list_of(_object(k=_TEXT, b=_CHANGE) | {"required": ["k"]}, **_KEYED)), None),
        (_object(a=_list_of(_CHANGE)), "s.properties[a]"),
        (_object(a=_list_of(_object(b=_CHANGE))), "s.properties[a]"),
        (_object(a=_list_of(_list_of(_CHANGE))), "s.properties[a]"),
        (_object(a=_list_of(_CHANGE, **{"x-kubernetes-list-type": "set"})), "s.properties[a]"),
        (_object(a=_object(b=_CHANGE) | {"x-kubernetes-map-type": "atomic"}), "s.properties[a]"),
        (_object(a=_list_of({**_TEXT, "x-kubernetes-validations": [{"rule": "self != 'oldSelf'"}]})), None),
    ],
)
def test_rules_about_changes_of_what_cannot_be_compared(schema: dict[str, Any], within: str | None) -> None:
    problems = Problems()
    rules.check(schema, "s", problems, has_status=False)
    said = "oldSelf cannot be used on the uncorrelatable portion of the schema within "
    assert [each.message.partition(said)[2] for each in problems] == ([] if within is None else [within])


@pytest.mark.parametrize(
    ("rule", "field", "said"),
    [
        ({"rule": "self > 1 ? 2 : 3"}, "rule", "cel expression must evaluate to a bool"),
        ({"rule": "self > 1", "optionalOldSelf": True}, "optionalOldSelf", "may not be set if oldSelf is not used"),
        ({"rule": "self > 1", "messageExpression": "1 + 1"}, "messageExpression", "must evaluate to a string"),
        ({"rule": "self > 1", "messageExpression": "1 +"}, "messageExpression", "compilation failed"),
        ({"rule": "self > 1", "messageExpression": " "}, "messageExpression", "must be non-empty if specified"),
        ({"rule": "self > 1 &&\nself < 3"}, "message", "must be specified if rule contains line breaks"),
    ],
)
def test_what_a_rule_cannot_be(rule: dict[str, Any], field: str, said: str) -> None:
    problems = Problems()
    rules.check(_object(a={**_NUMBER, "x-kubernetes-validations": [rule]}), "s", problems, has_status=False)
    [problem] = problems
    assert problem.field == f"s.properties[a].x-kubernetes-validations[0].{field}"
    assert said in problem.message


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("size", "size"),
        ("a-b", "a__dash__b"),
        ("a.b/c", "a__dot__b__slash__c"),
        ("a__b", "a__underscores__b"),
        ("in", "__in__"),
        ("1a", None),
        ("a b", None),
    ],
)
def test_names_as_rules_write_them(name: str, written: str | None) -> None:
    assert expressions.escaped(name) == written
