"""The table of flows, and what a table of flows cannot say, with real packets through nftables and iptables."""

from __future__ import annotations

import concurrent.futures
import itertools
import subprocess

import pytest

from netlab.api.discovery_types import EndpointConditions
from netlab.proxy import conntrack
from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.executor import executor_for
from netlab.proxy.plan import Family, NodeInfo, Plan, Transaction, Verdict, difference
from netlab.proxy.planner import plan_service
from netlab.proxy.run import cleanup
from tests.sandbox import isolated
from tests.system.proxy.hosts import ANSWERS, SILENCE, Host, dial, network, run_async
from tests.unit.proxy.flows import (
    ADDRESSES,
    CLUSTER_CIDRS,
    FLOWS,
    NODE,
    ORIGINS,
    READY,
    VARIANTS,
    Flow,
    Variant,
    dialled,
    plan_of_all,
    service_of,
    slices_of,
)

MODES: list[Mode] = ["nftables", "iptables"]
FAMILIES: list[Family] = ["IPv4", "IPv6"]
ENOUGH = 60
"""Connections after which each of two endpoints has been chosen: all to one has a probability of 2**-59."""


def config_of(mode: Mode, family: Family) -> ProxyConfig:
    return ProxyConfig(node_name=NODE, mode=mode, cluster_cidrs=[CLUSTER_CIDRS[family]], families=[family])


async def carry_out(mode: Mode, family: Family, plan: Plan, transactions: list[Transaction]) -> bool:
    """Load a plan, then apply transactions; whether the kernel holds the result."""
    executor = executor_for(family, config_of(mode, family))
    await executor.replace(plan)
    for transaction in transactions:
        await executor.apply(transaction)
    return await executor.intact()


def small_plan(family: Family, backends: dict[str, EndpointConditions], affinity: str = "None") -> Plan:
    service = service_of(VARIANTS["cluster"])
    service.spec.sessionAffinity = affinity
    return plan_service(service, slices_of("cluster", backends), NodeInfo(NODE), family).frontends


def origin_of(flow: Flow) -> str:
    return NODE if flow.origin == "node" else flow.origin


def observe(hosts: dict[str, Host], flow: Flow, family: Family, protocol: str) -> None:
    host = hosts[origin_of(flow)]
    address, port = dialled(flow.variant, flow.kind, family)
    source = ADDRESSES[family][flow.origin]
    seen: set[str] = set()
    for _ in range(ENOUGH):
        patience = SILENCE if flow.verdict is Verdict.DROP else ANSWERS
        answer = host.call(dial, family, protocol, address, port, patience)
        if flow.verdict is not None:
            assert answer == flow.verdict.value, flow
            return
        backend, _, client = answer.partition(" ")
        assert backend in flow.backends, (flow, answer)
        # The node's own address is what masquerading would choose, so there is nothing to see there.
        if flow.origin != "node":
            assert (client != source) == (flow.masquerade or backend == flow.origin), (flow, answer)
        seen.add(backend)
        if seen == flow.backends:
            return
    pytest.fail(f"{flow}: only {seen} in {ENOUGH} connections")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
@isolated
def test_every_flow_goes_where_the_documentation_says(mode: Mode, family: Family, protocol: str) -> None:
    hosts = network()
    assert hosts[NODE].call(run_async, carry_out, mode, family, plan_of_all(family), [])

    def dial_all(origin: str) -> None:
        for flow in FLOWS:
            if flow.origin == origin:
                observe(hosts, flow, family, protocol)

    # At once: a TCP client in IPv6 hears of a refusal only when it sends its SYN again, a second later.
    with concurrent.futures.ThreadPoolExecutor() as dialling:
        list(dialling.map(dial_all, ORIGINS))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
@isolated
def test_endpoints_come_and_go(mode: Mode, family: Family) -> None:
    """Plan after plan by transactions alone; the last one decides where packets go."""
    hosts = network()
    plans = [
        small_plan(family, {"a": READY}),
        small_plan(family, {"a": READY, "b": READY}, "ClientIP"),
        small_plan(family, {}),
        plan_of_all(family),
        {},
        small_plan(family, {"a": READY, "b": READY}),
        small_plan(family, {"b": READY}),
    ]
    transactions = [difference(*pair) for pair in itertools.pairwise(plans)]
    assert hosts[NODE].call(run_async, carry_out, mode, family, plans[0], transactions)
    observe(hosts, Flow(VARIANTS["cluster"], "clusterIP", "c", frozenset("b")), family, "tcp")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
@isolated
def test_a_client_with_affinity_keeps_its_pod_on_every_address(mode: Mode, family: Family) -> None:
    hosts = network()
    plan = small_plan(family, {"a": READY, "b": READY}, "ClientIP")
    assert hosts[NODE].call(run_async, carry_out, mode, family, plan, [])
    variant: Variant = VARIANTS["cluster"]
    for host in ("c", "outside"):
        answers = {
            hosts[host].call(dial, family, "tcp", *dialled(variant, kind, family), ANSWERS).split()[0]
            for kind in ("clusterIP", "nodePort", "externalIP") * 8
        }
        assert len(answers) == 1


async def switch(mode: Mode, family: Family, old: Plan, new: Plan) -> int:
    await carry_out(mode, family, old, [difference(old, new)])
    return await conntrack.forget_stale(family, new, frozenset([ADDRESSES[family]["node"]]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["clusterIP", "nodePort"])
@isolated
def test_a_udp_flow_follows_when_its_endpoint_goes(kind: str, family: Family) -> None:
    hosts = network()
    address = dialled(VARIANTS["cluster"], kind, family)
    only_a, only_b = small_plan(family, {"a": READY}), small_plan(family, {"b": READY})
    hosts[NODE].call(run_async, carry_out, "nftables", family, only_a, [])

    def ask() -> str:
        return hosts["outside"].call(dial, family, "udp", *address, ANSWERS, 5555).split()[0]

    assert ask() == "a"
    assert hosts[NODE].call(run_async, switch, "nftables", family, only_a, only_b) == 1
    assert ask() == "b"
    # Also when it was the last one, so that the client hears of it.
    assert hosts[NODE].call(run_async, switch, "nftables", family, only_b, small_plan(family, {})) == 1
    assert ask() == "reject"


def listing() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def add_foreign() -> None:
    subprocess.run(["nft", "add", "table", "inet", "foreign"], check=True)


@pytest.mark.parametrize("mode", MODES)
@isolated
def test_cleanup_leaves_nothing_of_the_mode_and_all_of_others(mode: Mode) -> None:
    hosts = network()
    node = hosts[NODE]
    node.call(add_foreign)
    for family in FAMILIES:
        node.call(run_async, carry_out, mode, family, plan_of_all(family), [])
    for _ in range(2):
        node.call(run_async, cleanup, mode, FAMILIES)
        left = node.call(listing)
        assert "kube" not in left.lower()
        assert "table inet foreign" in left
