"""An applied object merged into the present one, and what is taken out of an object (structured-merge-diff's typed)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from netlab.api.server.fieldmanager import fieldsets
from netlab.api.server.fieldmanager.fieldsets import FieldSet, is_member
from netlab.api.server.fieldmanager.structure import Merging, Structure, UnkeyedError
from netlab.api.server.objects.schema import JSONObject

_ABSENT: Any = object()


def problems(config: JSONObject, structure: Structure) -> list[str]:
    """Why an object cannot be applied, each with its path: fields that it cannot have, and items that stand twice."""
    found: list[str] = []
    _check(config, structure, "", found)
    return found


def _check(value: Any, structure: Structure, path: str, found: list[str]) -> None:
    if type(value) is dict and structure.merging is not Merging.ITEMS:
        for name, each in value.items():
            named = structure.fields.get(name)
            below = named.structure if named is not None else structure.item
            if below is None and structure.fields:
                found.append(f"{path}.{name}: field not declared in schema")
            elif below is not None:
                _check(each, below, f"{path}.{name}", found)
    elif type(value) is list and structure.item is not None:
        _check_items(value, structure, structure.item, path, found)


def _check_items(items: list[Any], structure: Structure, item: Structure, path: str, found: list[str]) -> None:
    seen = set()
    for number, each in enumerate(items):
        place = f"[{number}]"
        if structure.merging is Merging.ITEMS:
            try:
                element = structure.element(each)
            except UnkeyedError as error:
                found.append(f"{path}: element {number}: {error}")
                return
            place = fieldsets.text((element,))
            if element in seen:
                found.append(f"{path}: duplicate entries for key {place}")
            seen.add(element)
        _check(each, item, f"{path}{place}", found)


def merge(live: JSONObject, config: JSONObject, structure: Structure) -> JSONObject:
    """The present object with what an applied one says."""
    merged: JSONObject = _merge(live, config, structure)
    return merged


def _merge(live: Any, config: Any, structure: Structure) -> Any:
    if config is _ABSENT:
        return live
    if structure.merging is Merging.FIELDS and type(config) is dict and type(live) is dict:
        merged = dict(live)
        for name, value in config.items():
            merged[name] = _merge(live.get(name, _ABSENT), value, structure.below(name))
        return merged
    if structure.merging is Merging.ITEMS and type(config) is list and type(live) is list:
        return _merge_items(live, config, structure)
    return config


def _merge_items(live: list[Any], config: list[Any], structure: Structure) -> list[Any]:
    """The applied items in their order, and between them the others, each where it was.

    Of present items that stand twice none is merged with the applied one, which takes their place.
    """
    ours = [structure.element(item) for item in live]
    theirs = {structure.element(item): item for item in config}
    known = Counter(ours)
    present = {element: item for element, item in zip(ours, live, strict=True) if known[element] == 1}
    item = structure.item
    assert item is not None
    wanted = list(theirs)
    shared = [element for element in wanted if element in known]
    merged: list[Any] = []
    placed: set[str] = set()
    mine = his = 0
    while mine < len(ours) or his < len(wanted):
        if mine < len(ours):
            element = ours[mine]
            following = shared[0] if shared else None
            if element not in theirs:
                merged.append(live[mine])
                mine += 1
                continue
            if his < len(wanted) and element != wanted[his] and following not in (None, element):
                mine += 1  # Its turn comes.
                continue
            if element in placed or (his < len(wanted) and element == wanted[his]):
                mine += 1
        if his < len(wanted):
            element = wanted[his]
            merged.append(_merge(present.get(element, _ABSENT), theirs[element], item))
            placed.add(element)
            his += 1
            if shared and shared[0] == element:
                shared.pop(0)
    return merged


def taken_out(obj: JSONObject, gone: FieldSet, structure: Structure) -> JSONObject:
    """An object without the fields and items of a set. What has nothing left in it is null: it was not taken out."""
    return _taken_out(obj, gone, structure) or {}


def _taken_out(value: Any, gone: FieldSet, structure: Structure) -> Any:
    if structure.merging is Merging.FIELDS and type(value) is dict:
        kept = {name: _rest(each, gone.get(f"f:{name}"), structure.below(name)) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each is not _ABSENT} or None
    if structure.merging is Merging.ITEMS and type(value) is list:
        assert structure.item is not None
        listed = [_rest(each, gone.get(structure.element(each)), structure.item) for each in value]
        return [each for each in listed if each is not _ABSENT and each is not None] or None
    return value if not isinstance(value, dict | list) else None


def _rest(value: Any, gone: FieldSet | None, structure: Structure) -> Any:
    if gone is None:
        return value
    return _ABSENT if is_member(gone) else _taken_out(value, gone, structure)
