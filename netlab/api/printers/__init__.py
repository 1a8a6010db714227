"""The columns in which clients show each kind: those of upstream's printers (pkg/printers/internalversion), from JSON.

Nothing here imports the table of resources, which names these printers.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

JSONObject = dict[str, Any]
Cell = str | int

NONE = "<none>"
UNKNOWN = "<unknown>"


class Column(NamedTuple):
    """metav1.TableColumnDefinition. A `priority` above 0 is shown by `-o wide` alone."""

    name: str
    description: str
    priority: int = 0
    type: str = "string"
    format: str = ""


NAME = Column("Name", "The name of the object, unique within its namespace and kind.", format="name")
AGE = Column("Age", "How long ago the object was created.")


@dataclasses.dataclass(frozen=True)
class Printer:
    """How a kind is shown: its columns, and the cells of an object."""

    columns: tuple[Column, ...]
    cells: Callable[[JSONObject, float], Sequence[Cell]]
    """Of an object, at a time in seconds since the epoch; one for each column."""
    completed: Callable[[JSONObject], JSONObject | None] = lambda _: None
    """The metav1.TableRowCondition of an object that has done its work."""


def name_and_age(obj: JSONObject, now: float) -> Sequence[Cell]:
    """The cells of a kind of which nothing else is shown."""
    return name(obj), age(obj, now)


PLAIN = Printer((NAME, AGE), name_and_age)
"""Of a kind that has no columns of its own."""


def name(obj: JSONObject) -> str:
    """An object's name."""
    text: str = obj["metadata"]["name"]
    return text


def age(obj: JSONObject, now: float) -> str:
    """How long ago an object was created."""
    return since(obj["metadata"].get("creationTimestamp"), now)


def since(timestamp: str | None, now: float) -> str:
    """How long ago a metav1.Time or MicroTime was."""
    return duration(now - seconds_of(timestamp)) if timestamp else UNKNOWN


def seconds_of(timestamp: str) -> float:
    """A metav1.Time or MicroTime, in seconds since the epoch."""
    return datetime.datetime.fromisoformat(timestamp).timestamp()


_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400

_STEPS = (
    # Below so many seconds, the unit, and the smaller one that is shown beside it.
    (2 * _MINUTE, (1, "s"), None),
    (10 * _MINUTE, (_MINUTE, "m"), (1, "s")),
    (3 * _HOUR, (_MINUTE, "m"), None),
    (8 * _HOUR, (_HOUR, "h"), (_MINUTE, "m")),
    (2 * _DAY, (_HOUR, "h"), None),
    (8 * _DAY, (_DAY, "d"), (_HOUR, "h")),
    (2 * _YEAR, (_DAY, "d"), None),
    (8 * _YEAR, (_YEAR, "y"), (_DAY, "d")),
)


def duration(seconds: float) -> str:
    """A length of time in two or three digits (apimachinery pkg/util/duration.HumanDuration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    for limit, (size, unit), smaller in _STEPS:
        if whole < limit:
            rest = whole % size // smaller[0] if smaller else 0
            return f"{whole // size}{unit}" + (f"{rest}{smaller[1]}" if smaller and rest else "")
    return f"{whole // _YEAR}y"


def labels(pairs: dict[str, str] | None) -> str:
    """Labels as text, ordered by key."""
    return ",".join(f"{key}={value}" for key, value in sorted((pairs or {}).items())) or NONE


def selector(value: JSONObject | None) -> str:
    """A metav1.LabelSelector as text, ordered by key."""
    value = value or {}
    terms = [(key, f"{key}={text}") for key, text in value.get("matchLabels", {}).items()]
    for each in value.get("matchExpressions", ()):
        key, values = each["key"], ",".join(sorted(each.get("values", ())))
        written = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        terms.append((key, written.get(each["operator"], "<error>")))
    return ",".join(text for _, text in sorted(terms)) or NONE


def first(texts: Sequence[str], most: int = 3) -> str:
    """The first of many, and how many more there are."""
    more = f" + {len(texts) - most} more..." if len(texts) > most else ""
    return (",".join(texts[:most]) or "<unset>") + more
