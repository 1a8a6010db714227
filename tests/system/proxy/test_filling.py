"""A table that is filled while the rest of the plan is still being made: in force at its end, as a whole."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from msgspec.structs import replace

from netlab.net.addresses import Family
from netlab.net.netlink import NetlinkError
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.programs import ProgramError
from netlab.proxy.config import ProxyConfig
from netlab.proxy.executor import Filling
from netlab.proxy.health import Health
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import Endpoint, Frontend, NodeInfo, Plan, Scope, Target, Transaction, difference
from netlab.proxy.plane import Plane
from tests.sandbox import isolated
from tests.system.proxy.hosts import executor
from tests.unit.proxy.flows import FAMILIES, NODE, VARIANTS, plan_of_all, service_of


def table(ip: str = "ip") -> str:
    return subprocess.run(["nft", "list", "table", ip, "kube-proxy"], capture_output=True, text=True, check=True).stdout


def add(filling: Filling, transaction: Transaction) -> None:
    for part in filling.parts(transaction):
        filling.send(part)


def large(services: int, endpoints: int) -> Plan:
    listed = tuple(Endpoint(f"10.244.{number >> 8}.{number & 255}", 80, False) for number in range(endpoints))
    frontends = [Frontend(f"10.96.{number >> 8}.{number & 255}", "tcp", 80) for number in range(services)]
    return {frontend: Target("d/x", Scope.INTERNAL, "Cluster", listed, ()) for frontend in frontends}


@pytest.mark.parametrize("family", FAMILIES)
@isolated
def test_parts_and_changes_of_what_is_there_lead_to_the_plan(family: Family) -> None:
    plan = plan_of_all(family)
    early = {
        frontend: replace(target, cluster=target.cluster[:1], local=target.local[:1])
        for number, (frontend, target) in enumerate(plan.items())
        if number % 2
    }

    def follow() -> list[str]:
        begun = executor(family)
        filling = begun.begin()
        assert filling is not None
        add(filling, difference({}, early))
        add(filling, difference(early, plan))
        assert "flags dormant" in table("ip" if family == "IPv4" else "ip6")
        filling.end()
        return begun.differences()

    assert follow() == []
    assert "dormant" not in table("ip" if family == "IPv4" else "ip6")


@isolated
def test_where_a_table_is_nothing_is_begun() -> None:
    def follow() -> object:
        executor("IPv4").replace(plan_of_all("IPv4"))
        return executor("IPv4").begin()

    assert follow() is None


@isolated
def test_a_table_that_is_deleted_while_it_is_filled_is_made_by_the_next_attempt() -> None:
    plan = large(40, 100)

    def follow() -> list[str]:
        begun = executor("IPv4")
        filling = begun.begin()
        assert filling is not None
        add(filling, difference({}, large(20, 100)))
        subprocess.run(["nft", "delete", "table", "ip", "kube-proxy"], check=True)

        def go_on() -> None:
            # The first part is refused if the table goes before it comes, and otherwise the second.
            add(filling, difference(large(20, 100), plan))
            filling.end()

        with pytest.raises(ProgramError, match="table ip kube-proxy"):
            go_on()
        begun.replace(plan)
        return begun.differences()

    assert follow() == []


@isolated
def test_a_plane_that_is_closed_while_it_is_filled_breaks_nothing_off() -> None:
    async def follow() -> bool:
        plane = Plane("IPv4", ProxyConfig(node_name=NODE), Metrics("nftables"), Health(60))
        assert plane.begin()
        plane.plan("d/x", service_of(next(iter(VARIANTS.values()))), (), NodeInfo(NODE))
        await plane.fill()
        plane.close()  # as when the Node changes what the layout depends on
        await plane.fill()
        return await plane.sync()

    asyncio.run(follow())


@isolated
def test_a_part_that_is_too_long_for_the_socket_goes_in_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = large(2, 12000)
    sent: list[int] = []
    send = Nfnetlink._send

    def narrow(self: Nfnetlink, data: bytes) -> None:
        # As in a user namespace on Linux before 6.18, where net.core.wmem_max is 208 KiB.
        if len(data) > 2 * 208 << 10:
            raise NetlinkError(90, "too long", "nftables")
        sent.append(len(data))
        send(self, data)

    def follow() -> list[str]:
        begun = executor("IPv4")
        filling = begun.begin()
        assert filling is not None
        add(filling, difference({}, plan))
        filling.end()
        return begun.differences()

    monkeypatch.setattr(Nfnetlink, "_send", narrow)
    assert follow() == []
    assert len(sent) > 4  # two for each list of endpoints, and what puts them in force
