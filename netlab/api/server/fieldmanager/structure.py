"""How each place in an object is merged: as a whole, field by field, or item by item.

The rules are those by which upstream reads its OpenAPI documents (kube-openapi's schemaconv), here from the table of
kinds, or from the schema of a custom resource.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from netlab.api.kinds import table
from netlab.api.kinds.forms import FORMS
from netlab.api.server.fieldmanager import fieldsets
from netlab.api.server.objects.structural.nodes import ABSENT, Node


class Merging(enum.Enum):
    """Of what there is one owner."""

    WHOLE = "atomic"
    """Of the value, whatever is in it."""
    FIELDS = "granular"
    """Of each field, or entry of a map; of another value than an object, of all of it."""
    ITEMS = "associative"
    """Of each item of a list: a set or a map."""


class UnkeyedError(ValueError):
    """An item of a list has nothing to tell it from the others by."""


class Named(NamedTuple):
    """A field that a structure names."""

    structure: Structure
    inherent: bool
    """Whether a Go value always has it, if only as its zero: who sets it owns what is in it, and not itself."""


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """How a place is merged."""

    merging: Merging
    make_fields: Callable[[], Mapping[str, Named]] = dict
    """Its fields by name; they may be structures like itself."""
    make_item: Callable[[], Structure] | None = None
    """Of a list's items, or of what an object has besides those fields; None: it has nothing besides."""
    keys: tuple[str, ...] = ()
    """Of a list's items that are objects: the fields that tell them apart."""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What a key stands for that is absent."""

    @functools.cached_property
    def fields(self) -> Mapping[str, Named]:
        """By name."""
        return self.make_fields()

    @functools.cached_property
    def item(self) -> Structure | None:
        """See `make_item`."""
        return self.make_item() if self.make_item is not None else None

    def below(self, name: str) -> Structure:
        """That of a field or entry; of one that cannot be, any."""
        named = self.fields.get(name)
        return named.structure if named is not None else self.item or ANYTHING

    def element(self, item: Any) -> str:
        """What tells an item of a list from the others, as an element of a path. Raises `UnkeyedError`."""
        if not self.keys:
            if isinstance(item, dict | list) or item is None:
                raise UnkeyedError(f"associative list without keys has an element that's {_NAMES[type(item)]}")
            return fieldsets.of_value(item)
        if not isinstance(item, dict):
            raise UnkeyedError(f"associative list with keys may not have {_ELEMENTS[item is None]}")
        values = [item.get(name, self.defaults.get(name)) for name in self.keys]
        try:
            found = _element(self.keys, *values)
        except TypeError:
            raise UnkeyedError("associative list with keys has an element with a key that is no scalar") from None
        if not found:
            listed = " ".join(f'"{name}"' for name in self.keys)
            raise UnkeyedError(
                f"associative list with keys has an element that omits all key fields [{listed}] "
                "(and doesn't have default values for any key fields)"
            )
        return found


@functools.lru_cache(maxsize=4096, typed=True)  # True is not 1.
def _element(keys: tuple[str, ...], *values: Any) -> str:
    """The element of an item with these keys; empty if it has none of them. Most lists have the same few."""
    found = {name: value for name, value in zip(keys, values, strict=True) if value is not None}
    return fieldsets.key(found) if found else ""


_NAMES = {dict: "a map type", list: "a list", type(None): "an explicit null"}
_ELEMENTS = {True: "a null element", False: "non-map elements"}

WHOLE = Structure(Merging.WHOLE)

ANYTHING: Structure = Structure(Merging.FIELDS, make_item=lambda: ANYTHING)
"""Of what nothing is known: objects are merged, and lists are not (upstream's deduced type)."""

_OBJECTS_OF_ANYTHING = frozenset({"runtime.RawExtension", "meta.v1.FieldsV1"})

_KEY_DEFAULTS: dict[str, dict[str, Any]] = {
    "core.v1.ContainerPort": {"protocol": "TCP"},
    "core.v1.ServicePort": {"protocol": "TCP"},
}
"""Those fields with a default that are keys of lists (api/openapi-spec)."""


@functools.cache
def of_message(name: str) -> Structure:
    """That of a message of the table of kinds."""
    if name in _OBJECTS_OF_ANYTHING:
        return ANYTHING
    if name in table.SCALARS or name in FORMS:
        return WHOLE
    message = table.message(name)
    if message.atomic:
        return Structure(Merging.WHOLE, functools.partial(_fields, name))
    return Structure(Merging.FIELDS, functools.partial(_fields, name))


def _fields(name: str) -> dict[str, Named]:
    fields = {field.name: Named(_of_field(field), _is_inherent(field)) for field in table.message(name).fields.values()}
    if table.is_kind(name):
        fields |= dict.fromkeys(("apiVersion", "kind"), Named(WHOLE, inherent=False))
    return fields


def _is_inherent(field: table.Field) -> bool:
    is_struct = field.type not in table.SCALARS and not (field.repeated or field.mapped or field.pointer)
    return is_struct or field.required


def _of_field(field: table.Field) -> Structure:
    item = functools.partial(of_message, field.type)
    merging = field.merging
    if field.repeated:
        return _of_list(field, item)
    if field.mapped:
        return Structure(Merging.WHOLE if merging.map == "atomic" else Merging.FIELDS, make_item=item)
    structure = item()
    if merging.map == "granular":
        return dataclasses.replace(structure, merging=Merging.FIELDS)
    return dataclasses.replace(structure, merging=Merging.WHOLE) if merging.map == "atomic" else structure


def _of_list(field: table.Field, item: Callable[[], Structure]) -> Structure:
    merging = field.merging
    # What has no list type is merged as strategic merge patches do.
    kind = merging.list or ("" if "merge" not in merging.patch else "map" if merging.key else "set")
    if kind not in ("map", "set"):
        return Structure(Merging.WHOLE, make_item=item)
    keys = merging.keys or ((merging.key,) if merging.key else ()) if kind == "map" else ()
    return Structure(Merging.ITEMS, make_item=item, keys=keys, defaults=_KEY_DEFAULTS.get(field.type, {}))


# --- schemas ---------------------------------------------------------------------------------------------------------


def of_schema(root: Node) -> Structure:
    """That of whole objects of a custom resource."""
    return Structure(Merging.FIELDS, functools.partial(_fields_of_resource, root), _besides(root))


def _fields_of_resource(node: Node) -> dict[str, Named]:
    metadata = Named(of_message("meta.v1.ObjectMeta"), inherent=False)
    return (
        _fields_of(node) | dict.fromkeys(("apiVersion", "kind"), Named(WHOLE, inherent=False)) | {"metadata": metadata}
    )


def _fields_of(node: Node) -> dict[str, Named]:
    return {name: Named(_of_node(below), inherent=False) for name, below in node.properties.items()}


def _besides(node: Node) -> Callable[[], Structure] | None:
    if isinstance(node.additional, Node):
        return functools.partial(_of_node, node.additional)
    return (lambda: ANYTHING) if node.additional or node.preserves else None


def _of_node(node: Node) -> Structure:
    if node.items is not None:
        return _of_items(node, node.items)
    if not node.types:
        return ANYTHING if node.preserves else WHOLE
    if node.types != ("object",):
        return WHOLE
    merging = Merging.WHOLE if node.map_type == "atomic" else Merging.FIELDS
    fields = functools.partial(_fields_of_resource if node.is_resource else _fields_of, node)
    return Structure(merging, fields, _besides(node))


def _of_items(node: Node, items: Node) -> Structure:
    make = functools.partial(_of_node, items)
    if node.list_type == "atomic":
        return Structure(Merging.WHOLE, make_item=make)
    known = {name: items.properties[name].default for name in node.keys if name in items.properties}
    defaults = {name: value for name, value in known.items() if value is not ABSENT}
    return Structure(Merging.ITEMS, make_item=make, keys=node.keys, defaults=defaults)
