"""What rules in CEL may cost: the figures of upstream's own tests (schema/cel/compilation_test.go), and the budgets."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netlab.api.server.objects import definitions
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.structural import expressions
from netlab.api.server.objects.structural.costs import budgets, estimate, syntax
from netlab.api.server.objects.structural.costs.declared import declared
from netlab.api.server.objects.validation import definitions as validation
from tests.unit.api.definitions import definition, version

pytest.importorskip("cel_expr_python", reason="run `make setup`")

_Schema = dict[str, Any]


def _text(most: int | None = None, **said: Any) -> _Schema:
    return {"type": "string"} | ({} if most is None else {"maxLength": most}) | said


_NUMBER, _TRUTH, _EITHER = {"type": "number"}, {"type": "boolean"}, {"x-kubernetes-int-or-string": True}
_BYTES, _DURATION, _DATE, _MOMENT = (_text(format=name) for name in ("byte", "duration", "date", "date-time"))


def _list(items: _Schema, most: int | None = None) -> _Schema:
    return {"type": "array", "items": items} | ({} if most is None else {"maxItems": most})


def _map(values: _Schema, most: int | None = None) -> _Schema:
    return {"type": "object", "additionalProperties": values} | ({} if most is None else {"maxProperties": most})


def _object(*required: str, **properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


_PAIR = _object("required", required=_text(), optional=_text())


def _ruled(schema: _Schema, *rules: str, **said: str) -> _Schema:
    return copy.deepcopy(schema) | {"x-kubernetes-validations": [{"rule": rule} | said for rule in rules]}


def _cost(schema: _Schema, rule: str) -> int:
    root = declared(schema, expressions.escaped, is_resource=False)
    assert root is not None
    return estimate.most(syntax.read(expressions.serialized(rule)), root)


@pytest.mark.parametrize(
    ("schema", "rule", "cost"),
    [
        # Loops: as many rounds as items say, or as many of the shortest as are in the largest request.
        (_list(_NUMBER), "self.all(x, true)", 4718591),
        (_list(_NUMBER, 10), "self.all(x, true)", 32),
        (_list(_text()), "self.all(x, true)", 3145727),
        (_list(_TRUTH), "self.all(x, true)", 1887437),
        (_list(_EITHER), "self.all(x, true)", 4718591),
        (_list(_list(_NUMBER)), "self.all(x, true)", 3145727),
        (_list(_PAIR), "self.all(x, true)", 555128),
        (_list(_PAIR, 50), "self.all(x, true)", 152),
        (_list(_DURATION), "self.all(x, true)", 2359295),
        (_list(_DATE), "self.all(x, true)", 725936),
        (_list(_MOMENT), "self.all(x, true)", 428963),
        (_map(_NUMBER), "self.all(x, true)", 1348169),
        (_map(_text()), "self.all(x, true)", 1179647),
        (_map(_TRUTH), "self.all(x, true)", 943718),
        (_map(_MOMENT), "self.all(x, true)", 349526),
        (_map(_map(_NUMBER)), "self.all(x, true)", 1179647),
        (_map(_PAIR, 20), "self.all(x, true)", 62),
        (_list(_NUMBER), "self.all(x, x == 0.0)", 6291454),
        (_list(_map(_NUMBER)), "self.all(x, x.y == 25.2)", 6291452),
        (_list(_NUMBER, 10), "self.all(x, self.all(y, true))", 352),
        (_list(_NUMBER, 10), "self.all(x, self.all(y, self.all(z, true)))", 3552),
        # Texts: a tenth for each character that is looked at.
        (_text(), "self.contains('test')", 314574),
        (_text(10), "self.contains('test')", 5),
        (_text(), "self.startsWith('test')", 2),
        (_text(), 'size(self + "hello") > size("hello")', 314578),
        (_text(4), 'size(self + "hello") > size("hello")', 7),
        (_text(), 'self.matches("x")', 314574),
        (_text(50), 'self.matches("x")', 22),
        (_text(), '"".matches("(((((((((())))))))))[0-9]")', 7),
        (_text(), 'self.matches("")', 1),
        (_text(0), 'self == "x"', 1),
        (_text(), 'self == "x"', 2),
        (_BYTES, 'self == b"x"', 2),
        (_map(_text()), "self.all(x, x.contains(self[x]))", 2752507),
        (_map(_text(10), 10), "self.all(x, x.contains(self[x]))", 72),
        # What is reached by indices.
        (_list(_NUMBER), "self[1] == 0.0", 2),
        (_list(_text()), "self[1] == self[1]", 314577),
        (_list(_EITHER), "self[0] == 5", 3),
        (_list(_list(_NUMBER)), "self[0][0] == -1.0", 3),
        (_list(_map(_NUMBER)), "self[0].x > 2.0", 4),
        (_list(_DURATION), "self[0].getHours() == 2", 4),
        (_map(_NUMBER, 0), 'self["x"] == 0.0', 2),
        (_map(_MOMENT), 'self["a"] == self["b"]', 8),
        (_map(_NUMBER), "oldSelf.size() == self.size()", 5),
        # Kubernetes' functions.
        (_text(), "self.find('[0-9]+') == ''", 629147),
        (_text(10), "self.find('[0-9]+') == ''", 11),
        (_list(_text()), "self.join(' ') == 'aa bb'", 329853068905),
        (_list(_text(10), 10), "self.join(' ') == 'aa bb'", 43),
        (_list(_text()), "self.isSorted() == true", 329854432052),
        (_list(_text(10), 10), "self.isSorted() == true", 52),
        (_object(a=_text(), b=_text(2), c=_text(4)), "self.a.replace(self.b, self.c) == 'does not matter'", 629154),
        (_object(a=_text(4), b=_text(2), c=_text(4)), "self.a.replace(self.b, self.c) == 'does not matter'", 12),
        (_object(a=_text(), b=_text()), "self.a.split(self.b) == []", 629160),
        (_object(a=_text(10), b=_text(10)), "self.a.split(self.b) == []", 22),
        (_text(), "self.lowerAscii() == 'lower!'", 314575),
        (_text(10), "self.lowerAscii() == 'lower!'", 6),
        (_text(enum=["A", "BB"]), "self.contains('test')", 2),
    ],
)
def test_the_most_that_a_rule_costs(schema: _Schema, rule: str, cost: int) -> None:
    assert _cost(schema, rule) == cost


def test_a_rule_is_dearer_than_all_of_its_parts() -> None:
    schema = _object(a=_text(10), b=_list(_text(5), 4), c=_map(_NUMBER, 3))
    parts = (
        "self.a.size() > 1",
        "self.b.exists(x, x == self.a)",
        "self.c.all(k, self.c[k] > 0.0)",
        "self.?a.hasValue()",
    )
    costs = [_cost(schema, each) for each in parts]
    assert all(0 < cost < 200 for cost in costs)
    assert _cost(schema, " && ".join(parts)) == sum(costs)
    assert _cost(schema, " ? true : ".join((*parts, "false"))) <= sum(costs)
    many = " + ".join(["self.a"] * 25)
    assert _cost(schema, f"{many} == ''") > _cost(schema, "self.a + self.a == ''")


def test_values_that_are_computed_have_sizes() -> None:
    schema = _object(a=_list(_object(n=_text(6)), 5), t=_text(20))
    mapped = _cost(schema, "self.a.map(x, x.n).exists(y, y == self.t)")
    assert 0 < mapped < 1000
    assert _cost(schema, "self.a.filter(x, x.n == 'b').size() < 2") < 1000
    assert _cost(schema, "self.?t.optMap(v, v.contains('a')).orValue(true)") > 0
    assert _cost(schema, "self.t.split(',', 3).all(p, p != '')") < _cost(schema, "self.t.split(',').all(p, p != '')")


# --- budgets ---------------------------------------------------------------------------------------------------------


def _found(schema: _Schema, *, is_unchanged: bool = False) -> list[tuple[str, str]]:
    problems = Problems()
    budgets.check(schema, "s", problems, is_unchanged=is_unchanged)
    return [(each.field.removeprefix("s."), each.message) for each in problems]


_DEAR = "self.all(x, self.all(y, x == y))"
_ADVICE = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are"
)


def test_one_rule_beyond_its_budget() -> None:
    [(path, said), (named, _), (_, total)] = _found(_object(a=_ruled(_list(_text()), _DEAR)))
    assert path == named == "properties[a].x-kubernetes-validations[0].rule"
    assert said == (f"Forbidden: estimated rule cost exceeds budget by factor of more than 100x {_ADVICE} declared)")
    assert "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget" in total
    assert _found(_object(a=_ruled(_list(_text(63), 16), _DEAR))) == []


@pytest.mark.parametrize(
    ("items", "factor"),
    [(1500, "1.125"), (2000, "2.0")],
)
def test_the_factor_in_the_message(items: int, factor: str) -> None:
    [(_, said)] = _found(_object(a=_ruled(_list(_NUMBER, items), "self.all(x, self.all(y, x != y))")))
    [found] = [word for word in said.split() if word.endswith("x")]
    assert found.startswith(factor)
    assert len(found) == (9 if float(factor) < 1.5 else 4)


def test_a_rule_costs_as_often_as_there_are_values() -> None:
    rule = "self.contains('ab')"
    assert _found(_object(a=_list(_ruled(_text(), rule), 10))) == []
    [(path, _)] = _found(_object(a=_list(_ruled(_text(), rule), 100)))
    assert path == "properties[a].items.x-kubernetes-validations[0].rule"
    assert _found(_object(a=_list(_ruled(_text(20), rule), 100))) == []
    # Nothing says how many there are: as many of the shortest as a request has room for.
    assert len(_found(_object(a=_map(_ruled(_text(), rule))))) == 3
    assert _found(_object(a=_map(_ruled(_NUMBER, "self > 1.0")))) == []


def test_many_rules_beyond_the_budget_of_all() -> None:
    schema = _object(
        **{f"f{index}": _ruled(_list(_NUMBER, 1000), "self.all(x, self.all(y, x != y))") for index in range(30)}
    )
    assert _found(schema)[-1][0] == "s"
    found = _found(schema)
    assert len(found) == 5
    assert all("contributed to estimated rule cost total" in said for _, said in found[:4])
    assert "exceeds budget by factor of 1.5x" in found[-1][1]


def test_messages_cost_too() -> None:
    dear = "self.all(x, self.all(y, x == y)) ? 'a' : 'b'"
    found = _found(_object(a=_ruled(_list(_text()), "self.size() < 9", messageExpression=dear)))
    assert found[0][0] == "properties[a].x-kubernetes-validations[0].messageExpression"
    assert found[0][1].startswith("Forbidden: estimated messageExpression cost exceeds budget")


def test_what_is_stored_already_is_let_be() -> None:
    """But for all rules together, as upstream."""
    one = _object(a=_ruled(_list(_NUMBER, 2000), "self.all(x, self.all(y, x != y))"))
    assert len(_found(one)) == 1
    assert _found(one, is_unchanged=True) == []
    root = _object(spec=one)

    def problems(schema: _Schema, before: _Schema | None) -> list[str]:
        found = Problems()
        new, old = (definition("Box", version(schema={"openAPIV3Schema": each or root})) for each in (schema, before))
        for each in (new, old):
            definitions.default(each)
        validation.check(new, old if before is not None else None, found)
        return [each.message for each in found if "budget" in each.message]

    assert len(problems(root, None)) == 1
    assert problems(root, root) == []
    wider = copy.deepcopy(root)
    wider["properties"]["spec"]["properties"]["b"] = _text()
    assert len(problems(wider, root)) == 1
