"""The three kinds of patch: JSON merge (RFC 7386), JSON patch (RFC 6902) and Kubernetes' strategic merge.

Each is a pure function of the object and the patch: it leaves both as they were, and its result may share parts with
them. Raises `PatchError`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec

from netlab.api import apps_types, core_types, meta_types
from netlab.api.server.schema import JSONObject, Shape, fields_of


class PatchError(ValueError):
    """The patch cannot be applied; the message says where and why."""


# --- JSON merge patch ----------------------------------------------------------------------------------------------


def json_merge(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = json_merge(merged.get(name), value)
    return merged


# --- JSON patch ----------------------------------------------------------------------------------------------------


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902: a list of add, remove, replace, move, copy and test; all of them or none."""
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    result = copy.deepcopy(target)
    for number, operation in enumerate(operations):
        try:
            result = _operate(result, operation)
        except (KeyError, TypeError, PatchError) as error:
            detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise PatchError(f"operation {number}: {detail}") from None
    return result


def _operate(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise PatchError("an operation is an object")
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "replace":
            _resolve(document, path)
            return (
                _add(_remove(document, path), path, copy.deepcopy(operation["value"])) if path else operation["value"]
            )
        case "move":
            source = _pointer(operation["from"])
            if path[: len(source)] == source and path != source:
                raise PatchError(f"{operation['from']} cannot be moved into itself")
            value = _resolve(document, source)
            return _add(_remove(document, source), path, value)
        case "copy":
            return _add(document, path, copy.deepcopy(_resolve(document, _pointer(operation["from"]))))
        case "test":
            if not _equal(_resolve(document, path), operation["value"]):
                raise PatchError(f"test of {operation['path'] or 'the document'} failed")
            return document
        case unknown:
            raise PatchError(f'unknown operation "{unknown}"')


def _equal(one: Any, other: Any) -> bool:
    # JSON's true and 1 differ; Python's do not.
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


def _pointer(text: Any) -> list[str]:
    """RFC 6901."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(f'"{text}" is not a JSON pointer')
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(items: list[Any], place: str, *, end: int) -> int:
    if not (place.isascii() and place.isdigit()) or (place != "0" and place.startswith("0")) or int(place) >= end:
        raise PatchError(f'there is no index "{place}" in a list of {len(items)}')
    return int(place)


def _child(document: Any, token: str) -> Any:
    if isinstance(document, list):
        return document[_index(document, token, end=len(document))]
    if isinstance(document, dict) and token in document:
        return document[token]
    raise PatchError(f'there is no "{token}"')


def _resolve(document: Any, path: list[str]) -> Any:
    for token in path:
        document = _child(document, token)
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _resolve(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(parent, last, end=len(parent) + 1), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise PatchError(f'"{last}" cannot be added to a scalar')
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        return None
    parent, last = _resolve(document, path[:-1]), path[-1]
    _child(parent, last)
    del parent[int(last) if isinstance(parent, list) else last]
    return document


# --- strategic merge patch -----------------------------------------------------------------------------------------

MERGE_KEYS: dict[type[msgspec.Struct], dict[str, str]] = {
    meta_types.ObjectMeta: {"ownerReferences": "uid"},
    core_types.PodSpec: {
        "containers": "name",
        "initContainers": "name",
        "ephemeralContainers": "name",
        "hostAliases": "ip",
        "imagePullSecrets": "name",
        "resourceClaims": "name",
        "schedulingGates": "name",
        "topologySpreadConstraints": "topologyKey",
        "volumes": "name",
    },
    core_types.Container: {
        "env": "name",
        "ports": "containerPort",
        "volumeDevices": "devicePath",
        "volumeMounts": "mountPath",
    },
    core_types.PodStatus: {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"},
    core_types.NodeStatus: {"addresses": "type", "conditions": "type"},
    core_types.NamespaceStatus: {"conditions": "type"},
    core_types.ServiceSpec: {"ports": "port"},
    core_types.ServiceStatus: {"conditions": "type"},
    apps_types.DeploymentStatus: {"conditions": "type"},
    apps_types.ReplicaSetStatus: {"conditions": "type"},
}
"""The lists of objects that are merged item by item, and the field that tells items apart (patchMergeKey in
k8s.io/api 1.31). Every other list is replaced whole."""

MERGED_SETS: dict[type[msgspec.Struct], frozenset[str]] = {
    meta_types.ObjectMeta: frozenset({"finalizers"}),
    core_types.NodeSpec: frozenset({"podCIDRs"}),
}
"""The lists of scalars that are merged as sets."""

_REPLACE, _DELETE, _MERGE = "replace", "delete", "merge"
_DIRECTIVE = "$patch"
_ORDER = "$setElementOrder/"
_DELETE_SCALARS = "$deleteFromPrimitiveList/"
_RETAIN = "$retainKeys"


def strategic_merge(target: JSONObject, patch: Any, struct: type[msgspec.Struct]) -> JSONObject:
    """Kubernetes' strategic merge patch: as JSON merge, but the lists of MERGE_KEYS are merged by key."""
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch is an object")
    return _merge_object(target, patch, Shape(struct=struct))


def _merge_object(target: JSONObject, patch: JSONObject, shape: Shape) -> JSONObject:
    directive = patch.get(_DIRECTIVE, _MERGE)
    if directive == _REPLACE:
        return {name: value for name, value in patch.items() if name != _DIRECTIVE}
    if directive == _DELETE:
        return {}
    if directive != _MERGE:
        raise PatchError(f'unknown directive {_DIRECTIVE}: "{directive}"')
    merged = dict(target)
    if _RETAIN in patch:
        retained = set(_list(patch[_RETAIN], _RETAIN))
        merged = {name: value for name, value in merged.items() if name in retained}
    for name, value in patch.items():
        if name.startswith("$"):
            _apply_directive(merged, name, value, patch)
        elif value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge_field(merged.get(name), name, value, shape)
    for name, order in patch.items():
        if name.startswith(_ORDER):
            _sort(merged, name.removeprefix(_ORDER), _list(order, name), shape)
    return merged


def _apply_directive(merged: JSONObject, name: str, value: Any, patch: JSONObject) -> None:
    if name.startswith(_DELETE_SCALARS):
        target = name.removeprefix(_DELETE_SCALARS)
        if target in merged:
            gone = _list(value, name)
            merged[target] = [item for item in merged[target] if item not in gone]
    elif name not in (_DIRECTIVE, _RETAIN) and not name.startswith(_ORDER):
        raise PatchError(f'unknown directive "{name}"')


def _merge_field(present: Any, name: str, value: Any, shape: Shape) -> Any:
    inner = _shape_of(shape, name)
    if isinstance(value, dict):
        return _merge_object(present if isinstance(present, dict) else {}, value, inner)
    if not isinstance(value, list):
        return value
    existing = present if isinstance(present, list) else []
    if shape.struct is not None and (key := MERGE_KEYS.get(shape.struct, {}).get(name)):
        return _merge_list(existing, value, key, inner.item or Shape())
    if shape.struct is not None and name in MERGED_SETS.get(shape.struct, ()):
        return existing + [item for item in value if item not in existing]
    return value


def _shape_of(shape: Shape, name: str) -> Shape:
    if shape.struct is not None:
        return fields_of(shape.struct).shapes.get(name, Shape())
    return shape.item or Shape()


def _merge_list(existing: list[Any], changes: list[Any], key: str, shape: Shape) -> list[Any]:
    merged = list(existing)
    for change in changes:
        if not isinstance(change, dict):
            raise PatchError(f"a list merged by {key} holds objects only")
        directive = change.get(_DIRECTIVE, _MERGE)
        if directive == _REPLACE:
            # `- $patch: replace` makes the rest of the patch's list the whole list.
            return [item for item in changes if _DIRECTIVE not in item]
        if key not in change:
            raise PatchError(f'"{key}" is missing from an item of a list that is merged by it')
        place = _find(merged, key, change[key])
        if directive == _DELETE:
            merged = [item for item in merged if item.get(key) != change[key]]
        elif place is None:
            merged.append(_merge_object({}, change, shape))
        else:
            merged[place] = _merge_object(merged[place], change, shape)
    return merged


def _find(items: list[Any], key: str, value: Any) -> int | None:
    return next((index for index, item in enumerate(items) if item.get(key) == value), None)


def _sort(merged: JSONObject, name: str, order: list[Any], shape: Shape) -> None:
    """Put the named items into the order given; the others keep their places behind the one they followed."""
    items = merged.get(name)
    if not isinstance(items, list):
        return
    key = MERGE_KEYS.get(shape.struct, {}).get(name) if shape.struct is not None else None
    identity: Callable[[Any], Any] = (lambda item: item.get(key)) if key else (lambda item: item)
    wanted = [item.get(key) if key and isinstance(item, dict) else item for item in order]
    place = -1
    ranked = []
    for item in items:
        if identity(item) in wanted:
            place = wanted.index(identity(item))
        ranked.append((place, item))
    merged[name] = [item for _, item in sorted(ranked, key=lambda pair: pair[0])]


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise PatchError(f"{name} is a list")
    return value
