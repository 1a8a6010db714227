"""A trace as text: in short a line for each stay on a machine, in full one for each interface, with every rule."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

import click

from netlab.cli.wrapping import duration, shortened, wrapped
from netlab.net.addresses import end_text
from netlab.trace.model import Hop, Lookup, Trace
from netlab.visible import visible

_MARGIN = 9
"""Columns of the time since what is above."""

_DEEDS = 13
"""Columns before what was done to the packet, below the place where it was done."""

_NAME = 20
"""Columns of a machine's or pod's name at most, where lines are short."""

_OF_KERNEL = ("rule ", "policy ", "because ")
"""How those of the reasons begin that are a rule, and stand below the Service or network whose it is."""

_LEFT_OUT = ("route ", "FDB ", "connection tracking of ")


def lines(found: Trace, columns: int, *, verbose: bool) -> Iterator[str]:
    """What `netlab trace` prints; `columns` is 0 where lines may be as long as they are."""
    hops = [*found.hops, *found.reply]
    owners = [_short(hop.owner) for hop in hops]
    named = max(map(len, owners), default=0)
    text = _Text(columns, min(named, _NAME) if columns else named)
    yield from text.line(f"{found.source} -> {found.destination}, {found.protocol}")
    if found.lookup is not None:
        yield ""
        yield from names(found.lookup, columns)
    for title, way, before in (
        ("request", found.hops, None),
        ("reply", found.reply, found.hops[-1] if found.hops else None),
    ):
        if way:
            yield ""
            yield from text.line(f"{title}  {_ends(way[0])}", style="bold")
            yield from text.full(way, before) if verbose else text.brief(way, before)
    yield ""
    verdict = found.verdict
    colour = "green" if verdict.outcome == "delivered" else "red"
    yield from text.line(f"{verdict.outcome} on {verdict.node}: {verdict.reason}", more=4, style=colour)
    for note in found.notes:
        yield from text.line(f"note: {note}", more=4)
    if found.agrees:
        count = len(found.predicted)
        yield f"as predicted{f', one of {count} ways that the state allows' if count > 1 else ''}"


def names(lookup: Lookup, columns: int) -> Iterator[str]:
    """What DNS said of a name, a line for each question."""
    text = _Text(columns, 0)
    searches = f", search {' '.join(lookup.searches)}" if lookup.searches else ""
    yield from text.line(f"names  {lookup.name} by ndots:{lookup.ndots}{searches}", style="bold")
    named = max(len(query.name) for query in lookup.queries)
    for query in lookup.queries:
        said = " ".join(query.answers) or ("NODATA" if query.status == "NOERROR" else query.status)
        by = f"{query.by} at {query.server}" if query.by else query.server
        yield from text.line(
            f"{query.name:<{named}}  {query.type:<4}  {said}  by {by}, {duration(query.nanoseconds)}", 2
        )


class _Text:
    def __init__(self, columns: int, name: int) -> None:
        self._columns = columns
        self._name = name

    def line(self, text: str, indent: int = 0, more: int = 4, style: str = "") -> Iterator[str]:
        for each in wrapped(" " * indent + visible(text), self._columns, indent + more):
            yield each if not style else click.style(each, bold=True, fg=None if style == "bold" else style)

    def brief(self, way: Sequence[Hop], before: Hop | None) -> Iterator[str]:
        """A line for each stay on a machine or in a pod, and what it did to the packet there."""
        for _, group in itertools.groupby(way, key=lambda hop: hop.owner):
            stay = list(group)
            interfaces = [hop.interface for hop in stay]
            yield from self._place(stay[0], " > ".join(interfaces), before)
            for hop in stay:
                for text in _deeds(hop):
                    yield from self.line(text, _DEEDS)
            before = stay[-1]

    def full(self, way: Sequence[Hop], before: Hop | None) -> Iterator[str]:
        """A line for each interface; its addresses where they have changed, and who did what."""
        for hop in way:
            yield from self._place(hop, f"{hop.interface} {hop.direction}", before)
            for change in hop.changed:
                yield from self.line(str(change), _DEEDS)
            for text in hop.by:
                yield from self.line(text if text.startswith(_OF_KERNEL) else f"by {text}", _DEEDS, 2)
            before = hop

    def _place(self, hop: Hop, interfaces: str, before: Hop | None) -> Iterator[str]:
        since = f"+{duration(hop.nanoseconds - before.nanoseconds)}" if before else ""
        (owner,) = shortened([_short(hop.owner)], self._name)
        yield from self.line(f"{since:>{_MARGIN}}  {owner:<{self._name}}  {interfaces}", more=_DEEDS)


def _deeds(hop: Hop) -> Iterator[str]:
    """What was done to the packet before a tap, and by whom, in short."""
    causes = _causes(hop.by)
    for change in hop.changed:
        if change.kind in ("DNAT", "SNAT"):
            by = causes.pop(0) if causes else ""
            yield f"{change.kind} to {change.after}{f' by {by}' if by else ''}"
        elif change.kind in ("un-DNAT", "un-SNAT"):
            yield f"{change.kind} to {change.after}"
        elif change.kind != "TTL":  # that changes at every router
            yield str(change)
    yield from causes


def _causes(by: Sequence[str]) -> list[str]:
    """Whose rules they were; a rule itself only where that is not known."""
    found = []
    named = False
    for text in by:
        if text.startswith(_OF_KERNEL):
            if not named and not text.startswith("because "):
                found.append(text)
            named = False
        elif not text.startswith(_LEFT_OUT):
            found.append(_brief(text))
            named = True
    return found


def _brief(text: str) -> str:
    return re.sub(r", (?:in|ex)ternalTrafficPolicy \w+: ", ", ", text).replace("Service default/", "Service ")


def _short(owner: str) -> str:
    return visible(owner.removeprefix("default/"))


def _ends(hop: Hop) -> str:
    icmp = hop.protocol == "icmp"  # whose identifier stands where ports do
    return f"{end_text(hop.src, 0 if icmp else hop.sport)} > {end_text(hop.dst, 0 if icmp else hop.dport)}"
