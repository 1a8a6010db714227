"""Kinds that CustomResourceDefinitions define, as the definitions of OpenAPI documents.

As apiextensions-apiserver's pkg/controller/openapi/builder. Version 2 of OpenAPI has no alternatives and no null, and
the clients that read it take what is not described for forbidden: that is left out there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from netlab.api.kinds import table
from netlab.api.kinds.definitions import CUSTOM, IN_TYPE_META, Dialect, Schema, reference

_OBJECT_META, _LIST_META = "meta.v1.ObjectMeta", "meta.v1.ListMeta"

_JUNCTORS = ("allOf", "anyOf", "oneOf", "not")

_PRESERVES = "x-kubernetes-preserve-unknown-fields"


class CustomKind(NamedTuple):
    """A version of a kind, as its definition has it."""

    group: str
    version: str
    kind: str
    list_kind: str
    schema: Mapping[str, Any]
    """apiextensions.v1.JSONSchemaProps."""
    selectable: tuple[str, ...] = ()
    """Fields by which objects can be selected."""

    @property
    def as_kind(self) -> table.Kind:
        """With the name under which it is described, instead of a message's."""
        return table.Kind(self.group, self.version, self.kind, self._message(self.kind))

    @property
    def list_message(self) -> str:
        """The name under which a list of them is described."""
        return self._message(self.list_kind)

    def _message(self, kind: str) -> str:
        return CUSTOM + ".".join([*reversed(self.group.split(".")), self.version, kind])

    def definitions(self, dialect: Dialect) -> dict[str, Schema]:
        """The definitions of an object and of a list, by these names."""
        own, listed = self.as_kind.message, self.list_message
        item = reference(own, dialect)
        schema: Schema = {
            "type": "object",
            "description": f"{self.list_kind} is a list of {self.kind}",
            "required": ["items"],
            "properties": {
                **_type_meta(),
                "items": {"type": "array", "items": item},
                "metadata": reference(_LIST_META, dialect),
            },
            "x-kubernetes-group-version-kind": [self._extension(self.list_kind)],
        }
        return {own: self._object(dialect), listed: schema}

    def _object(self, dialect: Dialect) -> Schema:
        schema: Schema = {"type": "object"}
        if dialect.has_alternatives or not self.schema.get(_PRESERVES):
            schema = _described({**self.schema, "type": "object"}, dialect)
            schema["properties"] = {
                **schema.get("properties", {}),
                **_type_meta(),
                "metadata": _metadata(dialect),
            }
        schema["x-kubernetes-group-version-kind"] = [self._extension(self.kind)]
        if self.selectable:
            schema["x-kubernetes-selectable-fields"] = [{"fieldPath": each} for each in self.selectable]
        return schema

    def _extension(self, kind: str) -> dict[str, str]:
        return {"group": self.group, "kind": kind, "version": self.version}


def _type_meta() -> dict[str, Schema]:
    return {name: {"type": "string", "description": text} for name, text in IN_TYPE_META.items()}


def _metadata(dialect: Dialect) -> Schema:
    link = reference(_OBJECT_META, dialect)
    text = "Standard object's metadata."
    return {"allOf": [link], "description": text} if dialect.has_alternatives else {**link, "description": text}


def _described(schema: Mapping[str, Any], dialect: Dialect) -> Schema:
    made = dict(schema)
    if not dialect.has_alternatives:
        _simplify(made)
    if isinstance(items := made.get("items"), dict):
        made["items"] = _described(items, dialect)
    if isinstance(additional := made.get("additionalProperties"), dict):
        made["additionalProperties"] = _described(additional, dialect)
    if "properties" in made:
        made["properties"] = {name: _described(below, dialect) for name, below in made["properties"].items()}
    if schema.get("x-kubernetes-embedded-resource") and (dialect.has_alternatives or not schema.get(_PRESERVES)):
        made["properties"] = {**made.get("properties", {}), **_type_meta(), "metadata": _metadata(dialect)}
        made["required"] = [*made.get("required", ()), *({"apiVersion", "kind"} - set(made.get("required", ())))]
        made["required"].sort()
    return made


def _simplify(schema: Schema) -> None:
    """Leave out what version 2 does not have, and what its readers would misunderstand."""
    for name in _JUNCTORS:
        schema.pop(name, None)
    is_open = schema.pop("nullable", False) or schema.get(_PRESERVES, False)
    if is_open:
        schema.pop("items", None)
        schema.pop("properties", None)
    if is_open and (schema.get("type") == "object" or not schema.get(_PRESERVES)):
        schema.pop("type", None)
    if schema.get("type") == "array" and "items" not in schema:
        del schema["type"]
    nullable = {name for name, below in schema.get("properties", {}).items() if below.get("nullable")}
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict) and additional.get("nullable"):
        nullable |= set(schema.get("required", ()))
    required = [name for name in schema.pop("required", ()) if name not in nullable]
    if required:
        schema["required"] = required
