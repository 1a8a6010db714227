"""Objects that several versions of the API serve: stored in one form, and sent and returned in each.

Of most built-in kinds only the names of fields differ. Objects of custom resources are changed in the version that is
asked for, and stored in that of their storage (a conversion of None: what the other version has no field for is lost);
when they are read, they get the defaults that their definition has now.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from netlab.api.meta_types import Object
from netlab.api.resources import HORIZONTALPODAUTOSCALERS_V1, Resource
from netlab.api.server.objects import autoscaling
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.structural import shaping


def storage(resource: Resource[Any]) -> Resource[Object]:
    """The version in whose form the objects of a resource are stored."""
    return resource.stored_as or resource


def changed_as(resource: Resource[Any]) -> Resource[Object]:
    """The version in whose form the objects of a resource are changed."""
    return resource if isinstance(resource, CustomResource) else storage(resource)


def to_change(resource: Resource[Object], obj: JSONObject) -> JSONObject:
    """An object of a version, as it is changed."""
    return obj if isinstance(resource, CustomResource) else to_storage(resource, obj)


def to_storage(resource: Resource[Object], obj: JSONObject) -> JSONObject:
    """An object of a version, as it is stored."""
    if resource.stored_as is None:
        return obj
    if isinstance(resource.stored_as, CustomResource):
        return _converted(obj, resource.stored_as)
    if resource is HORIZONTALPODAUTOSCALERS_V1:
        return autoscaling.to_v2(obj)
    return _renamed(resource.stored_as, obj, {new: old for old, new in resource.renamed.items()})


def from_storage(resource: Resource[Object], obj: JSONObject) -> JSONObject:
    """A stored object, as a version has it."""
    if isinstance(resource, CustomResource):
        storage = resource.stored_as or resource
        assert isinstance(storage, CustomResource)
        # It may have been stored by an earlier definition, or in another version of it.
        shaping.prune(obj, storage.root)
        shaping.drop_nulls(obj, storage.root)
        shaping.fill(obj, storage.root)
        return _converted(obj, resource)
    if resource is HORIZONTALPODAUTOSCALERS_V1:
        return autoscaling.to_v1(obj)
    return obj if resource.stored_as is None else _renamed(resource, obj, resource.renamed)


def raw_from_storage(resource: Resource[Object], raw: bytes) -> bytes:
    """The same in JSON."""
    if resource.stored_as is None and not isinstance(resource, CustomResource):
        return raw
    return msgspec.json.encode(from_storage(resource, msgspec.json.decode(raw)))


def selectable(renamed: Mapping[str, str], field: str) -> str:
    """What a field, by whose path objects are selected, is called where they are stored."""
    first, dot, rest = field.partition(".")
    return next((old for old, new in renamed.items() if new == first), first) + dot + rest


def converted(obj: JSONObject, resource: CustomResource) -> JSONObject:
    """A copy of an object of a custom resource, in another of its versions."""
    if obj.get("apiVersion") == resource.api_version:
        return obj
    return _converted(copy.deepcopy(obj), resource)


def _converted(obj: JSONObject, resource: CustomResource) -> JSONObject:
    obj = obj | {"apiVersion": resource.api_version, "kind": resource.kind}
    shaping.prune(obj, resource.root)
    return obj


def _renamed(resource: Resource[Any], obj: JSONObject, names: Mapping[str, str]) -> JSONObject:
    fields = {names.get(name, name): value for name, value in obj.items()}
    return fields | {"apiVersion": resource.api_version, "kind": resource.kind}
