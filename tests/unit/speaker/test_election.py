"""Who announces an address: single steps, and elections with clocks, delays and crashes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.speaker.election import (
    DEADLINE,
    DURATION,
    RENEW,
    SPREAD,
    Deed,
    Record,
    Standing,
    Step,
    is_vacant,
    step,
)

HERE = Standing(eligible=True, ready=True, since=0)
LATER = SPREAD + 0.01
MINE, OTHERS, FREE = Record("node-1", DURATION, 10), Record("node-2", DURATION, 10), Record("", DURATION, 10)

CASES: list[tuple[str, Standing, Record | None, float, Deed, bool]] = [
    ("nobody has it", HERE, None, LATER, "acquire", False),
    ("it has just appeared: others may be first", HERE._replace(since=100), None, 100, "nothing", False),
    ("the rules are not in force", HERE._replace(ready=False), None, 100, "nothing", False),
    ("this node may not", HERE._replace(eligible=False), None, 100, "nothing", False),
    ("another has it", HERE, OTHERS, 10 + DURATION - 0.1, "nothing", False),
    ("another had it", HERE, OTHERS, 10 + DURATION + LATER, "acquire", False),
    ("another released it", HERE, FREE, 10 + LATER, "acquire", False),
    ("this process has it", HERE._replace(renewed=10), MINE, 10.1, "nothing", True),
    ("it is time to renew", HERE._replace(renewed=10), MINE, 10 + RENEW, "renew", True),
    ("it could not renew", HERE._replace(renewed=10), MINE, 10 + DEADLINE, "renew", False),
    ("the rules change meanwhile", HERE._replace(renewed=10, ready=False), MINE, 10.1, "nothing", True),
    ("an earlier process had it", HERE, MINE, 10.1, "renew", False),
    ("this node may not any more", HERE._replace(eligible=False, renewed=10), MINE, 10.1, "release", False),
    ("another took it", HERE._replace(renewed=10), OTHERS._replace(seen=14), 14, "nothing", False),
]


@pytest.mark.parametrize(("why", "standing", "record", "now", "deed", "announce"), CASES, ids=[c[0] for c in CASES])
def test_step(why: str, standing: Standing, record: Record | None, now: float, deed: Deed, announce: bool) -> None:
    found = step("node-1", "192.0.2.128", standing, record, now)
    assert (found.deed, found.announce) == (deed, announce)
    # Where there is nothing to do, it says until when; and then there is.
    if deed == "nothing" and standing.eligible and standing.ready:
        assert found.again < math.inf
        assert step("node-1", "192.0.2.128", standing, record, found.again).deed != "nothing"


def test_vacant() -> None:
    assert [is_vacant(each, 11) for each in (MINE, OTHERS, FREE)] == [False, False, True]
    assert is_vacant(OTHERS, 10 + DURATION)


def test_first_attempts_are_spread_over_the_nodes() -> None:
    names = [f"node-{number}" for number in range(1, 6)]
    first = set()
    for number in range(60):
        waits = {name: step(name, f"192.0.2.{number}", HERE, None, 0).again for name in names}
        first.add(min(waits, key=waits.__getitem__))
    assert first == set(names)


class Node:
    """A node that sees the Lease after a delay, and whose clock has an offset."""

    def __init__(self, name: str, offset: float) -> None:
        self.name, self.offset = name, offset
        self.renewed: float | None = None
        self.record: Record | None = None
        self.alive, self.connected = True, True


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1000), min_size=3, max_size=3),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.sampled_from(["kill", "cut", "join"])), max_size=8),
)
def test_never_two_and_soon_one(offsets: list[float], events: list[tuple[int, int, str]]) -> None:
    """Whoever crashes, or is cut off from the API: no two nodes answer, and one does if one can."""
    nodes = [Node(f"node-{number}", offset) for number, offset in enumerate(offsets)]
    stored: tuple[int, str] | None = None  # the version and the holder
    seen: dict[str, int] = {node.name: 0 for node in nodes}
    for tick in range(600):
        now = tick / 10
        for at, which, what in events:
            if at == tick:
                nodes[which].alive = what != "kill"
                nodes[which].connected = what != "cut"
                if what == "kill":
                    nodes[which].renewed = None
        answering = []
        for node in nodes:
            clock = now + node.offset
            if not node.alive:
                continue
            if node.connected and stored is not None and seen[node.name] != stored[0]:
                seen[node.name] = stored[0]
                node.record = Record(stored[1], DURATION, clock)
            found: Step = step(node.name, "a", Standing(True, True, node.offset, node.renewed), node.record, clock)
            if found.deed != "nothing" and node.connected and (stored is None or seen[node.name] == stored[0]):
                stored = ((stored[0] if stored else 0) + 1, node.name)
                seen[node.name], node.renewed, node.record = stored[0], clock, Record(node.name, DURATION, clock)
                found = step(node.name, "a", Standing(True, True, node.offset, node.renewed), node.record, clock)
            if found.announce:
                answering.append(node.name)
        assert len(answering) <= 1
        quiet = all(at < tick - 10 * (DURATION + 1) for at, _, _ in events if at <= tick)
        if tick > 10 * (DURATION + 1) and quiet and any(node.alive and node.connected for node in nodes):
            assert answering
