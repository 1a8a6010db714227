"""What a schema must be to be structural.

As apiextensions-apiserver's pkg/apis/apiextensions/validation and pkg/apiserver/schema/validation.go. Complains about
paths in the definition.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.structural import expressions, patterns
from netlab.api.server.objects.structural.checking import check_value
from netlab.api.server.objects.structural.costs import budgets
from netlab.api.server.objects.structural.nodes import Schema, compiled, uses_old
from netlab.api.server.objects.structural.shaping import TYPE_AND_METADATA, prune, prune_value

_TYPES = ("array", "boolean", "integer", "number", "object", "string")

_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")

_BESIDE_STATUS = (
    *("description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
    *("maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required", "items"),
    *("properties", "externalDocs", "example", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations"),
)
"""What the root of a schema may have if the status is a subresource: the status is checked by its own part alone."""

_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where in the definition a schema stands."""

    path: str
    of: str = "object fields"
    """What has it: `the root`, `array items` or `object fields`."""
    defaults: str | None = None
    """Why it may have none here."""
    in_metadata: bool = False
    uncorrelatable: str = ""
    """The path of the list or map around it whose old and new values are not compared one by one."""

    @property
    def is_root(self) -> bool:
        return self.of == "the root"

    def at(self, part: str, of: str = "object fields") -> _Place:
        return dataclasses.replace(self, path=f"{self.path}.{part}", of=of)


def check(schema: Schema, path: str, problems: Problems, *, has_status: bool, is_unchanged: bool = False) -> None:
    """Complain about a whole schema.

    `has_status`: the status is a subresource. `is_unchanged`: the schema is stored like that already.
    """
    if has_status:
        _check_beside_status(schema, path, problems)
    if schema.get("nullable"):
        problems.forbidden(f"{path}.nullable", "nullable cannot be true at the root")
    found = Problems()
    _check_structure(schema, _Place(path, "the root"), found)
    if not found:
        _check_defaults(schema, path, found, in_metadata=False)
    if not found:
        budgets.check(schema, path, found, is_unchanged=is_unchanged)
    problems += found


def _check_beside_status(schema: Schema, path: str, problems: Problems) -> None:
    if schema.get("type") != "object":
        detail = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
        problems.invalid(f"{path}.type", schema.get("type", ""), detail)
    elif strays := [name for name in schema if name not in _BESIDE_STATUS]:
        detail = f"only {list(_BESIDE_STATUS)} fields are allowed at the root of the schema if the status subresource "
        problems.invalid(path, strays[0], f"{detail}is enabled")


# --- the structure ---------------------------------------------------------------------------------------------------


def _check_structure(schema: Schema, place: _Place, problems: Problems) -> None:
    """A schema that says which fields there are, and all below it."""
    path, kind = place.path, schema.get("type", "")
    items, additional, properties = schema.get("items"), schema.get("additionalProperties"), schema.get("properties")
    _check_keywords(schema, place, problems)
    _check_type(schema, place, problems)
    _check_list_and_map(schema, path, problems)
    _check_rules(schema, place, problems)
    if kind == "array" and items is None:
        problems.required(f"{path}.items", "must be specified")
    if isinstance(items, dict):
        is_correlatable = schema.get("x-kubernetes-list-type") == "map"
        _check_structure(items, _within(place.at("items", "array items"), path, is_correlatable), problems)
    if additional is not None:
        _check_additional(schema, place, problems)
    is_resource = place.is_root or schema.get("x-kubernetes-embedded-resource", False)
    for name, below in (properties or {}).items():
        is_correlatable = schema.get("x-kubernetes-map-type", "granular") == "granular"
        inner = _within(place.at(f"properties[{name}]"), path, is_correlatable)
        if is_resource and name in TYPE_AND_METADATA:
            why = f"in top-level {name}" if place.is_root else inner.defaults
            inner = dataclasses.replace(inner, in_metadata=True, defaults=why)
            _check_metadata(name, below, inner, problems, is_root=place.is_root)
        _check_structure(below, inner, problems)
    _check_junctors(schema, schema, path, path, problems)


def _within(place: _Place, around: str, is_correlatable: bool) -> _Place:
    return place if is_correlatable or place.uncorrelatable else dataclasses.replace(place, uncorrelatable=around)


def _check_keywords(schema: Schema, place: _Place, problems: Problems) -> None:
    path = place.path
    for name in _UNSUPPORTED:
        if schema.get(name):
            problems.forbidden(f"{path}.{name}", f"{name} is not supported")
    if isinstance(schema.get("items"), list):
        problems.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        problems.forbidden(f"{path}.uniqueItems", detail)
    if "default" in schema and place.defaults is not None:
        problems.forbidden(f"{path}.default", f"must not be set {place.defaults}")
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        problems.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    if place.in_metadata and schema.get("x-kubernetes-embedded-resource"):
        detail = "must not be used inside of resource meta"
        problems.forbidden(f"{path}.x-kubernetes-embedded-resource", detail)
    _check_pattern(schema, path, problems)


def _check_pattern(schema: Schema, path: str, problems: Problems) -> None:
    if pattern := schema.get("pattern"):
        try:
            patterns.check(pattern)
        except patterns.PatternError as error:
            problems.invalid(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {error}")


def _check_type(schema: Schema, place: _Place, problems: Problems) -> None:
    path, kind = f"{place.path}.type", schema.get("type", "")
    preserves = schema.get("x-kubernetes-preserve-unknown-fields", False)
    is_number_or_text = schema.get("x-kubernetes-int-or-string", False)
    is_resource = schema.get("x-kubernetes-embedded-resource", False)
    if kind == "null":
        problems.forbidden(path, "type cannot be set to null, use nullable as an alternative")
    elif kind and kind not in _TYPES:
        problems.one_of(path, kind, _TYPES)
    if is_resource and kind != "object":
        _not(path, kind, "must be object if x-kubernetes-embedded-resource is true", problems)
    elif not kind and not is_number_or_text and not preserves:
        where = "at the root" if place.is_root else f"for specified {place.of}"
        problems.required(path, f"must not be empty {where}")
    if place.is_root and kind and kind != "object":
        problems.invalid(path, kind, "must be object at the root")
    if is_number_or_text and preserves:
        detail = "must be false if x-kubernetes-int-or-string is true"
        problems.invalid(f"{place.path}.x-kubernetes-preserve-unknown-fields", True, detail)
    if is_number_or_text and is_resource:
        detail = "must be false if x-kubernetes-int-or-string is true"
        problems.invalid(f"{place.path}.x-kubernetes-embedded-resource", True, detail)
    if is_resource and not preserves and not schema.get("properties"):
        detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-"
        problems.required(f"{place.path}.properties", f"{detail}fields")


def _not(path: str, kind: str, detail: str, problems: Problems) -> None:
    if kind:
        problems.invalid(path, kind, detail)
    else:
        problems.required(path, detail)


def _check_additional(schema: Schema, place: _Place, problems: Problems) -> None:
    additional, path = schema["additionalProperties"], f"{place.path}.additionalProperties"
    if place.is_root:
        problems.forbidden(path, "must not be used at the root")
    if schema.get("x-kubernetes-embedded-resource"):
        problems.forbidden(path, "must not be used if x-kubernetes-embedded-resource is set")
    if schema.get("properties") and additional is not True:
        problems.forbidden(path, "additionalProperties and properties are mutual exclusive")
    if isinstance(additional, dict):
        inner = place.at("additionalProperties")
        if place.in_metadata:
            why = "inside additionalProperties applying to object metadata"
            inner = dataclasses.replace(inner, defaults=inner.defaults or why)
        _check_structure(additional, inner, problems)


def _check_metadata(name: str, schema: Schema, place: _Place, problems: Problems, *, is_root: bool) -> None:
    wanted = "object" if name == "metadata" else "string"
    if schema.get("type") != wanted:
        problems.invalid(f"{place.path}.type", schema.get("type", ""), f"must be {wanted}")
    if name == "metadata" and is_root:
        rest = schema.keys() - {"type", "properties", "description", "default"}
        if rest or set(schema.get("properties", ())) - {"name", "generateName"}:
            detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            problems.forbidden(place.path, detail)


def _check_list_and_map(schema: Schema, path: str, problems: Problems) -> None:
    kind, items = schema.get("type", ""), schema.get("items")
    map_type, list_type = schema.get("x-kubernetes-map-type"), schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys", ())
    if map_type is not None:
        if kind != "object":
            _not(f"{path}.type", kind, "must be object if x-kubernetes-map-type is specified", problems)
        problems.one_of(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular"))
    if keys and list_type != "map":
        detail = "must be map if x-kubernetes-list-map-keys is non-empty"
        _not(f"{path}.x-kubernetes-list-type", list_type or "", detail, problems)
    if list_type is None:
        return
    problems.one_of(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "set", "map"))
    if kind != "array":
        _not(f"{path}.type", kind, "must be array if x-kubernetes-list-type is specified", problems)
    if list_type == "map" and not keys:
        problems.required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    if not isinstance(items, dict):
        return
    if list_type in ("set", "map") and items.get("nullable"):
        detail = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        problems.forbidden(f"{path}.items.nullable", detail)
    if list_type == "set":
        _check_set(items, f"{path}.items", problems)
    elif list_type == "map":
        _check_keys(items, list(keys), path, problems)


def _check_set(items: Schema, path: str, problems: Problems) -> None:
    detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
    if items.get("type") == "array" and items.get("x-kubernetes-list-type", "atomic") != "atomic":
        problems.invalid(f"{path}.x-kubernetes-list-type", items["x-kubernetes-list-type"], detail)
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        problems.invalid(f"{path}.x-kubernetes-map-type", items.get("x-kubernetes-map-type"), detail)


def _check_keys(items: Schema, keys: list[str], path: str, problems: Problems) -> None:
    if items.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        problems.invalid(f"{path}.items.type", items.get("type", ""), detail)
        return
    place = f"{path}.x-kubernetes-list-map-keys"
    if len(set(keys)) < len(keys):
        problems.invalid(place, keys, "must not contain duplicate entries")
    for key in keys:
        field = items.get("properties", {}).get(key)
        own = f"{path}.items.properties[{key}]"
        if field is None:
            problems.invalid(place, keys, "entries must all be names of item properties")
            continue
        if field.get("type") in ("array", "object"):
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            problems.invalid(f"{own}.type", field["type"], detail)
        if key not in items.get("required", ()) and "default" not in field:
            detail = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            )
            problems.required(f"{own}.default", detail)
        if field.get("nullable"):
            detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            problems.forbidden(f"{own}.nullable", detail)


_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")


def _check_rules(schema: Schema, place: _Place, problems: Problems) -> None:
    fields = set(schema.get("properties", ()))
    if place.is_root or schema.get("x-kubernetes-embedded-resource"):
        fields |= TYPE_AND_METADATA
    for index, rule in enumerate(schema.get("x-kubernetes-validations", ())):
        own = f"{place.path}.x-kubernetes-validations[{index}]"
        text = rule.get("rule", "")
        if not text.strip():
            problems.required(f"{own}.rule", "rule is not specified")
        else:
            with _complaints(rule, f"{own}.rule", text, "compilation failed", problems):
                expressions.check_rule(text)
        if schema.get("type") == "object" and not isinstance(schema.get("additionalProperties"), dict):
            for name in expressions.undefined(text, fields):
                problems.invalid(f"{own}.rule", text, f"compilation failed: undefined field '{name}'")
        _check_old(rule, own, place, problems)
        _check_messages(rule, own, problems)
        if "reason" in rule:
            problems.one_of(f"{own}.reason", rule["reason"], _REASONS)


def _check_old(rule: Schema, own: str, place: _Place, problems: Problems) -> None:
    is_about_change = uses_old(rule.get("rule", ""))
    if is_about_change and place.uncorrelatable:
        detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelatable}"
        problems.invalid(f"{own}.rule", rule["rule"], detail)
    elif not is_about_change and "optionalOldSelf" in rule:
        detail = "may not be set if oldSelf is not used in rule"
        problems.invalid(f"{own}.optionalOldSelf", rule["optionalOldSelf"], detail)


def _check_messages(rule: Schema, own: str, problems: Problems) -> None:
    message, expression = rule.get("message", ""), rule.get("messageExpression", "")
    if message and not message.strip():
        problems.invalid(f"{own}.message", message, "must be non-empty if specified")
    elif _has_breaks(message):
        problems.invalid(f"{own}.message", message, "must not contain line breaks")
    elif _has_breaks(rule.get("rule", "")) and not message.strip():
        problems.required(f"{own}.message", "message must be specified if rule contains line breaks")
    if not expression:
        return
    if not expression.strip():
        problems.required(f"{own}.messageExpression", "messageExpression must be non-empty if specified")
        return
    what = "messageExpression compilation failed"
    with _complaints(rule, f"{own}.messageExpression", expression, what, problems):
        expressions.check_message(expression)


@contextlib.contextmanager
def _complaints(rule: Schema, path: str, text: str, what: str, problems: Problems) -> Iterator[None]:
    """Complain about an expression that is refused within; of one that is not understood its author is warned."""
    try:
        yield
    except expressions.MistypedError as error:
        problems.invalid(path, rule, str(error))
    except expressions.MalformedError as error:
        problems.invalid(path, text, f"{what}: {error}")
    except expressions.UnknownError:
        pass


def _has_breaks(text: str) -> bool:
    return "\n" in text.strip() or "\r" in text.strip()


# --- what only checks values -----------------------------------------------------------------------------------------


def _check_junctors(checks: Schema, structure: Schema, path: str, own: str, problems: Problems) -> None:
    """The alternatives of a schema: `structure` at `path` is what has to have each field that they are about."""
    any_of = checks.get("anyOf", [])
    if not (structure.get("x-kubernetes-int-or-string") and any_of == _INT_OR_STRING):
        for index, each in enumerate(any_of):
            _check_nested(each, structure, path, f"{own}.anyOf[{index}]", problems)
    for keyword in ("allOf", "oneOf"):
        for index, each in enumerate(checks.get(keyword, ())):
            if keyword == "allOf" and index == 0 and structure.get("x-kubernetes-int-or-string"):
                each = {**each, "anyOf": []} if each.get("anyOf") == _INT_OR_STRING else each  # noqa: PLW2901
            _check_nested(each, structure, path, f"{own}.{keyword}[{index}]", problems)
    if "not" in checks:
        _check_nested(checks["not"], structure, path, f"{own}.not", problems)


_FORBIDDEN_WITHIN = {
    "type": "must be empty to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "additionalProperties": "must be undefined to be structural",
    "x-kubernetes-preserve-unknown-fields": "must be false to be structural",
    "x-kubernetes-embedded-resource": "must be false to be structural",
    "x-kubernetes-int-or-string": "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
    "x-kubernetes-validations": "must be empty to be structural",
}


def _check_nested(checks: Schema, structure: Schema | None, path: str, own: str, problems: Problems) -> None:
    if structure is None:
        problems.required(path, f"because it is defined in {own}")
        return
    for name, detail in _FORBIDDEN_WITHIN.items():
        if checks.get(name):
            problems.forbidden(f"{own}.{name}", detail)
    for name in _UNSUPPORTED:
        if checks.get(name):
            problems.forbidden(f"{own}.{name}", f"{name} is not supported")
    _check_pattern(checks, own, problems)
    items = checks.get("items")
    if isinstance(items, dict):
        within = structure.get("items")
        _check_nested(items, within if isinstance(within, dict) else None, f"{path}.items", f"{own}.items", problems)
    elif items is not None:
        problems.forbidden(f"{own}.items", "items must be a schema object and not an array")
    for name, each in checks.get("properties", {}).items():
        inner = f"properties[{name}]"
        if name == "metadata":
            problems.forbidden(f"{own}.{inner}", "must not be specified in a nested context")
        within = structure.get("properties", {}).get(name)
        _check_nested(each, within, f"{path}.{inner}", f"{own}.{inner}", problems)
    _check_junctors(checks, structure, path, own, problems)


# --- defaults --------------------------------------------------------------------------------------------------------


def _check_defaults(schema: Schema, path: str, problems: Problems, *, in_metadata: bool) -> None:
    """Each default has what its schema allows, and nothing besides."""
    if "default" in schema:
        _check_default(schema, f"{path}.default", problems, in_metadata=in_metadata)
    items = schema.get("items")
    if isinstance(items, dict):
        _check_defaults(items, f"{path}.items", problems, in_metadata=in_metadata)
    is_resource = schema.get("x-kubernetes-embedded-resource", False)
    for name, below in schema.get("properties", {}).items():
        inside = in_metadata or (is_resource and name in TYPE_AND_METADATA)
        _check_defaults(below, f"{path}.properties[{name}]", problems, in_metadata=inside)


def _check_default(schema: Schema, path: str, problems: Problems, *, in_metadata: bool) -> None:
    value: Any = schema["default"]
    node = compiled(schema)
    if not in_metadata:
        pruned = copy.deepcopy(value)
        if node.is_resource and isinstance(pruned, dict):
            prune(pruned, node)
        else:
            prune_value(pruned, node)
        if pruned != value:
            problems.invalid(path, value, "must not have unknown fields")
    check_value(value, node, path, problems)
