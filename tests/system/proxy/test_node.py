"""What the node's own object decides: its zone which endpoints are near, its addresses which flows are NodePorts'."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from netlab.api.core_types import Node, NodeAddress, NodeStatus
from netlab.api.meta_types import ObjectMeta
from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.sync import Proxy
from tests.sandbox import isolated
from tests.unit.proxy.flows import NODE, NODE_INFO, VARIANTS, service_of, slices_of


def node_in(zone: str) -> Node:
    return Node(
        metadata=ObjectMeta(name=NODE, labels={"topology.kubernetes.io/zone": zone}),
        status=NodeStatus(addresses=[NodeAddress("InternalIP", address) for address in NODE_INFO.addresses]),
    )


def rules() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


async def move(mode: Mode) -> None:
    proxy = Proxy(ProxyConfig(node_name=NODE, mode=mode, families=["IPv4"]))
    variant = VARIANTS["same-zone"]
    proxy.service_changed(None, service_of(variant))
    for endpoint_slice in slices_of(variant.name, variant.backends, variant.hints):
        proxy.slice_changed(None, endpoint_slice)
    synced = asyncio.Event()
    serving = asyncio.create_task(proxy.serve(synced.set))
    async with asyncio.timeout(60):
        await asyncio.wait({serving, asyncio.ensure_future(synced.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert not serving.done(), serving.result()
        # Pod a is hinted for zone-2, pod b for zone-1; who knows no zone uses both.
        for before, zone, there in (
            (None, "zone-1", {"10.244.2.2"}),
            (node_in("zone-1"), "zone-2", {"10.244.1.2"}),
            (node_in("zone-2"), "zone-3", {"10.244.1.2", "10.244.2.2"}),
        ):
            proxy.node_changed(before, node_in(zone))
            while {address for address in ("10.244.1.2", "10.244.2.2") if address in rules()} != there:
                await asyncio.sleep(0.02)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@isolated
def test_the_rules_follow_the_zone_of_the_node(mode: Mode) -> None:
    asyncio.run(move(mode))
