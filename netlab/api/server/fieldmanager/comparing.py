"""Which fields an object has, and which of them a change wrote or removed: walks along an object and its structure.

Objects are as they are stored, or about to be; a field that is null is one that is set to nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from netlab.api.server.fieldmanager import fieldsets
from netlab.api.server.fieldmanager.fieldsets import FieldSet, member
from netlab.api.server.fieldmanager.structure import ANYTHING, Merging, Structure, UnkeyedError
from netlab.api.server.objects.schema import JSONObject

_ABSENT: Any = object()


class Comparison(NamedTuple):
    """What a change did."""

    written: FieldSet
    """Fields that are new or have another value."""
    removed: FieldSet


NOTHING = Comparison({}, {})


@dataclasses.dataclass(frozen=True)
class _Twice:
    """Items of a list that nothing tells apart: they belong together."""

    items: list[Any]


def compare(old: JSONObject, new: JSONObject, structure: Structure) -> Comparison:
    """What is to be done to an object to make it another one."""
    if old == new:
        return NOTHING
    found = Comparison({}, {})
    _compare(old, new, structure, found)
    return found


def created(new: JSONObject, structure: Structure) -> FieldSet:
    """What is written into an object that is made."""
    found: FieldSet = {}
    for name, value in new.items():
        branch = _new_field(name, value, structure)
        if branch is not None:
            found[f"f:{name}"] = branch
    return found


def _new_field(name: str, value: Any, structure: Structure) -> FieldSet | None:
    """The branch of a field that was not there; None if nothing is written, for in Go it was."""
    named = structure.fields.get(name)
    if named is None or not named.inherent:
        return _whole(value, structure.below(name))
    if _has_items(value, named.structure):
        inner = _members if type(value) is list else created
        return inner(value, named.structure) or None
    return None if value in (None, "", 0, {}) else {}


def applied(config: Any, structure: Structure) -> FieldSet:
    """The fields of which an applied object speaks; of an object that it has not those alone that are in it."""
    found: FieldSet = {}
    if type(config) is list:
        for element, item in indexed(config, structure).items():
            found[element] = {} if isinstance(item, _Twice) else member(_below(item, structure.item))
        return found
    for name, value in config.items():
        named = structure.fields.get(name)
        branch = _below(value, named.structure if named is not None else structure.below(name))
        if named is None or value is None or value == {}:
            found[f"f:{name}"] = member(branch)
        elif branch or not _is_merged(value, named.structure):
            found[f"f:{name}"] = branch
    return found


def _below(value: Any, structure: Structure | None) -> FieldSet:
    return applied(value, structure) if structure is not None and _is_merged(value, structure) else {}


def indexed(items: list[Any], structure: Structure) -> dict[str, Any]:
    """The items of a list by what tells them apart, in their order."""
    found: dict[str, Any] = {}
    for item in items:
        try:
            element = structure.element(item)
        except UnkeyedError:
            element = "k:{}"
        if element in found:
            before = found[element]
            known = before.items if isinstance(before, _Twice) else [before]
            found[element] = _Twice([*known, item])
        else:
            found[element] = item
    return found


def _is_merged(value: Any, structure: Structure) -> bool:
    """Whether what is in a value has owners of its own."""
    if type(value) is dict:
        return structure.merging is Merging.FIELDS
    return type(value) is list and structure.merging is Merging.ITEMS


def _has_items(value: Any, structure: Structure) -> bool:
    return bool(value) and _is_merged(value, structure)


def _whole(value: Any, structure: Structure) -> FieldSet:
    """The branch of what there was not: itself and all in it."""
    if isinstance(value, _Twice) or not _has_items(value, structure):
        return {}
    return {fieldsets.SELF: {}, **_members(value, structure)}


def _members(value: Any, structure: Structure) -> FieldSet:
    if type(value) is list:
        item = structure.item or ANYTHING
        return {element: _whole(each, item) for element, each in indexed(value, structure).items()}
    found: FieldSet = {}
    for name, each in value.items():
        # Nearly all are leaves, whatever their structure is.
        is_leaf = type(each) is not dict and type(each) is not list
        found[f"f:{name}"] = {} if is_leaf else _whole(each, structure.below(name))
    return found


def _compare(old: Any, new: Any, structure: Structure, found: Comparison) -> None:
    if type(new) is list:
        _compare_items(indexed(old, structure), indexed(new, structure), structure.item or ANYTHING, found)
        return
    for name, value in new.items():
        present = old.get(name, _ABSENT)
        if present is _ABSENT:
            branch = _new_field(name, value, structure)
            if branch is not None:
                found.written[f"f:{name}"] = branch
        elif present != value:
            _compare_one(f"f:{name}", present, value, structure.below(name), found)
    for name, value in old.items():
        if name not in new:
            found.removed[f"f:{name}"] = _whole(value, structure.below(name))


def _compare_items(old: dict[str, Any], new: dict[str, Any], structure: Structure, found: Comparison) -> None:
    for element, value in new.items():
        present = old.get(element, _ABSENT)
        if present is _ABSENT:
            found.written[element] = _whole(value, structure)
        elif present != value:
            _compare_one(element, present, value, structure, found)
    for element, value in old.items():
        if element not in new:
            found.removed[element] = _whole(value, structure)


def _compare_one(element: str, old: Any, new: Any, structure: Structure, found: Comparison) -> None:
    """A field or item that is there now, and differs from what was there. Null is as empty as can be."""
    if new is None and _has_items(old, structure):
        new = type(old)()
    elif old is None and _has_items(new, structure):
        old = type(new)()
    if isinstance(old, _Twice) != isinstance(new, _Twice):
        found.removed[element] = _whole(old, structure)
        found.written[element] = _whole(new, structure)
    elif type(old) is type(new) and _is_merged(new, structure) and (old or new):
        below = Comparison({}, {})
        _compare(old, new, structure, below)
        if below.written:
            found.written[element] = below.written
        if below.removed:
            found.removed[element] = below.removed
    else:
        found.written[element] = {}


def with_named_fields(fields: FieldSet, structure: Structure | None) -> FieldSet:
    """The set, and those fields above its members that a structure names (EnsureNamedFieldsAreMembers)."""
    found: FieldSet = {}
    for element, branch in fields.items():
        kind, _, name = element.partition(":")
        below = None
        if structure is not None:
            below = structure.below(name) if kind == "f" else structure.item
        inner = with_named_fields(branch, below)
        is_named = kind == "f" and structure is not None and name in structure.fields
        found[element] = {fieldsets.SELF: {}} | inner if inner and is_named else inner
    return found
