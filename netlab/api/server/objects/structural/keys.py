"""What tells the items of a list that is a map from each other."""

from __future__ import annotations

from typing import Any

import msgspec

from netlab.api.server.objects.structural.nodes import Node


def canonical(value: Any) -> bytes:
    """A value's JSON, the same for all that are equal."""
    return msgspec.json.encode(value, order="sorted")


def key_of(item: Any, node: Node) -> bytes:
    """The key of an item of a node's list."""
    fields = item if isinstance(item, dict) else {}
    return canonical({name: fields[name] for name in node.keys if name in fields})


def by_key(items: Any, node: Node) -> dict[bytes, Any]:
    """The items by their keys; none of what is no list, or one whose items have no keys."""
    if type(items) is not list or node.list_type != "map":
        return {}
    return {key_of(item, node): item for item in items}
