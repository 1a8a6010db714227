"""The picture of a packet's path: the machines, their interfaces, lines through them, and what was done in between."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from netlab.report import drawing, page, steps, styles
from netlab.report.decisions import briefly, deeds, in_a_word
from netlab.report.drawing import Point
from netlab.report.markup import Markup, element
from netlab.report.steps import Step
from netlab.report.topology import CHIP_HEIGHT, Box, Chip, Key, Plan, Way, key_of, plan, way_through
from netlab.trace.model import Hop

_BOLD = 1.12
_SHRINK, _GROW = 0.83, 1.3
"""How far the picture may shrink with the page before it scrolls, and grow before it is centred."""
_NARROW, _BROAD = 500.0, 700.0
"""The steps are below pictures wider than the second, and even on narrow pages beside those narrower than the first."""
_THUMBNAIL = Point(84.0, 52.0)
"""As in the style sheet."""
_PADDING, _TITLE, _LEGEND = 20.0, 34.0, 220.0


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is drawn: the way there, the way back, and the expected way if it was different.

    `lost` says which of them ended too early. Nothing was captured at `unwatched` interfaces, but the packet must have
    passed them.
    """

    title: str
    there: Sequence[Hop]
    back: Sequence[Hop] = ()
    expected: Sequence[Hop] = ()
    lost: Literal["", "there", "back"] = ""
    unwatched: frozenset[Key] = frozenset()

    def plan(self) -> Plan:
        """The layout."""
        return plan([self.there, self.back, self.expected])


def draw(picture: Picture, *, linked: bool) -> Markup:
    """The picture for a page, which may have only one."""
    laid = picture.plan()
    return drawing.drawing(
        Point(laid.width, laid.height), _about(picture), _content(picture, laid, linked=linked), class_="topology",
        id_="topology", style=f"max-width:{laid.width * _GROW:.0f}px",
    )  # fmt: skip


def figure(picture: Picture, keys: Sequence[tuple[str, str]], listed: Sequence[Step], *, linked: bool = True) -> Markup:
    """The picture with its steps beside it; `keys` explain the lines.

    Numbers are `linked` if the page has an element `hop-N` for each hop.
    """
    legend = element(
        "p", (element("span", element("span", class_=f"key {key}"), " ", name) for key, name in keys), class_="legend"
    )
    width = picture.plan().width
    drawn = element("div", page.scrolled(draw(picture, linked=linked), "map of the path", width * _SHRINK), legend)
    return element("figure", drawn, steps.draw(listed, linked=linked), class_=f"map {_shape(width)}")


def _shape(width: float) -> str:
    return "narrow" if width < _NARROW else "broad" if width > _BROAD else "middling"


def standalone(picture: Picture) -> str:
    """The picture as an SVG file, on a card, for light and dark pages."""
    laid = picture.plan()
    width, height = laid.width + 2 * _PADDING, laid.height + 2 * _PADDING + _TITLE
    content = [
        drawing.rectangle(0, 0, width, height, "ground", 12),
        drawing.label(
            _PADDING, _PADDING + 14, drawing.shortened(picture.title, 15 * _BOLD, laid.width - _LEGEND), class_="title"
        ),
        *_legend(picture, width - _PADDING),
        element(
            "g",
            _content(picture, laid, linked=False),
            transform=f"translate({_PADDING:.0f} {_PADDING + _TITLE:.0f})",
        ),
    ]
    drawn = drawing.drawing(
        Point(width, height), _about(picture), [element("style", Markup(styles.drawings())), *content],
        class_="topology", id_="topology", xmlns="http://www.w3.org/2000/svg", data_generator=page.GENERATOR,
    )  # fmt: skip
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{drawn}\n'


def _legend(picture: Picture, right: float) -> Iterator[Markup]:
    """The meaning of the lines, from the right."""
    keys = [("reply", "the reply")] if picture.back else []
    for name, said in [*keys, ("request", "the packet")]:
        left = right - drawing.width_of(said, 12) - 34
        yield drawing.polyline([Point(left, _PADDING + 10), Point(left + 26, _PADDING + 10)], f"way {name}")
        yield drawing.label(left + 32, _PADDING + 14, said, class_="legend")
        right = left - 18


def thumbnail(picture: Picture) -> Markup:
    """A very small picture without text: boxes, the packet's path, and where something was done to it."""
    laid = picture.plan()
    there, back = _ways(picture, laid)
    unit = max(laid.width, laid.height * _THUMBNAIL.x / _THUMBNAIL.y) / _THUMBNAIL.x
    content = [
        *(
            drawing.rectangle(box.x, box.y, box.width, box.height, f"box {box.kind}", 3 * unit)
            for box in _stacked(laid)
        ),
        *_line(way_through(laid, picture.expected, 1), "expected"),
        *_line(there, "request"),
        *(drawing.circle(place, 2.6 * unit, "number request") for place in (there.places[:1] + there.places[-1:])),
        *(
            drawing.circle(place, 3.2 * unit, "deed-dot")
            for hop, place in zip(picture.there, there.places, strict=True)
            if deeds(hop)
        ),
        *([_end(picture, there, back, reach=3.4 * unit)] if picture.lost and there.places else []),
    ]
    return drawing.miniature(Point(laid.width, laid.height), content, class_="thumbnail")


def _about(picture: Picture) -> str:
    return f"{picture.title}: {', '.join(f'{hop.owner} {hop.interface}' for hop in picture.there)}"


def _ways(picture: Picture, laid: Plan) -> tuple[Way, Way]:
    return way_through(laid, picture.there, 1), way_through(laid, picture.back, 0)


def _stacked(laid: Plan) -> list[Box]:
    """The boxes, bottom first."""
    return sorted(laid.boxes, key=lambda box: box.kind == "pod")


def _content(picture: Picture, laid: Plan, *, linked: bool) -> Iterator[Markup]:
    there, back = _ways(picture, laid)
    passed = {key_of(hop) for hop in (*picture.there, *picture.back)}
    yield from map(_box, _stacked(laid))
    for key, chip in laid.chips.items():
        yield _chip(key, chip, visited=key in passed, watched=key not in picture.unwatched)
    yield from _line(way_through(laid, picture.expected, 1), "expected")
    yield from _line(back, "reply")
    yield from _line(there, "request")
    numbers = itertools.count(1)
    for name, hops, way in (("request", picture.there, there), ("reply", picture.back, back)):
        for hop, place in zip(hops, way.places, strict=True):
            yield _number(next(numbers), hop, place, name, linked=linked)
            if name == "request":
                yield from _deeds(hop, place, laid.chips[key_of(hop)])
    if picture.lost and there.places:
        yield _end(picture, there, back)


def _line(way: Way, name: str) -> list[Markup]:
    return [drawing.polyline(way.corners, f"way {name}")] if len(way.corners) > 1 else []


def _end(picture: Picture, there: Way, back: Way, reach: float = 7) -> Markup:
    """A cross beyond the last hop, in the packet's direction."""
    way = back if picture.lost == "back" and back.places else there
    last = way.places[-1]
    behind = -1 if len(way.corners) > 1 and way.corners[-2].y > last.y else 1
    return drawing.cross(Point(last.x, last.y + behind * (CHIP_HEIGHT / 2 + 6)), reach, "end")


def _deeds(hop: Hop, place: Point, chip: Chip) -> Iterable[Markup]:
    """What was done to the packet before a hop, above the hop, in as much detail as fits."""
    done = deeds(hop)
    if not done:
        return
    room = place.x - chip.x - 16
    texts = (", ".join(map(as_, done)) for as_ in (briefly, in_a_word))
    text = next((text for text in texts if _width(text) <= room), None)
    if text is None:
        text = drawing.shortened(", ".join(map(in_a_word, done)), 11 * _BOLD, room - 14)
    right = place.x - 12
    yield element(
        "g",
        element("title", "; ".join(map(str, hop.changed))),
        drawing.rectangle(right - _width(text), chip.y - 24, _width(text), 18, "deed", 9),
        drawing.label(right - _width(text) / 2, chip.y - 11, text, class_="deed", anchor="middle"),
    )


def _width(text: str) -> float:
    return drawing.width_of(text, 11 * _BOLD) + 14


def _box(box: Box) -> Markup:
    size, inset = (12, 10) if box.kind == "pod" else (14, 16)
    name = drawing.shortened(box.name, size * _BOLD, box.width - 2 * inset)
    return element(
        "g",
        element("title", box.name),
        drawing.rectangle(box.x, box.y, box.width, box.height, f"box {box.kind}", 12),
        drawing.label(box.x + inset, box.y + size + 6, name, class_=f"name {box.kind}"),
    )


def _chip(key: Key, chip: Chip, *, visited: bool, watched: bool) -> Markup:
    owner, interface = key
    class_ = f"chip {chip.kind}{'' if visited and watched else ' unvisited'}"
    return element(
        "g",
        element("title", f"{owner} {interface}"),
        drawing.rectangle(chip.x, chip.y, chip.width, CHIP_HEIGHT, class_),
        drawing.label(chip.x + 10, chip.y + 17, interface, class_="interface"),
        drawing.label(chip.x + 10, chip.y + 32, chip.kind if watched else "not watched", class_="kind"),
    )


def _number(number: int, hop: Hop, place: Point, name: str, *, linked: bool) -> Markup:
    shown = element(
        "g",
        element("title", f"{number}: {hop.owner} {hop.interface} {hop.direction}, {hop.src} > {hop.dst}"),
        drawing.circle(place, 10, f"number {name}"),
        drawing.label(place.x, place.y + 4, number, class_="number", anchor="middle"),
    )
    return element("a", shown, href=f"#hop-{number}") if linked else shown
