"""What a DaemonSet does: a table of nodes and pods, and the pods that come and go."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from netlab.api.apps_types import (
    DaemonSet,
    DaemonSetSpec,
    DaemonSetUpdateStrategy,
    PodTemplateSpec,
    RollingUpdateDaemonSet,
)
from netlab.api.core_types import (
    Affinity,
    Container,
    Node,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodSpec,
    Taint,
    Toleration,
)
from netlab.api.meta_types import LabelSelector, ObjectMeta
from netlab.controlplane import affinity
from netlab.controlplane.daemonset.nodes import node_of, template_for
from netlab.controlplane.daemonset.planner import Plan, plan
from netlab.controlplane.revisions import HASH
from tests.unit.controlplane.build import node, pod

NOW = datetime.datetime(2026, 1, 1, 0, 1, tzinfo=datetime.UTC)
NEW, OLD = "new", "old"


def daemon_set(
    unavailable: int | str | None = 1,
    surge: int | str | None = 0,
    *,
    on_delete: bool = False,
    ready: int = 0,
    **spec: Any,
) -> DaemonSet:
    rolling = RollingUpdateDaemonSet(maxUnavailable=unavailable, maxSurge=surge)
    strategy = DaemonSetUpdateStrategy(
        type="OnDelete" if on_delete else "RollingUpdate", rollingUpdate=None if on_delete else rolling
    )
    return DaemonSet(
        metadata=ObjectMeta(name="d", namespace="default", uid="d"),
        spec=DaemonSetSpec(
            selector=LabelSelector(matchLabels={"app": "d"}),
            template=PodTemplateSpec(spec=PodSpec(containers=[Container(name="c")], **spec)),
            updateStrategy=strategy,
            minReadySeconds=ready,
        ),
    )


def on(name: str, hashed: str = NEW, *, ready: bool = True, number: int = 0, **others: Any) -> Pod:
    """A pod of the set on node-NAME."""
    suffix = f"-{number}" if number else ""
    created = f"2026-01-01T00:00:{number:02}Z"
    return pod(
        f"{hashed}-{name}{suffix}", on=name, labels={HASH: hashed}, ready=ready, owned_by="d", created=created, **others
    )


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    pods: list[Pod]
    create: list[str] = dataclasses.field(default_factory=list)
    delete: list[str] = dataclasses.field(default_factory=list)
    set: DaemonSet = dataclasses.field(default_factory=daemon_set)
    nodes: list[Node] = dataclasses.field(default_factory=lambda: [node("a"), node("b")])
    resting: tuple[str, ...] = ()


_NO = Taint(key="no", effect="NoSchedule")
_GO = Taint(key="go", effect="NoExecute")

CASES = [
    Case("one on each node", [], create=["a", "b"]),
    Case("nothing to do", [on("a"), on("b")]),
    Case("one that is starting", [on("a"), on("b", ready=False)]),
    Case("one too many: the older stays", [on("a"), on("a", number=1), on("b")], delete=["new-a-1"]),
    Case(
        "on a node by label",
        [],
        create=["b"],
        set=daemon_set(nodeSelector={"x": "1"}),
        nodes=[node("a"), node("b", labels={"x": "1"})],
    ),
    Case(
        "gone from a node whose label is gone",
        [on("a"), on("b")],
        delete=["new-a"],
        set=daemon_set(nodeSelector={"x": "1"}),
        nodes=[node("a"), node("b", labels={"x": "1"})],
    ),
    Case("not on a tainted node", [], create=["b"], nodes=[node("a", taints=(_NO,)), node("b")]),
    Case("stays where none would start", [on("a")], create=["b"], nodes=[node("a", taints=(_NO,)), node("b")]),
    Case(
        "leaves a node that evicts", [on("a"), on("b")], delete=["new-a"], nodes=[node("a", taints=(_GO,)), node("b")]
    ),
    Case(
        "tolerates what its template does",
        [],
        create=["a", "b"],
        set=daemon_set(tolerations=[Toleration(key="no", operator="Exists")]),
        nodes=[node("a", taints=(_NO,)), node("b")],
    ),
    Case("on a node that is cordoned", [], create=["a", "b"], nodes=[node("a", unschedulable=True), node("b")]),
    Case("stays on a node that is not ready", [on("a"), on("b")], nodes=[node("a", ready="False"), node("b")]),
    Case("a failed one is replaced", [on("a", phase="Failed"), on("b")], delete=["new-a"]),
    Case("but not at once again", [on("a", phase="Failed"), on("b")], resting=("a",)),
    Case("one that is ending is waited for", [on("a", deleted=True), on("b")]),
    Case(
        "one for a node that is gone",
        [on("a"), on("b"), pod("lost", labels={HASH: NEW}, owned_by="d")],
        delete=["lost"],
    ),
    # Rolling updates.
    Case("one at a time", [on("a", OLD), on("b", OLD)], delete=["old-a"]),
    Case("the next once the first is ready", [on("a"), on("b", OLD)], delete=["old-b"]),
    Case("but not before", [on("a", ready=False), on("b", OLD)]),
    Case("what does not work goes first", [on("a", OLD), on("b", OLD, ready=False)], delete=["old-b"]),
    Case("all at once", [on("a", OLD), on("b", OLD)], delete=["old-a", "old-b"], set=daemon_set("100%")),
    Case("of two nodes 10 % is one", [on("a", OLD), on("b", OLD)], delete=["old-a"], set=daemon_set("10%")),
    Case("by hand", [on("a", OLD), on("b", OLD)], set=daemon_set(on_delete=True)),
    Case(
        "not ready for long enough",
        [on("a"), on("b", OLD, ready_since="2025-12-31T00:00:00Z")],
        set=daemon_set(ready=90),
    ),
    # With more pods instead of fewer.
    Case("a second one beside the first", [on("a", OLD), on("b", OLD)], create=["a"], set=daemon_set(0, 1)),
    Case("which is waited for", [on("a", OLD), on("a", ready=False, number=1), on("b", OLD)], set=daemon_set(0, 1)),
    Case(
        "and takes its place", [on("a", OLD), on("a", number=1), on("b", OLD)], delete=["old-a"], set=daemon_set(0, 1)
    ),
    Case(
        "at once if the first does not work",
        [on("a", OLD, ready=False), on("b", OLD)],
        create=["a", "b"],
        set=daemon_set(0, 1),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_pods_come_and_go(case: Case) -> None:
    made = _plan(case)
    assert made.create == case.create
    assert sorted(each.metadata.name for each in made.delete) == sorted(case.delete)


def _plan(case: Case) -> Plan:
    return plan(case.set, case.nodes, case.pods, NEW, NOW, case.resting)


def test_the_status_counts_nodes() -> None:
    nodes = [node("a"), node("b"), node("c"), node("d", labels={"x": "0"})]
    for each in nodes[:3]:
        each.metadata.labels = {"x": "1"}
    pods = [on("a"), on("b", OLD, ready=False), on("d")]
    status = plan(daemon_set(nodeSelector={"x": "1"}), nodes, pods, NEW, NOW).status
    assert (status.desiredNumberScheduled, status.currentNumberScheduled, status.numberMisscheduled) == (3, 2, 1)
    assert (status.numberReady, status.numberAvailable, status.numberUnavailable) == (1, 1, 2)
    assert status.updatedNumberScheduled == 1


def test_what_ended_is_told() -> None:
    made = _plan(Case("", [on("a", phase="Failed"), on("b", phase="Succeeded")]))
    assert [(each.is_warning, each.reason) for each in made.told] == [
        (True, "FailedDaemonPod"),
        (False, "SucceededDaemonPod"),
    ]
    assert [each.metadata.name for each in made.failed] == ["new-a"]


def test_minimum_ready_time_brings_it_up_again() -> None:
    made = plan(daemon_set(ready=90), [node("a")], [on("a")], NEW, NOW)
    assert (made.status.numberReady, made.status.numberAvailable, made.sync_after) == (1, 0, 30)


def test_a_pod_is_pinned_to_its_node() -> None:
    template = template_for(daemon_set(nodeSelector={"x": "1"}).spec.template, "b")
    made = Pod(metadata=ObjectMeta(name="p"), spec=template.spec)
    assert node_of(made) == "b"
    assert affinity.Required.of(template.spec).matches("b", {"x": "1"})
    assert not affinity.Required.of(template.spec).matches("a", {"x": "1"})
    assert {"node.kubernetes.io/unreachable", "node.kubernetes.io/unschedulable"} <= {
        each.key for each in template.spec.tolerations
    }


def _requires(*requirements: tuple[str, str, list[str]]) -> PodSpec:
    terms = [
        NodeSelectorTerm(matchExpressions=[NodeSelectorRequirement(key=key, operator=operator, values=values)])
        for key, operator, values in requirements
    ]
    required = NodeSelector(nodeSelectorTerms=terms)
    on_node = NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required)
    return PodSpec(containers=[], affinity=Affinity(nodeAffinity=on_node))


@pytest.mark.parametrize(
    ("requirements", "matches"),
    [
        ([("zone", "In", ["a", "b"])], True),
        ([("zone", "In", ["b"])], False),
        ([("zone", "NotIn", ["b"])], True),
        ([("rack", "NotIn", ["b"])], True),
        ([("zone", "Exists", [])], True),
        ([("zone", "DoesNotExist", [])], False),
        ([("cores", "Gt", ["3"])], True),
        ([("cores", "Lt", ["3"])], False),
        ([("zone", "Gt", ["3"])], False),
        ([("rack", "Exists", []), ("zone", "Exists", [])], True),
        ([], False),
    ],
)
def test_nodes_that_a_pod_requires(requirements: list[tuple[str, str, list[str]]], matches: bool) -> None:
    assert affinity.Required.of(_requires(*requirements)).matches("n", {"zone": "a", "cores": "4"}) is matches
