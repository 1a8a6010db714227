"""The rules of schemas (x-kubernetes-validations), which are written in CEL and evaluated by Google's own runtime.

It ends an expression after some ten thousand steps of its loops. What it does not know (Kubernetes' own types, such as
quantities) is not evaluated: the author of the definition is warned.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.structural import patterns
from netlab.api.server.objects.structural.keys import by_key, key_of
from netlab.api.server.objects.structural.nodes import ABSENT, LITERAL, Node, Rule
from netlab.api.server.objects.structural.shaping import TYPE_AND_METADATA

MOST_SECONDS = 1.0
"""For all rules of one object."""

_METADATA = ("name", "generateName")
"""What a rule may know of the metadata."""

_UNKNOWN = re.compile(
    r"Exceeded max recursion depth of \d+|undeclared reference to '[^']*'|found no matching overload for '[^']*'"
    r"|unsupported syntax '[^']*'"
)

_BEYOND_US = ("No matching overloads", "Non-CEL value type")
"""Errors of evaluation that come of a value that has a type of its own upstream, such as a date."""


_TOO_COSTLY = "Iteration budget exceeded"


class MalformedError(ValueError):
    """The text is no expression."""


class MistypedError(ValueError):
    """It gives a value of another type than is wanted."""


class UnknownError(ValueError):
    """It uses what this server does not have."""


@functools.cache
def _environment(variables: tuple[str, ...]) -> Any:
    from cel_expr_python import cel  # Most labs have no such schema.
    from cel_expr_python.ext import ext_math, ext_optional, ext_strings

    type_ = cel.Type
    any_list, text, truth = type_.List(type_.DYN), type_.STRING, type_.BOOL

    def function(name: str, takes: list[Any], gives: Any, implementation: Callable[..., Any], *, of: bool) -> Any:
        overload = cel.Overload(f"{name}_of_{len(takes)}".replace(".", "_"), gives, takes, of, implementation)
        return cel.FunctionDecl(name, [overload])

    functions = [
        function("isIP", [text], truth, _is_ip, of=False),
        function("isCIDR", [text], truth, _is_cidr, of=False),
        function("isSorted", [any_list], truth, lambda items: items == sorted(items), of=True),
        function("sum", [any_list], type_.DYN, sum, of=True),
        function("min", [any_list], type_.DYN, min, of=True),
        function("max", [any_list], type_.DYN, max, of=True),
        function("find", [text, text], text, lambda value, pattern: patterns.first(pattern, value), of=True),
        function("sets.contains", [any_list, any_list], truth, _contains, of=False),
        function("sets.intersects", [any_list, any_list], truth, _intersects, of=False),
        function("sets.equivalent", [any_list, any_list], truth, _is_equivalent, of=False),
    ]
    extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional(), ext_math.ExtMath()]
    return cel.NewEnv(variables=dict.fromkeys(variables, type_.DYN), extensions=extensions, functions=functions)


def _is_ip(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _is_cidr(text: str) -> bool:
    try:
        return "/" in text and bool(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return False


def _contains(items: list[Any], others: list[Any]) -> bool:
    return all(each in items for each in others)


def _intersects(items: list[Any], others: list[Any]) -> bool:
    return any(each in items for each in others)


def _is_equivalent(items: list[Any], others: list[Any]) -> bool:
    return _contains(items, others) and _contains(others, items)


def _program(text: str) -> Any:
    return program(text, ("self", "oldSelf"))


@functools.lru_cache(maxsize=4096)
def program(text: str, variables: tuple[str, ...]) -> Any:
    """An expression over variables, compiled. Raises `MalformedError` for what is none, and `UnknownError`."""
    try:
        return _environment(variables).compile(text)
    except RuntimeError as error:
        said = str(error)
    if "Syntax error" not in said and (unknown := _UNKNOWN.search(said)):
        raise UnknownError(unknown[0])
    raise MalformedError(said.removeprefix("INVALID_ARGUMENT: ").splitlines()[0])


def check_rule(text: str) -> None:
    """Raise `MalformedError` for what is no expression, `UnknownError` for one that is not evaluated here.

    `MistypedError` for one that is no condition.
    """
    _check_type(text, "BOOL", "cel expression must evaluate to a bool")


def check_message(text: str) -> None:
    """The same for an expression that gives a message."""
    _check_type(text, "STRING", "messageExpression must evaluate to a string")


def _check_type(text: str, wanted: str, detail: str) -> None:
    if _program(text).return_type().name() not in (wanted, "DYN"):
        raise MistypedError(detail)


def serialized(text: str) -> bytes:
    """An expression's tree, as a cel.expr.CheckedExpr in an Any. Raise as `check_rule` does."""
    return bytes(_program(text).serialize())


_FIELD_OF_SELF = re.compile(r"\b(?:self|oldSelf)\.([A-Za-z_][A-Za-z0-9_]*)\b(?!\s*\()")


def undefined(text: str, fields: Iterable[str]) -> list[str]:
    """The fields of `self` that a rule names and an object with these fields does not have."""
    known = {escaped(name) for name in fields}
    named = _FIELD_OF_SELF.findall(LITERAL.sub("''", text))
    return [name for name in dict.fromkeys(named) if name not in known]


# --- evaluation ----------------------------------------------------------------------------------------------------


def check(value: Any, node: Node, path: str, problems: Problems, old: Any = ABSENT) -> None:
    """Complain about the rules that a value at a path breaks; `old` is what was there."""
    if node.has_rules:
        _Run(problems).at(value, node, path, old)


class _Run:
    """A walk through an object, along its rules."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._end = time.monotonic() + MOST_SECONDS

    def at(self, value: Any, node: Node, path: str, old: Any) -> None:
        # What has not changed is let be, whatever the rules say now.
        if not node.has_rules or value is None or (old is not ABSENT and value == old):
            return
        if node.rules:
            data = {"self": _value(value, node, is_root=not path)}
            if old is not ABSENT and old is not None:
                data["oldSelf"] = _value(old, node, is_root=not path)
            for rule in node.rules:
                self._evaluate(rule, data, node, path)
        if type(value) is dict:
            before = old if type(old) is dict else {}
            for name, item in value.items():
                below = node.properties.get(name, node.additional)
                if isinstance(below, Node):
                    self.at(item, below, f"{path}.{name}" if path else name, before.get(name, ABSENT))
        elif type(value) is list and node.items is not None:
            known = by_key(old, node)
            for index, item in enumerate(value):
                self.at(
                    item, node.items, f"{path}[{index}]", known.get(key_of(item, node), ABSENT) if known else ABSENT
                )

    def _evaluate(self, rule: Rule, data: dict[str, Any], node: Node, path: str) -> None:
        if rule.needs_old and "oldSelf" not in data:
            return
        if time.monotonic() > self._end:
            raise TooLongError
        try:
            result = _program(rule.text).eval(data=data)
            said = None if result.type().name() != "ERROR" else str(result.value())
            holds = said is None and result.value() is True
        except (UnknownError, MalformedError):
            return
        except RuntimeError as error:
            said, holds = "call cost exceeds limit" if _TOO_COSTLY in str(error) else str(error), False
        if holds or (said is not None and any(each in said for each in _BEYOND_US)):
            return
        message = self._message(rule, data)
        if said is not None:
            message = f"{said} evaluating rule: {message}"
        self._refuse(rule, node, f"{path}{rule.path}".removeprefix(".") or "<nil>", message)

    def _message(self, rule: Rule, data: dict[str, Any]) -> str:
        if rule.message_expression:
            try:
                found = _program(rule.message_expression).eval(data=data)
            except (RuntimeError, ValueError):
                found = None
            if found is not None and found.type().name() == "STRING" and found.value().strip():
                return str(found.value()).replace("\n", " ")
        return rule.message.strip() or f"failed rule: {rule.text.strip()}"

    def _refuse(self, rule: Rule, node: Node, path: str, message: str) -> None:
        kind = node.types[0] if len(node.types) == 1 else ""
        match rule.reason:
            case "FieldValueRequired":
                self._problems.required(path, message)
            case "FieldValueForbidden":
                self._problems.forbidden(path, message)
            case "FieldValueDuplicate":
                self._problems.duplicate(path, kind)
            case _:
                self._problems.invalid(path, kind, message)


class TooLongError(Exception):
    """The rules of an object take more time than they may."""


# --- values ----------------------------------------------------------------------------------------------------------

_RESERVED = frozenset(
    {
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import"),
        *("let", "loop", "package", "namespace", "return", "var", "void", "while"),
    }
)

_NAME = re.compile(r"[A-Za-z_./-][A-Za-z0-9_./-]*")

_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))


@functools.lru_cache(maxsize=4096)
def escaped(name: str) -> str | None:
    """A field's name as rules write it (apiserver pkg/cel/escaping.go); None if they cannot."""
    if name in _RESERVED:
        return f"__{name}__"
    if not _NAME.fullmatch(name):
        return None
    for plain, written in _ESCAPES:
        name = name.replace(plain, written)
    return name


def _value(value: Any, node: Node, *, is_root: bool = False) -> Any:
    """A value as rules see it: what the schema says nothing of is not there, numbers are of their type."""
    if type(value) is dict:
        return _object(value, node, is_root=is_root)
    if type(value) is list:
        return [_value(each, node.items) for each in value] if node.items is not None else []
    if type(value) is int and node.types == ("number",):
        return float(value)
    return int(value) if type(value) is float and node.types == ("integer",) else value


def _object(value: JSONObject, node: Node, *, is_root: bool) -> dict[str, Any]:
    seen = {}
    for name, item in value.items():
        below = node.properties.get(name)
        if below is not None:
            if (key := escaped(name)) is not None and (item is not None or below.nullable):
                seen[key] = _value(item, below)
        elif isinstance(node.additional, Node):
            seen[name] = _value(item, node.additional)
    if node.is_resource or is_root:
        known = {name: value[name] for name in TYPE_AND_METADATA if name in value}
        if isinstance(metadata := known.get("metadata"), dict):
            known["metadata"] = {name: metadata[name] for name in _METADATA if name in metadata}
        seen |= known
    return seen
