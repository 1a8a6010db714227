"""Sets of the fields of an object, in the form in which managedFields has them (FieldsV1), and their algebra.

A set is a tree. The name of a branch is an element of a path: `f:NAME` is a field of an object or an entry of a map,
`k:KEYS` the item of a list that has these keys, `v:VALUE` that value in a list of values. A branch that is empty is a
member of the set. One that is not empty is none, unless it has `.` among its branches. The empty tree is the empty set.

The functions leave their arguments as they are, and what they return may share branches with them. The rules are those
of structured-merge-diff's fieldpath.Set.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec

FieldSet: TypeAlias = dict[str, Any]

Path: TypeAlias = tuple[str, ...]

SELF = "."
_MEMBER: FieldSet = {}
_OPEN: FieldSet = {SELF: _MEMBER}
"""A member, as it is written if it has branches."""


def of(*paths: Path) -> FieldSet:
    """The set of some paths."""
    found: FieldSet = {}
    for path in paths:
        node: FieldSet = _MEMBER
        for element in reversed(path):
            node = {element: node}
        found = union(found, node)
    return found


def member(branches: FieldSet) -> FieldSet:
    """The branch of a member that has branches of its own."""
    return {SELF: _MEMBER, **branches} if branches else _MEMBER


def is_member(branch: FieldSet) -> bool:
    """Whether a branch is a member of its set, and not only the way to some."""
    return not branch or SELF in branch


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in one of the two."""
    if not one or not other:
        return one or other
    found = dict(one)
    for element, branch in other.items():
        present = found.get(element)
        found[element] = branch if present is None else _both(present, branch)
    return found


def _both(one: FieldSet, other: FieldSet) -> FieldSet:
    return union(one or _OPEN, other or _OPEN) if one or other else _MEMBER


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in both."""
    found = {}
    for element in one.keys() & other.keys():
        mine, theirs = one[element], other[element]
        shared = intersection(mine or _OPEN, theirs or _OPEN) if mine or theirs else _OPEN
        if shared:
            found[element] = _closed(shared)
    return found


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in the first and not in the second; the first itself if that is all of it."""
    return _lessened(one, other, _difference)


def without(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in the first, and is neither in the second nor below a member of it (RecursiveDifference)."""
    return _lessened(one, other, lambda mine, gone: {} if is_member(gone) else without(mine or _OPEN, gone))


def _difference(mine: FieldSet, gone: FieldSet) -> FieldSet:
    return difference(mine or _OPEN, gone or _OPEN)


def _lessened(one: FieldSet, other: FieldSet, less: Callable[[FieldSet, FieldSet], FieldSet]) -> FieldSet:
    rest = one
    for element, gone in other.items():
        mine = one.get(element)
        if mine is None:
            continue
        left = less(mine, gone) if mine or gone else {}
        if left is mine or (left is _OPEN and not mine):
            continue
        rest = dict(one) if rest is one else rest
        if left:
            rest[element] = _closed(left)
        else:
            del rest[element]
    return rest


def _closed(branch: FieldSet) -> FieldSet:
    return _MEMBER if len(branch) == 1 and SELF in branch else branch


def has(fields: FieldSet, path: Path) -> bool:
    """Whether a path is a member."""
    for element in path:
        if element not in fields:
            return False
        fields = fields[element]
    return bool(path) and is_member(fields)


def paths(fields: FieldSet, within: Path = ()) -> Iterator[Path]:
    """The members, in the order in which upstream names them: those of a place before those below it."""
    elements = sorted(element for element in fields if element != SELF)
    yield from ((*within, element) for element in elements if is_member(fields[element]))
    yield from itertools.chain.from_iterable(paths(fields[element], (*within, element)) for element in elements)


def text(path: Path) -> str:
    """A path as people read it: `.spec.containers[name="web"].image`."""
    return "".join(map(_element_text, path))


def _element_text(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "k":
        keys = msgspec.json.decode(rest)
        return f"[{','.join(f'{name}={msgspec.json.encode(value).decode()}' for name, value in keys.items())}]"
    return {"f": f".{rest}", "v": f"[={rest}]"}.get(kind, f"[{rest}]")


def ordered(fields: FieldSet) -> FieldSet:
    """The same, with every level in order: clients compare the text (as JSON the order means nothing)."""
    found: FieldSet = msgspec.json.decode(msgspec.json.encode(fields, order="sorted"))
    return found


def read(sent: Any) -> FieldSet:
    """A set that a client sent: FieldsV1. Elements of an unknown kind are passed over. Raises `ValueError`."""
    if not isinstance(sent, dict):
        raise ValueError("a set of fields is an object")
    found: FieldSet = {}
    for element, branch in sent.items():
        if (known := _canonical(element)) is not None:
            below = read(branch)
            # What had branches, none of which are known, does not become a member.
            if below or not branch:
                found[known] = below
    return {SELF: _MEMBER} | found if SELF in found else found


def _canonical(element: str) -> str | None:
    if element == SELF:
        return SELF
    kind, colon, rest = element[:1], element[1:2], element[2:]
    if colon != ":":
        raise ValueError(f"{element[:100]!r} is not an element of a path")
    if kind == "f":
        return element
    if kind == "i":
        return f"i:{int(rest)}"
    if kind not in ("k", "v"):
        return None
    try:
        value = msgspec.json.decode(rest)
    except msgspec.DecodeError as error:
        raise ValueError(f"{element[:100]!r} is not an element of a path: {error}") from None
    if kind == "v":
        return of_value(value)
    if not isinstance(value, dict):
        raise ValueError(f"{element[:100]!r} is not an element of a path: its keys are no object")
    return key(value)


def key(keys: dict[str, Any]) -> str:
    """The element for an item with these keys."""
    return f"k:{msgspec.json.encode(keys, order='sorted').decode()}"


def of_value(value: Any) -> str:
    """The element for a value."""
    return f"v:{msgspec.json.encode(value).decode()}"
