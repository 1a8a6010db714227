"""Objects of any kind, made by hypothesis from the table: as Go writes them, without the zeros that it leaves out."""

from __future__ import annotations

import base64
import functools
from typing import Any

from hypothesis import strategies as st

from netlab.api.kinds import table
from netlab.api.kinds.forms import format_duration

_TEXT = st.text(min_size=1, max_size=4)
_JSON = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
_OBJECT = st.dictionaries(st.text(max_size=2), _JSON, max_size=2)
_TEXTS = st.lists(st.text(max_size=3), max_size=2)
_SECONDS = st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds") + "Z")
_MICROSECONDS = st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds") + "Z")

_SCALARS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "string": ("", _TEXT),
    "bytes": ("", st.binary(min_size=1, max_size=4).map(lambda data: base64.b64encode(data).decode())),
    "bool": (False, st.just(True)),
    "int32": (0, st.integers(-(1 << 31), (1 << 31) - 1).filter(bool)),
    "int64": (0, st.integers(-(1 << 63), (1 << 63) - 1).filter(bool)),
    "double": (0.0, st.floats(allow_nan=False, allow_infinity=False).filter(bool)),
}
"""The zero of a scalar, and its other values."""

_LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "meta.v1.Time": _SECONDS,
    "meta.v1.MicroTime": _MICROSECONDS,
    "meta.v1.Duration": st.integers(-(1 << 63), (1 << 63) - 1).map(format_duration),
    "resource.Quantity": st.sampled_from(["0", "1", "250m", "1Gi", "1e3"]),
    "intstr.IntOrString": st.integers(1, 65535) | st.text(max_size=3),
    "runtime.RawExtension": _OBJECT,
    "meta.v1.FieldsV1": _OBJECT,
    "apiextensions.v1.JSON": _JSON,
    "meta.v1.Verbs": _TEXTS,
    "authentication.v1.ExtraValue": _TEXTS,
    "authentication.v1.AttestationValue": _TEXTS,
    "authorization.v1.ExtraValue": _TEXTS,
    "certificates.v1.ExtraValue": _TEXTS,
}

_OR = {
    "apiextensions.v1.JSONSchemaPropsOrBool": st.booleans(),
    "apiextensions.v1.JSONSchemaPropsOrStringArray": _TEXTS,
    "apiextensions.v1.JSONSchemaPropsOrArray": st.just([]),
}
"""What else than a schema these may be."""

DEEPEST = 5


# Kept: hypothesis looks once at each strategy that it has not seen, and there are thousands of fields.
@functools.cache
def objects(name: str, deepest: int = DEEPEST) -> st.SearchStrategy[dict[str, Any]]:
    """A message of the table, as JSON values."""
    return _objects(name, deepest)


@st.composite
def _objects(draw: st.DrawFn, name: str, deepest: int) -> dict[str, Any]:
    fields = table.message(name).fields
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)) if fields else []
    required = [field.name for field in fields.values() if field.required]
    return {
        each: draw(_values(fields[each], deepest))
        for each in dict.fromkeys([*required, *chosen])
        if deepest or fields[each].type in _SCALARS or fields[each].type in _LEAVES
    }


@functools.cache
def _values(field: table.Field, deepest: int) -> st.SearchStrategy[Any]:
    if field.type in _SCALARS:
        zero, others = _SCALARS[field.type]
        may_be_zero = field.pointer or field.required or field.repeated or field.mapped
        item = others | st.just(zero) if may_be_zero else others
    else:
        item = _messages(field.type, deepest)
    if field.repeated:
        return st.lists(item, min_size=1, max_size=2)
    if field.mapped:
        return st.dictionaries(st.text(max_size=3), item, min_size=1, max_size=2)
    is_value = field.type not in _SCALARS and field.type not in _LEAVES
    return item.filter(bool) if is_value and not field.pointer and not field.required else item


def _messages(name: str, deepest: int) -> st.SearchStrategy[Any]:
    if name in _LEAVES:
        return _LEAVES[name]
    if name in _OR:
        return _OR[name] | objects("apiextensions.v1.JSONSchemaProps", max(deepest - 1, 0))
    return objects(name, max(deepest - 1, 0))
