"""How far a component has acted: never further than the work that what it saw has made due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netlab.api.progress import Progress, Work


def test_what_makes_no_work_is_acted_upon_when_it_is_seen() -> None:
    told: list[int] = []
    progress = Progress(told.append)
    progress.seen(3)
    progress.seen(3)
    progress.seen(7)
    assert (progress.acted, told) == (7, [3, 7])


def test_work_holds_back_the_revision_that_made_it_due_and_all_later_ones() -> None:
    told: list[int] = []
    progress = Progress(told.append)
    progress.seen(1)
    first = progress.begin()
    progress.seen(2)
    second = progress.begin()
    progress.seen(3)
    progress.seen(4)  # it made nothing due
    progress.end(second)
    assert told == [1]
    progress.end(first)
    assert told == [1, 4]


def test_work_that_is_done_lets_the_earlier_revision_through_at_once() -> None:
    told: list[int] = []
    progress = Progress(told.append)
    first = progress.begin()
    progress.seen(2)
    second = progress.begin()
    progress.seen(3)
    progress.end(first)
    assert told == [2]
    progress.end(second)
    assert told == [2, 3]


@given(st.lists(st.one_of(st.sampled_from(["begin", "seen"]), st.integers(0, 5)), max_size=40))
def test_it_is_the_last_revision_before_the_oldest_unfinished_work(steps: list[str | int]) -> None:
    """Against the definition: every piece of work remembers what had been seen when it became due."""
    progress = Progress()
    revision, pending, done_at = 0, list[tuple[Work, int]](), 0
    for step in steps:
        if step == "begin":
            pending.append((progress.begin(), revision))
        elif step == "seen":
            revision += 1
            progress.seen(revision)
        elif isinstance(step, int) and step < len(pending):
            progress.end(pending.pop(step)[0])
        done_at = max(done_at, min([revision, *(since for _, since in pending)]))
        # Work that became due after the last revision was seen does not hold that one back, and none is claimed early.
        assert progress.acted <= done_at
        if not pending:
            assert progress.acted == revision
