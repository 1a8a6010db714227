"""The tree of an expression, read from what CEL's runtime writes: cel.expr.CheckedExpr (cel-spec proto/cel/expr).

Macros are expanded in it. It is read here and not by protobuf's library, which ends at a hundred nested messages: a
macro within another is four deeper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_Fields = Mapping[int, list[int | bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
    """A literal; `type` is its name in CEL."""

    type: str
    size: int
    """Characters of a text, bytes of bytes, else 1."""
    number: int = 0
    """Of an int."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identifier:
    """A variable, or a type's name."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Select:
    """A field, or whether it is there (`has`)."""

    operand: Expression
    field: str
    is_test: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A function or an operator; `target`: what it is a member of."""

    function: str
    target: Expression | None
    arguments: tuple[Expression, ...]
    type: str
    """What it gives, as far as the runtime knows without a schema: a type's name in CEL, `list(string)`, or dyn."""


@dataclasses.dataclass(frozen=True, slots=True)
class MakeList:
    """A list of expressions."""

    items: tuple[Expression, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class MakeMap:
    """A map, or a message, of expressions."""

    entries: tuple[tuple[Expression | None, Expression], ...]
    """Keys (none: a message's field) and values."""
    is_message: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Comprehension:
    """A loop: what all, exists, map, filter and optMap become."""

    variable: str
    range: Expression
    accumulator: str
    start: Expression
    condition: Expression
    step: Expression
    result: Expression


Expression = Constant | Identifier | Select | Call | MakeList | MakeMap | Comprehension


def read(checked: bytes) -> Expression:
    """The tree of a serialized expression."""
    # In an Any: its value is the CheckedExpr.
    fields = _fields(_bytes(_fields(checked), 2))
    types = {}
    for entry in fields.get(3, ()):
        pair = _fields(entry)
        types[_number(pair, 1)] = _type(_fields(_bytes(pair, 2)))
    return _expression(_bytes(fields, 4), types)


def _expression(data: bytes, types: Mapping[int, str]) -> Expression:  # noqa: PLR0911 - a table
    fields = _fields(data)
    [(kind, body)] = ((number, _fields(values[0])) for number, values in fields.items() if number > 2)
    match kind:
        case 3:
            return _constant(body)
        case 4:
            return Identifier(_text(body, 1))
        case 5:
            return Select(_expression(_bytes(body, 1), types), _text(body, 2), bool(_number(body, 3)))
        case 6:
            target = _expression(_bytes(body, 1), types) if 1 in body else None
            arguments = tuple(_expression(_as_bytes(each), types) for each in body.get(3, ()))
            return Call(_text(body, 2), target, arguments, types.get(_number(fields, 2), "dyn"))
        case 7:
            return MakeList(tuple(_expression(_as_bytes(each), types) for each in body.get(1, ())))
        case 8:
            entries = (_fields(each) for each in body.get(2, ()))
            pairs = (
                (_expression(_bytes(entry, 3), types) if 3 in entry else None, _expression(_bytes(entry, 4), types))
                for entry in entries
            )
            return MakeMap(tuple(pairs), is_message=1 in body)
        case _:
            parts = (_expression(_bytes(body, number), types) for number in (2, 4, 5, 6, 7))
            range_, start, condition, step, result = parts
            return Comprehension(_text(body, 1), range_, _text(body, 3), start, condition, step, result)


_CONSTANTS = {1: "null_type", 2: "bool", 3: "int", 4: "uint", 5: "double", 6: "string", 7: "bytes"}


def _constant(fields: _Fields) -> Constant:
    [number] = fields
    kind, [value] = _CONSTANTS.get(number, "dyn"), fields[number]
    if isinstance(value, bytes):
        return Constant(kind, len(value.decode()) if kind == "string" else len(value) if kind == "bytes" else 1)
    return Constant(kind, 1, value)


_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}


def _type(fields: _Fields) -> str:
    """A type's name, so far as costs depend on it."""
    if 3 in fields:
        return _PRIMITIVES.get(_number(fields, 3), "dyn")
    if 5 in fields:
        return {2: "timestamp", 3: "duration"}.get(_number(fields, 5), "dyn")
    if 6 in fields:
        of = _fields(_bytes(fields, 6))
        return f"list({_type(_fields(_bytes(of, 1))) if 1 in of else 'dyn'})"
    return "map" if 7 in fields else "type" if 11 in fields else "dyn"


# --- the wire --------------------------------------------------------------------------------------------------------


def _fields(data: int | bytes) -> _Fields:
    """The fields of a message: numbers and bytes by their numbers."""
    data, found, at = _as_bytes(data), dict[int, list[int | bytes]](), 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
            case 1:
                value, at = data[at : at + 8], at + 8
            case 5:
                value, at = data[at : at + 4], at + 4
            case _:
                length, at = _varint(data, at)
                value, at = data[at : at + length], at + length
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _as_bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def _bytes(fields: _Fields, number: int) -> bytes:
    return _as_bytes(fields[number][0]) if number in fields else b""


def _text(fields: _Fields, number: int) -> str:
    return _bytes(fields, number).decode()


def _number(fields: _Fields, number: int) -> int:
    value = fields[number][0] if number in fields else 0
    return value if isinstance(value, int) else 0
