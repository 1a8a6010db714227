"""The table of flows, traced through the plan."""

from __future__ import annotations

import random

import pytest

from netlab.net.addresses import Family
from netlab.proxy.config import ProxyConfig
from netlab.proxy.model import Model, Outcome, Packet
from netlab.proxy.plan import Endpoint
from tests.unit.proxy.affinity import AFFINE, Plans, keeps_its_pod
from tests.unit.proxy.flows import (
    ADDRESSES,
    BRIDGE,
    FAMILIES,
    SETTINGS,
    TARGET_PORT,
    Flow,
    Setting,
    config_of,
    dialled,
    flow,
    plan_of_all,
)

OWN = ("node", "secondary", "gateway", "loopback")


def traced(family: Family, setting: Setting = SETTINGS[0][0]) -> Model:
    return Model(plan_of_all(family), family, config_of(setting, family))


def packet(asked: Flow, family: Family, protocol: str = "tcp") -> Packet:
    address, port = dialled(asked.variant, asked.kind, family)
    interface = {"a": BRIDGE, "c": BRIDGE, "node": ""}.get(asked.origin, "eth0")
    to_node = address in {ADDRESSES[family][name] for name in OWN}
    return Packet(ADDRESSES[family][asked.origin], address, protocol, port, interface, to_node)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("setting", "flows"), SETTINGS, ids=[str(s) for s, _ in SETTINGS])
def test_every_flow_goes_where_the_documentation_says(
    setting: Setting, flows: list[Flow], family: Family, protocol: str
) -> None:
    model = traced(family, setting)
    for one in flows:
        outcome = model.trace(packet(one, family, protocol))
        expected = {(ADDRESSES[family][pod], TARGET_PORT) for pod in one.backends}
        assert (set(outcome.endpoints), outcome.verdict) == (expected, one.verdict), one
        assert outcome.masquerade == one.masquerade, one


def test_a_hairpin_is_masqueraded() -> None:
    model = traced("IPv4")
    asked = packet(flow("cluster", "clusterIP", "a", "ab"), "IPv4")
    to_itself = Endpoint(ADDRESSES["IPv4"]["a"], TARGET_PORT, True)
    assert model.trace(asked, backend=to_itself).masquerade
    assert not model.trace(asked).masquerade


def test_masquerade_all_concerns_cluster_ips_alone() -> None:
    plain, fully = traced("IPv4"), traced("IPv4", Setting(masquerade_all=True))
    for one in SETTINGS[0][1]:
        if one.backends:
            asked = packet(one, "IPv4")
            expected = True if one.kind == "clusterIP" else plain.trace(asked).masquerade
            assert fully.trace(asked).masquerade == expected, one


def test_without_service_cidrs_an_address_of_nobody_is_let_pass() -> None:
    asked = packet(flow("nobody", "clusterIP", "c", "drop"), "IPv4")
    assert Model({}, "IPv4", ProxyConfig(node_name="node-1")).trace(asked) == Outcome()


def test_a_client_with_affinity_keeps_its_pod() -> None:
    keeps_its_pod(_Traced("IPv4"))


class _Traced(Plans):
    """Clients of a data plane without a kernel, whose clock moves when it is told to."""

    def __init__(self, family: Family) -> None:
        super().__init__(family)
        self._model = Model({}, family, config_of(Setting(), family))
        self._clock = 0.0

    def dial(self, origin: str, kind: str) -> str:
        asked = packet(Flow(AFFINE, kind, origin), self.family)
        outcome = self._model.trace(asked, at=self._clock)
        address, _ = random.choice(sorted(outcome.endpoints))
        self._model.remember(asked, address, at=self._clock)
        return next(name for name, own in ADDRESSES[self.family].items() if own == address)

    def restart(self) -> None:
        self._model.plan = self.plan

    def put(self) -> None:
        self._model.plan = self.plan
        # An endpoint that went and comes back remembers no client: its set in the kernel has gone.
        known = {(t.service, f.protocol, e) for f, t in self.plan.items() for e in (*t.cluster, *t.local)}
        self._model._clients = {key: at for key, at in self._model._clients.items() if key[:3] in known}

    def wait(self, seconds: float) -> None:
        self._clock += seconds
