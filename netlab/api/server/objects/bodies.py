"""The body of a request as JSON values, bounded: what cannot be stored and read again by every client is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeAlias

import msgspec

from netlab.api.server import refusals

DEEPEST = 200
"""Levels of nesting. No object has a tenth of it, and what recurses over values stays far from Python's limit."""

MOST_DUPLICATES = 20
"""Fields that stand twice after which no more are looked for."""

_SUSPICIOUS = re.compile(rb"[0-9]{19}|[0-9.][eE]\+?[0-9]{3}")
"""What a number beyond 64 bits, or one that is infinite, has somewhere."""


def decode(body: bytes) -> Any:
    """The value. Raises `ApiError` (400)."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise refusals.bad_request(f"the body of the request is not valid JSON: {error}") from None
    # A look at each value is needed by few bodies.
    if body.count(b"{") + body.count(b"[") > DEEPEST and depth(value) > DEEPEST:
        raise refusals.bad_request(f"the body of the request is nested more than {DEEPEST} deep")
    if _SUSPICIOUS.search(body) and not _numbers_fit(value):
        raise refusals.bad_request("the body of the request has a number of more than 64 bits")
    return value


def duplicates(body: bytes, value: Any) -> list[str]:
    """The paths of the fields that stand more than once in the object that they are in.

    `value` is what the body was decoded to. Decoding keeps one of each, and so there are fewer colons in it than in the
    body.
    """
    if b"\\u003" not in body and body.count(b":") == msgspec.json.encode(value).count(b":"):
        return []
    found: dict[str, None] = {}
    # A place is its parent's and what is added to that: paths are written for what is found alone.
    pending: list[tuple[_Place | None, Any]] = [(None, json.loads(body, object_pairs_hook=_Pairs))]
    while pending and len(found) < MOST_DUPLICATES:
        place, value = pending.pop()
        if isinstance(value, _Pairs):
            seen: set[str] = set()
            for name, item in value.pairs:
                if name in seen:
                    found[_path((place, f".{name}"))] = None
                seen.add(name)
                pending.append(((place, f".{name}"), item))
        elif isinstance(value, list):
            pending += (((place, f"[{number}]"), item) for number, item in enumerate(value))
    return list(found)


_Place: TypeAlias = "tuple[_Place | None, str]"


def _path(place: _Place | None) -> str:
    parts = []
    while place is not None:
        place, part = place
        parts.append(part)
    return "".join(reversed(parts)).removeprefix(".")


class _Pairs:
    """An object as it was written."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def depth(value: Any) -> int:
    """The levels of nesting: none for a scalar."""
    levels = 0
    level = [value]
    while level := [each for each in level if type(each) in (dict, list)]:
        levels += 1
        if levels > DEEPEST:
            break
        level = [item for each in level for item in (each.values() if type(each) is dict else each)]
    return levels


def _numbers_fit(value: Any) -> bool:
    pending = [value]
    while pending:
        each = pending.pop()
        if type(each) is dict:
            pending += each.values()
        elif type(each) is list:
            pending += each
        elif type(each) is int:
            if not -(1 << 63) <= each < 1 << 64:
                return False
        elif type(each) is float and not math.isfinite(each):
            return False
    return True
