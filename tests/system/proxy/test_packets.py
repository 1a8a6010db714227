"""The table of flows, and what a table of flows cannot say, with real packets through nftables and iptables."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import subprocess
import time
from collections.abc import Iterator

import pytest
from pyroute2 import AsyncNFCTSocket

from netlab.api.discovery_types import EndpointConditions
from netlab.net.addresses import Family
from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.conntrack import Reconciler
from netlab.proxy.executor import cleanup, executor_for
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import Plan, Transaction, Verdict, difference
from netlab.proxy.planner import plan_service
from tests.sandbox import isolated
from tests.system.proxy import sctp
from tests.system.proxy.hosts import ANSWERS, SILENCE, Host, Probe, dial, dial_all, network, run_async
from tests.unit.proxy.affinity import AFFINE, Plans, keeps_its_pod
from tests.unit.proxy.flows import (
    ADDRESSES,
    BOTH,
    DRAINING,
    FAMILIES,
    NODE,
    NODE_INFO,
    READY,
    SETTINGS,
    VARIANTS,
    Flow,
    Setting,
    config_of,
    dialled,
    flow,
    plan_of_all,
    service_of,
    slices_of,
)

MODES: list[Mode] = ["nftables", "iptables"]
ON = {"node": NODE, "stranger": "outside"}
"""The host of an origin that is not called as its host is."""

each_mode = pytest.mark.parametrize("mode", MODES)
each_family = pytest.mark.parametrize("family", FAMILIES)


# --- What runs on the node ---------------------------------------------------------------------------------------


class _Plane:
    """A family's data plane: its rules, and its UDP flows."""

    def __init__(self, family: Family, config: ProxyConfig) -> None:
        self.executor = executor_for(family, config)
        self.metrics = Metrics(config.mode)
        self.flows = Reconciler(family, self.metrics)
        self.flows.node(NODE_INFO.addresses)

    async def settled(self) -> bool:
        """Whether the kernel holds what is planned, once no flow is to be forgotten any more."""
        while (pending := self.flows.pending()) is not None:
            await pending
        return self.executor.intact()


_planes: list[_Plane] = []


async def load(family: Family, config: ProxyConfig, plan: Plan) -> bool:
    """Start a data plane with a plan; whether the kernel holds it."""
    plane = _Plane(family, config)
    _planes[:] = [plane]
    plane.executor.replace(plan)
    plane.flows.replaced(plan)
    return await plane.settled()


async def change(transaction: Transaction) -> bool:
    """Carry a transaction out in the data plane that was started last; whether the kernel holds the result."""
    (plane,) = _planes
    plane.executor.apply(transaction)
    plane.flows.changed(transaction)
    return await plane.settled()


async def look_around() -> None:
    """Look through all flows, as is done in the background."""
    _planes[0].flows.look_around()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


def forgotten() -> int:
    """How many flows the data plane that was started last has forgotten."""
    name = "kubeproxy_conntrack_reconciler_deleted_entries_total"
    samples = [each for family in _planes[0].metrics.registry.collect() for each in family.samples]
    return int(sum(each.value for each in samples if each.name == name))


async def forget_all() -> None:
    """Have no flow of earlier rules answer for the present ones, should a client choose the same port again."""
    async with AsyncNFCTSocket() as tracking:
        await tracking.flush()


def listing() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def add_foreign() -> None:
    subprocess.run(["nft", "add", "table", "inet", "foreign"], check=True)


# --- The table ---------------------------------------------------------------------------------------------------


def probe(asked: Flow, family: Family, protocol: str) -> Probe:
    address, port = dialled(asked.variant, asked.kind, family)
    # The outside world has two addresses; what others send has the only one that fits.
    source = ADDRESSES[family][asked.origin] if asked.origin in ("outside", "stranger") else ""
    silent = asked.verdict is Verdict.DROP or (protocol == "sctp" and asked.passes_to == "nobody")
    patience = SILENCE if silent else ANSWERS
    return Probe(family, protocol, address, port, asked.backends, source, patience)


def wrong(asked: Flow, family: Family, protocol: str, answers: set[str]) -> str:
    """What is wrong with the answers to a flow; empty if nothing is."""
    own = ADDRESSES[family][asked.origin]
    source = sctp.seen(own) if protocol == "sctp" else own
    words = {answer.partition(" ")[0] for answer in answers}
    if asked.verdict is not None:
        expected = {asked.verdict.value}
    elif asked.passes_to == "nobody":
        expected = {"drop" if protocol == "sctp" else "reject"}
    else:
        expected = {asked.passes_to[0]} if asked.passes_to else set(asked.backends)
    if words != expected:
        return f"{asked}: {sorted(words)} instead of {sorted(expected)}"
    for answer in answers:
        backend, _, client = answer.partition(" ")
        # What stays in the node is not masqueraded; to the other node, its own source is what masquerading chooses.
        if client and backend != "n" and not (asked.origin == "node" and backend == "b"):
            masquerade = asked.masquerade or backend == asked.origin
            if (client != source) != masquerade:
                return f"{asked}: {backend} sees {client}, which is {'not ' if masquerade else ''}masqueraded"
    return ""


def observe(hosts: dict[str, Host], flows: list[Flow], family: Family) -> list[str]:
    """Dial every flow, by each protocol; what went wrong."""
    protocols = ("tcp", "udp", "sctp") if sctp.tracked() else ("tcp", "udp")

    def dial_from(host: str) -> Iterator[str]:
        asked = [(f, p) for p in protocols for f in flows if ON.get(f.origin, f.origin) == host]
        answers = hosts[host].call(dial_all, [probe(f, family, p) for f, p in asked])
        for (one, protocol), found in zip(asked, answers, strict=True):
            if problem := wrong(one, family, protocol, found):
                yield f"{protocol} {problem}"

    with concurrent.futures.ThreadPoolExecutor() as dialling:
        return list(itertools.chain(*dialling.map(lambda host: list(dial_from(host)), hosts)))


@each_family
@each_mode
@isolated
def test_every_flow_goes_where_the_documentation_says(mode: Mode, family: Family) -> None:
    hosts, plan = network(), plan_of_all(family)
    problems = []
    for setting, flows in SETTINGS:
        assert hosts[NODE].call(run_async, load, family, config_of(setting, family, mode), plan), setting
        hosts[NODE].call(run_async, forget_all)
        problems += [f"{setting}: {problem}" for problem in observe(hosts, flows, family)]
    assert not problems, "\n".join(problems)


# --- Changes -----------------------------------------------------------------------------------------------------


def small_plan(family: Family, backends: dict[str, EndpointConditions], name: str = "cluster") -> Plan:
    service = service_of(VARIANTS[name])
    return plan_service(service, slices_of(name, backends), NODE_INFO, family).frontends


@each_family
@each_mode
@isolated
def test_endpoints_come_and_go(mode: Mode, family: Family) -> None:
    """Plan after plan by transactions alone; the last one decides where packets go."""
    hosts = network()
    plans = [
        small_plan(family, {"a": READY}),
        small_plan(family, BOTH),
        small_plan(family, {}),
        plan_of_all(family),
        {},
        small_plan(family, BOTH),
        small_plan(family, {"b": READY}),
    ]
    assert hosts[NODE].call(run_async, load, family, config_of(Setting(), family, mode), plans[0])
    for old, new in itertools.pairwise(plans):
        assert hosts[NODE].call(run_async, change, difference(old, new))
    assert observe(hosts, [flow("cluster", "clusterIP", "c", "b")], family) == []


class _Live(Plans):
    """Clients of a real data plane."""

    def __init__(self, family: Family, mode: Mode) -> None:
        super().__init__(family)
        self._hosts = network()
        self._held: Plan = {}
        self._config = config_of(Setting(), family, mode)
        self.restart()

    def dial(self, origin: str, kind: str) -> str:
        asked = dialled(AFFINE, kind, self.family)
        return self._hosts[origin].call(dial, self.family, "tcp", *asked, ANSWERS).partition(" ")[0]

    def restart(self) -> None:
        assert self._hosts[NODE].call(run_async, load, self.family, self._config, self._held)

    def put(self) -> None:
        assert self._hosts[NODE].call(run_async, change, difference(self._held, self.plan))
        self._held = self.plan

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


@each_family
@each_mode
@isolated
def test_a_client_with_affinity_keeps_its_pod(mode: Mode, family: Family) -> None:
    keeps_its_pod(_Live(family, mode))


# --- UDP ---------------------------------------------------------------------------------------------------------


class _Client:
    """One that sends all its datagrams from one port, and the node's proxy between it and the Service."""

    def __init__(self, hosts: dict[str, Host], mode: Mode, family: Family, name: str, kind: str, origin: str) -> None:
        self._hosts = hosts
        self._mode = mode
        self._family = family
        self._name = name
        self._origin = origin
        self._address = dialled(VARIANTS[name], kind, family)
        self._plan: Plan = {}
        self._start()

    def ask(self, patience: float = ANSWERS) -> str:
        answer = self._hosts[self._origin].call(dial, self._family, "udp", *self._address, patience, "", 5555)
        return answer.partition(" ")[0]

    def change(self, backends: dict[str, EndpointConditions]) -> int:
        """Give the Service other endpoints; how many flows were forgotten."""
        before = self._hosts[NODE].call(forgotten)
        plan = small_plan(self._family, backends, self._name)
        assert self._hosts[NODE].call(run_async, change, difference(self._plan, plan))
        self._plan = plan
        return self._hosts[NODE].call(forgotten) - before

    def restart(self, backends: dict[str, EndpointConditions] | None = None) -> int:
        """Start the proxy anew, with other endpoints if they are given; how many flows were forgotten."""
        if backends is not None:
            self._plan = small_plan(self._family, backends, self._name)
        self._start()
        return self._hosts[NODE].call(forgotten)

    def look_around(self) -> int:
        """Have all flows looked through; how many were forgotten."""
        before = self._hosts[NODE].call(forgotten)
        self._hosts[NODE].call(run_async, look_around)
        return self._hosts[NODE].call(forgotten) - before

    def _start(self) -> None:
        config = config_of(Setting(), self._family, self._mode)
        assert self._hosts[NODE].call(run_async, load, self._family, config, self._plan)


@each_family
@each_mode
@isolated
def test_a_udp_flow_lives_as_long_as_its_endpoint(mode: Mode, family: Family) -> None:
    """Each datagram renews the kernel's memory of the flow, so that no rule would ever be asked again."""
    hosts = network()
    for kind in ("clusterIP", "nodePort", "externalIP", "loadBalancer"):
        client = _Client(hosts, mode, family, "cluster", kind, "outside")
        client.change({"a": READY})
        assert client.ask() == "a", kind
        assert client.change(BOTH) == 0, kind
        # What drains gets no new flows, and keeps those it has (KEP-1669); so does what a restarted proxy finds.
        assert client.change({"a": DRAINING, "b": READY}) == 0, kind
        assert client.restart() == 0, kind
        assert client.ask() == "a", kind
        assert client.change({"b": READY}) == 1, kind
        assert client.ask() == "b", kind
        # Also when it was the last one, so that the client hears of it (kubernetes issue 139628).
        assert client.change({}) == 1, kind
        assert client.ask() == "reject", kind
        client.change({"a": READY})
        assert client.ask() == "a", kind
        assert client.look_around() == 0, kind
        # What became stale while no proxy ran is found at the start of the next one.
        assert client.restart({"b": READY}) == 1, kind
        assert client.ask() == "b", kind
        client.change({})


@each_family
@isolated
def test_a_udp_flow_of_an_internal_policy_follows_the_pod_on_the_node(family: Family) -> None:
    client = _Client(network(), "nftables", family, "itp", "clusterIP", "c")
    client.change(BOTH)
    assert client.ask() == "a"
    assert client.change({"b": READY}) == 1
    assert client.ask(SILENCE) == "drop"
    client.change(BOTH)
    assert client.ask() == "a"


@each_mode
@isolated
def test_cleanup_leaves_nothing_of_the_mode_and_all_of_others(mode: Mode) -> None:
    node = network()[NODE]
    node.call(add_foreign)
    for family in FAMILIES:
        assert node.call(run_async, load, family, config_of(Setting(), family, mode), plan_of_all(family))
    for _ in range(2):
        node.call(cleanup, mode, FAMILIES)
        left = node.call(listing)
        assert "kube" not in left.lower()
        assert "table inet foreign" in left
