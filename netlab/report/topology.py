"""Lays out the machines that a packet passed, and its path through them: pods above, the fabric below."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence

from netlab.capture.taps import Kind
from netlab.lab.paths import FABRIC
from netlab.report.drawing import Point
from netlab.trace.model import Hop

CHIP_HEIGHT = 40.0
_NAME = 134.0
"""Room for an interface's name: at most 15 characters (IFNAMSIZ)."""
_LANE, _FIRST_LANE = 25.0, 18.0
_GAP = 16.0
_ROW = 70.0
_TOP = 62.0
"""Room above the first row of a machine for its name and the names of its pods."""
_BETWEEN = 28.0
"""The gap between two machines, and between them and the fabric."""
_LEAST_WIDTH, _WIDEST = 640.0, 300.0
"""A picture's least width, to which its interfaces grow up to the second: room for what was done to the packet."""
_TURN = 35.0
"""How far below two ports of the fabric the line from one to the other is."""

_ROWS: dict[Kind, int] = {"pod": 0, "loopback": 0, "veth": 1, "bridge": 2, "other": 3, "vxlan": 4, "underlay": 5}

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
    """The layout."""

    width: float
    height: float
    boxes: list[Box]
    chips: dict[Key, Chip]


def plan(ways: Sequence[Sequence[Hop]]) -> Plan:
    """Lay out the machines on these paths: each a column (or several, for its pods), the fabric a band below."""
    hops = {key_of(hop): hop for way in ways for hop in way}
    visits = max((count for way in ways for count in Counter(map(key_of, way)).values()), default=1)
    machines = {
        machine: Counter(_ROWS[hop.kind] for hop in hops.values() if hop.node == machine)
        for machine in dict.fromkeys(hop.node for hop in hops.values() if hop.node != FABRIC)
    }
    columns = {machine: max(rows.values()) for machine, rows in machines.items()}
    total = sum(columns.values()) or 1
    fixed = (total + len(columns)) * _GAP + (len(columns) - 1) * _BETWEEN
    chip = max(_NAME + _FIRST_LANE + 2 * _LANE * visits - _LANE / 2, min(_WIDEST, (_LEAST_WIDTH - fixed) / total))
    rows = sorted({_ROWS[hop.kind] for hop in hops.values() if hop.node != FABRIC})
    bottom = _TOP + max(0, len(rows) - 1) * _ROW + CHIP_HEIGHT + _GAP
    boxes: list[Box] = []
    chips: dict[Key, Chip] = {}
    left = 0.0
    for machine in machines:
        own = {key: hop for key, hop in hops.items() if hop.node == machine}
        width = columns[machine] * (chip + _GAP) + _GAP
        above = min(rows.index(_ROWS[hop.kind]) for hop in own.values()) * _ROW
        boxes.append(Box(machine, left, above, width, bottom - above, "machine"))
        taken: Counter[int] = Counter()
        owners = list(dict.fromkeys(hop.owner for hop in own.values()))
        for key, hop in sorted(own.items(), key=lambda item: owners.index(item[1].owner)):
            row = _ROWS[hop.kind]
            x, y = left + _GAP + taken[row] * (chip + _GAP), _TOP + rows.index(row) * _ROW
            taken[row] += 1
            chips[key] = Chip(hop.kind, x, y, width - 2 * _GAP if hop.kind == "bridge" else chip)
        boxes += [_pod(owner, [chips[key] for key in own if key[0] == owner]) for owner in owners if owner != machine]
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
    width, height = max(width, x + _GAP), top + 32 + CHIP_HEIGHT + _TURN
    boxes.append(Box(FABRIC, 0, top, width, height - top, "fabric"))
    return Plan(width, height, boxes, chips)


def _pod(name: str, chips: Sequence[Chip]) -> Box:
    """The box around a pod's interfaces."""
    left, top = min(chip.x for chip in chips), min(chip.y for chip in chips)
    right = max(chip.x + chip.width for chip in chips)
    return Box(name, left - 8, top - 28, right - left + 16, CHIP_HEIGHT + 36, "pod")


def _anchors(ways: Sequence[Sequence[Hop]], chips: dict[Key, Chip]) -> dict[Key, float]:
    """The positions of the fabric's ports: below the machine that the packet came from, or went to."""
    anchors: dict[Key, float] = {}
    for one, other in itertools.chain.from_iterable(map(itertools.pairwise, ways)):
        for port, beside in ((one, other), (other, one)):
            if port.node == FABRIC != beside.node:
                anchors.setdefault(key_of(port), chips[key_of(beside)].x)
    return anchors


@dataclasses.dataclass(frozen=True)
class Way:
    """A path through a plan: its corners, and the place of each hop's number."""

    corners: list[Point]
    places: list[Point]


def way_through(laid: Plan, hops: Sequence[Hop], lane: int) -> Way:
    """The line along `hops`. Lanes 1 (there) and 0 (back) keep lines apart, and repeated visits get new lanes."""
    places: list[Point | None] = []
    visits: Counter[Key] = Counter()
    for hop in hops:
        chip = laid.chips[key_of(hop)]
        x = chip.x + chip.width - _FIRST_LANE - _LANE * (lane + 2 * visits[key_of(hop)])
        visits[key_of(hop)] += 1
        # A bridge is as wide as all its ports: it is crossed above or below the neighbour on the path.
        places.append(None if chip.kind == "bridge" else Point(x, chip.y + CHIP_HEIGHT / 2))
    found: list[Point] = []
    for index, (hop, place) in enumerate(zip(hops, places, strict=True)):
        chip = laid.chips[key_of(hop)]
        before = places[index - 1] if index else None
        after = places[index + 1] if index + 1 < len(hops) else None
        near = before or after or Point(chip.x + chip.width - _FIRST_LANE - _LANE * lane, 0)
        found.append(place or Point(near.x, chip.y + CHIP_HEIGHT / 2))
    return Way(_corners([key_of(hop) for hop in hops], found, _TURN - 12 + 8 * (1 - lane)), found)


def _corners(keys: Sequence[Key], places: Sequence[Point], turn: float) -> list[Point]:
    corners = list(places[:1])
    for (key, last), (next_key, place) in itertools.pairwise(zip(keys, places, strict=True)):
        if last.y == place.y and key != next_key:
            beneath = last.y + CHIP_HEIGHT / 2 + turn - 8
            corners += [Point(last.x, beneath), Point(place.x, beneath)]
        elif last.x != place.x and last.y != place.y:
            middle = place.y + (_ROW / 2 if place.y < last.y else -_ROW / 2)
            corners += [Point(last.x, middle), Point(place.x, middle)]
        corners.append(place)
    return corners


def key_of(hop: Hop) -> Key:
    """The interface that a hop is at."""
    return hop.owner, hop.interface
