"""The most that an expression can cost (cel-go checker/cost.go; apiserver pkg/cel/library/cost.go).

One unit is some 50 ns. A walk along the tree, from the leaves: what each part costs, how large its value is, and what
of the schema it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Final

from netlab.api.server.objects.structural.costs import syntax
from netlab.api.server.objects.structural.costs.declared import DYNAMIC, TEXT, Declared

MOST: Final = 2**64 - 1
"""So much, or more: sums and products stop there."""

_TRAVERSAL = 0.1
"""To look at a character."""
_PATTERN = 0.25
"""Per character of a regular expression."""
_LIST, _MAP, _MESSAGE = 10, 30, 40
"""To make one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How large a value is: characters of a text, bytes, items, entries."""

    least: int
    most: int

    def union(self, other: Size) -> Size:
        """One that is either."""
        return Size(min(self.least, other.least), max(self.most, other.most))

    def __add__(self, other: Size) -> Size:
        return Size(min(MOST, self.least + other.least), min(MOST, self.most + other.most))

    def __mul__(self, other: Size) -> Size:
        return Size(min(MOST, self.least * other.least), min(MOST, self.most * other.most))


_ONE, _UNKNOWN = Size(1, 1), Size(0, MOST)

_NOWHERE = Declared("nowhere")
"""The place of a value that a path leads to which the schema does not have."""

_SCALARS = frozenset({"bool", "double", "duration", "int", "timestamp", "uint"})


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """What is known of an expression."""

    cost: int
    type: Declared = DYNAMIC
    place: Declared | None = None
    """What of the schema it is; None: it is computed."""
    computed: Size | None = None
    """Of its value, if it follows from the expression."""
    entries: Size | None = None
    """Of the items of a list or the values of a map, likewise."""
    is_literal: bool = False
    number: int | None = None
    """That it is, for an int."""

    @property
    def known(self) -> Size | None:
        if self.computed is not None:
            return self.computed
        if self.place is not None and self.place is not _NOWHERE:
            return Size(0, self.place.most)
        return _ONE if _is_scalar(self.type) else None

    @property
    def size(self) -> Size:
        return self.known or _UNKNOWN


def _is_scalar(type_: Declared) -> bool:
    if type_.kind == "optional":
        return type_.element is not None and _is_scalar(type_.element)
    return type_.kind in _SCALARS


def most(expression: syntax.Expression, root: Declared) -> int:
    """The most that it costs to evaluate an expression about a `self` that is declared so."""
    return _Estimate(root).of(expression).cost


def _times(amount: int, factor: float) -> int:
    return MOST if (product := math.ceil(amount * factor)) >= MOST else product


def _sum(*costs: int) -> int:
    return min(MOST, sum(costs))


class _Estimate:
    """A walk along an expression."""

    def __init__(self, root: Declared) -> None:
        self._root = root
        self._variables: dict[str, _Part] = {}
        """Of the loops around."""

    def of(self, expression: syntax.Expression) -> _Part:  # noqa: PLR0911 - a table
        match expression:
            case syntax.Constant():
                size = Size(expression.size, expression.size)
                number = expression.number if expression.type == "int" else None
                return _Part(0, Declared(expression.type), None, size, is_literal=True, number=number)
            case syntax.Identifier():
                return self._identifier(expression.name)
            case syntax.Select():
                return self._select(expression)
            case syntax.Call():
                return self._call(expression)
            case syntax.MakeList():
                return self._list(expression)
            case syntax.MakeMap():
                return self._map(expression)
            case syntax.Comprehension():
                return self._bound(expression) if _is_bind(expression) else self._loop(expression)

    def _identifier(self, name: str) -> _Part:
        if (variable := self._variables.get(name)) is not None:
            return dataclasses.replace(variable, cost=1)
        return _Part(1, self._root if name in ("self", "oldSelf") else Declared("type"), self._root)

    def _select(self, select: syntax.Select) -> _Part:
        operand = self.of(select.operand)
        if select.is_test:
            return _Part(operand.cost, Declared("bool"))
        # Of a dynamic value it costs nothing, upstream.
        cost = _sum(operand.cost, operand.type.kind in ("map", "object"))
        return _Part(cost, _field(operand.type, select.field), self._below(operand.place, select.field))

    def _below(self, place: Declared | None, step: str) -> Declared:
        """The place of a field, or of the `@items`, `@values` or `@keys` of what is at a place."""
        if place is None:
            # The path of what is computed begins with the step itself; upstream takes it for the root.
            return self._root
        if step == "@keys":
            return TEXT if place.kind == "map" else _NOWHERE
        found = place.element if step in ("@items", "@values") else place.fields.get(step)
        return found or _NOWHERE

    def _list(self, made: syntax.MakeList) -> _Part:
        items = [self.of(each) for each in made.items]
        type_ = Declared("list", element=items[0].type if items else None)
        sizes = _union_of(items) if items else Size(0, 0)
        count = Size(len(items), len(items))
        return _Part(_sum(_LIST, *(each.cost for each in items)), type_, None, count, sizes)

    def _map(self, made: syntax.MakeMap) -> _Part:
        keys = [self.of(key) for key, _ in made.entries if key is not None]
        values = [self.of(value) for _, value in made.entries]
        base = _MESSAGE if made.is_message else _MAP
        cost = _sum(base, *(each.cost for each in (*keys, *values)))
        if made.is_message:
            return _Part(cost)
        type_ = Declared("map", element=values[0].type if values else None)
        count = Size(len(values), len(values))
        return _Part(cost, type_, None, count, _union_of(values) if values else Size(0, 0))

    # --- loops -------------------------------------------------------------------------------------------------------

    def _bound(self, bind: syntax.Comprehension) -> _Part:
        """cel.bind, and what optMap becomes: a name for a value."""
        start = self.of(bind.start)
        result = self._with({bind.accumulator: start}, bind.result)
        return dataclasses.replace(result, cost=_sum(_LIST, start.cost, result.cost), place=None, computed=result.known)

    def _loop(self, loop: syntax.Comprehension) -> _Part:
        over, start = self.of(loop.range), self.of(loop.start)
        is_list = over.type.kind == "list"
        variable = _Part(
            1,
            (over.type.element or DYNAMIC) if is_list else TEXT if over.type.kind == "map" else DYNAMIC,
            self._below(over.place, "@items" if is_list else "@keys"),
        )
        names = {loop.accumulator: start, loop.variable: variable}
        condition, step = self._with(names, loop.condition), self._with(names, loop.step)
        after = dataclasses.replace(start, type=step.type)
        result = self._with({loop.accumulator: after}, loop.result)
        rounds = min(MOST, over.size.most * _sum(condition.cost, step.cost))
        cost = _sum(over.cost, start.cost, result.cost, rounds)
        if start.is_literal:
            return _Part(cost, result.type, None, start.computed)
        return _Part(cost, result.type, None, over.size, step.entries)

    def _with(self, variables: dict[str, _Part], expression: syntax.Expression) -> _Part:
        before = self._variables
        self._variables = before | variables
        try:
            return self.of(expression)
        finally:
            self._variables = before

    # --- calls -------------------------------------------------------------------------------------------------------

    def _call(self, call: syntax.Call) -> _Part:
        arguments = [self.of(each) for each in call.arguments]
        target = self.of(call.target) if call.target is not None else None
        before = _sum(*(each.cost for each in arguments), target.cost if target is not None else 0)
        first = arguments[0] if arguments else None
        match call.function, arguments:
            case "dyn", [value]:
                return dataclasses.replace(value, cost=_sum(before, 1), place=None, computed=value.known, type=DYNAMIC)
            case "_?_:_", [condition, this, that]:
                return _Part(
                    _sum(condition.cost, max(this.cost, that.cost)),
                    _common(this.type, that.type),
                    None,
                    this.size.union(that.size),
                    _either(this, that),
                )
            case (("_&&_" | "_||_"), _):
                return _Part(before, Declared("bool"))
            case "_+_", [this, that]:
                return _added(this, that, before)
            case (("_[_]" | "_[?_]"), [container, _]):
                return self._indexed(call.function, container, before)
        own, size = _own_cost(call.function, target, arguments)
        type_ = _result_type(call, target, first)
        return _Part(_sum(before, own), type_, None, size)

    def _indexed(self, function: str, container: _Part, cost: int) -> _Part:
        element = container.type.element or DYNAMIC
        if function == "_[?_]":
            return _Part(_sum(cost, 1), Declared("optional", element=element))
        step = "@items" if container.type.kind == "list" else "@values"
        return _Part(_sum(cost, 1), element, self._below(container.place, step), container.entries)


def _is_bind(loop: syntax.Comprehension) -> bool:
    is_never = isinstance(loop.condition, syntax.Constant) and not loop.condition.number
    return is_never and isinstance(loop.range, syntax.MakeList) and not loop.range.items


def _field(type_: Declared, name: str) -> Declared:
    if type_.kind == "map":
        return type_.element or DYNAMIC
    return type_.fields.get(name, DYNAMIC)


def _union_of(parts: Sequence[_Part]) -> Size:
    size = parts[0].size
    for each in parts[1:]:
        size = size.union(each.size)
    return size


def _either(this: _Part, that: _Part) -> Size | None:
    return this.entries.union(that.entries) if this.entries is not None and that.entries is not None else None


def _common(this: Declared, that: Declared) -> Declared:
    """The type of what is of either: the one of which more is known."""
    if this.kind == "list" and that.kind == "list":
        return this if this.element is not None else that
    return (
        this if that.kind in ("dyn", "null_type", this.kind) else that if this.kind in ("dyn", "null_type") else DYNAMIC
    )


def _added(this: _Part, that: _Part, before: int) -> _Part:
    type_ = _common(this.type, that.type)
    size = this.size + that.size
    if type_.kind == "list":
        return _Part(_sum(before, 1), Declared("list", element=type_.element), None, size, _either(this, that))
    if type_.kind in ("string", "bytes"):
        return _Part(_sum(before, _times(size.most, _TRAVERSAL)), Declared(type_.kind), None, size)
    if type_.kind in _SCALARS:
        return _Part(_sum(before, 1), Declared(type_.kind))
    return _Part(_sum(before, max(1, _times(size.most, _TRAVERSAL))), DYNAMIC, None, size)


# --- functions -------------------------------------------------------------------------------------------------------

_Charge = tuple[int, Size | None]
"""The cost of a call, without its arguments', and the size of what it gives if that follows."""


def _own_cost(function: str, target: _Part | None, arguments: Sequence[_Part]) -> _Charge:
    charge = _CHARGES.get(function)
    if charge is not None and (target is not None or function in _GLOBAL) and (arguments or function not in _NEED_ONE):
        return charge(target if target is not None else arguments[0], arguments)
    return 1, None


def _compared(_: _Part, arguments: Sequence[_Part]) -> _Charge:
    smaller = min(each.size.most for each in arguments)
    return _times(smaller, _TRAVERSAL), None


def _ordered(subject: _Part, arguments: Sequence[_Part]) -> _Charge:
    kinds = {each.type.kind for each in arguments}
    if kinds & _SCALARS:
        return 1, None
    cost, _ = _compared(subject, arguments)
    return (cost if kinds & {"string", "bytes"} else max(1, cost)), None


def _member(_: _Part, arguments: Sequence[_Part]) -> _Charge:
    container = arguments[1]
    return (1 if container.type.kind == "map" else container.size.most), None


def _prefix(_: _Part, arguments: Sequence[_Part]) -> _Charge:
    return _times(arguments[0].size.most, _TRAVERSAL), None


def _contained(target: _Part, arguments: Sequence[_Part]) -> _Charge:
    text, part = (_times(each.size.most, _TRAVERSAL) for each in (target, arguments[0]))
    return min(MOST, text * part), None


def _matched(target: _Part, arguments: Sequence[_Part]) -> _Charge:
    # One character more, for an empty text does not make an expression cheap.
    text = _times((target.size + _ONE).most, _TRAVERSAL)
    return min(MOST, text * _times(arguments[0].size.most, _PATTERN)), None


def _found(target: _Part, arguments: Sequence[_Part]) -> _Charge:
    return _matched(target, arguments)[0], Size(0, target.size.most)


def _over_list(target: _Part, _: Sequence[_Part]) -> _Charge:
    size = target.size.most
    if target.type.kind != "list":
        return _times(size, _TRAVERSAL), None  # indexOf and lastIndexOf of a text
    each = 1
    if target.type.element is not None and target.type.element.kind in ("string", "bytes"):
        place = target.place.element if target.place is not None else None
        each = _sum(1, _times(place.most if place is not None else MOST, _TRAVERSAL))
    return min(MOST, size * each), None


def _same_length(target: _Part, _: Sequence[_Part]) -> _Charge:
    return _times(target.size.most, _TRAVERSAL), target.size


def _replaced(target: _Part, arguments: Sequence[_Part]) -> _Charge:
    text, old, new = target.size, arguments[0].size, arguments[1].size
    if old.least == 0:
        count, kept = min(MOST, text.most + 1), text.most
    elif new.most <= old.least:
        count, kept = 0, text.most
    else:
        count, kept = math.ceil(text.most / old.least), 0
    if old.most == 0:
        fewest, stays = min(MOST, text.least + 1), text.least
    elif old.most <= new.least:
        fewest, stays = 0, text.least
    else:
        fewest, stays = math.ceil(text.least / old.most), 0
    size = Size(fewest, count) * new + Size(stays, kept)
    return _times(text.most, 2 * _TRAVERSAL), size


def _split(target: _Part, arguments: Sequence[_Part]) -> _Charge:
    most_parts = target.size.most
    if len(arguments) > 1 and arguments[1].number is not None:
        most_parts = arguments[1].number
    return _times(target.size.most, 2 * _TRAVERSAL), Size(0, most_parts)


def _joined(target: _Part, arguments: Sequence[_Part]) -> _Charge:
    items, size = target.size, Size(0, 0)
    if target.type.kind == "list" and target.type.element is not None:
        place = target.place.element if target.place is not None else None
        size = items * (Size(0, place.most) if place is not None else _UNKNOWN)
    if arguments:
        size += arguments[0].size * Size(max(0, items.least - 1), max(0, items.most - 1))
    return _times(size.most, _TRAVERSAL), size


def _parsed(_: _Part, arguments: Sequence[_Part]) -> _Charge:
    return _times(arguments[0].size.most, _TRAVERSAL), None


def _as_text(_: _Part, arguments: Sequence[_Part]) -> _Charge:
    value = arguments[0]
    if value.type.kind == "bytes":
        return _times(value.size.most, _TRAVERSAL), Size(value.size.least // 4, value.size.most)
    return 1, None


def _as_bytes(_: _Part, arguments: Sequence[_Part]) -> _Charge:
    value = arguments[0]
    if value.type.kind == "string":
        return _times(value.size.most, _TRAVERSAL), Size(value.size.least, min(MOST, value.size.most * 4))
    return 1, None


def _quoted(_: _Part, arguments: Sequence[_Part]) -> _Charge:
    size = arguments[0].size
    return _times(size.most, _TRAVERSAL), Size(size.least + 2, min(MOST, size.most * 2 + 2))


def _formatted(target: _Part, _: Sequence[_Part]) -> _Charge:
    return _times(target.size.most, _TRAVERSAL), None


def _of_sets(times: int) -> Callable[[_Part, Sequence[_Part]], _Charge]:
    def charge(_: _Part, arguments: Sequence[_Part]) -> _Charge:
        pairs = min(MOST, arguments[0].size.most * arguments[1].size.most)
        return _sum(1, min(MOST, pairs * times)), None

    return charge


_OPERATORS: dict[str, Callable[[_Part, Sequence[_Part]], _Charge]] = {
    **dict.fromkeys(("_==_", "_!=_"), _compared),
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _ordered),
    "@in": _member,
    **dict.fromkeys(("isIP", "isCIDR"), _parsed),
    "string": _as_text,
    "bytes": _as_bytes,
    "strings.quote": _quoted,
    "sets.contains": _of_sets(1),
    "sets.intersects": _of_sets(1),
    "sets.equivalent": _of_sets(2),
}

_MEMBERS: dict[str, Callable[[_Part, Sequence[_Part]], _Charge]] = {
    **dict.fromkeys(("startsWith", "endsWith"), _prefix),
    "contains": _contained,
    "matches": _matched,
    **dict.fromkeys(("find", "findAll"), _found),
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _over_list),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _same_length),
    "replace": _replaced,
    "split": _split,
    "join": _joined,
    "format": _formatted,
}

_CHARGES = _OPERATORS | _MEMBERS
_GLOBAL = frozenset(_OPERATORS)
_NEED_ONE = frozenset({"startsWith", "endsWith", "contains", "matches", "find", "findAll", "replace"})


def _result_type(  # noqa: PLR0911 - a table
    call: syntax.Call, target: _Part | None, first: _Part | None
) -> Declared:
    """The type of what a call gives: what the runtime says, or what follows from what it is about."""
    if call.type.startswith("list("):
        return Declared("list", element=Declared(call.type.removeprefix("list(").removesuffix(")")))
    if call.type != "dyn":
        return Declared(call.type)
    subject = target or first
    if subject is None:
        return DYNAMIC
    inner = subject.type.element or DYNAMIC
    match call.function:
        case "sum" | "min" | "max" | "value":
            return inner
        case "orValue":
            return inner if inner.kind != "dyn" or first is None else first.type
        case "optional.of" | "optional.ofNonZeroValue":
            return Declared("optional", element=subject.type)
        case "or" | "-_" | "_-_" | "_*_" | "_/_" | "_%_":
            return subject.type
    return DYNAMIC
