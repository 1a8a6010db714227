"""Where pods go, and what is said when they cannot go anywhere."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api.core_types import ContainerPort, Node, Pod, Taint, Toleration
from netlab.controlplane.placement import NodeCache, Unschedulable
from tests.unit.controlplane.build import node, pod


def cache(*nodes: Node) -> NodeCache:
    made = NodeCache()
    for one in nodes:
        made.set_node(one)
    return made


def schedule(on: NodeCache, pods: list[Pod]) -> Counter[str]:
    chosen: Counter[str] = Counter()
    for one in pods:
        choice = on.select(one)
        assert isinstance(choice, str)
        on.place(one, choice)
        chosen[choice] += 1
    return chosen


@dataclasses.dataclass
class Case:
    name: str
    nodes: list[Node]
    pod: Pod
    expected: str


DEDICATED = Taint(key="dedicated", value="gpu", effect="NoSchedule")
CASES = [
    Case("no nodes", [], pod(), "no nodes available to schedule pods"),
    Case("full", [node("a", pods="0"), node("b", pods="0")], pod(), "0/2 nodes are available: 2 Too many pods."),
    Case("cordoned", [node("a", unschedulable=True)], pod(), "0/1 nodes are available: 1 node(s) were unschedulable."),
    Case(
        "not ready",
        [node("a", ready="False"), node("b", ready=""), node("c", ready="Unknown")],
        pod(),
        "0/3 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, "
        "2 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
    ),
    Case(
        "tainted",
        [node("a", taints=(DEDICATED,))],
        pod(tolerations=(Toleration(key="dedicated", value="tpu", effect="NoSchedule"),)),
        "0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: gpu}.",
    ),
    Case(
        "selector",
        [node("a", labels={"disk": "hdd"}), node("b", pods="0")],
        pod(selector={"disk": "ssd"}),
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
    ),
    Case("tolerated", [node("a", taints=(DEDICATED,))], pod(tolerations=(Toleration(operator="Exists"),)), "a"),
    Case(
        "tolerated by value",
        [node("a", taints=(DEDICATED,))],
        pod(tolerations=(Toleration(key="dedicated", operator="Equal", value="gpu"),)),
        "a",
    ),
    Case(
        "not ready tolerated",
        [node("a", ready="False")],
        pod(tolerations=(Toleration(key="node.kubernetes.io/not-ready", operator="Exists"),)),
        "a",
    ),
    Case(
        "preferred against",
        [node("a", taints=(Taint(key="k", effect="PreferNoSchedule"),)), node("b")],
        pod(),
        "b",
    ),
    Case("by number", [node("node-10"), node("node-2")], pod(), "node-2"),
    Case("unparsable allocatable", [node("a", pods="many")], pod(), "a"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_selection(case: Case) -> None:
    assert str(cache(*case.nodes).select(case.pod)) == case.expected


HTTP = ContainerPort(containerPort=80, hostPort=80)


@pytest.mark.parametrize(
    ("second", "fits"),
    [
        (HTTP, False),
        (ContainerPort(containerPort=80, hostPort=80, hostIP="192.0.2.1"), False),
        (ContainerPort(containerPort=80, hostPort=80, protocol="UDP"), True),
        (ContainerPort(containerPort=80, hostPort=81), True),
    ],
)
def test_host_ports_collide_per_protocol_and_address(second: ContainerPort, fits: bool) -> None:
    nodes = cache(node("a"))
    first = pod(host_ports=(HTTP,))
    nodes.place(first, "a")
    assert isinstance(nodes.select(pod(host_ports=(second,))), str) == fits
    nodes.remove(first.metadata.uid)
    assert nodes.select(pod(host_ports=(second,))) == "a"


def test_pods_of_one_owner_spread_although_the_nodes_are_unequally_full() -> None:
    nodes = cache(node("a"), node("b"), node("c"))
    for _ in range(5):
        nodes.place(pod(), "a")
    assert schedule(nodes, [pod(owned_by="rs") for _ in range(9)]) == {"a": 3, "b": 3, "c": 3}


def test_pods_without_owner_even_the_nodes_out() -> None:
    nodes = cache(node("a"), node("b"))
    nodes.place(pod(), "a")
    nodes.place(pod(), "a")
    assert schedule(nodes, [pod() for _ in range(4)]) == {"a": 1, "b": 3}


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", ""]), st.sampled_from(["", "rs"])), max_size=60)
)
def test_counts_follow_any_sequence_of_placements(steps: list[tuple[int, str, str]]) -> None:
    nodes = cache(node("a", pods="3"), node("b", pods="3"))
    where: dict[int, str] = {}
    for number, place, owned in steps:
        one = pod(f"p{number}", owned_by=owned, host_ports=(ContainerPort(containerPort=1, hostPort=1000 + number),))
        if place:
            nodes.place(one, place)
            where[number] = place
        else:
            assert nodes.remove(one.metadata.uid) == (where.pop(number, None) is not None)
    counts = Counter(where.values())
    choice = nodes.select(pod())
    if min(counts["a"], counts["b"]) >= 3:
        assert isinstance(choice, Unschedulable)
    else:
        assert choice == min("ab", key=lambda name: (counts[name], name))
