"""What was done to a packet at a hop, and by what, in an order for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from netlab.trace.model import Hop

_COMMONPLACE = ("TTL ", "hop limit ")
"""Every router decrements the TTL: that explains nothing."""

_TRANSLATION = re.compile(r"((?:un-)?[DS]NAT) \S+ (?:->|→) (\S+)")
_ROUTES = ("route ", "FDB ", "no route ", "neighbour ")
_RULES = ("rule ", "policy ", "because of ")


class Decision(NamedTuple):
    """Something that decided: `kind` is Cause (a Service, a tracked connection), Rule or Route."""

    kind: str
    text: str


def is_commonplace(change: str) -> bool:
    """Whether every router does that."""
    return change.startswith(_COMMONPLACE)


def deeds(hop: Hop) -> list[str]:
    """What was done to the packet before a hop, without the commonplace: `DNAT 10.96.0.10:80 → 10.244.2.3:8080`."""
    return [arrowed(change) for change in map(str, hop.changed) if not is_commonplace(change)]


def arrowed(change: str) -> str:
    """A change with a typographic arrow."""
    return re.sub(r" (?:->|>) ", " → ", change)


def briefly(deed: str) -> str:
    """A deed without the value before it: `DNAT to 10.244.2.3:8080`, `into VXLAN 1`."""
    if match := _TRANSLATION.fullmatch(deed):
        return f"{match[1]} to {match[2]}"
    return re.sub(r"(VXLAN \d+) .*", r"\1", deed)


def in_a_word(deed: str) -> str:
    """A deed without values: `DNAT`, `into VXLAN`."""
    match = re.match(r"[^\d\[]*", deed)
    return match[0].strip() if match else deed


def decisions(by: Sequence[str]) -> list[Decision]:
    """What decided at a hop: causes first, then the rules, then the routes."""
    return sorted((Decision(_kind(each), _without_kind(each)) for each in by), key=_rank)


def _kind(text: str) -> str:
    return "Route" if text.startswith(_ROUTES) else "Rule" if text.startswith(_RULES) else "Cause"


def _without_kind(text: str) -> str:
    return text.removeprefix("rule of ").removeprefix("route ")


def _rank(decision: Decision) -> int:
    return ("Cause", "Rule", "Route").index(decision.kind)
