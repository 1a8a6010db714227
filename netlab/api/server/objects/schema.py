"""What an object may hold: which fields its kind has, of what type, and which of them something in netlab acts upon.

The table of kinds says what Kubernetes has, and netlab.api's types what netlab acts upon: a field that is in the table
alone, or that a type marks as `Ignored`, is stored and returned and nothing else.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from netlab.api.kinds import table
from netlab.api.kinds.forms import LISTS, parse_duration, parse_time, write_bytes
from netlab.api.meta_types import StatusCause

MOST_FINDINGS = 20
"""Wrong values and unknown fields after which no more are reported: a suggestion for each takes its time."""

JSONObject = dict[str, Any]
"""An API object as JSON: what is stored, patched and defaulted."""

_TEXT = frozenset({str})

_JSON_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "an object"}
_JSON_NAMES |= {list: "a list", type(None): "null"}


class Mode(enum.StrEnum):
    """What is done about fields that are unknown, or that stand twice in an object (fieldValidation)."""

    STRICT = "Strict"
    """The request is refused."""
    WARN = "Warn"
    """Its author is warned; of a field that stands twice the last one counts."""
    IGNORE = "Ignore"


@dataclasses.dataclass(frozen=True)
class FieldValidation:
    """The mode, and what there is to check besides an object's fields."""

    mode: Mode = Mode.STRICT
    body: bytes = b""
    """The JSON in which fields may stand twice; empty: they cannot."""
    is_patch: bool = False
    """Whether the body is a patch, and not the object itself."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a place in an object may hold. No `accepts` means anything."""

    accepts: frozenset[type] = frozenset()
    make_fields: Callable[[], Fields] | None = None
    """Of an object with named fields, which may hold objects like itself."""
    item: Shape | None = None
    """Of a list's items, or a map's values."""
    bits: int = 0
    """Of a whole number that it may hold, its sign included; 0: none."""
    parse: Callable[[str], Any] | None = None
    """Raises `ValueError` for a text that is not what it stands for."""
    ignored: bool = False
    """Stored and returned, but acted upon by no component."""

    @functools.cached_property
    def fields(self) -> Fields | None:
        """Of an object with named fields."""
        return self.make_fields() if self.make_fields is not None else None

    @functools.cached_property
    def is_simple(self) -> bool:
        """Whether nothing is to be known of a value but its type."""
        return not (self.make_fields or self.item or self.bits or self.parse or self.ignored)


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of an object, by JSON name."""

    shapes: dict[str, Shape]
    required: tuple[str, ...] = ()


_Struct = type[msgspec.Struct]


@functools.cache
def fields_as_listed(message: str) -> Fields:
    """The fields of a message of a kind that nothing acts upon: which are required, too, is what the table says."""
    shapes = {}
    required = []
    for field in table.message(message).fields.values():
        shapes[field.name] = _listed_shape(field)
        if field.required:
            required.append(field.name)
    if table.is_kind(message):
        shapes |= {"apiVersion": Shape(_TEXT), "kind": Shape(_TEXT)}
    return Fields(shapes, tuple(required))


def _listed_shape(field: table.Field) -> Shape:
    item = _FORMS.get(field.type)
    if item is None:
        # What a status has is its writer's, who leaves out what is zero.
        make = functools.partial(fields_of, field.type, None)
        if field.name != "status":
            make = functools.partial(fields_as_listed, field.type)
        item = Shape(frozenset({dict}), make)
    if field.repeated:
        return Shape(frozenset({list}), item=item)
    return Shape(frozenset({dict}), item=item) if field.mapped else item


@functools.cache
def fields_of(message: str, struct: _Struct | None) -> Fields:
    """The fields of a message that a type of netlab's stands for; without one nothing in it is acted upon."""
    typed = {field.encode_name: field for field in msgspec.structs.fields(struct)} if struct else {}
    shapes = {}
    for field in table.message(message).fields.values():
        hint = typed[field.name].type if field.name in typed else None
        shape = _shape(field, None if _is_ignored(hint) else hint)
        # What is in something that nothing acts upon is not told apart.
        unused = struct is not None and (hint is None or _is_ignored(hint))
        shapes[field.name] = dataclasses.replace(shape, ignored=unused)
    if table.is_kind(message):
        shapes |= {"apiVersion": Shape(_TEXT), "kind": Shape(_TEXT)}
    return Fields(shapes, tuple(name for name, field in typed.items() if field.required))


def _shape(field: table.Field, hint: Any) -> Shape:
    """The shape of a field, whose type in netlab's own types is the hint (None: they do not have it)."""
    hint = _without_none(hint)
    if field.repeated:
        return Shape(frozenset({list}), item=_item(field.type, _argument(hint, list, 0)))
    if field.mapped:
        return Shape(frozenset({dict}), item=_item(field.type, _argument(hint, dict, 1)))
    return _item(field.type, hint)


def _schema_or(other: type) -> Shape:
    return Shape(frozenset({dict, other}), functools.partial(fields_of, "apiextensions.v1.JSONSchemaProps", None))


_FORMS: dict[str, Shape] = {
    "string": Shape(_TEXT),
    "bytes": Shape(_TEXT, parse=write_bytes),
    "bool": Shape(frozenset({bool})),
    "int32": Shape(frozenset({int}), bits=32),
    "int64": Shape(frozenset({int}), bits=64),
    "double": Shape(frozenset({int, float}), bits=64),
    "meta.v1.Time": Shape(_TEXT, parse=parse_time),
    "meta.v1.MicroTime": Shape(_TEXT, parse=parse_time),
    "meta.v1.Duration": Shape(_TEXT, parse=parse_duration),
    "intstr.IntOrString": Shape(frozenset({int, str}), bits=32),
    "resource.Quantity": Shape(frozenset({int, str, float}), bits=64),
    "runtime.RawExtension": Shape(),
    "meta.v1.FieldsV1": Shape(frozenset({dict})),
    "apiextensions.v1.JSON": Shape(),
    "apiextensions.v1.JSONSchemaPropsOrArray": _schema_or(list),
    "apiextensions.v1.JSONSchemaPropsOrBool": _schema_or(bool),
    "apiextensions.v1.JSONSchemaPropsOrStringArray": _schema_or(list),
    **dict.fromkeys(LISTS, Shape(frozenset({list}), item=Shape(_TEXT))),
}
"""What is not an object with the fields of its message."""


def _item(kind: str, hint: Any) -> Shape:
    if kind in _FORMS:
        return _FORMS[kind]
    struct = hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else None
    return Shape(frozenset({dict}), functools.partial(fields_of, kind, struct))


def _is_ignored(hint: Any) -> bool:
    if typing.get_origin(hint) is not typing.Annotated:
        return False
    _, *notes = typing.get_args(hint)
    return any("ignored" in (note.extra or {}) for note in notes if isinstance(note, msgspec.Meta))


def _without_none(hint: Any) -> Any:
    """Of `X | None`, X: null means that the field is absent."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        choices = [choice for choice in typing.get_args(hint) if choice is not types.NoneType]
        return choices[0]
    return hint


def _argument(hint: Any, origin: type, index: int) -> Any:
    return typing.get_args(hint)[index] if typing.get_origin(hint) is origin else None


# --- walks ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Findings:
    """What a walk found: values of the wrong type, unknown fields, required fields absent, ignored fields used."""

    unreadable: list[StatusCause] = dataclasses.field(default_factory=list)
    unknown: list[StatusCause] = dataclasses.field(default_factory=list)
    suggestions: list[str] = dataclasses.field(default_factory=list)
    """What may have been meant by the unknown fields."""
    missing: list[StatusCause] = dataclasses.field(default_factory=list)
    ignored: list[str] = dataclasses.field(default_factory=list)
    """Paths."""

    def suggest(self) -> str:
        """The suggestions, as the end of a sentence."""
        return f" (did you mean {', '.join(self.suggestions)}?)" if self.suggestions else ""


_Place: TypeAlias = "tuple[_Place | None, str | int]"
"""Where a value is: its parent's place, and a field's name or an item's number or key. Few are ever written."""


class _Key(str):
    """Of a map."""

    __slots__ = ()


def _path(place: _Place | None) -> str:
    parts = []
    while place is not None:
        place, part = place
        parts.append(f"[{part}]" if isinstance(part, int | _Key) else f".{part}")
    return "".join(reversed(parts)).removeprefix(".")


def inspect(value: Any, fields: Fields, within: str = "") -> Findings:
    """Walk a JSON value against the fields of its kind and tell all that is wrong with it.

    Unknown fields are taken out of `value`. So are those that are `null`, as for the real server: they are absent. As
    the value of a label, or in any other map of texts, null means the empty one. It is that field of an object
    (empty: the object itself).
    """
    findings = Findings()
    place = (None, within) if within else None
    if type(value) is dict:
        _walk_fields(value, fields, place, findings)
    else:
        _walk(value, _OBJECT, place, findings)
    return findings


_OBJECT = Shape(frozenset({dict}))


def _walk(value: Any, shape: Shape, place: _Place | None, findings: Findings) -> None:
    if shape.accepts and type(value) not in shape.accepts:
        wanted = " or ".join(sorted(_JSON_NAMES[kind] for kind in shape.accepts))
        found = _JSON_NAMES[type(value)]
        _refuse(findings, "FieldValueTypeInvalid", place, f"expected {wanted}, got {found}")
    elif shape.fields is not None and type(value) is dict:
        _walk_fields(value, shape.fields, place, findings)
    elif shape.item is not None:
        if type(value) is list:
            _walk_list(value, shape.item, place, findings)
        else:
            _walk_map(value, shape.item, place, findings)
    elif shape.bits and type(value) is int:
        if not -(1 << (shape.bits - 1)) <= value < 1 << (shape.bits - 1):
            _refuse(findings, "FieldValueInvalid", place, f"the number does not fit into {shape.bits} bits")
    elif shape.parse is not None:
        try:
            shape.parse(value)
        except (ValueError, OverflowError) as error:
            _refuse(findings, "FieldValueInvalid", place, str(error))


def _walk_list(value: list[Any], shape: Shape, place: _Place | None, findings: Findings) -> None:
    accepts, is_simple = shape.accepts, shape.is_simple
    for index, item in enumerate(value):
        if not is_simple or type(item) not in accepts:
            _walk(item, shape, (place, index), findings)


def _walk_map(value: JSONObject, shape: Shape, place: _Place | None, findings: Findings) -> None:
    accepts, is_simple = shape.accepts, shape.is_simple
    for key, item in value.items():
        if item is None and accepts == _TEXT:
            value[key] = ""  # Go reads null into a text as an empty one.
        elif not is_simple or type(item) not in accepts:
            _walk(item, shape, (place, _Key(key)), findings)


def _walk_fields(value: JSONObject, fields: Fields, place: _Place | None, findings: Findings) -> None:
    gone = []
    shapes = fields.shapes
    for name, item in value.items():
        shape = shapes.get(name)
        if shape is None:
            _note_unknown(name, fields, place, findings)
            gone.append(name)
        elif item is None:
            gone.append(name)
        elif not shape.is_simple or type(item) not in shape.accepts:
            # Go writes an object that it has no value for as an empty one.
            if shape.ignored and item != {}:
                findings.ignored.append(_path((place, name)))
            _walk(item, shape, (place, name), findings)
    for name in gone:
        del value[name]
    for name in fields.required:
        if name not in value:
            cause = StatusCause(reason="FieldValueRequired", message="Required value", field=_path((place, name)))
            findings.missing.append(cause)


def _refuse(findings: Findings, reason: str, place: _Place | None, why: str) -> None:
    if len(findings.unreadable) < MOST_FINDINGS:
        path = _path(place)
        findings.unreadable.append(StatusCause(reason=reason, message=f'"{path}": {why}', field=path))


_LONGEST_FIELD = 64


def _note_unknown(name: str, fields: Fields, place: _Place | None, findings: Findings) -> None:
    if len(findings.unknown) >= MOST_FINDINGS:
        return
    path = _path((place, name))
    near = difflib.get_close_matches(name, fields.shapes, n=1) if len(name) <= _LONGEST_FIELD else []
    findings.suggestions += [f'"{each}"' for each in near if f'"{each}"' not in findings.suggestions]
    findings.unknown.append(StatusCause(reason="FieldValueForbidden", message=f'unknown field "{path}"', field=path))
