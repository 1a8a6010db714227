"""The three kinds of patch: JSON merge (RFC 7386), JSON patch (RFC 6902) and Kubernetes' strategic merge.

Each is a pure function of the object and the patch: it leaves both as they were, and its result may share parts with
them. Raises `PatchError`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import msgspec

from netlab.api.kinds import table
from netlab.api.kinds.table import Field, Message
from netlab.api.server.objects.bodies import DEEPEST
from netlab.api.server.objects.schema import JSONObject


class PatchError(ValueError):
    """The patch cannot be applied; the message says where and why."""


class InapplicableError(PatchError):
    """The object is not what the operations of the patch are for."""


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

MOST_OPERATIONS = 10_000
"""As upstream (maxJSONPatchOperations)."""

MOST_WORK = 8 * 1024 * 1024
"""What the operations of one patch may do, all together: characters copied and looked at, items moved.

A list copied into itself twenty times is a million lists: what a patch makes is bounded before it is made.
"""


class TooMuchError(PatchError):
    """The patch would make something huge, or take very long."""


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902: a list of add, remove, replace, move, copy and test; all of them or none.

    Raises `TooMuchError` for more than the limits above.
    """
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    if len(operations) > MOST_OPERATIONS:
        raise TooMuchError(f"it has {len(operations)} operations, and may have {MOST_OPERATIONS}")
    work = _Work(_clone(target))
    for number, operation in enumerate(operations):
        try:
            work.operate(operation)
        except TooMuchError as error:
            raise TooMuchError(f"operation {number}: {error}") from None
        except (KeyError, TypeError, PatchError) as error:
            detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InapplicableError(f"operation {number}: {detail}") from None
    return work.document


class _Work:
    """A document that is being changed, and how much more may be done to it."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self._left = MOST_WORK

    def operate(self, operation: Any) -> None:
        if not isinstance(operation, dict):
            raise PatchError("an operation is an object")
        path = _pointer(operation["path"])
        match operation["op"]:
            case "add":
                self._add(path, _clone(operation["value"]))
            case "remove":
                self._remove(path)
            case "replace":
                _resolve(self.document, path)
                self._remove(path)
                self._add(path, _clone(operation["value"]))
            case "move":
                source = _pointer(operation["from"])
                if path[: len(source)] == source and path != source:
                    raise PatchError(f"{operation['from']} cannot be moved into itself")
                value = _resolve(self.document, source)
                self._remove(source)
                self._add(path, value)
            case "copy":
                found = _resolve(self.document, _pointer(operation["from"]))
                self._measure(found, len(path))
                self._add(path, _clone(found))
            case "test":
                if not _equal(_resolve(self.document, path), operation["value"]):
                    raise PatchError(f"test of {operation['path'] or 'the document'} failed")
            case unknown:
                raise PatchError(f'unknown operation "{unknown}"')

    def _add(self, path: list[str], value: Any) -> None:
        self._measure(value, len(path))
        if not path:
            self.document = value
            return
        parent, last = _resolve(self.document, path[:-1]), path[-1]
        if isinstance(parent, list):
            place = len(parent) if last == "-" else _index(parent, last, end=len(parent) + 1)
            self._take((len(parent) - place) // 64)
            parent.insert(place, value)
        elif isinstance(parent, dict):
            parent[last] = value
        else:
            raise PatchError(f'"{last}" cannot be added to a scalar')

    def _remove(self, path: list[str]) -> None:
        if not path:
            self.document = None
            return
        parent, last = _resolve(self.document, path[:-1]), path[-1]
        _child(parent, last)
        if isinstance(parent, list):
            self._take((len(parent) - int(last)) // 64)
            del parent[int(last)]
        else:
            del parent[last]

    def _measure(self, value: Any, below: int) -> None:
        """Account for a value, to stand that many levels deep, before it is copied or put there."""
        level, levels = [value], below
        while level:
            if levels > DEEPEST + 1:
                raise TooMuchError(f"it would be nested more than {DEEPEST} deep")
            self._take(sum(8 + (len(each) if type(each) is str else 0) for each in level))
            levels += 1
            level = [
                item
                for each in level
                if type(each) in (dict, list)
                for item in (each.values() if type(each) is dict else each)
            ]

    def _take(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise TooMuchError(f"it would copy and move more than {MOST_WORK >> 20} MiB")


def _clone(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _equal(one: Any, other: Any) -> bool:
    # JSON's true and 1 differ; Python's do not. 1 and 1.0 are the same number.
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _pointer(text: Any) -> list[str]:
    """RFC 6901."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(f'"{text}" is not a JSON pointer')
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(items: list[Any], place: str, *, end: int) -> int:
    is_number = place.isascii() and place.isdigit() and len(place) < 10 and (place == "0" or not place.startswith("0"))
    if not is_number or int(place) >= end:
        raise PatchError(f'there is no index "{place[:20]}" in a list of {len(items)}')
    return int(place)


def _child(document: Any, token: str) -> Any:
    if isinstance(document, list):
        return document[_index(document, token, end=len(document))]
    if isinstance(document, dict) and token in document:
        return document[token]
    raise PatchError(f'there is no "{token[:100]}"')


def _resolve(document: Any, path: list[str]) -> Any:
    for token in path:
        document = _child(document, token)
    return document


# --- strategic merge patch -----------------------------------------------------------------------------------------

_Place: TypeAlias = Message | Field | None
"""What an object is: a message, a map of some (its field), or nothing that is known."""

_REPLACE, _DELETE, _MERGE = "replace", "delete", "merge"
_DIRECTIVE = "$patch"
_ORDER = "$setElementOrder/"
_DELETE_SCALARS = "$deleteFromPrimitiveList/"
_RETAIN = "$retainKeys"


def strategic_merge(target: JSONObject, patch: Any, message: Message) -> JSONObject:
    """Kubernetes' strategic merge patch: as JSON merge, but lists are merged as the fields of the `message` say."""
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch is an object")
    return _merge_object(target, patch, message)


def _merge_object(target: JSONObject, patch: JSONObject, within: _Place) -> JSONObject:
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
            merged[name] = _merge_field(merged.get(name), value, _field(within, name))
    for name, order in patch.items():
        if name.startswith(_ORDER):
            listed = name.removeprefix(_ORDER)
            _sort(merged, listed, _list(order, name), target.get(listed), within)
    return merged


def _apply_directive(merged: JSONObject, name: str, value: Any, patch: JSONObject) -> None:
    if name.startswith(_DELETE_SCALARS):
        target = name.removeprefix(_DELETE_SCALARS)
        if target in merged:
            gone = {_hashable(item) for item in _list(value, name)}
            merged[target] = [item for item in _list(merged[target], target) if _hashable(item) not in gone]
    elif name not in (_DIRECTIVE, _RETAIN) and not name.startswith(_ORDER):
        raise PatchError(f'unknown directive "{name}"')


def _field(place: _Place, name: str) -> Field | None:
    if isinstance(place, Field):
        return dataclasses.replace(place, mapped=False)
    return place.fields.get(name) if place is not None else None


def _place_in(field: Field | None) -> _Place:
    if field is None or field.type in table.SCALARS:
        return None
    return field if field.mapped else table.message(field.type)


def _merge_field(present: Any, value: Any, field: Field | None) -> Any:
    if isinstance(value, dict):
        return _merge_object(present if isinstance(present, dict) else {}, value, _place_in(field))
    if not isinstance(value, list) or field is None or "merge" not in field.merging.patch:
        return value
    existing = present if isinstance(present, list) else []
    if key := field.merging.key:
        return _in_order(_merge_list(existing, value, key, _place_in(field)), value, existing, key)
    merged = [*{_hashable(item): item for item in [*existing, *value]}.values()]
    return _in_order(merged, value, existing, "")


def _merge_list(existing: list[Any], changes: list[Any], key: str, within: _Place) -> list[Any]:
    merged: list[Any] = list(existing)
    places = {_hashable(item.get(key)): place for place, item in reversed(list(enumerate(existing)))}
    for change in changes:
        if not isinstance(change, dict):
            raise PatchError(f"a list merged by {key} holds objects only")
        directive = change.get(_DIRECTIVE, _MERGE)
        if directive == _REPLACE:
            # `- $patch: replace` makes the rest of the patch's list the whole list.
            return [item for item in changes if not (isinstance(item, dict) and _DIRECTIVE in item)]
        if key not in change:
            raise PatchError(f'"{key}" is missing from an item of a list that is merged by it')
        place = places.get(_hashable(change[key]))
        if directive == _DELETE:
            if place is not None:
                del places[_hashable(change[key])]
                merged[place] = None
        elif place is None:
            places[_hashable(change[key])] = len(merged)
            merged.append(_merge_object({}, change, within))
        else:
            merged[place] = _merge_object(merged[place], change, within)
    return [item for item in merged if item is not None]


def _hashable(value: Any) -> Any:
    """What tells a value from others; objects and lists, which no key is, by their text."""
    return msgspec.json.encode(value) if isinstance(value, dict | list) else (type(value), value)


def _sort(merged: JSONObject, name: str, order: list[Any], present: Any, within: _Place) -> None:
    """Put the items of a list into the order that a patch gives for it."""
    items = merged.get(name)
    if isinstance(items, list):
        field = _field(within, name)
        key = field.merging.key if field is not None else ""
        merged[name] = _in_order(items, order, present if isinstance(present, list) else [], key)


def _in_order(items: list[Any], wanted: list[Any], present: list[Any], key: str) -> list[Any]:
    """Items in upstream's order (strategicpatch, normalizeElementOrder): as wanted those that are named there, and the
    others as they are at present. One of the others comes before a named one only if it does so at present: what is
    new comes first.
    """

    def identity(item: Any) -> Any:
        return _hashable(item.get(key) if key and isinstance(item, dict) else item)

    def ranks(those: list[Any]) -> dict[Any, int]:
        return {identity(item): place for place, item in reversed(list(enumerate(those)))}

    rank_wanted, rank_present = ranks(wanted), ranks(present)
    named = sorted(
        (item for item in items if identity(item) in rank_wanted), key=lambda item: rank_wanted[identity(item)]
    )
    others = [item for item in items if identity(item) not in rank_wanted]
    result: list[Any] = []
    for item in named:
        place = rank_present.get(identity(item), -1)
        while others and rank_present.get(identity(others[0]), len(present)) < place:
            result.append(others.pop(0))
        result.append(item)
    return [*result, *others]


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise PatchError(f"{name} is a list")
    return value
