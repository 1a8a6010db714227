"""Ladder diagrams: a line for each place where packets were seen, an arrow for each packet, from top to bottom."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from netlab.report import drawing, page
from netlab.report.drawing import Point
from netlab.report.markup import Markup, element
from netlab.report.messages import Lifeline, Message, Stop

MOST = 80
"""Messages that a diagram has at most: who wants more has the capture itself."""

_SILENCE = 100_000_000
"""Nanoseconds without a packet that are worth a line of their own: retransmissions wait at least twice as long."""

_TIME, _SPENT = 74.0, 70.0
_HEAD, _BELOW_HEAD = 44.0, 14.0
_LEAST_GAP = 150.0
_TEXT, _SMALL = 12.5, 11.0
_LABEL, _PILL, _LEG, _QUIET = 32.0, 17.0, 26.0, 26.0
_LOOP, _TURN = 34.0, 10.0
_LONG = 46
"""Letters of a change beyond which it takes two lines."""


@dataclasses.dataclass(frozen=True)
class Leg:
    """Stops of one message that follow one another in one direction: one straight line."""

    stops: tuple[Stop, ...]

    @property
    def is_loop(self) -> bool:
        """Whether it comes back to the lifeline that it left."""
        return len(self.stops) == 2 and self.stops[0].lifeline == self.stops[1].lifeline

    @property
    def height(self) -> float:
        """Pixels beneath its line that its changes take, and a loop its way back."""
        lines = max((sum(len(_wrapped(change)) for change in stop.changes) for stop in self.stops[1:]), default=0)
        return max(lines * _PILL + 6, _LEG) if self.is_loop else lines * _PILL


@dataclasses.dataclass(frozen=True)
class Row:
    """A message in the diagram: where it begins, and its legs with theirs."""

    message: Message
    y: float
    height: float
    legs: tuple[tuple[Leg, float], ...]
    silence: int = 0


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where everything is; `columns` are the lifelines' places, from the left."""

    size: Point
    columns: dict[Lifeline, float]
    rows: list[Row]


def order(messages: Sequence[Message]) -> list[Lifeline]:
    """The lifelines such that packets go from neighbour to neighbour, those that ask first."""
    placed: list[Lifeline] = []
    for message in messages:
        way = [stop.lifeline for stop in message.stops]
        for index, lifeline in enumerate(way):
            if lifeline in placed:
                continue
            if index:
                placed.insert(placed.index(way[index - 1]) + 1, lifeline)
                continue
            # Who sends is beside the first on the way: at its left who asks, at its right who answers.
            known = next((placed.index(each) for each in way if each in placed), len(placed))
            placed.insert(known + (message.tone != "request"), lifeline)
    missed = dict.fromkeys(message.unseen for message in messages if message.unseen is not None)
    return [*placed, *(each for each in missed if each not in placed)]


def legs(stops: Sequence[Stop], columns: Sequence[Lifeline]) -> list[Leg]:
    """A message's stops, parted where it turns round; a leg of one lifeline twice comes back to where it left."""
    found: list[list[Stop]] = [[stops[0]]]
    direction = 0
    for before, after in itertools.pairwise(stops):
        step = columns.index(after.lifeline) - columns.index(before.lifeline)
        if len(found[-1]) > 1 and (step == 0 or step * direction <= 0):
            found.append([before])
        found[-1].append(after)
        direction = step
    return [Leg(tuple(each)) for each in found]


def plan(messages: Sequence[Message]) -> Plan:
    """Lay out messages. There is room for every text."""
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
        y += _LABEL
        placed = []
        for leg, following in itertools.zip_longest(its, its[1:]):
            placed.append((leg, y))
            y += leg.height
            if following is not None and not leg.is_loop:
                y += _TURN if following.is_loop else _LEG
        y += 20 if message.unseen else 10
        rows.append(Row(message, begin, y - begin, tuple(placed), silence if silence > _SILENCE else 0))
    right = max([columns[lifelines[-1]] + _half(lifelines[-1]), *(_reach(row, columns) for row in rows)]) + _SPENT
    return Plan(Point(right, y + 8), columns, rows)


def _columns(
    lifelines: Sequence[Lifeline], messages: Sequence[Message], parts: Sequence[Sequence[Leg]]
) -> dict[Lifeline, float]:
    """The lifelines' places: the gaps are as wide as the texts in them want."""
    gaps = [max(_LEAST_GAP, _half(one) + _half(other) + 14) for one, other in itertools.pairwise(lifelines)]
    wanted: list[tuple[int, int, float]] = []
    for message, its in zip(messages, parts, strict=True):
        label = _label_width(message)
        spots = sorted({lifelines.index(stop.lifeline) for stop in message.stops})
        if spots[0] == spots[-1]:
            wanted.append((spots[0], spots[0] + 1, label))
        else:
            wanted.append((spots[0], spots[-1], label))
        for leg in its:
            for before, after in itertools.pairwise(leg.stops):
                one, other = sorted((lifelines.index(before.lifeline), lifelines.index(after.lifeline)))
                pills = [_pill_width(line) + 20 for change in after.changes for line in _wrapped(change)]
                wanted.append((one, max(other, one + 1), max(pills, default=0)))
    for one, other, width in sorted(wanted, key=lambda want: want[1] - want[0]):
        lacking = width - sum(gaps[one:other])
        for index in range(one, min(other, len(gaps))):
            gaps[index] += max(0.0, lacking / (other - one))
    left = _TIME + _half(lifelines[0])
    return dict(zip(lifelines, itertools.accumulate([left, *gaps]), strict=True))


def _half(lifeline: Lifeline) -> float:
    return max(drawing.width_of(lifeline.name, 13) * 1.06, drawing.width_of(lifeline.where, _SMALL)) / 2 + 14


def _reach(row: Row, columns: dict[Lifeline, float]) -> float:
    """How far to the right a row's texts go that are not between two lifelines."""
    where = [columns[stop.lifeline] for stop in row.message.stops]
    reach = max(where) if min(where) < max(where) else max(where) + _label_width(row.message)
    for leg, _ in row.legs:
        if leg.is_loop:
            pills = [_pill_width(line) for change in leg.stops[1].changes for line in _wrapped(change)]
            reach = max(reach, columns[leg.stops[0].lifeline] + _LOOP + 8 + max(pills, default=0.0))
    return reach


def _label_width(message: Message) -> float:
    return drawing.width_of(f"{message.what}  {message.who}", _TEXT) * 1.04 + 36


def _pill_width(text: str) -> float:
    return drawing.width_of(text, _SMALL) * 1.12 + 14


def _wrapped(change: str) -> list[str]:
    before, arrow, after = change.partition(" -> ")
    if not arrow or len(change) <= _LONG:
        return [change.replace("->", "→")]
    return [before, f"→ {after}"]


# --- drawing ----------------------------------------------------------------------------------------------------------


def ladder(messages: Sequence[Message], title: str, id_: str) -> Markup:
    """The diagram as an SVG; `id_` is its own in the page. There must be a message."""
    laid = plan(messages[:MOST])
    start = messages[0].time
    content = [
        element("defs", (drawing.arrowhead(f"{id_}-{tone}", f"tip {tone}") for tone in ("request", "reply", "bad"))),
        *(_stripe(row, laid.size.x) for row in laid.rows[1::2]),
        *(_lifeline(lifeline, x, laid.size.y) for lifeline, x in laid.columns.items()),
        *(part for row in laid.rows for part in _row(row, laid, start, id_)),
    ]
    return drawing.drawing(laid.size, title, content, class_="ladder", id_=id_)


def _stripe(row: Row, width: float) -> Markup:
    return drawing.rectangle(0, row.y, width, row.height, "stripe", 4)


def _lifeline(lifeline: Lifeline, x: float, bottom: float) -> Markup:
    kind = "" if lifeline.watched else " unwatched"
    half = _half(lifeline)
    return element(
        "g",
        drawing.polyline([Point(x, _HEAD), Point(x, bottom)], f"lifeline{kind}"),
        drawing.rectangle(x - half, 0, 2 * half, _HEAD, f"party{kind}{' machine' if lifeline.machine else ''}", 9),
        drawing.label(x, 19, lifeline.name, class_="party", anchor="middle"),
        drawing.label(x, 35, lifeline.where, class_="where", anchor="middle"),
    )


def _row(row: Row, laid: Plan, start: int, id_: str) -> Iterator[Markup]:
    message, tone = row.message, row.message.tone
    if row.silence:
        middle = (min(laid.columns.values()) + max(laid.columns.values())) / 2
        said = f"{page.duration(row.silence)} later"
        yield drawing.label(middle, row.y - 9, said, class_="silence", anchor="middle")
    where = [laid.columns[stop.lifeline] for stop in message.stops]
    left, right = min(where), max(where)
    what = element("tspan", message.what, class_=f"what {tone}")
    text = [what, f"  {message.who}"]
    whole = [element("title", message.exact), *text]
    if left == right:
        yield drawing.label(left + 12, row.y + 20, *whole, class_="who")
    else:
        yield drawing.label((left + right) / 2, row.y + 20, *whole, class_="who", anchor="middle")
    yield drawing.label(0, row.y + 36, page.duration(message.time - start), class_="time")
    spent = message.stops[-1].after or (message.stops[-2].after if len(message.stops) > 1 else 0)
    if spent:
        yield drawing.label(laid.size.x, row.y + 36, f"in {page.duration(spent)}", class_="time", anchor="end")
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
        known = "" if before.lifeline.watched and after.lifeline.watched else " unwatched"
        tip = arrow if after is leg.stops[-1] else None
        if x == goal:
            corners = [Point(x, y), Point(x + _LOOP, y), Point(x + _LOOP, y + leg.height), Point(x, y + leg.height)]
            middle, top, anchor = x + _LOOP + 8, y + 3, "start"
        else:
            corners = [Point(x, y), Point(goal, y)]
            middle, top, anchor = (x + goal) / 2, y + 4, "middle"
        yield drawing.polyline(corners, f"arrow {tone}{known}", marker=tip)
        for change in sorted(after.changes, key=_is_minor):
            lines = _wrapped(change)
            yield from _pill(lines, middle, top, anchor, "deed minor" if _is_minor(change) else "deed")
            top += len(lines) * _PILL
    for stop in leg.stops if len(leg.stops) == 1 else leg.stops[:-1]:
        if stop.lifeline.watched:
            yield drawing.circle(Point(laid.columns[stop.lifeline], y), 3.5, f"dot {tone}")


def _is_minor(change: str) -> bool:
    """That each router takes one from the TTL is not what one looks for."""
    return change.startswith(("TTL ", "hop limit "))


def _pill(lines: Sequence[str], x: float, y: float, anchor: str, class_: str) -> Iterator[Markup]:
    width = max(map(_pill_width, lines))
    left = x - width / 2 if anchor == "middle" else x
    yield drawing.rectangle(left, y, width, len(lines) * _PILL - 1, class_, 8)
    for index, line in enumerate(lines):
        yield drawing.label(left + width / 2, y + 12 + index * (_PILL - 2), line, class_=class_, anchor="middle")


def _unseen(message: Message, laid: Plan, y: float) -> Iterator[Markup]:
    """A packet that went on, and did not come to where it was to go."""
    assert message.unseen is not None
    x = laid.columns[message.stops[-1].lifeline]
    goal = laid.columns.get(message.unseen, laid.size.x)
    end = x + (min(90.0, abs(goal - x) * 0.6) if goal > x else -min(90.0, abs(goal - x) * 0.6))
    yield drawing.polyline([Point(x, y), Point(end, y)], "arrow bad lost")
    yield drawing.cross(Point(end, y), 5, "end")
    yield drawing.label((x + end) / 2, y + 15, f"not seen at {message.unseen.name}", class_="unseen", anchor="middle")
