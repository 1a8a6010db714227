"""The table as JSON schemas, in the dialects of OpenAPI 2 and 3."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from netlab.api.kinds import table
from netlab.api.kinds.forms import LISTS
from netlab.api.kinds.table import Field, Message

Schema = dict[str, Any]

PATCH = "meta.v1.Patch"
"""The body of a patch, which is no message."""

CUSTOM = "custom:"
"""What the names of kinds begin with that are no messages, but described by a definition of the user's."""


@dataclasses.dataclass(frozen=True)
class Dialect:
    """Where definitions stand, and how a value of one type or another is described."""

    prefix: str
    has_alternatives: bool
    """Whether a schema may have alternatives (oneOf), and a reference a description beside it (allOf)."""


V2 = Dialect("#/definitions/", has_alternatives=False)
V3 = Dialect("#/components/schemas/", has_alternatives=True)

_PACKAGES = {
    "meta": "io.k8s.apimachinery.pkg.apis.meta",
    "runtime": "io.k8s.apimachinery.pkg.runtime",
    "resource": "io.k8s.apimachinery.pkg.api.resource",
    "intstr": "io.k8s.apimachinery.pkg.util.intstr",
    "apiextensions": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
    "metrics": "io.k8s.metrics.pkg.apis.metrics",
}

_SCALARS: dict[str, Schema] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
}

_ANYTHING: Schema = {}
_TIME: Schema = {"type": "string", "format": "date-time"}
_OBJECT: Schema = {"type": "object"}

_FORMS: dict[str, Schema] = {
    "meta.v1.Time": _TIME,
    "meta.v1.MicroTime": _TIME,
    "meta.v1.Duration": {"type": "string"},
    "meta.v1.FieldsV1": _OBJECT,
    "runtime.RawExtension": _OBJECT,
    PATCH: _OBJECT,
    "resource.Quantity": {"type": "string"},
    "intstr.IntOrString": {"type": "string", "format": "int-or-string"},
    "apiextensions.v1.JSON": _ANYTHING,
    "apiextensions.v1.JSONSchemaPropsOrArray": _ANYTHING,
    "apiextensions.v1.JSONSchemaPropsOrBool": _ANYTHING,
    "apiextensions.v1.JSONSchemaPropsOrStringArray": _ANYTHING,
}
"""What is not written as an object with its message's fields."""

_ALTERNATIVES: dict[str, Schema] = {
    "resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "intstr.IntOrString": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}

IN_TYPE_META = {
    "apiVersion": "APIVersion defines the group and version of the kind: v1, or GROUP/VERSION.",
    "kind": "What the object is.",
}


def name_of(message: str) -> str:
    """The name of a message's definition: io.k8s.api.core.v1.Pod."""
    if message.startswith(CUSTOM):
        return message.removeprefix(CUSTOM)
    group, _, rest = message.partition(".")
    return f"{_PACKAGES.get(group, f'io.k8s.api.{group}')}.{rest}"


def reference(message: str, dialect: Dialect) -> Schema:
    """A reference to a message's definition."""
    return {"$ref": dialect.prefix + name_of(message)}


def definitions(
    roots: Iterable[str],
    dialect: Dialect,
    kinds: Mapping[str, list[Schema]],
    custom: Mapping[str, Schema],
) -> dict[str, Schema]:
    """The definitions of messages and of all that is in them, by name; `kinds` has those that are kinds.

    `custom` has the definitions of those that are no messages.
    """
    found: dict[str, Schema] = {name_of(name): custom[name] for name in roots if name in custom}
    pending = sorted(set(roots) - custom.keys(), reverse=True)
    seen = set(pending)
    while pending:
        name = pending.pop()
        found[name_of(name)] = _definition(name, dialect, kinds.get(name, []))
        if name not in _FORMS:
            within = {field.type for field in table.message(name).fields.values()}
            new = within - seen - table.SCALARS - {*LISTS}
            seen |= new
            pending += sorted(new, reverse=True)
    return dict(sorted(found.items()))


def _definition(name: str, dialect: Dialect, kinds: list[Schema]) -> Schema:
    described = descriptions().get(name, {})
    schema: Schema = {"description": described[""]} if "" in described else {}
    if name in _FORMS:
        return schema | ((dialect.has_alternatives and _ALTERNATIVES.get(name)) or _FORMS[name])
    message = table.message(name)
    properties: dict[str, Schema] = {}
    if kinds:
        properties |= {own: {"description": text, "type": "string"} for own, text in IN_TYPE_META.items()}
    for field in message.fields.values():
        properties[field.name] = _property(field, described.get(field.name, ""), dialect)
    schema |= {"type": "object"}
    if properties:
        schema["properties"] = dict(sorted(properties.items()))
    if required := _required(message):
        schema["required"] = required
    if kinds:
        schema["x-kubernetes-group-version-kind"] = kinds
    if message.atomic:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _required(message: Message) -> list[str]:
    return sorted(field.name for field in message.fields.values() if field.required)


def _property(field: Field, description: str, dialect: Dialect) -> Schema:
    item = _schema(field.type, dialect)
    if field.repeated:
        schema: Schema = {"type": "array", "items": item}
    elif field.mapped:
        schema = {"type": "object", "additionalProperties": item}
    elif description and "$ref" in item and dialect.has_alternatives:
        schema = {"allOf": [item]}
    else:
        schema = item
    if description:
        schema = {"description": description, **schema}
    return schema | _extensions(field)


def _schema(kind: str, dialect: Dialect) -> Schema:
    if kind in table.SCALARS:
        return dict(_SCALARS[kind])
    if kind in LISTS:
        return {"type": "array", "items": {"type": "string"}}
    return reference(kind, dialect)


def _extensions(field: Field) -> Schema:
    merging = field.merging
    named = {
        "patch-strategy": merging.patch,
        "patch-merge-key": merging.key,
        "list-type": merging.list,
        "list-map-keys": list(merging.keys),
        "map-type": merging.map,
    }
    return {f"x-kubernetes-{name}": value for name, value in named.items() if value}


@functools.cache
def descriptions() -> dict[str, dict[str, str]]:
    """What netlab says of messages (under "") and of their fields, by the message's name."""
    text = Path(__file__).with_name("descriptions.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, dict[str, str]])
