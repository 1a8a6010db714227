"""Sets of protocols and ports, as values: what a rule admits, what is left of it, and where two meet. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

OTHERS = ""
"""Stands for every protocol but those with ports: ICMP, and whatever else IP carries."""
PROTOCOLS = (OTHERS, "SCTP", "TCP", "UDP")
_LAST = 65535


class Span(NamedTuple):
    """Ports of a protocol, from the first to the last. Of `OTHERS` there is one span, of all numbers."""

    protocol: str
    first: int
    last: int

    def __str__(self) -> str:
        if (self.first, self.last) == (0, _LAST):
            return f"{self.protocol or 'other protocols'}"
        return f"{self.protocol} {self.first}" + (f"-{self.last}" if self.last != self.first else "")


Ports: TypeAlias = tuple[Span, ...]
"""Sorted spans that neither overlap nor touch: equal sets are equal values."""

NOTHING: Ports = ()
EVERYTHING: Ports = tuple(Span(protocol, 0, _LAST) for protocol in PROTOCOLS)


def spans(protocol: str, first: int = 0, last: int = _LAST) -> Ports:
    """One span; by default all ports of a protocol."""
    return (Span(protocol, first, last),)


def union(sets: Iterable[Ports]) -> Ports:
    """What is in any of them."""
    listed = sorted({span for ports in sets for span in ports})
    merged: list[Span] = []
    for span in listed:
        before = merged[-1] if merged else None
        if before is not None and before.protocol == span.protocol and span.first <= before.last + 1:
            merged[-1] = before._replace(last=max(before.last, span.last))
        else:
            merged.append(span)
    return tuple(merged)


def common(one: Ports, other: Ports) -> Ports:
    """What is in both."""
    return tuple(
        Span(span.protocol, max(span.first, against.first), min(span.last, against.last))
        for span in one
        for against in other
        if span.protocol == against.protocol and span.first <= against.last and against.first <= span.last
    )


def without(ports: Ports, taken: Ports) -> Ports:
    """What is in the first and not in the second."""
    left = list(ports)
    for gone in taken:
        left = [piece for span in left for piece in _cut(span, gone)]
    return tuple(left)


def contains(ports: Ports, protocol: str, port: int) -> bool:
    """Whether a packet of that protocol to that port is in the set."""
    kind = protocol if protocol in PROTOCOLS else OTHERS
    return any(span.protocol == kind and span.first <= port <= span.last for span in ports)


def text(ports: Ports) -> str:
    """For people."""
    return "everything" if ports == EVERYTHING else ", ".join(map(str, ports)) or "nothing"


def _cut(span: Span, gone: Span) -> list[Span]:
    if span.protocol != gone.protocol or gone.last < span.first or span.last < gone.first:
        return [span]
    pieces = (span._replace(last=gone.first - 1), span._replace(first=gone.last + 1))
    return [piece for piece in pieces if piece.first <= piece.last]
