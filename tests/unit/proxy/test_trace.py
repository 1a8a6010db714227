"""The table of flows, traced through the plan."""

from __future__ import annotations

import asyncio

import pytest

from netlab.proxy.fake import FakeExecutor, Outcome, Packet
from netlab.proxy.plan import Endpoint, Family, Scope
from tests.unit.proxy.flows import ADDRESSES, CLUSTER_CIDRS, FLOWS, TARGET_PORT, Flow, dialled, plan_of_all


def traced(family: Family, *, cidrs: bool = True, masquerade_all: bool = False) -> FakeExecutor:
    fake = FakeExecutor(family, [CLUSTER_CIDRS[family]] if cidrs else [], masquerade_all=masquerade_all)
    asyncio.run(fake.replace(plan_of_all(family)))
    return fake


def packet(flow: Flow, family: Family, protocol: str) -> Packet:
    address, port = dialled(flow.variant, flow.kind, family)
    source = ADDRESSES[family][flow.origin]
    return Packet(source, address, protocol, port, flow.origin == "node", flow.kind == "nodePort")


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_every_flow_goes_where_the_documentation_says(family: Family, protocol: str) -> None:
    fake = traced(family)
    for flow in FLOWS:
        outcome = fake.trace(packet(flow, family, protocol))
        expected = {(ADDRESSES[family][pod], TARGET_PORT) for pod in flow.backends}
        assert (set(outcome.endpoints), outcome.verdict) == (expected, flow.verdict), flow
        if flow.verdict is None:
            assert outcome.masquerade == flow.masquerade, flow


def test_a_hairpin_is_masqueraded() -> None:
    fake = traced("IPv4")
    flow = next(f for f in FLOWS if str(f) == "a-cluster-clusterIP")
    to_itself = Endpoint(ADDRESSES["IPv4"]["a"], TARGET_PORT, True)
    assert fake.trace(packet(flow, "IPv4", "tcp"), backend=to_itself).masquerade
    assert not fake.trace(packet(flow, "IPv4", "tcp")).masquerade


@pytest.mark.parametrize("cidrs", [True, False])
def test_masquerade_all_concerns_cluster_ips_alone(cidrs: bool) -> None:
    plain, fully = traced("IPv4", cidrs=cidrs), traced("IPv4", cidrs=cidrs, masquerade_all=True)
    for flow in FLOWS:
        if flow.backends:
            asked = packet(flow, "IPv4", "tcp")
            expected = True if flow.kind == "clusterIP" else plain.trace(asked).masquerade
            assert fully.trace(asked).masquerade == expected, flow


def test_without_cluster_cidrs_no_source_is_a_pod() -> None:
    fake = traced("IPv4", cidrs=False)
    outcome = {str(f): fake.trace(packet(f, "IPv4", "tcp")) for f in FLOWS if f.backends}
    assert not outcome["outside-cluster-clusterIP"].masquerade
    # A pod is then taken for the outside world: no short cut past the policy.
    assert {address for address, _ in outcome["c-local-externalIP"].endpoints} == {ADDRESSES["IPv4"]["a"]}


def test_loopback_has_no_node_ports() -> None:
    asked = Packet("127.0.0.1", "127.0.0.1", "tcp", 30011, source_is_node=True, to_node=True)
    assert traced("IPv4").trace(asked) == Outcome()


def test_a_dump_has_a_line_for_each_frontend() -> None:
    fake = traced("IPv4")
    lines = fake.dump().splitlines()
    assert len(lines) == len(fake.plan)
    assert "10.96.0.11:80/tcp internal Cluster default/cluster:tcp cluster=[10.244.1.2.8080, 10.244.2.2.8080]" in lines
    assert all(target.scope is Scope.EXTERNAL for frontend, target in fake.plan.items() if frontend.address is None)
