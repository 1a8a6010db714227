"""The API types as data: which fields a JSON object may have, and what each may hold.

netlab.api's types pass over unknown fields so that clients can read a newer server. A server must not: a field that
is silently dropped is a manifest that silently does something else. So what comes in is walked against the types.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from typing import Any

import msgspec

from netlab.api.meta_types import StatusCause

MOST_FINDINGS = 20
"""Wrong fields after which no more are looked for: a suggestion for each takes its time."""

JSONObject = dict[str, Any]
"""An API object as JSON: what is stored, patched and defaulted."""

_TEXT = frozenset({str})

_JSON_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "an object"}
_JSON_NAMES |= {list: "a list", type(None): "null"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a place in an object may hold. No `accepts` means anything."""

    accepts: frozenset[type] = frozenset()
    struct: type[msgspec.Struct] | None = None
    """Set for an object with named fields."""
    item: Shape | None = None
    """Of a list's items, or a map's values."""
    bits: int = 0
    """Of a whole number that it may hold, its sign included; 0: none."""
    ignored: bool = False
    """Stored and returned, but acted upon by no component."""


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of an API type, by JSON name."""

    shapes: dict[str, Shape]
    required: tuple[str, ...]


@functools.cache
def fields_of(struct: type[msgspec.Struct]) -> Fields:
    """The fields of an API type."""
    listed = msgspec.structs.fields(struct)
    shapes = {field.encode_name: _shape(field.type) for field in listed}
    return Fields(shapes, tuple(field.encode_name for field in listed if field.required))


def _shape(hint: Any) -> Shape:
    if typing.get_origin(hint) is typing.Annotated:
        _, *notes = typing.get_args(hint)
        extra = {name for note in notes if isinstance(note, msgspec.Meta) for name in note.extra or {}}
        return Shape(ignored=True) if "ignored" in extra else Shape(frozenset({int}), bits=64)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        # `X | None`: absent. `int | str`: a scalar of either type.
        choices = [_shape(choice) for choice in typing.get_args(hint) if choice is not types.NoneType]
        accepts = frozenset().union(*(choice.accepts for choice in choices))
        return dataclasses.replace(choices[0], accepts=accepts, bits=max(choice.bits for choice in choices))
    if typing.get_origin(hint) is list:
        return Shape(frozenset({list}), item=_shape(typing.get_args(hint)[0]))
    if typing.get_origin(hint) is dict:
        return Shape(frozenset({dict}), item=_shape(typing.get_args(hint)[1]))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return Shape(frozenset({dict}), struct=hint)
    return Shape(frozenset({hint}), bits=32 if hint is int else 0)


@dataclasses.dataclass
class Findings:
    """What a walk found: unknown fields, values of the wrong type, required fields absent, ignored fields used."""

    unreadable: list[StatusCause] = dataclasses.field(default_factory=list)
    missing: list[StatusCause] = dataclasses.field(default_factory=list)
    ignored: list[str] = dataclasses.field(default_factory=list)
    """Paths."""


def inspect(value: Any, struct: type[msgspec.Struct], path: str = "") -> Findings:
    """Walk a JSON value against an API type and tell all that is wrong with it.

    `null` for a field means that it is absent, as for the real server: such fields are taken out of `value`. As the
    value of a label, or in any other map of texts, it means the empty one.
    """
    findings = Findings()
    _walk(value, Shape(frozenset({dict}), struct=struct), path, findings)
    return findings


def _walk(value: Any, shape: Shape, path: str, findings: Findings) -> None:
    if shape.accepts and type(value) not in shape.accepts:
        wanted = " or ".join(sorted(_JSON_NAMES[kind] for kind in shape.accepts))
        found = _JSON_NAMES[type(value)]
        message = f'"{path}": expected {wanted}, got {found}'
        findings.unreadable.append(StatusCause(reason="FieldValueTypeInvalid", message=message, field=path))
    elif type(value) is int and not -(1 << (shape.bits - 1)) <= value < 1 << (shape.bits - 1):
        message = f'"{path}": the number does not fit into {shape.bits} bits'
        findings.unreadable.append(StatusCause(reason="FieldValueInvalid", message=message, field=path))
    elif shape.struct is not None:
        _walk_fields(value, fields_of(shape.struct), path, findings)
    elif shape.item is not None:
        if type(value) is list:
            places = ((f"{path}[{index}]", item) for index, item in enumerate(value))
        else:
            if shape.item.accepts == _TEXT:
                # Go reads null into a text as an empty one.
                value.update((key, "") for key, item in value.items() if item is None)
            places = ((f"{path}[{key}]", item) for key, item in value.items())
        for place, item in places:
            _walk(item, shape.item, place, findings)
            if len(findings.unreadable) >= MOST_FINDINGS:
                return


def _walk_fields(value: JSONObject, fields: Fields, path: str, findings: Findings) -> None:
    nulls = []
    for name, item in value.items():
        if len(findings.unreadable) >= MOST_FINDINGS:
            return
        shape = fields.shapes.get(name)
        if shape is None:
            findings.unreadable.append(_unknown(name, fields, path))
        elif item is None:
            nulls.append(name)
        elif shape.ignored:
            findings.ignored.append(f"{path}.{name}" if path else name)
        elif shape.struct is not None or shape.item is not None or shape.bits or type(item) not in shape.accepts:
            _walk(item, shape, f"{path}.{name}" if path else name, findings)
    for name in nulls:
        del value[name]
    for name in fields.required:
        if name not in value:
            place = f"{path}.{name}" if path else name
            cause = StatusCause(reason="FieldValueRequired", message="Required value", field=place)
            findings.missing.append(cause)


_LONGEST_FIELD = 64


def _unknown(name: str, fields: Fields, path: str) -> StatusCause:
    place = f"{path}.{name}" if path else name
    near = difflib.get_close_matches(name, fields.shapes, n=1) if len(name) <= _LONGEST_FIELD else []
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return StatusCause(reason="FieldValueForbidden", message=f'unknown field "{place}"{hint}', field=place)
