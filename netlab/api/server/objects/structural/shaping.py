"""Objects brought into the shape that their schema has: unknown fields taken out, defaults filled in.

As apiextensions-apiserver's pkg/apiserver/schema/pruning and defaulting. All change the object in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.structural.nodes import ABSENT, Node

TYPE_AND_METADATA = frozenset({"apiVersion", "kind", "metadata"})

_EMPTY = Node()

_Note = Callable[[str], None]


def prune(obj: JSONObject, root: Node, note: _Note = lambda _: None) -> None:
    """Take out the fields of a whole object that its schema does not have; `note` is told the path of each."""
    _prune_object(obj, root, root.preserves, is_resource=True, path="", note=note)


def prune_value(value: Any, node: Node) -> None:
    """The same of a value within an object, such as a default."""
    _prune(value, node, "", lambda _: None)


def _prune(value: Any, node: Node, path: str, note: _Note) -> None:
    _walk(value, node, node.preserves, path, note)


def _walk(value: Any, node: Node, preserves: bool, path: str, note: _Note) -> None:
    if type(value) is dict:
        _prune_object(value, node, preserves, is_resource=node.is_resource, path=path, note=note)
    elif type(value) is list:
        # A list within what is preserved is preserved too, but for what is said of its items' fields.
        item = node.items or _EMPTY
        for index, each in enumerate(value):
            if type(each) in (dict, list):
                _walk(each, item, preserves or item.preserves, f"{path}[{index}]", note)


def _prune_object(value: JSONObject, node: Node, preserves: bool, *, is_resource: bool, path: str, note: _Note) -> None:
    gone = []
    for name, item in value.items():
        if is_resource and name in TYPE_AND_METADATA:
            continue
        below = node.properties.get(name)
        if below is None and node.additional:
            below = node.additional if isinstance(node.additional, Node) else _EMPTY
        if below is not None:
            if type(item) in (dict, list):
                _prune(item, below, _join(path, name), note)
        elif not preserves:
            note(_join(path, name))
            gone.append(name)
    for name in gone:
        del value[name]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def fill(value: Any, node: Node) -> None:
    """Set the defaults of what is absent, and of what is null and may not be."""
    if not node.has_defaults:
        return
    if type(value) is dict:
        for name, below in node.properties.items():
            if below.default is not ABSENT and _is_lacking(value.get(name, ABSENT), below):
                value[name] = copy.deepcopy(below.default)
        for name, item in value.items():
            found = node.properties.get(name, node.additional)
            if isinstance(found, Node):
                fill(item, found)
    elif type(value) is list and node.items is not None:
        for index, item in enumerate(value):
            if item is None and not node.items.nullable and node.items.default is not ABSENT:
                value[index] = copy.deepcopy(node.items.default)
            fill(value[index], node.items)


def _is_lacking(value: Any, node: Node) -> bool:
    return value is ABSENT or (value is None and not node.nullable)


def drop_nulls(value: Any, node: Node | None) -> None:
    """Take out the fields that are null, may not be, and have no default."""
    if type(value) is dict:
        gone = []
        for name, item in value.items():
            below = _below(node, name)
            if item is None and below is not None and not below.nullable and below.default is ABSENT:
                gone.append(name)
            elif type(item) in (dict, list):
                drop_nulls(item, below)
        for name in gone:
            del value[name]
    elif type(value) is list:
        for item in value:
            drop_nulls(item, node.items if node is not None else None)


def _below(node: Node | None, name: str) -> Node | None:
    if node is None:
        return None
    found = node.properties.get(name, node.additional)
    return found if isinstance(found, Node) else None
