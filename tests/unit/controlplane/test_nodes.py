"""What becomes of nodes that fail, and of the pods on them: tables of nodes, tolerations and pods."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.core_types import Node, Pod, Taint, Toleration
from netlab.api.meta_types import Condition
from netlab.controlplane.nodes.eviction import tolerated_for
from netlab.controlplane.nodes.podgc import doomed
from netlab.controlplane.nodes.tainting import may_evict, taints_by_state
from tests.unit.controlplane.build import node, pod

NOW, BEFORE = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
KEY = "node.kubernetes.io/"


def _taint(name: str, effect: str = "NoSchedule", since: str | None = NOW) -> Taint:
    return Taint(key=name if "/" in name else f"{KEY}{name}", effect=effect, timeAdded=since)


OWN = Taint(key="dedicated", value="gpu", effect="NoExecute")


def _with(condition: str) -> Node:
    found = node("a")
    found.status.conditions.append(Condition(type=condition, status="True"))
    return found


@pytest.mark.parametrize(
    ("found", "evicts", "expected"),
    [
        (node("a"), True, []),
        (node("a", taints=(OWN,)), True, [OWN]),
        (node("a", ready=""), True, []),
        (node("a", ready="False"), True, [_taint("not-ready"), _taint("not-ready", "NoExecute")]),
        (node("a", ready="Unknown"), True, [_taint("unreachable"), _taint("unreachable", "NoExecute")]),
        (node("a", ready="Unknown"), False, [_taint("unreachable")]),
        (
            node("a", ready="Unknown", taints=(_taint("unreachable", since=BEFORE), OWN)),
            True,
            [_taint("unreachable", since=BEFORE), OWN, _taint("unreachable", "NoExecute")],
        ),
        (
            node("a", ready="False", taints=(_taint("unreachable"), _taint("unreachable", "NoExecute"))),
            True,
            [_taint("not-ready"), _taint("not-ready", "NoExecute")],
        ),
        (node("a", taints=(_taint("not-ready"), _taint("not-ready", "NoExecute"), OWN)), True, [OWN]),
        (
            node("a", ready="Unknown", taints=(_taint("unreachable"), _taint("unreachable", "NoExecute"))),
            False,
            [_taint("unreachable")],
        ),
        (node("a", unschedulable=True), True, [_taint("unschedulable")]),
        (node("a", taints=(_taint("unschedulable", since=None),)), True, []),
        (_with("MemoryPressure"), True, [_taint("memory-pressure")]),
        (_with("DiskPressure"), True, [_taint("disk-pressure")]),
        (_with("PIDPressure"), True, [_taint("pid-pressure")]),
        (_with("NetworkUnavailable"), True, [_taint("network-unavailable")]),
        # Nobody but a person says so: it stays.
        (node("a", taints=(_taint("out-of-service", "NoExecute"),)), True, [_taint("out-of-service", "NoExecute")]),
    ],
)
def test_the_taints_that_a_state_means(found: Node, evicts: bool, expected: list[Taint]) -> None:
    made = taints_by_state(found, evicts=evicts, now=NOW)
    assert made == expected
    assert taints_by_state(_given(found, made), evicts=evicts, now="later") == made


def _given(found: Node, taints: list[Taint]) -> Node:
    found.spec.taints = taints
    return found


def test_nobody_is_evicted_while_no_node_is_ready() -> None:
    assert may_evict([node("a", ready="Unknown"), node("b")])
    assert not may_evict([node("a", ready="Unknown"), node("b", ready="False")])


def _tolerates(taint: Taint, seconds: int | None) -> Toleration:
    return Toleration(key=taint.key, operator="Exists", effect=taint.effect, tolerationSeconds=seconds)


A, B = (Taint(key=key, effect="NoExecute") for key in "ab")


@pytest.mark.parametrize(
    ("tolerations", "taints", "seconds"),
    [
        ([], [], None),
        ([], [A], 0),
        ([_tolerates(A, None)], [A], None),
        ([_tolerates(A, 5)], [A], 5),
        ([_tolerates(A, -5)], [A], 0),
        ([_tolerates(A, 5)], [A, B], 0),
        ([_tolerates(A, 5), _tolerates(B, 3)], [A, B], 3),
        ([_tolerates(A, None), _tolerates(B, 3)], [A, B], 3),
        ([Toleration(operator="Exists")], [A, B], None),
    ],
)
def test_how_long_a_pod_stays(tolerations: list[Toleration], taints: list[Taint], seconds: float | None) -> None:
    assert tolerated_for(tolerations, taints) == seconds


def _ended(name: str, created: str = BEFORE, reason: str = "", **other: Any) -> Pod:
    made = pod(name, phase="Failed", created=created, **other)
    made.status.reason = reason
    return made


OFF = node("off", ready="Unknown", taints=(_taint("out-of-service", "NoExecute"),))


@pytest.mark.parametrize(
    ("pods", "most", "names"),
    [
        ([pod("a"), _ended("b")], 1, []),
        ([_ended("new", NOW), _ended("old"), _ended("older", "2025-01-01T00:00:00Z")], 1, ["older", "old"]),
        ([_ended("new", NOW, "Evicted"), _ended("old")], 1, ["new"]),
        ([pod("going", deleted=True), pod("placed", on="on", deleted=True)], 9, ["going"]),
        ([pod("lost", on="off", deleted=True), pod("stays", on="off"), pod("x", on="gone", deleted=True)], 9, ["lost"]),
    ],
)
def test_pods_that_are_collected(pods: list[Pod], most: int, names: list[str]) -> None:
    nodes = {each.metadata.name: each for each in (OFF, node("on"))}
    assert [each.metadata.name for each in doomed(pods, nodes, most)] == names
