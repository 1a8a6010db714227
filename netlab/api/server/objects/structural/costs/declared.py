"""What a schema says of values, as costs need it (apiserver pkg/cel/common/schemas.go: DeclType)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from netlab.api.server.objects.structural.nodes import Schema

MOST_BYTES = 3 * 1024 * 1024
"""The largest request (apiserver pkg/apis/cel/config.go: MaxRequestSizeBytes)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """A type, with the sizes of its values."""

    kind: str
    """A type's name in CEL, or `list`, `map`, `object`, `optional`, `dyn`."""
    most: int = 0
    """Characters, items or entries; 0 for what has none."""
    least_bytes: int = 1
    """Of its shortest value in JSON."""
    fields: Mapping[str, Declared] = dataclasses.field(default_factory=dict)
    """An object's, by their names in rules."""
    element: Declared | None = None
    """Of a list, a map's values, or an optional value."""


DYNAMIC = Declared("dyn")
TEXT = Declared("string", 0, 2)
"""One of a length that nothing says, such as a map's key: upstream counts it as 0."""

_NAMED = Declared("string", MOST_BYTES - 2, 2)
_METADATA = Declared("object", 0, 2, {"name": _NAMED, "generateName": _NAMED})
_OF_RESOURCES = {"apiVersion": _NAMED, "kind": _NAMED, "metadata": _METADATA}

_SIMPLE = {
    "boolean": Declared("bool", 0, 4),
    "number": Declared("double", 0, 1),
    "integer": Declared("int", 0, 1),
}

_TIMES = {
    "duration": Declared("duration", 32, 3),
    "date": Declared("timestamp", 12, 12),
    "date-time": Declared("timestamp", 32, 21),
}


def declared(schema: Schema, escaped: Callable[[str], str | None], *, is_resource: bool) -> Declared | None:
    """What a schema declares, None if rules do not see such a value.

    `escaped` gives a field's name in rules. `is_resource`: it has apiVersion, kind and metadata, whatever it says.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return Declared("dyn", _longest(schema))
    kind = schema.get("type", "")
    if kind == "string":
        return _text(schema)
    if kind == "array":
        return _list(schema, escaped)
    if kind != "object":
        return _SIMPLE.get(kind)
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict) and not is_resource:
        return _map(schema, additional, escaped)
    return _object(schema, escaped, is_resource=is_resource)


def _of(schema: Any, escaped: Callable[[str], str | None]) -> Declared | None:
    if not isinstance(schema, dict):
        return None
    return declared(schema, escaped, is_resource=bool(schema.get("x-kubernetes-embedded-resource")))


def _longest(schema: Schema) -> int:
    # A code point is four bytes at most; upstream counts bytes.
    return max(0, schema["maxLength"]) * 4 if "maxLength" in schema else MOST_BYTES - 2


def _text(schema: Schema) -> Declared:
    name = schema.get("format", "")
    if name in _TIMES:
        return _TIMES[name]
    if name == "byte":
        return Declared("bytes", max(0, schema["maxLength"]) if "maxLength" in schema else MOST_BYTES - 2, 2)
    if "maxLength" not in schema and schema.get("enum"):
        return Declared(
            "string", max((len(each.encode()) for each in schema["enum"] if isinstance(each, str)), default=0), 2
        )
    return Declared("string", _longest(schema), 2)


def _list(schema: Schema, escaped: Callable[[str], str | None]) -> Declared | None:
    items = _of(schema.get("items"), escaped)
    if items is None:
        return None
    most = schema["maxItems"] if "maxItems" in schema else (MOST_BYTES - 2) // (items.least_bytes + 1)
    return Declared("list", max(0, most), 2, element=items)


def _map(schema: Schema, additional: Schema, escaped: Callable[[str], str | None]) -> Declared | None:
    values = _of(additional, escaped)
    if values is None:
        return None
    most = schema["maxProperties"] if "maxProperties" in schema else (MOST_BYTES - 2) // (values.least_bytes + 6)
    return Declared("map", max(0, most), 2, element=values)


def _object(schema: Schema, escaped: Callable[[str], str | None], *, is_resource: bool) -> Declared:
    properties, required = schema.get("properties", {}), schema.get("required", ())
    fields, least = {}, 2
    for name, below in properties.items():
        found = _of(below, escaped)
        if found is None:
            continue
        if (key := escaped(name)) is not None:
            fields[key] = found
        if name in required and "default" not in below:
            least += len(name.encode()) + found.least_bytes + 4
    return Declared("object", 0, least, fields | (_OF_RESOURCES if is_resource else {}))
