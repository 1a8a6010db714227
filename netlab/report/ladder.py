"""Ladder diagrams: a vertical line for each place where packets were seen, and an arrow for each packet."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

from netlab.report import drawing, page
from netlab.report.decisions import is_commonplace
from netlab.report.drawing import Point
from netlab.report.markup import Markup, element
from netlab.report.messages import Lifeline, Message, Stop

MOST = 80
"""A diagram has at most this many messages; the capture has all."""

_SILENCE = 100_000_000
"""A pause of more nanoseconds gets its own line: retransmissions wait at least twice as long."""

_MARGIN, _TIME = 10.0, 66.0
"""The margin left of a row's text, and the width of the packet's time."""
_HEAD, _BELOW_HEAD = 44.0, 14.0
_LEAST_GAP, _LEAST_WIDTH = 150.0, 420.0
_TEXT, _SMALL, _BOLD = 12.5, 11.0, 1.15
_STRIP, _ABOVE_ARROW, _PILL, _LEG, _QUIET = 24.0, 18.0, 17.0, 26.0, 26.0
_LOOP, _TURN = 34.0, 10.0
_LONG = 46
"""A change with more letters takes two lines."""


@dataclasses.dataclass(frozen=True)
class Leg:
    """Consecutive stops of one message in one direction: one straight line."""

    stops: tuple[Stop, ...]

    @property
    def is_loop(self) -> bool:
        """Whether it returns to the lifeline that it left."""
        return len(self.stops) == 2 and self.stops[0].lifeline == self.stops[1].lifeline

    @property
    def height(self) -> float:
        """The pixels below its line for its changes, and for the return of a loop."""
        lines = max((sum(len(_wrapped(change)) for change in stop.changes) for stop in self.stops[1:]), default=0)
        return max(lines * _PILL + 6, _LEG) if self.is_loop else lines * _PILL


@dataclasses.dataclass(frozen=True)
class Row:
    """A message in the diagram: a strip with its text at `y`, and below it the legs, each with its height."""

    message: Message
    y: float
    height: float
    legs: tuple[tuple[Leg, float], ...]
    silence: int = 0


@dataclasses.dataclass(frozen=True)
class Plan:
    """The layout; `columns` has the lifelines' positions from the left."""

    size: Point
    columns: dict[Lifeline, float]
    rows: list[Row]


def order(messages: Sequence[Message]) -> list[Lifeline]:
    """The lifelines in an order in which packets go from neighbour to neighbour, clients first."""
    placed: list[Lifeline] = []
    for message in messages:
        way = [stop.lifeline for stop in message.stops]
        for index, lifeline in enumerate(way):
            if lifeline in placed:
                continue
            if index:
                placed.insert(placed.index(way[index - 1]) + 1, lifeline)
                continue
            # The sender goes beside the first known place on the path: a client to the left, a server to the right.
            known = next((placed.index(each) for each in way if each in placed), len(placed))
            placed.insert(known + (message.tone != "request"), lifeline)
    missed = dict.fromkeys(message.unseen for message in messages if message.unseen is not None)
    return [*placed, *(each for each in missed if each not in placed)]


def legs(stops: Sequence[Stop], columns: Sequence[Lifeline]) -> list[Leg]:
    """A message's stops, divided where it turns round; a leg with the same lifeline twice is a loop."""
    found: list[list[Stop]] = [[stops[0]]]
    direction = 0
    for before, after in itertools.pairwise(stops):
        step = columns.index(after.lifeline) - columns.index(before.lifeline)
        if len(found[-1]) > 1 and (step == 0 or step * direction <= 0):
            found.append([before])
        found[-1].append(after)
        direction = step
    return [Leg(tuple(each)) for each in found]


def said_once(messages: Iterable[Message]) -> list[Message]:
    """The messages without changes that an earlier one had: all packets of a connection are translated alike."""
    said: set[str] = set()
    found = []
    for message in messages:
        stops = tuple(
            stop._replace(changes=tuple(each for each in stop.changes if each not in said)) for stop in message.stops
        )
        said |= {change for stop in stops for change in stop.changes}
        found.append(message._replace(stops=stops))
    return found


def plan(messages: Sequence[Message]) -> Plan:
    """Lay out messages, with room for every text. Lifelines are interrupted by text."""
    lifelines = order(messages)
    parts = [legs(message.stops, lifelines) for message in messages]
    columns = _columns(lifelines, messages, parts)
    rows: list[Row] = []
    y = _HEAD + _BELOW_HEAD
    for index, (message, its) in enumerate(zip(messages, parts, strict=True)):
        silence = message.time - messages[index - 1].time if index else 0
        if silence > _SILENCE:
            y += _QUIET
        begin = y
        y += _STRIP + _ABOVE_ARROW
        placed = []
        for leg, following in itertools.zip_longest(its, its[1:]):
            placed.append((leg, y))
            y += leg.height
            if following is not None and not leg.is_loop:
                y += _TURN if following.is_loop else _LEG
        y += 14
        rows.append(Row(message, begin, y - begin, tuple(placed), silence if silence > _SILENCE else 0))
    right = max(
        [
            columns[lifelines[-1]] + _half(lifelines[-1]),
            *(_reach(row, columns) for row in rows),
            *(_strip_width(message) for message in messages),
        ]
    )
    return Plan(Point(right, y + 8), columns, rows)


def _columns(
    lifelines: Sequence[Lifeline], messages: Sequence[Message], parts: Sequence[Sequence[Leg]]
) -> dict[Lifeline, float]:
    """The lifelines' positions: each gap has room for the texts in it."""
    gaps = [max(_LEAST_GAP, _half(one) + _half(other) + 14) for one, other in itertools.pairwise(lifelines)]
    for leg in itertools.chain.from_iterable(parts):
        for before, after in itertools.pairwise(leg.stops):
            one, other = lifelines.index(before.lifeline), lifelines.index(after.lifeline)
            gap = _pill_gap(one, other)
            if gap < len(gaps):
                room = _pills_width(after.changes) + (2 * (_LOOP + 10) if one == other else 24)
                gaps[gap] = max(gaps[gap], room if after.changes else 0.0)
    lacking = _LEAST_WIDTH - sum(gaps)
    if gaps and lacking > 0:
        gaps = [gap + lacking / len(gaps) for gap in gaps]
    left = _MARGIN + _half(lifelines[0])
    return dict(zip(lifelines, itertools.accumulate([left, *gaps]), strict=True))


def _pill_gap(one: int, other: int) -> int:
    """The gap for what was done between two lifelines, beside the second; the index of the lifeline at its left."""
    return other - 1 if one < other else other


def _pills_width(changes: Sequence[str]) -> float:
    return max((_pill_width(line) for change in changes for line in _wrapped(change)), default=0.0)


def _half(lifeline: Lifeline) -> float:
    return max(drawing.width_of(lifeline.name, 13) * 1.06, drawing.width_of(lifeline.where, _SMALL)) / 2 + 14


def _reach(row: Row, columns: dict[Lifeline, float]) -> float:
    """How far to the right a row's loops go, with their texts."""
    loops = [leg for leg, _ in row.legs if leg.is_loop]
    return max(
        (columns[leg.stops[0].lifeline] + _LOOP + 8 + _pills_width(leg.stops[1].changes) for leg in loops), default=0.0
    )


def _strip_width(message: Message) -> float:
    bold = drawing.width_of(f"{message.what}{_missing(message)}", _TEXT) * _BOLD
    said = bold + drawing.width_of(f"  {message.who}", _TEXT) * 1.04
    return _MARGIN + _TIME + said + 24 + drawing.width_of(_spent(message), _SMALL) + _MARGIN


def _missing(message: Message) -> str:
    return f"  ✗ not seen at {message.unseen.name}" if message.unseen else ""


def _spent(message: Message) -> str:
    """How long it was on its way, as far as it was seen."""
    spent = max(stop.after for stop in message.stops)
    return f"in {page.duration(spent)}" if spent else ""


def _pill_width(text: str) -> float:
    return drawing.width_of(text, _SMALL) * 1.12 + 14


def _wrapped(change: str) -> list[str]:
    before, arrow, after = change.partition(" -> ")
    if not arrow or len(change) <= _LONG:
        return [change.replace("->", "→")]
    return [before, f"→ {after}"]


# --- drawing ----------------------------------------------------------------------------------------------------------


def ladder(messages: Sequence[Message], title: str, id_: str) -> Markup:
    """The diagram as an SVG; `id_` must be unique in the page. There must be at least one message."""
    laid = plan(said_once(messages[:MOST]))
    start = messages[0].time
    content = [
        element("defs", (drawing.arrowhead(f"{id_}-{tone}", f"tip {tone}") for tone in ("request", "reply", "bad"))),
        *(_lifeline(lifeline, x, laid.rows) for lifeline, x in laid.columns.items()),
        *(part for row in laid.rows for part in _row(row, laid, start, id_)),
    ]
    return drawing.drawing(laid.size, title, content, class_="ladder", id_=id_)


def _lifeline(lifeline: Lifeline, x: float, rows: Sequence[Row]) -> Markup:
    """Its head, and a line beside packets, interrupted by text."""
    kind = "" if lifeline.watched else " unwatched"
    half = _half(lifeline)
    pieces = [(_HEAD, _HEAD + _BELOW_HEAD), *((row.y + _STRIP, row.y + row.height) for row in rows)]
    return element(
        "g",
        drawing.strokes([(Point(x, top), Point(x, bottom)) for top, bottom in pieces], f"lifeline{kind}"),
        drawing.rectangle(x - half, 0, 2 * half, _HEAD, f"party{kind}{' machine' if lifeline.machine else ''}", 9),
        drawing.label(x, 19, lifeline.name, class_="party", anchor="middle"),
        drawing.label(x, 35, lifeline.where, class_="where", anchor="middle"),
    )


def _row(row: Row, laid: Plan, start: int, id_: str) -> Iterator[Markup]:
    message, tone = row.message, row.message.tone
    if row.silence:
        said = f"{page.duration(row.silence)} later"
        yield drawing.label(_MARGIN + _TIME, row.y - 9, said, class_="silence")
    yield drawing.rectangle(0, row.y, laid.size.x, _STRIP, "strip", 5)
    baseline = row.y + 16
    yield drawing.label(_MARGIN, baseline, page.duration(message.time - start), class_="time")
    what = element("tspan", message.what, class_=f"what {tone}")
    missing = element("tspan", _missing(message), class_="what bad unseen") if message.unseen else None
    text = [element("title", message.exact), what, f"  {message.who}", missing]
    yield drawing.label(_MARGIN + _TIME, baseline, *text, class_="who")
    if spent := _spent(message):
        yield drawing.label(laid.size.x - _MARGIN, baseline, spent, class_="time", anchor="end")
    for index, (leg, y) in enumerate(row.legs):
        if index and not row.legs[index - 1][0].is_loop:
            x = laid.columns[leg.stops[0].lifeline]
            yield drawing.polyline([Point(x, row.legs[index - 1][1]), Point(x, y)], f"arrow {tone}")
        yield from _leg(leg, y, laid, tone, f"{id_}-{tone}" if leg is row.legs[-1][0] else None)
    if message.unseen is not None:
        yield from _unseen(message, laid, row.legs[-1][1])


def _leg(leg: Leg, y: float, laid: Plan, tone: str, arrow: str | None) -> Iterator[Markup]:
    for before, after in itertools.pairwise(leg.stops):
        x, goal = laid.columns[before.lifeline], laid.columns[after.lifeline]
        known = "" if _is_known(before) and _is_known(after) else " unwatched"
        tip = arrow if after is leg.stops[-1] else None
        if x == goal:
            corners = [Point(x, y), Point(x + _LOOP, y), Point(x + _LOOP, y + leg.height), Point(x, y + leg.height)]
            middle, top, anchor = x + _LOOP + 8, y + 3, "start"
        else:
            corners = [Point(x, y), Point(goal, y)]
            middle, top, anchor = _beside(before.lifeline, after.lifeline, laid), y + 4, "middle"
        yield drawing.polyline(corners, f"arrow {tone}{known}", marker=tip)
        for change in sorted(after.changes, key=is_commonplace):
            lines = _wrapped(change)
            yield from _pill(lines, middle, top, anchor, "deed minor" if is_commonplace(change) else "deed")
            top += len(lines) * _PILL
    for stop in leg.stops if len(leg.stops) == 1 else leg.stops[:-1]:
        place = Point(laid.columns[stop.lifeline], y)
        if stop.translates:
            yield drawing.circle(place, 4.5, "deed-dot")
        elif stop.lifeline.watched:
            yield drawing.circle(place, 3.5, f"dot {tone}")


def _is_known(stop: Stop) -> bool:
    """Whether the packet certainly passed there."""
    return stop.lifeline.watched or stop.translates


def _beside(before: Lifeline, after: Lifeline, laid: Plan) -> float:
    """The middle of the gap beside the second lifeline, on the side of the first."""
    lifelines = list(laid.columns)
    gap = _pill_gap(lifelines.index(before), lifelines.index(after))
    return (laid.columns[lifelines[gap]] + laid.columns[lifelines[gap + 1]]) / 2


def _pill(lines: Sequence[str], x: float, y: float, anchor: str, class_: str) -> Iterator[Markup]:
    width = max(map(_pill_width, lines))
    left = x - width / 2 if anchor == "middle" else x
    yield drawing.rectangle(left, y, width, len(lines) * _PILL - 1, class_, 8)
    for index, line in enumerate(lines):
        yield drawing.label(left + width / 2, y + 12 + index * (_PILL - 2), line, class_=class_, anchor="middle")


def _unseen(message: Message, laid: Plan, y: float) -> Iterator[Markup]:
    """A packet that went on, but did not reach its destination."""
    assert message.unseen is not None
    x = laid.columns[message.stops[-1].lifeline]
    goal = laid.columns.get(message.unseen, laid.size.x)
    end = x + (min(90.0, abs(goal - x) * 0.6) if goal > x else -min(90.0, abs(goal - x) * 0.6))
    yield drawing.polyline([Point(x, y), Point(end, y)], "arrow bad lost")
    yield drawing.cross(Point(end, y), 5, "end")
