"""Which changes bring a waiting pod up again, and how soon."""

from __future__ import annotations

import pytest

from netlab.controlplane.scheduler.waiting import Change, WaitingRoom

FIT, TAINTS, SPREAD, AFFINITY = "NodeResourcesFit", "TaintToleration", "PodTopologySpread", "NodeAffinity"


@pytest.mark.parametrize(
    ("plugins", "helped_by"),
    [
        ((), {Change.NODE_ADDED}),
        ((FIT,), {Change.NODE_ADDED, Change.NODE_ALLOCATABLE, Change.POD_GONE}),
        ((TAINTS,), {Change.NODE_ADDED, Change.NODE_TAINTS}),
        ((AFFINITY,), {Change.NODE_ADDED, Change.NODE_LABELS}),
        ((SPREAD,), set(Change) - {Change.NODE_ALLOCATABLE, Change.NAMESPACE_LABELS}),
        ((TAINTS, FIT), {Change.NODE_ADDED, Change.NODE_ALLOCATABLE, Change.POD_GONE, Change.NODE_TAINTS}),
    ],
)
def test_a_change_brings_up_those_whose_plugins_it_concerns(plugins: tuple[str, ...], helped_by: set[Change]) -> None:
    woken = set()
    for change in Change:
        room = WaitingRoom()
        room.refused("default/p", frozenset(plugins), 0.0)
        if room.wake(change, 1.0):
            woken.add(change)
            assert not room.wake(change, 1.0), "it is on its way already"
    assert woken == helped_by


def test_one_that_is_refused_again_and_again_is_tried_less_and_less_often() -> None:
    room, pauses = WaitingRoom(), []
    for _ in range(9):
        room.refused("default/p", frozenset({FIT}), 100.0)
        pauses += [seconds for _, seconds in room.wake(Change.POD_GONE, 100.0)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    room.forget("default/p")
    room.refused("default/p", frozenset({FIT}), 100.0)
    ((_, seconds),) = room.wake(Change.POD_GONE, 100.08)
    assert seconds == pytest.approx(0.02)
