"""Whose place a pod takes, and why it takes nobody's."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from netlab.api.core_types import Node, Pod
from netlab.api.meta_types import Condition, LabelSelector, ObjectMeta
from netlab.api.policy_types import PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus
from netlab.controlplane.scheduler.decision import Unschedulable, choose
from netlab.controlplane.scheduler.podinfo import PodInfo
from netlab.controlplane.scheduler.preemption import Preemption, preempt
from tests.unit.controlplane.build import node, pod
from tests.unit.controlplane.scheduler.objects import HOST, away, cache, named, spread, term

GUARDED = {"app": "guarded"}


def holder(name: str, on: str, priority: int = 0, cpu: str = "1", **other: Any) -> Pod:
    return pod(name, on=on, priority=priority, asks={"cpu": cpu}, **other)


def budget(allowed: int, *disrupted: str) -> PodDisruptionBudget:
    return PodDisruptionBudget(
        metadata=ObjectMeta(name="b", namespace="default"),
        spec=PodDisruptionBudgetSpec(selector=LabelSelector(matchLabels=GUARDED)),
        status=PodDisruptionBudgetStatus(
            disruptionsAllowed=allowed, disruptedPods=dict.fromkeys(disrupted, "2026-01-01T00:00:00Z")
        ),
    )


@dataclasses.dataclass
class Case:
    name: str
    nodes: list[Node]
    placed: list[Pod]
    pod: Pod
    expected: tuple[str, list[str]] | str
    """The node and the victims, or the message."""
    budgets: list[PodDisruptionBudget] = dataclasses.field(default_factory=list)


SMALL = [node("a", cpu="2"), node("b", cpu="2")]
EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
USED = "0/2 nodes are available: 2 Insufficient cpu. preemption: "


def wants(cpu: str = "1", priority: int = 100, **other: Any) -> Pod:
    return pod("wants", asks={"cpu": cpu}, priority=priority, **other)


CASES = [
    Case("the lowest priority", SMALL,
         [holder("low", "b", 1, "2"), holder("middle", "a", 50, "2")], wants(), ("b", ["low"])),
    Case("no more than needed", SMALL[:1],
         [holder("one", "a", 1), holder("two", "a", 2)], wants(), ("a", ["one"])),
    Case("as many as needed", SMALL[:1],
         [holder("one", "a", 1), holder("two", "a", 2)], wants("2"), ("a", ["two", "one"])),
    Case("the least important of all, though more", SMALL,
         [holder("one", "a", 1), holder("two", "a", 1), holder("high", "b", 9, "2")], wants("2"),
         ("a", ["one", "two"])),
    Case("few", SMALL,
         [holder("one", "a", 1), holder("two", "a", 1), holder("big", "b", 1, "2")], wants("2"), ("b", ["big"])),
    Case("who started last", SMALL,
         [holder("early", "a", 1, "2", started=EARLY), holder("late", "b", 1, "2", started=LATE)], wants(),
         ("b", ["late"])),
    Case("who started last on a node", SMALL[:1],
         [holder("early", "a", 1, started=EARLY), holder("late", "a", 1, started=LATE)], wants(), ("a", ["late"])),
    Case("nobody more important", SMALL, [holder("one", "a", 100, "2"), holder("two", "b", 200, "2")], wants(),
         USED + "0/2 nodes are available: 2 No preemption victims found for incoming pod."),
    Case("not enough", SMALL, [holder("one", "a", 1), holder("high", "a", 200), holder("two", "b", 300, "2")],
         wants("2"),
         USED + "0/2 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod."),
    Case("nothing helps", [node("a", cpu="2"), node("b", unschedulable=True)], [holder("one", "a", 1)], wants("3"),
         "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. preemption: 0/2 nodes are "
         "available: 2 Preemption is not helpful for scheduling."),
    Case("never", SMALL[:1], [holder("one", "a", 1, "2")], wants(preemptionPolicy="Never"),
         "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."),
    Case("no budget is broken if that can be", SMALL,
         [holder("kept", "a", 1, "2", labels=GUARDED), holder("free", "b", 50, "2")], wants(), ("b", ["free"]),
         [budget(0)]),
    Case("a budget is broken if it must be", SMALL[:1], [holder("kept", "a", 1, "2", labels=GUARDED)], wants(),
         ("a", ["kept"]), [budget(0)]),
    Case("those of a budget stay if others go", SMALL[:1],
         [holder("kept", "a", 1, labels=GUARDED), holder("free", "a", 50)], wants(), ("a", ["free"]), [budget(0)]),
    Case("what a budget allows", SMALL,
         [holder("one", "a", 1, "2", labels=GUARDED), holder("free", "b", 50, "2")], wants(), ("a", ["one"]),
         [budget(1)]),
    Case("one that was evicted already breaks no budget", SMALL,
         [holder("one", "a", 1, "2", labels=GUARDED), holder("free", "b", 50, "2")], wants(), ("a", ["one"]),
         [budget(0, "one")]),
    Case("for those that keep it away", [node("a", labels={HOST: "a"})],
         [holder("one", "a", 1, affinity=away(term({"app": "web"}))), holder("two", "a", 1)],
         pod("wants", priority=2, labels={"app": "web"}), ("a", ["one"])),
    Case("for an even spread", [node("a", cpu="10", labels={HOST: "a"}), node("b", cpu="10", labels={HOST: "b"})],
         # Upstream's e2e test: one victim would be enough by the room that there is, but not by the spread.
         [holder("high", "a", 1000, "9", labels={"app": "web"}),
          *(holder(f"low-{n}", "b", 1, "3", labels={"app": "web"}) for n in range(3))],
         wants("3", labels={"app": "web"}, topologySpreadConstraints=[spread(HOST)]), ("b", ["low-1", "low-2"])),
    Case("only where it may go", SMALL, [holder("one", "a", 1, "2"), holder("two", "b", 50, "2")],
         wants(affinity=named("b")), ("b", ["two"])),
]  # fmt: skip


def run(case: Case) -> tuple[str, list[str]] | str:
    nodes = cache(case.nodes, case.placed)
    before = {each.name: (dict(each.pods), dict(each.requested)) for each in nodes.nodes}
    info = PodInfo.of(case.pod)
    found = choose(info, nodes)
    assert isinstance(found, Unschedulable)
    outcome = preempt(info, nodes, found, case.budgets)
    assert {each.name: (dict(each.pods), dict(each.requested)) for each in nodes.nodes} == before
    if isinstance(outcome, Preemption):
        return outcome.node, [each.name for each in outcome.victims]
    return str(dataclasses.replace(found, preemption=outcome.why))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_victims(case: Case) -> None:
    assert run(case) == case.expected


def test_a_pod_waits_for_its_victims() -> None:
    going = holder("going", "a", 1, "2", deleted=True)
    going.status.conditions.append(Condition(type="DisruptionTarget", status="True", reason="PreemptionByScheduler"))
    promised = wants()
    promised.status.nominatedNodeName = "a"
    case = Case("", SMALL, [going, holder("other", "b", 1, "2")], promised, "")
    assert run(case) == USED + "not eligible due to a terminating pod on the nominated node."
