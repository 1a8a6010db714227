"""What the rules of a definition may cost (apiextensions-apiserver pkg/apis/apiextensions/validation)."""

from __future__ import annotations

from typing import Final

from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.structural import expressions
from netlab.api.server.objects.structural.costs import estimate, syntax
from netlab.api.server.objects.structural.costs.declared import MOST_BYTES, Declared, declared
from netlab.api.server.objects.structural.nodes import Schema

MOST_PER_EXPRESSION: Final = 10_000_000
"""StaticEstimatedCostLimit."""
MOST_PER_SCHEMA: Final = 100_000_000
"""StaticEstimatedCRDCostLimit."""

_NAMED = 4
"""So many rules are named when all together cost too much: those that cost a hundredth of what all may."""


def check(schema: Schema, path: str, problems: Problems, *, is_unchanged: bool) -> None:
    """Complain about rules that may cost too much, of a whole schema that is right otherwise.

    `is_unchanged`: it is stored like that already. Then one rule may cost too much, but not all together, as upstream.
    """
    _Budget(problems, is_unchanged=is_unchanged).check(schema, path)


class _Budget:
    """A walk along a schema, and what its rules cost together."""

    def __init__(self, problems: Problems, *, is_unchanged: bool) -> None:
        self._problems = problems
        self._is_unchanged = is_unchanged
        self._total = 0
        self._expensive: list[tuple[int, str]] = []

    def check(self, schema: Schema, path: str) -> None:
        self._walk(schema, path, None, 1, is_root=True)
        if self._total <= MOST_PER_SCHEMA:
            return
        for _, rule in sorted(self._expensive, key=lambda each: -each[0])[:_NAMED]:
            detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            self._problems.forbidden(rule, detail)
        name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        self._problems.forbidden(path, _exceeds(name, self._total, MOST_PER_SCHEMA))

    def _walk(self, schema: Schema, path: str, known: Declared | None, times: int | None, *, is_root: bool) -> None:
        """`times`: how often there can be such a value in an object; None: nothing says it."""
        rules = schema.get("x-kubernetes-validations", ())
        if rules and known is None:
            is_resource = is_root or bool(schema.get("x-kubernetes-embedded-resource"))
            known = declared(schema, expressions.escaped, is_resource=is_resource)
        if known is not None:
            for index, rule in enumerate(rules):
                self._count(rule, f"{path}.x-kubernetes-validations[{index}]", known, times)
        items, additional = schema.get("items"), schema.get("additionalProperties")
        element = known.element if known is not None else None
        inner = _times_of(schema, times)
        if isinstance(additional, dict):
            self._walk(additional, f"{path}.additionalProperties", element, inner, is_root=False)
        for name, below in schema.get("properties", {}).items():
            key = expressions.escaped(name)
            field = known.fields.get(key) if known is not None and key is not None else None
            self._walk(below, f"{path}.properties[{name}]", field, inner, is_root=False)
        if isinstance(items, dict):
            self._walk(items, f"{path}.items", element, inner, is_root=False)

    def _count(self, rule: Schema, path: str, known: Declared, times: int | None) -> None:
        if times is None:
            # As often as the shortest value, and a comma, are in the largest request.
            times = MOST_BYTES // (known.least_bytes + 1)
        cost = _most(rule.get("rule", ""), known)
        self._charge(min(estimate.MOST, cost * times), "estimated rule cost", f"{path}.rule")
        message = _most(rule.get("messageExpression", ""), known)
        self._charge(message, "estimated messageExpression cost", f"{path}.messageExpression")

    def _charge(self, cost: int, name: str, path: str) -> None:
        if cost > MOST_PER_EXPRESSION and not self._is_unchanged:
            self._problems.forbidden(path, _exceeds(name, cost, MOST_PER_EXPRESSION))
        self._total = min(estimate.MOST, self._total + cost)
        if cost >= MOST_PER_SCHEMA // 100:
            self._expensive.append((cost, path))


def _most(text: str, known: Declared) -> int:
    if not text.strip():
        return 0
    try:
        return estimate.most(syntax.read(expressions.serialized(text)), known)
    except (expressions.UnknownError, expressions.MalformedError):
        return 0  # Its author has been warned, and it is not evaluated.
    except RecursionError:
        return estimate.MOST


def _times_of(schema: Schema, times: int | None) -> int | None:
    """How often what is in a value can be there, if the value itself can so often."""
    if times is None:
        return None
    kind = schema.get("type")
    if kind == "object" and "additionalProperties" in schema:
        most = schema.get("maxProperties")
    elif kind == "array":
        most = schema.get("maxItems")
    else:
        most = 1
    return None if most is None else min(estimate.MOST, times * max(0, most))


def _exceeds(name: str, cost: int, limit: int) -> str:
    factor = cost / limit
    said = "more than 100" if factor > 100 else f"{factor:.6f}" if factor < 1.5 else f"{factor:.1f}"
    return (
        f"{name} exceeds budget by factor of {said}x (try simplifying the rule, or adding maxItems, maxProperties, and "
        "maxLength where arrays, maps, and strings are declared)"
    )
