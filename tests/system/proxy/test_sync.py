"""The loop over real rules: a change, an idle time, a hand that meddles, an object that is wrong."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
from collections import Counter

import pytest

from netlab.api.progress import Progress
from netlab.net.conntrack.flows import Conntrack
from netlab.net.programs import generation
from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.sync import Proxy
from tests.sandbox import isolated
from tests.unit.proxy.flows import ADDRESSES, NODE, READY, VARIANTS, service_of, slices_of


def rules() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


async def until(text: str, *, there: bool = True) -> None:
    """Wait until the kernel's rules hold a text, or hold it no more; the test's own time limit is pytest's."""
    async with asyncio.timeout(30):
        while (text in rules()) != there:
            await asyncio.sleep(0.02)


class Counted(Proxy):
    """A proxy that counts how often it has looked whether its rules are as it left them."""

    checks = 0

    async def _check(self, *, thoroughly: bool) -> None:
        await super()._check(thoroughly=thoroughly)
        self.checks += 1


def proxy_of(mode: Mode) -> Counted:
    config = ProxyConfig(node_name=NODE, mode=mode, families=["IPv4"], check_seconds=0.05, min_sync_seconds=0.01)
    proxy = Counted(config)
    service = service_of(VARIANTS["cluster"])
    proxy.service_changed(None, service)
    for endpoint_slice in slices_of("cluster", {"a": READY}):
        proxy.slice_changed(None, endpoint_slice)
    return proxy


async def follow(mode: Mode) -> None:
    proxy = proxy_of(mode)
    synced = asyncio.Event()
    serving = asyncio.create_task(proxy.serve(synced.set))
    async with asyncio.timeout(30):
        await synced.wait()
    assert "10.244.1.2" in rules()

    before, checks = generation(), proxy.checks
    async with asyncio.timeout(30):
        while proxy.checks < checks + 3:
            await asyncio.sleep(0.01)
    assert generation() == before, "an idle proxy changed the rules"

    old, _ = slices_of("cluster", {"a": READY})
    new, _ = slices_of("cluster", {"b": READY})
    proxy.slice_changed(old, new)
    await until("10.244.2.2")
    assert "10.244.1.2" not in rules()

    subprocess.run(["nft", "flush", "ruleset"], check=True)
    await until("10.244.2.2")

    service = service_of(VARIANTS["cluster"])
    service.spec.externalIPs = ["not an address", "198.51.100.77"]
    proxy.service_changed(None, service)
    await until("198.51.100.77")

    named = slices_of("cluster", {})[0]
    named.addressType = "FQDN"
    proxy.slice_changed(None, named)
    proxy.slice_changed(named, named)

    proxy.service_changed(service, None)
    await until("198.51.100.77", there=False)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@isolated
def test_the_rules_follow_the_objects_and_are_repaired(mode: Mode) -> None:
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("netlab.proxy").addHandler(handler)
    asyncio.run(follow(mode))
    wrong = [m for m in messages if "not an address" in m]
    assert len(wrong) == 1, "logged once"
    assert [m for m in messages if "FQDN" in m] == [
        "EndpointSlice default/cluster-ipv4: addressType FQDN is not served; ignored"
    ]
    assert wrong[0] == "Service default/cluster: externalIPs 'not an address' is not an IP address"


TRACKING = """
table inet tracking {
    chain output {
        type filter hook output priority 0
        ct state new counter
    }
}
"""
FLOWS = 700
"""More than one answer of the kernel holds."""


def send_to(address: str, port: int, flows: int = FLOWS) -> None:
    """A datagram from each of so many source ports."""
    for number in range(flows):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(("127.0.0.1", 10000 + number))
            client.sendto(b"hello", (address, port))


def answering(port: int) -> Counter[str]:
    """How many of the UDP flows to a port each address answers."""
    with Conntrack() as kernel:
        flows = kernel.udp_flows(socket.AF_INET, port)
    return Counter(socket.inet_ntop(socket.AF_INET, flow.answers[:-2]) for flow in flows)


async def stale_flows(mode: Mode) -> None:
    left: dict[int, Counter[str]] = {}
    said = asyncio.Event()

    def tell(revision: int) -> None:
        left[revision] = answering(80)
        said.set()

    async def until_in_force(revision: int) -> None:
        proxy.progress.seen(revision)
        async with asyncio.timeout(30):
            while revision not in left:
                said.clear()
                await said.wait()

    config = ProxyConfig(NODE, mode=mode, check_seconds=0.05, min_sync_seconds=0.01, resync_seconds=3600)
    proxy = Proxy(config, progress=Progress(tell))
    service = service_of(VARIANTS["cluster"])
    address = service.spec.clusterIP
    # From before the Service: its address is whatever the routes lead to.
    send_to(address, 80)
    assert answering(80) == {address: FLOWS}
    proxy.service_changed(None, service)
    of_a, of_b, of_none = (slices_of("cluster", backends)[0] for backends in ({"a": READY}, {"b": READY}, {}))
    proxy.slice_changed(None, of_a)
    serving = asyncio.create_task(proxy.serve(lambda: None))
    await until_in_force(1)
    assert left[1] == {}

    send_to(address, 80)
    assert answering(80) == {ADDRESSES["IPv4"]["a"]: FLOWS}
    proxy.slice_changed(of_a, of_b)
    await until_in_force(2)
    assert left[2] == {}

    send_to(address, 80)
    # Another port of the same number, and the endpoint itself: nobody's business.
    send_to("198.18.0.1", 80, flows=1)
    send_to(ADDRESSES["IPv4"]["b"], 8080, flows=1)
    proxy.slice_changed(of_b, of_none)
    await until_in_force(3)
    assert left[3] == {"198.18.0.1": 1}
    assert answering(8080) == {ADDRESSES["IPv4"]["b"]: 1}
    serving.cancel()
    await asyncio.wait([serving])


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@isolated
def test_a_change_is_in_force_when_no_udp_flow_of_the_old_rules_is_left(mode: Mode) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "default", "dev", "lo"], check=True)
    # The kernel tracks connections where a rule asks for it.
    subprocess.run(["nft", "-f", "-"], input=TRACKING, text=True, check=True)
    asyncio.run(stale_flows(mode))
