"""The body of a request as JSON values, bounded: what cannot be stored and read again by every client is refused."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from netlab.api.server import refusals

DEEPEST = 200
"""Levels of nesting. No object has a tenth of it, and what recurses over values stays far from Python's limit."""

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
