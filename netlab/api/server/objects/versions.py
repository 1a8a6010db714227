"""Objects that several versions of the API serve: stored in one form, and sent and returned in each.

Only the names of fields differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from netlab.api.meta_types import Object
from netlab.api.resources import Resource
from netlab.api.server.objects.schema import JSONObject


def storage(resource: Resource[Any]) -> Resource[Object]:
    """The version in whose form the objects of a resource are stored."""
    return resource.stored_as or resource


def to_storage(resource: Resource[Object], obj: JSONObject) -> JSONObject:
    """An object of a version, as it is stored."""
    if resource.stored_as is None:
        return obj
    return _renamed(resource.stored_as, obj, {new: old for old, new in resource.renamed.items()})


def from_storage(resource: Resource[Object], obj: JSONObject) -> JSONObject:
    """A stored object, as a version has it."""
    return obj if resource.stored_as is None else _renamed(resource, obj, resource.renamed)


def raw_from_storage(resource: Resource[Object], raw: bytes) -> bytes:
    """The same in JSON."""
    if resource.stored_as is None:
        return raw
    return msgspec.json.encode(from_storage(resource, msgspec.json.decode(raw)))


def selectable(renamed: Mapping[str, str], field: str) -> str:
    """What a field, by whose path objects are selected, is called where they are stored."""
    first, dot, rest = field.partition(".")
    return next((old for old, new in renamed.items() if new == first), first) + dot + rest


def _renamed(resource: Resource[Any], obj: JSONObject, names: Mapping[str, str]) -> JSONObject:
    fields = {names.get(name, name): value for name, value in obj.items()}
    return fields | {"apiVersion": resource.api_version, "kind": resource.kind}
