"""A schema as nodes, made of its JSON (apiextensions.v1.JSONSchemaProps) once for all objects that it is about."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

from netlab.api.server.objects.structural import formats

Schema = Mapping[str, Any]


class _Absent:
    """Not null: nothing."""


ABSENT: Final = _Absent()


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A rule in CEL (apiextensions.v1.ValidationRule)."""

    text: str
    message: str = ""
    message_expression: str = ""
    reason: str = ""
    path: str = ""
    """Of the field that it is about, below its own; empty: that itself."""
    needs_old: bool = False
    """Whether it is about changes."""


LITERAL = re.compile(r"""r?(\"(\\.|[^"\\])*\"|'(\\.|[^'\\])*')""")
"""A text in a rule."""

_OLD = re.compile(r"\boldSelf\b")


def uses_old(rule: str) -> bool:
    """Whether a rule is about a change."""
    return _OLD.search(LITERAL.sub("''", rule)) is not None


@dataclasses.dataclass(slots=True)
class Node:
    """What is said of one place in an object.

    The structure (properties, items, additional) says which fields there are; what is in all_of, any_of, one_of and
    excluded only checks values.
    """

    types: tuple[str, ...] = ()
    """Empty: any."""
    nullable: bool = False
    format: str = ""
    """Only one that is checked."""
    properties: dict[str, Node] = dataclasses.field(default_factory=dict)
    items: Node | None = None
    additional: Node | bool = False
    """What other fields may hold; True: anything. False: nothing is said, and they are unknown."""
    preserves: bool = False
    """Unknown fields are kept."""
    is_resource: bool = False
    """An object with apiVersion, kind and metadata within another."""
    list_type: str = "atomic"
    keys: tuple[str, ...] = ()
    """Of a list that is a map: the fields that tell items apart."""
    map_type: str = "granular"
    default: Any = ABSENT
    enum: list[Any] | None = None
    bounds: tuple[tuple[str, float], ...] = ()
    """Those of the keywords of BOUNDS that are there."""
    is_exclusive: tuple[bool, bool] = (False, False)
    """Whether minimum and maximum are not reached."""
    pattern: str = ""
    required: tuple[str, ...] = ()
    all_of: tuple[Node, ...] = ()
    any_of: tuple[Node, ...] = ()
    one_of: tuple[Node, ...] = ()
    excluded: Node | None = None
    rules: tuple[Rule, ...] = ()
    has_defaults: bool = False
    """Here or below."""
    has_rules: bool = False
    """Here or below."""


BOUNDS = (
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "multipleOf",
)


def compiled(schema: Schema) -> Node:
    """The nodes of a schema that follows the rules (`rules.check`)."""
    types: tuple[str, ...] = ("integer", "string") if schema.get("x-kubernetes-int-or-string") else ()
    if not types and schema.get("type"):
        types = (schema["type"],)
    name = schema.get("format", "")
    kind = types[0] if len(types) == 1 else ""
    additional = schema.get("additionalProperties", False)
    items = schema.get("items")
    node = Node(
        types=types,
        nullable=schema.get("nullable", False),
        format=name if name and formats.is_known(kind, name) else "",
        properties={field: compiled(below) for field, below in schema.get("properties", {}).items()},
        items=compiled(items) if isinstance(items, dict) else None,
        additional=compiled(additional) if isinstance(additional, dict) else additional,
        preserves=schema.get("x-kubernetes-preserve-unknown-fields", False),
        is_resource=schema.get("x-kubernetes-embedded-resource", False),
        list_type=schema.get("x-kubernetes-list-type", "atomic"),
        keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
        map_type=schema.get("x-kubernetes-map-type", "granular"),
        default=schema.get("default", ABSENT),
        enum=schema.get("enum"),
        bounds=tuple((each, schema[each]) for each in BOUNDS if each in schema),
        is_exclusive=(schema.get("exclusiveMinimum", False), schema.get("exclusiveMaximum", False)),
        pattern=schema.get("pattern", ""),
        required=tuple(schema.get("required", ())),
        all_of=tuple(map(compiled, schema.get("allOf", ()))),
        any_of=tuple(map(compiled, schema.get("anyOf", ()))),
        one_of=tuple(map(compiled, schema.get("oneOf", ()))),
        excluded=compiled(schema["not"]) if "not" in schema else None,
        # What old values there are, such a rule asks itself, by a type that this server does not have.
        rules=tuple(
            _rule(each) for each in schema.get("x-kubernetes-validations", ()) if not each.get("optionalOldSelf")
        ),
    )
    below = [*node.properties.values()]
    below += [each for each in (node.items, node.additional) if isinstance(each, Node)]
    node.has_defaults = node.default is not ABSENT or any(each.has_defaults for each in below)
    node.has_rules = bool(node.rules) or any(each.has_rules for each in below)
    return node


def _rule(rule: Schema) -> Rule:
    return Rule(
        rule["rule"],
        rule.get("message", ""),
        rule.get("messageExpression", ""),
        rule.get("reason", ""),
        rule.get("fieldPath", ""),
        uses_old(rule["rule"]),
    )
