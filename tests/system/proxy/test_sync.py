"""The loop over real rules: a change, an idle time, a hand that meddles, an object that is wrong."""

from __future__ import annotations

import asyncio
import logging
import subprocess

import pytest

from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.kernel import generation
from netlab.proxy.run import Proxy
from tests.sandbox import isolated
from tests.unit.proxy.flows import NODE, READY, VARIANTS, service_of, slices_of


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
    assert wrong[0] == "Service default/cluster: externalIPs 'not an address' is not an IP address"
