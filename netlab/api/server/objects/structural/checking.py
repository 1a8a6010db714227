"""Whether an object is what its schema says, in the words of Kubernetes' own server (kube-openapi pkg/validation).

A part of an object that was there before and has not changed is not looked at: who made a schema stricter does not make
every object that there is unchangeable (KEP-4008).
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from netlab.api import selectors
from netlab.api.meta_types import StatusCause
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.structural import expressions, patterns
from netlab.api.server.objects.structural.formats import FORMATS
from netlab.api.server.objects.structural.keys import by_key, canonical, key_of
from netlab.api.server.objects.structural.nodes import ABSENT, Node

MOST_LOOKS = 2_000_000
"""Values that are compared with nodes, for one object: alternatives within lists multiply both."""

MOST_PROBLEMS = 100
"""After which no more are reported."""

_WHOLE = "<nil>"
"""The path of what is not wrong in one place (field.Path of nil)."""

_BLOCKING = tuple(f"FieldValue{each}" for each in ("NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid"))
"""Reasons for which no rules are looked at: they expect a value of the right shape."""

_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    type(None): "null",
}

_RANGES = {"int32": 1 << 31, "int64": 1 << 63}


def check(obj: JSONObject, root: Node, problems: Problems, old: JSONObject | None = None) -> None:
    """Complain about what is wrong with an object; with an old one, about what was not wrong with that."""
    before = ABSENT if old is None else old
    check_value(obj, root, "", problems, before)


def check_value(value: Any, node: Node, path: str, problems: Problems, old: Any = ABSENT) -> None:
    """The same of the value at a path."""
    look = _Look()
    look.at(value, node, path, old)
    _check_lists(value, node, path, look, old)
    _check_resources(value, node, path, look.problems)
    problems.extend(look.problems[:MOST_PROBLEMS])
    if look.left <= 0:
        problems.invalid(path or _WHOLE, "", f"checking it takes more than {MOST_LOOKS} steps: make it smaller")
    elif node.has_rules:
        _check_rules(value, node, path, problems, old)


def _check_rules(value: Any, node: Node, path: str, problems: Problems, old: Any) -> None:
    if any(each.reason in _BLOCKING for each in problems):
        detail = "some validation rules were not checked because the object was invalid; correct the existing errors "
        problems.invalid(_WHOLE, None, f"{detail}to complete validation")
        return
    try:
        expressions.check(value, node, path, problems, old)
    except expressions.TooLongError:
        detail = "validation failed due to running out of cost budget, no further validation rules will be run"
        problems.invalid(path or _WHOLE, "", detail)


class _Look:
    """A walk through an object."""

    def __init__(self) -> None:
        self.problems = Problems()
        self.left = MOST_LOOKS

    def at(self, value: Any, node: Node, path: str, old: Any = ABSENT) -> None:
        self.left -= 1
        if self.left <= 0 or (old is not ABSENT and value == old and type(value) is type(old)):
            return
        self._check_type(value, node, path)
        if value is None:
            self._check_enum(value, node, path)
            return
        self._check_alternatives(value, node, path)
        if type(value) is str:
            self._check_text(value, node, path)
        elif type(value) in (int, float):
            self._check_number(value, node, path)
        elif type(value) is list:
            self._check_list(value, node, path, old)
        elif type(value) is dict:
            self._check_object(value, node, path, old)
        self._check_enum(value, node, path)

    # --- what every value has --------------------------------------------------------------------------------------

    def _check_type(self, value: Any, node: Node, path: str) -> None:
        found = _TYPES[type(value)]
        is_right = (
            not node.types
            or found in node.types
            or (value is None and node.nullable)
            or (found == "integer" and "number" in node.types)
            or (found == "number" and "integer" in node.types and float(value).is_integer())
        )
        if not is_right:
            self._refuse_type(path, ",".join(node.types), found)
        elif type(value) is str and (check := FORMATS.get(node.format.replace("-", ""))) and not check(value):
            self._refuse_type(path, node.format, value)
        elif type(value) is int and (limit := _RANGES.get(node.format)) and not -limit <= value < limit:
            self._refuse(path, value, f"must be of type integer with format {node.format}")

    def _check_enum(self, value: Any, node: Node, path: str) -> None:
        if node.enum is None or any(value == each and type(value) is type(each) for each in node.enum):
            return
        choices = [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in node.enum]
        self.problems.one_of(path or _WHOLE, value, choices)

    def _check_alternatives(self, value: Any, node: Node, path: str) -> None:
        if node.any_of:
            best = self._tries(value, node.any_of, path)
            if all(best):
                self._refuse_whole(f"{_quoted(path)} must validate at least one schema (anyOf)")
                self.problems += _fewest(best)
        if node.one_of:
            tried = self._tries(value, node.one_of, path, until_found=False)
            fitting = sum(not each for each in tried)
            if fitting != 1:
                found = f"Found {fitting} valid alternatives" if fitting else "Found none valid"
                self._refuse_whole(f"{_quoted(path)} must validate one and only one schema (oneOf). {found}")
                if not fitting:
                    self.problems += _fewest(tried)
        if node.all_of:
            tried = self._tries(value, node.all_of, path, until_found=False)
            self.problems += [problem for each in tried for problem in each]
            if any(tried):
                none = ". None validated" if all(tried) else ""
                self._refuse_whole(f"{_quoted(path)} must validate all the schemas (allOf){none}")
        if node.excluded is not None and not any(self._tries(value, (node.excluded,), path)):
            self._refuse_whole(f"{_quoted(path)} must not validate the schema (not)")

    def _tries(
        self, value: Any, nodes: Iterable[Node], path: str, *, until_found: bool = True
    ) -> list[list[StatusCause]]:
        """What is wrong with a value by each of some schemas."""
        mine, found = self.problems, []
        for node in nodes:
            self.problems = Problems()
            self.at(value, node, path)
            found.append(list(self.problems))
            if until_found and not found[-1]:
                break
        self.problems = mine
        return found

    # --- by type ---------------------------------------------------------------------------------------------------

    def _check_text(self, value: str, node: Node, path: str) -> None:
        for keyword, bound in node.bounds:
            if keyword == "maxLength" and len(value) > bound:
                self.problems.too_long(path or _WHOLE, int(bound))
            elif keyword == "minLength" and len(value) < bound:
                self._refuse(path, value, f"should be at least {_number(bound)} chars long")
        if node.pattern and not patterns.is_found(node.pattern, value):
            self._refuse(path, value, f"should match '{node.pattern}'")

    def _check_number(self, value: float, node: Node, path: str) -> None:
        above, below = node.is_exclusive
        for keyword, bound in node.bounds:
            if keyword == "maximum" and (value >= bound if below else value > bound):
                self._refuse(path, value, f"should be less than {'' if below else 'or equal to '}{_number(bound)}")
            elif keyword == "minimum" and (value <= bound if above else value < bound):
                self._refuse(path, value, f"should be greater than {'' if above else 'or equal to '}{_number(bound)}")
            elif keyword == "multipleOf" and not _is_multiple(value, bound):
                self._refuse(path, value, f"should be a multiple of {_number(bound)}")

    def _check_list(self, value: list[Any], node: Node, path: str, old: Any) -> None:
        if node.items is not None:
            before = by_key(old, node)
            for index, item in enumerate(value):
                was = before.get(key_of(item, node), ABSENT) if before else ABSENT
                self.at(item, node.items, f"{path}[{index}]", was)
        for keyword, bound in node.bounds:
            if keyword == "minItems" and len(value) < bound:
                self._refuse(path, len(value), f"should have at least {_number(bound)} items")
            elif keyword == "maxItems" and len(value) > bound:
                self._refuse_number(path, len(value), bound)

    def _check_object(self, value: JSONObject, node: Node, path: str, old: Any) -> None:
        before = old if type(old) is dict else {}
        for keyword, bound in node.bounds:
            if keyword == "minProperties" and len(value) < bound:
                self._refuse(path, len(value), f"should have at least {_number(bound)} properties")
            elif keyword == "maxProperties" and len(value) > bound:
                self._refuse_number(path, len(value), bound)
        for name, item in value.items():
            below = node.properties.get(name, node.additional)
            if isinstance(below, Node):
                self.at(item, below, f"{path}.{name}" if path else name, before.get(name, ABSENT))
        for name in node.required:
            if name not in value:
                self.problems.required(f"{path}.{name}" if path else name)

    # --- words -----------------------------------------------------------------------------------------------------

    def _refuse(self, path: str, value: Any, why: str) -> None:
        self.problems.invalid(path or _WHOLE, value, f"{path} in body {why}")

    def _refuse_type(self, path: str, wanted: str, found: str) -> None:
        self.problems.of_type(path or _WHOLE, found, f"{path} in body must be of type {wanted}: {_quoted(found)}")

    def _refuse_number(self, path: str, found: int, most: float) -> None:
        self.problems.too_many(path or _WHOLE, found, int(most))

    def _refuse_whole(self, why: str) -> None:
        self.problems.invalid(_WHOLE, "", why)


def _fewest(tried: list[list[StatusCause]]) -> list[StatusCause]:
    return sorted(tried, key=len)[0]


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _number(bound: float) -> str:
    return str(int(bound)) if float(bound).is_integer() else str(bound)


def _is_multiple(value: float, factor: float) -> bool:
    if not factor:
        return True
    # 0.3 is a multiple of 0.1, though not in binary.
    with decimal.localcontext() as context:
        context.prec = 400
        return decimal.Decimal(str(value)) % decimal.Decimal(str(factor)) == 0


# --- lists that are sets or maps -------------------------------------------------------------------------------------


def _check_lists(value: Any, node: Node, path: str, look: _Look, old: Any) -> None:
    """Complain about items that stand twice where they may not, unless the old object had such."""
    found = Problems()
    _find_duplicates(value, node, path, found)
    if found and old is not ABSENT:
        before = Problems()
        _find_duplicates(old, node, path, before)
        if before:
            return
    look.problems += found


def _find_duplicates(value: Any, node: Node, path: str, problems: Problems) -> None:
    if type(value) is dict:
        for name, item in value.items():
            below = node.properties.get(name)
            if below is not None:
                _find_duplicates(item, below, f"{path}.{name}" if path else name, problems)
            elif isinstance(node.additional, Node):
                _find_duplicates(item, node.additional, f"{path}[{name}]", problems)
    elif type(value) is list:
        if node.list_type == "set":
            _note_doubled(value, value, path, problems)
        elif node.list_type == "map":
            _check_map(value, node, path, problems)
        if node.items is not None:
            for index, item in enumerate(value):
                _find_duplicates(item, node.items, f"{path}[{index}]", problems)


def _check_map(value: list[Any], node: Node, path: str, problems: Problems) -> None:
    for index, item in enumerate(value):
        if type(item) not in (dict, type(None)):
            problems.invalid(f"{path}[{index}]", item, "must be an object for an array of list-type map")
            return
    keys = [{name: item[name] for name in node.keys if name in item} if item else {} for item in value]
    _note_doubled(keys, keys, path, problems)


def _note_doubled(values: list[Any], shown: list[Any], path: str, problems: Problems) -> None:
    seen: dict[bytes, int] = {}
    for index, value in enumerate(values):
        key = canonical(value)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] == 2:
            problems.duplicate(f"{path}[{index}]", shown[index])


# --- resources within ------------------------------------------------------------------------------------------------


def _check_resources(value: Any, node: Node, path: str, problems: Problems) -> None:
    if type(value) is dict:
        if node.is_resource:
            _check_resource(value, path, problems)
        for name, item in value.items():
            below = node.properties.get(name, node.additional)
            if isinstance(below, Node) and type(item) in (dict, list):
                _check_resources(item, below, f"{path}.{name}" if path else name, problems)
    elif type(value) is list and node.items is not None:
        for index, item in enumerate(value):
            _check_resources(item, node.items, f"{path}[{index}]", problems)


def _check_resource(value: JSONObject, path: str, problems: Problems) -> None:
    for name in ("apiVersion", "kind"):
        found = value.get(name)
        if found is None:
            problems.required(f"{path}.{name}")
        elif not isinstance(found, str):
            problems.invalid(f"{path}.{name}", found, "must be a string")
        elif not found:
            problems.invalid(f"{path}.{name}", found, "must not be empty")
    metadata = value.get("metadata", {})
    if not isinstance(metadata, dict):
        problems.invalid(f"{path}.metadata", metadata, "must be an object")
        return
    _check_pairs(metadata, "labels", path, problems, selectors.is_label_value)
    _check_pairs(metadata, "annotations", path, problems, lambda _: True)


def _check_pairs(
    metadata: JSONObject, name: str, path: str, problems: Problems, is_value: Callable[[str], bool]
) -> None:
    pairs = metadata.get(name, {})
    if not isinstance(pairs, dict) or not all(isinstance(each, str) for each in pairs.values()):
        problems.invalid(f"{path}.metadata", metadata, f"{name} must be a map of strings")
        return
    for key, value in pairs.items():
        if not selectors.is_label_key(key.lower() if name == "annotations" else key):
            problems.invalid(f"{path}.metadata.{name}", key, "name part must be a qualified name")
        if not is_value(value):
            problems.invalid(f"{path}.metadata.{name}", value, "must be a valid label value")
