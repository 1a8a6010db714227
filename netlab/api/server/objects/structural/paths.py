"""The simple JSON paths of definitions: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`.

The part of client-go's util/jsonpath that columns, scale and selectable fields are written in.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

_Step = Callable[[Any], Iterator[Any]]

LONGEST = 1024
"""Characters of a path."""

_STEP = re.compile(
    r"""
    \.(?P<field>(?:[^.\[\]\\]|\\.)+)
    | \[(?P<index>-?[0-9]{1,9})\]
    | \[(?P<all>\*)\]
    | \[['"](?P<key>[^'"]+)['"]\]
    | \[\?\(\s*@\.(?P<name>[\w.-]+)\s*(?P<operator>==|!=)\s*(?P<wanted>"[^"]*"|'[^']*'|[\w.-]+)\s*\)\]
    """,
    re.VERBOSE,
)


class PathError(ValueError):
    """The text is no such path."""


@functools.lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[_Step, ...]:
    if len(path) > LONGEST or not path.startswith("."):
        raise PathError("must be a simple json path starting with .")
    steps: list[_Step] = []
    at = 0
    while at < len(path) and path != ".":
        match = _STEP.match(path, at)
        if match is None:
            raise PathError(f"cannot be read from {path[at:]!r} on")
        steps.append(_step(match))
        at = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> _Step:
    if match["index"] is not None:
        index = int(match["index"])
        return lambda value: iter(value[index : index + 1 or None] if isinstance(value, list) else ())
    if match["all"] is not None:
        return _every
    if match["name"] is not None:
        return _selected(match["name"].split("."), match["operator"] == "==", _literal(match["wanted"]))
    field = match["key"] if match["key"] is not None else re.sub(r"\\(.)", r"\1", match["field"])
    if field == "*":
        return _every
    return lambda value: iter((value[field],) if isinstance(value, dict) and field in value else ())


def _every(value: Any) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())


def _selected(field: list[str], is_equal: bool, wanted: Any) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            found: Any = item
            for name in field:
                found = found.get(name) if isinstance(found, dict) else None
            if found is not None and (found == wanted) is is_equal:
                yield item

    return step


def _literal(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return text


def check(path: str) -> None:
    """Raise `PathError` unless it can be followed."""
    _steps(path)


def first(obj: Any, path: str) -> Any:
    """The first value that a path leads to; None if it leads nowhere."""
    found: Iterator[Any] = iter((obj,))
    for step in _steps(path):
        found = _flattened(found, step)
    return next(found, None)


def _flattened(values: Iterator[Any], step: _Step) -> Iterator[Any]:
    return (below for value in values for below in step(value))


def fields(path: str) -> tuple[str, ...]:
    """The names of a path that leads through fields alone. Raises `PathError`."""
    if not re.fullmatch(r"(\.[^.\[\]\\]+)+", path) or len(path) > LONGEST:
        raise PathError("must be a json path in the dot notation")
    return tuple(path[1:].split("."))
