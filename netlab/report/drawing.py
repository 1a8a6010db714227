"""What drawings share: text and its width, and lines with round corners."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from netlab.report.markup import Child, Markup, element

_MARGIN = 4
_WIDE, _NARROW = 0.62, 0.30
_THIN = frozenset("iljtfrI.,:;'|!()[] ")


class Point(NamedTuple):
    """A point in a drawing, in pixels from its upper left corner."""

    x: float
    y: float


def width_of(text: str, size: float) -> float:
    """An upper estimate of a text's width in pixels in a sans-serif font: SVG has no automatic layout."""
    return size * sum(_NARROW if letter in _THIN else 1.0 if ord(letter) > 0x2FFF else _WIDE for letter in text)


def shortened(text: str, size: float, width: float) -> str:
    """The text, or as much of its two ends as fits: names differ at their ends."""
    if width_of(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        tail = kept // 2
        short = f"{text[: kept - tail]}…{text[len(text) - tail :]}"
        if width_of(short, size) <= width:
            return short
    return "…"


def label(x: float, y: float, *content: Child, class_: str = "", anchor: str | None = None) -> Markup:
    """A text whose baseline is at `y`."""
    return element("text", *content, x=_n(x), y=_n(y), class_=class_ or None, text_anchor=anchor)


def polyline(points: Sequence[Point], class_: str, radius: float = 8, marker: str | None = None) -> Markup:
    """A line through points, with round corners."""
    parts = [f"M{_n(points[0].x)} {_n(points[0].y)}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        bent = min(radius, _distance(before, corner) / 2, _distance(corner, after) / 2)
        begin, end = _towards(corner, before, bent), _towards(corner, after, bent)
        parts.append(f"L{_n(begin.x)} {_n(begin.y)}Q{_n(corner.x)} {_n(corner.y)} {_n(end.x)} {_n(end.y)}")
    parts.append(f"L{_n(points[-1].x)} {_n(points[-1].y)}")
    return element("path", d="".join(parts), class_=class_, marker_end=marker and f"url(#{marker})")


def strokes(lines: Iterable[tuple[Point, Point]], class_: str) -> Markup:
    """Separate straight lines, drawn as one path."""
    d = "".join(f"M{_n(one.x)} {_n(one.y)}L{_n(other.x)} {_n(other.y)}" for one, other in lines)
    return element("path", d=d, class_=class_)


def arrowhead(name: str, class_: str) -> Markup:
    """The definition of a marker for a line's end."""
    tip = element("path", d="M0 0 10 5 0 10z", class_=class_)
    return element(
        "marker", tip, id=name, viewBox="0 0 10 10", refX="9", refY="5", markerWidth="9", markerHeight="9",
        markerUnits="userSpaceOnUse", orient="auto-start-reverse",
    )  # fmt: skip


def rectangle(x: float, y: float, width: float, height: float, class_: str, radius: float = 8) -> Markup:
    """A box with round corners."""
    return element("rect", x=_n(x), y=_n(y), width=_n(width), height=_n(height), rx=_n(radius), class_=class_)


def circle(centre: Point, radius: float, class_: str) -> Markup:
    """A circle."""
    return element("circle", cx=_n(centre.x), cy=_n(centre.y), r=_n(radius), class_=class_)


def cross(centre: Point, reach: float, class_: str) -> Markup:
    """An X: something ends here."""
    (x, y), r = centre, reach
    return element(
        "path",
        d=f"M{_n(x - r)} {_n(y - r)}L{_n(x + r)} {_n(y + r)}M{_n(x + r)} {_n(y - r)}L{_n(x - r)} {_n(y + r)}",
        class_=class_,
    )


def drawing(size: Point, title: str, content: Iterable[Child], *, class_: str, id_: str, **attributes: str) -> Markup:
    """An SVG with a title for screen readers; `id_` must be unique in the page."""
    width, height = size.x + 2 * _MARGIN, size.y + 2 * _MARGIN
    return element(
        "svg",
        element("title", title, id=f"{id_}-title"),
        element("g", content, transform=f"translate({_MARGIN} {_MARGIN})"),
        viewBox=f"0 0 {_n(width)} {_n(height)}",
        width=_n(width),
        height=_n(height),
        class_=class_,
        role="img",
        aria_labelledby=f"{id_}-title",
        **attributes,
    )


def miniature(size: Point, content: Iterable[Child], *, class_: str) -> Markup:
    """An SVG whose style sets its size; screen readers skip it."""
    margin = 3 * _MARGIN
    box = f"-{margin} -{margin} {_n(size.x + 2 * margin)} {_n(size.y + 2 * margin)}"
    return element("svg", content, viewBox=box, class_=class_, aria_hidden="true")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _distance(one: Point, other: Point) -> float:
    return float(((one.x - other.x) ** 2 + (one.y - other.y) ** 2) ** 0.5)


def _towards(start: Point, goal: Point, by: float) -> Point:
    whole = _distance(start, goal)
    share = by / whole if whole else 0.0
    return Point(start.x + (goal.x - start.x) * share, start.y + (goal.y - start.y) * share)
