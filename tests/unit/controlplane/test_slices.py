"""Which slices are written for which pods."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api.core_types import ContainerPort, Pod, Service
from netlab.api.discovery_types import HEADLESS_LABEL, TRIGGER_TIME, EndpointConditions, EndpointSlice
from netlab.controlplane.slices import MAX_ENDPOINTS, SlicePlan, plan_slices
from tests.unit.controlplane.build import pod

_serial = itertools.count()


def service(**spec: object) -> Service:
    return msgspec.convert(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "default", "uid": "u-web", "labels": {"team": "a"}},
            "spec": {
                "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                "ipFamilies": ["IPv4"],
                **spec,
            },
        },
        Service,
    )


def plan(of: Service, pods: list[Pod], existing: list[EndpointSlice]) -> SlicePlan:
    zones = {"node-1": "z1"}
    return plan_slices(of, pods, existing, zones.get, "2026-01-01T00:00:00Z")


def apply(made: SlicePlan, existing: list[EndpointSlice]) -> list[EndpointSlice]:
    after = {s.metadata.name: s for s in existing}
    for one in made.create:
        one.metadata.name = f"web-{next(_serial):06}"
        after[one.metadata.name] = one
    for one in made.update:
        assert one.metadata.name in after
        after[one.metadata.name] = one
    for one in made.delete:
        del after[one.metadata.name]
    return list(after.values())


def web(number: int, **values: object) -> Pod:
    values.setdefault("ready", True)
    return pod(f"web-{number}", ips=(f"10.244.{number // 250}.{number % 250 + 1}", f"fd00::{number:x}"), **values)  # type: ignore[arg-type]


def test_an_endpoint_says_where_it_is() -> None:
    (one,) = plan(service(), [web(1, on="node-1")], []).create
    assert (one.addressType, [(p.name, p.protocol, p.port) for p in one.ports]) == ("IPv4", [("http", "TCP", 8080)])
    (endpoint,) = one.endpoints
    assert (endpoint.addresses, endpoint.nodeName, endpoint.zone) == (["10.244.0.2"], "node-1", "z1")
    assert endpoint.targetRef is not None
    assert endpoint.targetRef.name == "web-1"
    assert one.metadata.labels == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert one.metadata.annotations == {TRIGGER_TIME: "2026-01-01T00:00:00Z"}
    assert one.metadata.ownerReferences[0].uid == "u-web"


@pytest.mark.parametrize(
    ("ready", "deleted", "publish", "expected"),
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, True, False, (False, False, True)),
        (False, False, True, (True, False, False)),
        (True, True, True, (True, True, True)),
    ],
)
def test_conditions(ready: bool, deleted: bool, publish: bool, expected: tuple[bool, bool, bool]) -> None:
    (one,) = plan(service(publishNotReadyAddresses=publish), [web(1, ready=ready, deleted=deleted)], []).create
    assert one.endpoints[0].conditions == EndpointConditions(
        ready=expected[0], serving=expected[1], terminating=expected[2]
    )


@pytest.mark.parametrize(
    ("distribution", "zones", "nodes"),
    [
        (None, [], []),
        ("PreferClose", ["z1"], []),
        ("PreferSameZone", ["z1"], []),
        ("PreferSameNode", ["z1"], ["node-1"]),
    ],
)
def test_hints_as_the_traffic_distribution_asks(distribution: str | None, zones: list[str], nodes: list[str]) -> None:
    """Only what is ready is hinted (KEP-4444); a node without a zone can still be preferred itself (KEP-3015)."""
    of = service(trafficDistribution=distribution)
    pods = [web(1, on="node-1"), web(2, on="node-1", ready=False), web(3, on="node-without-zone")]
    (one,) = plan(of, pods, []).create
    hinted = {
        e.targetRef.name: ([z.name for z in e.hints.forZones], [n.name for n in e.hints.forNodes])
        for e in one.endpoints
        if e.hints is not None and e.targetRef is not None
    }
    expected = {"web-1": (zones, nodes), "web-3": ([], ["node-without-zone"] if nodes else [])}
    assert hinted == {name: hints for name, hints in expected.items() if any(hints)}
    # Taken back, they are gone.
    one.metadata.name = "web-0"
    made = plan(service(), pods, [one])
    assert [e.hints for s in made.update for e in s.endpoints] == ([None] * 3 if distribution else [])


def test_a_slice_for_each_family_and_one_that_says_none() -> None:
    both = service(ipFamilies=["IPv4", "IPv6"])
    only_v4 = pod("web-1", ips=("10.244.0.2",), ready=True)
    made = {s.addressType: s for s in plan(both, [only_v4], []).create}
    assert len(made["IPv4"].endpoints) == 1
    assert made["IPv6"].endpoints == []


def test_pods_without_address_or_finished_are_left_out() -> None:
    pods = [pod("web-1"), web(2, phase="Succeeded"), web(3, phase="Failed")]
    (one,) = plan(service(), pods, []).create
    assert one.endpoints == []


def test_named_ports_may_differ_between_pods() -> None:
    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    pods = [
        web(1, ports=(ContainerPort(name="web", containerPort=8080),)),
        web(2, ports=(ContainerPort(name="web", containerPort=9090),)),
        web(3, ports=(ContainerPort(name="web", containerPort=9090, protocol="UDP"),)),
    ]
    made = plan(named, pods, []).create
    ports = {tuple(p.port for p in s.ports): [e.targetRef.name for e in s.endpoints if e.targetRef] for s in made}
    assert ports == {(8080,): ["web-1"], (9090,): ["web-2"], (): ["web-3"]}


def test_headless_names_its_hosts() -> None:
    named, other = web(1), web(2)
    named.spec.hostname, named.spec.subdomain = "db-0", "web"
    other.spec.hostname, other.spec.subdomain = "db-0", "other"
    (one,) = plan(service(clusterIP="None"), [named, other], []).create
    assert [e.hostname for e in one.endpoints] == ["db-0", None]
    assert HEADLESS_LABEL in one.metadata.labels


def test_nothing_changed_nothing_written() -> None:
    pods = [web(n) for n in range(250)]
    slices = apply(plan(service(), pods, []), [])
    assert sorted(len(s.endpoints) for s in slices) == [50, 100, 100]
    assert plan(service(), pods, slices) == SlicePlan()


def test_one_pod_more_or_less_writes_one_slice() -> None:
    pods = [web(n) for n in range(250)]
    slices = apply(plan(service(), pods, []), [])
    for change in ([*pods, web(999)], pods[1:], [web(0, ready=False), *pods[1:]], [*pods[1:], web(999)]):
        made = plan(service(), change, slices)
        assert (len(made.create), len(made.update), len(made.delete)) == (0, 1, 0)


def test_the_slice_that_says_none_is_written_over_and_back() -> None:
    slices = apply(plan(service(), [], []), [])
    full = plan(service(), [web(1)], slices)
    assert (len(full.create), len(full.update), len(full.delete)) == (0, 1, 0)
    empty = plan(service(), [], apply(full, slices))
    assert (len(empty.create), len(empty.update), len(empty.delete)) == (0, 1, 0)


def test_labels_of_the_service_are_followed_without_a_new_trigger_time() -> None:
    slices = apply(plan(service(), [web(1)], []), [])
    slices[0].metadata.annotations[TRIGGER_TIME] = "before"
    changed = service()
    changed.metadata.labels = {"team": "b"}
    (one,) = plan(changed, [web(1)], slices).update
    assert (one.metadata.labels["team"], one.metadata.annotations) == ("b", {TRIGGER_TIME: "before"})


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_any_history_ends_with_each_endpoint_in_one_slice(seed: int) -> None:
    dice = random.Random(seed)
    slices: list[EndpointSlice] = []
    for _ in range(8):
        pods = [web(n, ready=dice.random() < 0.5) for n in dice.sample(range(400), dice.randrange(0, 350))]
        if slices and dice.random() < 0.3:
            # A create whose answer was lost, done again.
            twin = msgspec.structs.replace(
                slices[0], metadata=msgspec.structs.replace(slices[0].metadata, name=f"twin-{next(_serial)}")
            )
            slices.append(twin)
        slices = apply(plan(service(), pods, slices), slices)
        held = sorted(e.targetRef.name for s in slices for e in s.endpoints if e.targetRef)
        assert held == sorted(p.metadata.name for p in pods)
        assert all(len(s.endpoints) <= MAX_ENDPOINTS for s in slices)
        assert plan(service(), pods, slices) == SlicePlan()
