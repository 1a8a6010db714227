"""Errors in users' files, such as lab.yaml: what is wrong with a field, and what is allowed."""

from __future__ import annotations

import difflib
import re
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from netlab.errors import UsageError

T = TypeVar("T")

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`")
_PATH = re.compile(r" - at `\$\.?(?P<path>.*)`$", re.DOTALL)


def convert(values: Any, kind: type[T]) -> T:
    """Convert to a struct whose fields are plain values or lists of them.

    Raises `UsageError` naming the field and what is expected.
    """
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError("expected fields, each with its value")
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise UsageError(_explained(str(error), kind, values)) from None


def _explained(said: str, kind: type, values: dict[str, Any]) -> str:
    fields = get_type_hints(kind)
    if unknown := _UNKNOWN.match(said):
        name = unknown["field"]
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(fields)}"
        return f"{name if name.isidentifier() else repr(name)}: there is no such field: {hint}"
    if missing := _MISSING.match(said):
        return f"{missing['field']}: is required"
    where = _PATH.search(said)
    if where is None or not where["path"]:
        return said
    path, said = where["path"], said[: where.start()]
    choices = _choices(fields.get(path.partition("[")[0]))
    if choices:
        return f"{path}: {_value(values, path)!r} is not one of {', '.join(choices)}"
    return f"{path}: {said[0].lower()}{said[1:].replace('`', '')}"


def _choices(hint: Any) -> tuple[str, ...]:
    """The values of a Literal, or of a list of Literals."""
    if get_origin(hint) in (list, tuple):
        hint = get_args(hint)[0]
    return get_args(hint) if get_origin(hint) is Literal else ()


def _value(values: dict[str, Any], path: str) -> Any:
    name, _, position = path.partition("[")
    return values[name][int(position.removesuffix("]"))] if position else values[name]
