"""The machines that a packet passed, drawn with its way: pods above, the fabric below."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from netlab.capture.taps import Kind
from netlab.lab.paths import FABRIC
from netlab.report import drawing
from netlab.report.drawing import Point
from netlab.report.markup import Markup, element
from netlab.trace.model import Hop, Path, Trace

_NAME, _CHIP_HEIGHT = 134.0, 40.0
"""An interface's name has 15 characters at most (IFNAMSIZ)."""
_LANE, _FIRST_LANE = 25.0, 18.0
_GAP = 16.0
_ROW = 70.0
_TOP = 62.0
"""Above the first row of a machine: its name, and the names of its pods."""
_BETWEEN = 28.0
"""Between two machines, and between them and the fabric."""
_TURN = 35.0
"""How far beneath two ports of the fabric the way from one to the other is."""

_ROWS: dict[Kind, int] = {"pod": 0, "loopback": 0, "veth": 1, "bridge": 2, "vxlan": 3, "other": 3, "underlay": 4}

_BOLD = 1.12

_DEED = re.compile(r"[^\d\[]*")

Key = tuple[str, str]
"""An interface: its owner and its name."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """An interface in the drawing."""

    kind: Kind
    x: float
    y: float
    width: float


@dataclasses.dataclass(frozen=True)
class Box:
    """A machine, or a pod on one."""

    name: str
    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where everything is."""

    width: float
    height: float
    boxes: list[Box]
    chips: dict[Key, Chip]


def plan(ways: Sequence[Sequence[Hop]]) -> Plan:
    """Lay out the machines on these ways: each a column (or several, for its pods), the fabric a band beneath."""
    hops = {_key(hop): hop for way in ways for hop in way}
    visits = max((count for way in ways for count in Counter(map(_key, way)).values()), default=1)
    chip = _NAME + _FIRST_LANE + 2 * _LANE * visits - _LANE / 2
    rows = sorted({_ROWS[hop.kind] for hop in hops.values() if hop.node != FABRIC})
    bottom = _TOP + max(0, len(rows) - 1) * _ROW + _CHIP_HEIGHT + _GAP
    boxes: list[Box] = []
    chips: dict[Key, Chip] = {}
    left = 0.0
    for machine in dict.fromkeys(hop.node for hop in hops.values() if hop.node != FABRIC):
        own = {key: hop for key, hop in hops.items() if hop.node == machine}
        columns = max(Counter(_ROWS[hop.kind] for hop in own.values()).values())
        width = columns * (chip + _GAP) + _GAP
        boxes.append(Box(machine, left, 0, width, bottom, "machine"))
        taken: Counter[int] = Counter()
        for key, hop in own.items():
            row = _ROWS[hop.kind]
            x, y = left + _GAP + taken[row] * (chip + _GAP), _TOP + rows.index(row) * _ROW
            taken[row] += 1
            if hop.owner != machine:
                boxes.append(Box(hop.owner, x - 8, y - 28, chip + 16, _CHIP_HEIGHT + 36, "pod"))
            chips[key] = Chip(hop.kind, x, y, width - 2 * _GAP if hop.kind == "bridge" else chip)
        left += width + _BETWEEN
    width = max(left - _BETWEEN, 2 * _GAP + chip)
    ports = [key for key, hop in hops.items() if hop.node == FABRIC]
    if not ports:
        return Plan(width, bottom, boxes, chips)
    anchors = _anchors(ways, chips)
    top, x = bottom + _BETWEEN, 0.0
    for key in sorted(ports, key=lambda port: anchors.get(port, 0.0)):
        x = max(x + _GAP, anchors.get(key, 0.0))
        chips[key] = Chip("underlay", x, top + 32, chip)
        x += chip
    width, height = max(width, x + _GAP), top + 32 + _CHIP_HEIGHT + _TURN
    boxes.append(Box(FABRIC, 0, top, width, height - top, "fabric"))
    return Plan(width, height, boxes, chips)


def _anchors(ways: Sequence[Sequence[Hop]], chips: dict[Key, Chip]) -> dict[Key, float]:
    """Where the fabric's ports are to be: beneath the machine that the packet came from, or went to."""
    anchors: dict[Key, float] = {}
    for one, other in itertools.chain.from_iterable(map(itertools.pairwise, ways)):
        for port, beside in ((one, other), (other, one)):
            if port.node == FABRIC != beside.node:
                anchors.setdefault(_key(port), chips[_key(beside)].x)
    return anchors


@dataclasses.dataclass(frozen=True)
class Way:
    """A path through a plan: its corners, and the place of each hop's number."""

    corners: list[Point]
    places: list[Point]


def way_through(laid: Plan, hops: Sequence[Hop], lane: int) -> Way:
    """The way along `hops`. Lanes 1 (there) and 0 (back) keep ways apart, and so are the visits of one to a place."""
    places: list[Point | None] = []
    visits: Counter[Key] = Counter()
    for hop in hops:
        chip = laid.chips[_key(hop)]
        x = chip.x + chip.width - _FIRST_LANE - _LANE * (lane + 2 * visits[_key(hop)])
        visits[_key(hop)] += 1
        # A bridge is crossed where its neighbour on the way is: the bar is as long as all of its ports.
        places.append(None if chip.kind == "bridge" else Point(x, chip.y + _CHIP_HEIGHT / 2))
    found: list[Point] = []
    for index, (hop, place) in enumerate(zip(hops, places, strict=True)):
        chip = laid.chips[_key(hop)]
        before = places[index - 1] if index else None
        after = places[index + 1] if index + 1 < len(hops) else None
        near = before or after or Point(chip.x + chip.width - _FIRST_LANE - _LANE * lane, 0)
        found.append(place or Point(near.x, chip.y + _CHIP_HEIGHT / 2))
    return Way(_corners([_key(hop) for hop in hops], found, _TURN - 12 + 8 * (1 - lane)), found)


def _corners(keys: Sequence[Key], places: Sequence[Point], turn: float) -> list[Point]:
    corners = list(places[:1])
    for (key, last), (next_key, place) in itertools.pairwise(zip(keys, places, strict=True)):
        if last.y == place.y and key != next_key:
            beneath = last.y + _CHIP_HEIGHT / 2 + turn - 8
            corners += [Point(last.x, beneath), Point(place.x, beneath)]
        elif last.x != place.x and last.y != place.y:
            middle = place.y + (_ROW / 2 if place.y < last.y else -_ROW / 2)
            corners += [Point(last.x, middle), Point(place.x, middle)]
        corners.append(place)
    return corners


def draw(trace: Trace, expected: Path | None) -> Markup:
    """The picture of a trace: the way there and back, and the expected one where it was another."""
    foretold = expected.hops if expected and not trace.agrees else []
    laid = plan([trace.hops, trace.reply, foretold])
    there, back = way_through(laid, trace.hops, 1), way_through(laid, trace.reply, 0)
    passed = {_key(hop) for hop in (*trace.hops, *trace.reply)}
    content = [
        *map(_box, sorted(laid.boxes, key=lambda box: box.kind == "pod")),
        *(_chip(key, chip, visited=key in passed) for key, chip in laid.chips.items()),
        *_line(way_through(laid, foretold, 1), "expected"),
        *_line(back, "reply"),
        *_line(there, "request"),
    ]
    for name, hops, way, first in (
        ("request", trace.hops, there, 1),
        ("reply", trace.reply, back, len(trace.hops) + 1),
    ):
        for number, (hop, place) in enumerate(zip(hops, way.places, strict=True), first):
            content.append(_number(number, hop, place, name))
            if name == "request":
                content += _deeds(hop, place, laid.chips[_key(hop)])
    if trace.verdict.outcome != "delivered" and there.places:
        # What is dropped with an answer on its way was that answer.
        content.append(_end(back if trace.verdict.outcome == "dropped" and back.places else there))
    about = ", ".join(f"{hop.owner} {hop.interface}" for hop in trace.hops)
    return drawing.drawing(
        Point(laid.width, laid.height), f"From {trace.source} to {trace.destination}: {about}", content,
        class_="topology", id_="topology",
    )  # fmt: skip


def _line(way: Way, name: str) -> list[Markup]:
    return [drawing.polyline(way.corners, f"way {name}")] if len(way.corners) > 1 else []


def _end(way: Way) -> Markup:
    """A cross behind the last hop, as seen from where the packet came."""
    last = way.places[-1]
    behind = -1 if len(way.corners) > 1 and way.corners[-2].y > last.y else 1
    return drawing.cross(Point(last.x, last.y + behind * (_CHIP_HEIGHT / 2 + 6)), 7, "end")


def _deeds(hop: Hop, place: Point, chip: Chip) -> Iterable[Markup]:
    """What was done to the packet on the way to a hop, short, above it: `DNAT`, `into VXLAN`."""
    # That each router takes one from the TTL is in the list of hops; here it would be all that one sees.
    deeds = [deed.strip() for deed in (_DEED.match(change)[0] for change in hop.changed) if deed.strip()]  # type: ignore[index]
    deeds = [deed for deed in deeds if deed not in ("TTL", "hop limit")]
    if not deeds:
        return
    room = place.x - chip.x - 16
    text = drawing.shortened(", ".join(deeds), 11 * _BOLD, room - 14)
    width = drawing.width_of(text, 11 * _BOLD) + 14
    right = place.x - 10
    yield element(
        "g",
        element("title", "; ".join(hop.changed)),
        drawing.rectangle(right - width, chip.y - 23, width, 18, "deed", 9),
        drawing.label(right - width / 2, chip.y - 10, text, class_="deed", anchor="middle"),
    )


def _box(box: Box) -> Markup:
    size, inset = (12, 10) if box.kind == "pod" else (14, 16)
    name = drawing.shortened(box.name, size * _BOLD, box.width - 2 * inset)
    return element(
        "g",
        element("title", box.name),
        drawing.rectangle(box.x, box.y, box.width, box.height, f"box {box.kind}", 12),
        drawing.label(box.x + inset, box.y + size + 6, name, class_=f"name {box.kind}"),
    )


def _chip(key: Key, chip: Chip, *, visited: bool) -> Markup:
    owner, interface = key
    class_ = f"chip {chip.kind}{'' if visited else ' unvisited'}"
    return element(
        "g",
        element("title", f"{owner} {interface}"),
        drawing.rectangle(chip.x, chip.y, chip.width, _CHIP_HEIGHT, class_),
        drawing.label(chip.x + 10, chip.y + 17, interface, class_="interface"),
        drawing.label(chip.x + 10, chip.y + 32, chip.kind, class_="kind"),
    )


def _number(number: int, hop: Hop, place: Point, name: str) -> Markup:
    shown = element(
        "g",
        element("title", f"{number}: {hop.owner} {hop.interface} {hop.direction}, {hop.src} > {hop.dst}"),
        drawing.circle(place, 10, f"number {name}"),
        drawing.label(place.x, place.y + 4, number, class_="number", anchor="middle"),
    )
    return element("a", shown, href=f"#hop-{number}")


def _key(hop: Hop) -> Key:
    return hop.owner, hop.interface
