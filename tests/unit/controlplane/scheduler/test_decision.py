"""Where pods go, and what is said when they cannot go anywhere: one table for each plugin."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api.core_types import Container, ContainerPort, Node, Pod, ResourceRequirements, Taint, Toleration
from netlab.controlplane.scheduler import requests
from netlab.controlplane.scheduler.decision import Unschedulable
from netlab.controlplane.scheduler.podinfo import PodInfo
from tests.unit.controlplane.build import node, pod
from tests.unit.controlplane.scheduler.objects import (
    HOST,
    ZONE,
    away,
    cache,
    named,
    near,
    node_term,
    prefers,
    requires,
    schedule,
    select,
    spread,
    term,
)

DEDICATED = Taint(key="dedicated", value="gpu", effect="NoSchedule")
GPU = "example.com/gpu"


@dataclasses.dataclass
class Case:
    name: str
    nodes: list[Node]
    pod: Pod
    expected: str
    placed: list[Pod] = dataclasses.field(default_factory=list)


def check(case: Case) -> None:
    assert str(select(cache(case.nodes, case.placed), case.pod)) == case.expected


NODES = [
    Case("no nodes", [], pod(), "no nodes available to schedule pods"),
    Case("full", [node("a", pods="0"), node("b", pods="0")], pod(), "0/2 nodes are available: 2 Too many pods."),
    Case("cordoned", [node("a", unschedulable=True)], pod(), "0/1 nodes are available: 1 node(s) were unschedulable."),
    Case(
        "cordoned, and tolerated",
        [node("a", unschedulable=True)],
        pod(tolerations=(Toleration(key="node.kubernetes.io/unschedulable", operator="Exists"),)),
        "a",
    ),
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
    Case("preferred against", [node("a", taints=(Taint(key="k", effect="PreferNoSchedule"),)), node("b")], pod(), "b"),
    Case("by number", [node("node-10"), node("node-2")], pod(), "node-2"),
]

AFFINITY = [
    Case(
        "selector",
        [node("a", labels={"disk": "hdd"}), node("b", pods="0")],
        pod(selector={"disk": "ssd"}),
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
    ),
    Case(
        "one of the terms",
        [node("a", labels={"disk": "hdd"}), node("b", labels={"disk": "ssd"})],
        pod(affinity=requires(node_term(("disk", "In", ["x"])), node_term(("disk", "NotIn", ["hdd"])))),
        "b",
    ),
    Case(
        "a term of nothing",
        [node("a")],
        pod(affinity=requires(node_term())),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    ),
    Case("by name", [node("a"), node("b"), node("c")], pod(affinity=named("b")), "b"),
    Case(
        "by name, and full",
        [node("a"), node("b", pods="0"), node("c")],
        pod(affinity=named("b")),
        "0/3 nodes are available: 1 Too many pods, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].",
    ),
    Case(
        "not by name",
        [node("a"), node("b")],
        pod(affinity=requires(node_term(fields=(("metadata.name", "NotIn", ["a"]),)))),
        "b",
    ),
    Case(
        "preferred by weight",
        [node("a", labels={"x": "1"}), node("b", labels={"y": "1"}), node("c")],
        pod(affinity=prefers((10, node_term(("x", "Exists", []))), (20, node_term(("y", "Gt", ["0"]))))),
        "b",
    ),
    Case(
        "the name is given",
        [node("a"), node("b")],
        pod(on="c"),
        "0/2 nodes are available: 2 node(s) didn't match the requested node name.",
    ),
]

ROOM = [
    Case(
        "too little of several",
        [node("a", cpu="1", memory="1Gi"), node("b", cpu="1"), node("c", pods="1")],
        pod(asks={"cpu": "1500m", "memory": "2Gi"}),
        "0/3 nodes are available: 1 Insufficient memory, 1 Too many pods, 2 Insufficient cpu.",
        [pod(on="c")],
    ),
    Case("exactly enough", [node("a", cpu="1")], pod(asks={"cpu": "0.1"}), "a",
         [pod(on="a", asks={"cpu": "0.3"}) for _ in range(3)]),
    Case("a little too much", [node("a", cpu="1")], pod(asks={"cpu": "101m"}),
         "0/1 nodes are available: 1 Insufficient cpu.", [pod(on="a", asks={"cpu": "900m"})]),
    Case("extended", [node("a"), node("b", extended={GPU: "2"})], pod(asks={GPU: 1}), "b",
         [pod(on="b", asks={GPU: "1"})]),
    Case("extended, used up", [node("a"), node("b", extended={GPU: "1"})], pod(asks={GPU: "1"}),
         "0/2 nodes are available: 2 Insufficient example.com/gpu.", [pod(on="b", asks={GPU: "1"})]),
    Case("nothing is asked of a full node", [node("a", cpu="1")], pod(), "a", [pod(on="a", asks={"cpu": "1"})]),
    Case("most is left", [node("a"), node("b", cpu="8")], pod(asks={"cpu": "1"}), "b"),
    Case(
        "evenly used",
        [node("a", cpu="4", memory="4Gi"), node("b", cpu="4", memory="4Gi")],
        pod(asks={"cpu": "1"}),
        "b",
        [pod(on="a", asks={"cpu": "2"}), pod(on="b", asks={"memory": "2Gi"})],
    ),
]  # fmt: skip

WEB, DB = {"app": "web"}, {"app": "db"}
HOSTS = [node(name, labels={HOST: name, ZONE: zone}) for name, zone in (("a", "1"), ("b", "1"), ("c", "2"))]
NOT_NEAR = "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
NOT_AWAY = "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."

NEIGHBOURS = [
    Case("near", HOSTS, pod(affinity=near(term(DB))), "c", [pod(on="c", labels=DB)]),
    Case("near in a zone", HOSTS, pod(affinity=near(term(DB, ZONE))), "b",
         [pod(on="a", labels=DB), pod(on="a", labels=WEB)]),
    Case("near nobody", HOSTS, pod(affinity=near(term(DB))), NOT_NEAR, [pod(on="a", labels=WEB)]),
    Case("the first of its own", HOSTS, pod(labels=DB, affinity=near(term(DB))), "a"),
    Case("not the first of its own", HOSTS, pod(labels=DB, affinity=near(term(DB))), "b", [pod(on="b", labels=DB)]),
    Case("near all of them", HOSTS, pod(affinity=near(term(DB), term(WEB))), NOT_NEAR,
         [pod(on="a", labels=DB), pod(on="b", labels=WEB)]),
    Case("near in another namespace", HOSTS, pod(affinity=near(term(DB, namespaces=["other"]))), "b",
         [pod(on="a", labels=DB), pod(on="b", labels=DB, namespace="other")]),
    Case("near in selected namespaces", HOSTS, pod(affinity=near(term(DB, namespace_labels={"team": "b"}))), "b",
         [pod(on="a", labels=DB), pod(on="b", labels=DB, namespace="other")]),
    Case("near in any namespace", HOSTS, pod(affinity=near(term(DB, namespace_labels={}))), "c",
         [pod(on="c", labels=DB, namespace="third")]),
    Case("near without a selector", HOSTS, pod(affinity=near(term(None))), NOT_NEAR, [pod(on="a", labels=DB)]),
    Case("near without a domain", HOSTS, pod(affinity=near(term(DB, "rack"))), NOT_NEAR, [pod(on="a", labels=DB)]),
    Case("away", HOSTS, pod(affinity=away(term(WEB))), "c", [pod(on="a", labels=WEB), pod(on="b", labels=WEB)]),
    Case("away from all of a zone", HOSTS, pod(affinity=away(term(WEB, ZONE))), "c", [pod(on="b", labels=WEB)]),
    Case("away from everybody", HOSTS, pod(affinity=away(term(WEB))), NOT_AWAY,
         [pod(on=each, labels=WEB) for each in "abc"]),
    Case("away in another namespace only", HOSTS, pod(affinity=away(term(WEB))), "a",
         [pod(on=each, labels=WEB, namespace="other") for each in "abc"]),
    Case("others want to be away", HOSTS, pod(labels=WEB),
         "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules.",
         [pod(on=each, affinity=away(term(WEB, ZONE))) for each in "ac"]),
    Case("others want to be away from some", HOSTS, pod(labels=WEB), "b",
         [pod(on="a", affinity=away(term(WEB))), pod(on="c", affinity=away(term(WEB)))]),
    Case("rather near", HOSTS, pod(affinity=near(term(DB), weight=5)), "c", [pod(on="c", labels=DB)]),
    Case("rather away", HOSTS, pod(affinity=away(term(DB, ZONE), weight=5)), "c", [pod(on="a", labels=DB)]),
    Case("others rather have it near", HOSTS, pod(labels=WEB), "c",
         [pod(on="c", affinity=near(term(WEB), weight=5))]),
    Case("others require its like near", HOSTS, pod(labels=WEB), "c", [pod(on="c", affinity=near(term(WEB)))]),
]  # fmt: skip

UNEVEN = "node(s) didn't match pod topology spread constraints"

SPREAD = [
    Case("even", HOSTS, pod(labels=WEB, topologySpreadConstraints=[spread()]), "c", [pod(on="a", labels=WEB)]),
    Case("others do not count", HOSTS, pod(labels=WEB, topologySpreadConstraints=[spread()]), "a",
         [pod(on="b", labels=DB), pod(on="c", labels=DB), pod(on="c", labels=WEB, namespace="other")]),
    Case("those that go do not count", HOSTS, pod(labels=WEB, topologySpreadConstraints=[spread()]), "b",
         [pod(on="a", labels=WEB, deleted=True), pod(on="c", labels=WEB)]),
    Case("no room where it is due", [*HOSTS[:2], node("c", pods="1", labels={HOST: "c", ZONE: "2"})],
         pod(labels=WEB, topologySpreadConstraints=[spread()]),
         f"0/3 nodes are available: 1 Too many pods, 2 {UNEVEN}.", [pod(on="a", labels=WEB), pod(on="c", labels=DB)]),
    Case("a larger skew", HOSTS, pod(labels=WEB, topologySpreadConstraints=[spread(skew=2), spread(HOST)]), "b",
         [pod(on="a", labels=WEB), pod(on="c", labels=WEB)]),
    Case("no domain", [node("a"), node("b")], pod(labels=WEB, topologySpreadConstraints=[spread()]),
         f"0/2 nodes are available: 2 {UNEVEN} (missing required label)."),
    Case("too few domains", HOSTS, pod(labels=WEB, topologySpreadConstraints=[spread(domains=3)]),
         f"0/3 nodes are available: 3 {UNEVEN}.", [pod(on="a", labels=WEB), pod(on="c", labels=WEB)]),
    Case("excluded nodes are no domains", HOSTS,
         pod(labels=WEB, affinity=requires(node_term((ZONE, "In", ["1"]))), topologySpreadConstraints=[spread()]),
         "b", [pod(on="a", labels=WEB)]),
    Case("excluded nodes are domains", HOSTS,
         pod(labels=WEB, affinity=requires(node_term((ZONE, "In", ["1"]))),
             topologySpreadConstraints=[spread(affinity="Ignore")]),
         f"0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 {UNEVEN}.",
         [pod(on="a", labels=WEB)]),
    Case("tainted nodes are domains", [*HOSTS[:2], node("c", taints=(DEDICATED,), labels={HOST: "c", ZONE: "2"})],
         pod(labels=WEB, topologySpreadConstraints=[spread()]),
         f"0/3 nodes are available: 1 node(s) had untolerated taint {{dedicated: gpu}}, 2 {UNEVEN}.",
         [pod(on="a", labels=WEB)]),
    Case("tainted nodes are no domains", [*HOSTS[:2], node("c", taints=(DEDICATED,), labels={HOST: "c", ZONE: "2"})],
         pod(labels=WEB, topologySpreadConstraints=[spread(taints="Honor")]), "b", [pod(on="a", labels=WEB)]),
    Case("of the same version", HOSTS,
         pod(labels={**WEB, "v": "2"}, topologySpreadConstraints=[spread(same=["v", "absent"])]), "a",
         [pod(on="a", labels={**WEB, "v": "1"}), pod(on="c", labels={**WEB, "v": "2"}), pod(on="b")]),
    Case("rather even", HOSTS, pod(labels=WEB, topologySpreadConstraints=[spread(is_soft=True)]), "c",
         [pod(on="a", labels=WEB), pod(on="c", labels=DB), pod(on="c", labels=DB)]),
    Case("rather even, but better than not at all", [HOSTS[0]],
         pod(labels=WEB, topologySpreadConstraints=[spread(is_soft=True)]), "a", [pod(on="a", labels=WEB)]),
]  # fmt: skip


@pytest.mark.parametrize("case", [*NODES, *AFFINITY, *ROOM, *NEIGHBOURS, *SPREAD], ids=lambda case: case.name)
def test_selection(case: Case) -> None:
    check(case)


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
    nodes = cache([node("a")])
    first = pod(host_ports=(HTTP,))
    nodes.place(first, "a")
    assert isinstance(select(nodes, pod(host_ports=(second,))), str) == fits
    nodes.remove(first.metadata.uid)
    assert select(nodes, pod(host_ports=(second,))) == "a"


def test_pods_of_one_service_spread_although_the_nodes_are_unequally_full() -> None:
    hosts = [node(name, labels={HOST: name}) for name in "abc"]
    nodes = cache(hosts, [pod(on="a") for _ in range(5)], spread_by="app")
    assert schedule(nodes, [pod(labels=WEB) for _ in range(9)]) == {"a": 3, "b": 3, "c": 3}


def test_pods_of_no_service_even_the_nodes_out() -> None:
    nodes = cache([node("a", cpu="64", memory="1Ti"), node("b", cpu="64", memory="1Ti")], [pod(on="a"), pod(on="a")])
    assert schedule(nodes, [pod() for _ in range(4)]) == {"a": 1, "b": 3}


def test_a_promised_node_is_the_pods_and_not_that_of_less_important_ones() -> None:
    nodes = cache([node("a"), node("b", cpu="1")])
    promised = pod("important", asks={"cpu": "1"}, priority=10)
    nodes.nominate(PodInfo.of(promised), "b")
    assert nodes.promised(promised.metadata.uid) == "b"
    promised.status.nominatedNodeName = "b"
    assert select(nodes, pod(affinity=named("b"), asks={"cpu": "500m"})) != "b"
    assert select(nodes, pod(affinity=named("b"), asks={"cpu": "500m"}, priority=11)) == "b"
    assert select(nodes, promised) == "b"
    nodes.place(promised, "b")
    assert not nodes.nominated


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", ""]), st.sampled_from([WEB, DB])), max_size=60))
def test_counts_follow_any_sequence_of_placements(steps: list[tuple[int, str, dict[str, str]]]) -> None:
    """What is kept up to date by one pod after the other is what a new cache finds."""
    on = [node(name, pods="3", cpu="2", labels={HOST: name}) for name in "ab"]
    probes = [
        pod(),
        pod(asks={"cpu": "1"}),
        pod(affinity=near(term(WEB))),
        pod(labels=DB, affinity=away(term(WEB))),
        pod(labels=WEB, topologySpreadConstraints=[spread(HOST)]),
        pod(host_ports=(ContainerPort(containerPort=1, hostPort=1001),)),
    ]
    nodes = cache(on)
    there: dict[int, Pod] = {}
    for number, place, labels in steps:
        one = pod(
            f"p{number}",
            on=place,
            labels=labels,
            asks={"cpu": "400m"},
            affinity=away(term(DB)) if number == 5 else None,
            host_ports=(ContainerPort(containerPort=1, hostPort=1000 + number),),
        )
        if place:
            nodes.place(one, place)
            there[number] = one
        else:
            assert nodes.remove(one.metadata.uid) == (there.pop(number, None) is not None)
        for probe in probes:
            assert str(select(nodes, probe)) == str(select(cache(on, there.values()), probe))


def _container(name: str = "c", cpu: str = "", *, sidecar: bool = False, **other: str) -> Container:
    asked: dict[str, Any] = {**({"cpu": cpu} if cpu else {}), **other}
    made = Container(name=name, resources=ResourceRequirements(requests=asked))
    made.restartPolicy = "Always" if sidecar else None
    return made


REQUESTS: list[tuple[dict[str, Any], dict[str, int]]] = [
    ({"containers": [Container(name="c")]}, {}),
    ({"containers": [_container(cpu="0.1", memory="1Ki"), _container(cpu="1e-1")]}, {"cpu": 200, "memory": 1024}),
    ({"containers": [_container(cpu="1n")] * 2}, {"cpu": 1}),
    ({"containers": [_container(cpu="100m")], "initContainers": [_container(cpu="1"), _container(cpu="2")]},
     {"cpu": 2000}),
    ({"containers": [_container(cpu="1")], "initContainers": [_container(cpu="1", sidecar=True), _container(cpu="3")]},
     {"cpu": 4000}),
    ({"containers": [_container(cpu="1")], "initContainers": [_container(cpu="3"), _container(cpu="1", sidecar=True)]},
     {"cpu": 3000}),
    ({"containers": [_container(cpu="1")], "overhead": {"cpu": "250m", "memory": 1}}, {"cpu": 1250, "memory": 1}),
    ({"containers": [_container(cpu="1", memory="1")], "resources": ResourceRequirements(requests={"cpu": "3"})},
     {"cpu": 3000, "memory": 1}),
    ({"containers": [_container(cpu="odd")]}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), REQUESTS)
def test_what_a_pod_asks_for(fields: dict[str, Any], expected: dict[str, int]) -> None:
    one = pod()
    for name, value in fields.items():
        setattr(one.spec, name, value)
    assert requests.of_pod(one.spec) == expected


def test_what_refused_a_node_is_told() -> None:
    found = select(cache([node("a", cpu="1"), node("b", unschedulable=True)]), pod(asks={"cpu": "2"}))
    assert isinstance(found, Unschedulable)
    assert found.plugins == {"NodeResourcesFit", "NodeUnschedulable"}
    assert {name: refusal.is_final for name, refusal in found.refusals.items()} == {"a": True, "b": True}
