"""The loop's pace over real rules, and what it measures."""

from __future__ import annotations

import asyncio
import datetime
import logging
import subprocess
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from netlab.api.discovery_types import TRIGGER_TIME, EndpointSlice
from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.iptables.executor import IptablesExecutor
from netlab.proxy.metrics import Metrics
from netlab.proxy.nftables.executor import NftablesExecutor
from netlab.proxy.sync import Proxy
from tests.sandbox import isolated
from tests.unit.proxy.flows import BROKEN, NODE, READY, VARIANTS, service_of, slices_of

LIMIT = 30.0


def sample(metrics: Metrics, name: str) -> float:
    for family in text_string_to_metric_families(metrics.render().decode()):
        for one in family.samples:
            if one.name == f"kubeproxy_{name}" and one.labels.get("ip_family", "IPv4") == "IPv4":
                return one.value
    return 0.0


def triggered(endpoint_slice: EndpointSlice, moment: datetime.datetime) -> EndpointSlice:
    endpoint_slice.metadata.annotations = {TRIGGER_TIME: moment.isoformat()}
    return endpoint_slice


async def a_long_burst() -> None:
    period, burst = 0.2, 2
    proxy = Proxy(ProxyConfig(NODE, min_sync_seconds=period, sync_burst=burst))
    proxy.service_changed(None, service_of(VARIANTS["cluster"]))
    synced = asyncio.Event()
    began = time.monotonic()
    serving = asyncio.create_task(proxy.serve(synced.set))
    await asyncio.wait_for(synced.wait(), LIMIT)
    assert sample(proxy.metrics, "sync_full_proxy_rules_duration_seconds_count") == 1

    old, _ = slices_of("cluster", {"a": BROKEN})
    proxy.slice_changed(None, old)
    while sample(proxy.metrics, "sync_proxy_rules_endpoint_changes_pending"):
        await asyncio.sleep(0.01)
    for number in range(60):
        new, _ = slices_of("cluster", {"a": READY if number % 2 else BROKEN})
        # One that is older than the proxy says nothing of it; one that is repeated was measured already.
        moment = (
            datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if number < 59 else datetime.datetime.now(datetime.UTC)
        )
        proxy.slice_changed(old, triggered(new, moment))
        old = new
        await asyncio.sleep(0.01)
    async with asyncio.timeout(LIMIT):
        while sample(proxy.metrics, "sync_proxy_rules_endpoint_changes_pending") or not proxy.health.is_healthy():
            await asyncio.sleep(0.01)
        while not sample(proxy.metrics, "network_programming_duration_seconds_count"):
            await asyncio.sleep(0.01)
    syncs = sample(proxy.metrics, "sync_proxy_rules_duration_seconds_count")
    assert syncs <= burst + (time.monotonic() - began) / period + 1
    assert sample(proxy.metrics, "sync_partial_proxy_rules_duration_seconds_count") == syncs - 1
    assert sample(proxy.metrics, "sync_proxy_rules_endpoint_changes_total") == 61
    assert sample(proxy.metrics, "network_programming_duration_seconds_count") == 1
    serving.cancel()
    await asyncio.wait([serving])


@isolated
def test_a_long_burst_costs_what_the_pace_allows_and_ends_in_force() -> None:
    asyncio.run(a_long_burst())


async def refused(log: list[str]) -> None:
    proxy = Proxy(ProxyConfig(NODE, mode="iptables", retry_seconds=0.05, check_seconds=0.05))
    proxy.health._timeout = 0.0
    proxy.service_changed(None, service_of(VARIANTS["cluster"]))
    synced = asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        # It ends with status 1, as iptables-restore does when the kernel refuses.
        patch.setattr("netlab.proxy.iptables.executor.IptablesExecutor._program", lambda *_: "false")
        serving = asyncio.create_task(proxy.serve(synced.set))
        async with asyncio.timeout(LIMIT):
            while sample(proxy.metrics, "sync_proxy_rules_iptables_restore_failures_total") < 2:
                await asyncio.sleep(0.01)
        assert not proxy.health.is_healthy()
        assert not synced.is_set()
    await asyncio.wait_for(synced.wait(), LIMIT)
    assert proxy.health.is_healthy()
    assert any("rebuilding them" in line for line in log)
    serving.cancel()
    await asyncio.wait([serving])


@isolated
def test_a_kernel_that_refuses_makes_the_proxy_unhealthy_until_it_does_not() -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("netlab.proxy").addHandler(handler)
    asyncio.run(refused(lines))


MEDDLING: dict[Mode, tuple[type[Any], str, list[str]]] = {
    "nftables": (NftablesExecutor, "_commit", ["nft", "flush", "set", "ip", "kube-proxy", "cluster-ips"]),
    "iptables": (IptablesExecutor, "_restore", ["iptables-nft", "-t", "nat", "-F", "KUBE-POSTROUTING"]),
}
"""By mode: what sends a change to the kernel, and what spoils the rules."""


async def meddled_with(mode: Mode) -> None:
    config = ProxyConfig(NODE, mode=mode, min_sync_seconds=0.01, check_seconds=0.05, resync_seconds=3600)
    proxy = Proxy(config)
    old, _ = slices_of("cluster", {"a": READY})
    new, _ = slices_of("cluster", {"a": READY, "b": READY})
    proxy.service_changed(None, service_of(VARIANTS["cluster"]))
    proxy.slice_changed(None, old)
    synced = asyncio.Event()
    serving = asyncio.create_task(proxy.serve(synced.set))
    await asyncio.wait_for(synced.wait(), LIMIT)
    executor, sending, spoiling = MEDDLING[mode]
    send, whole, spoilt = getattr(executor, sending), held(mode), False

    def send_and_meddle(*args: Any) -> None:
        nonlocal spoilt
        send(*args)
        if not spoilt:
            subprocess.run(spoiling, check=True)
            spoilt = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, sending, send_and_meddle)
        proxy.slice_changed(old, new)
        async with asyncio.timeout(LIMIT):
            while not spoilt or held(mode) != whole:
                await asyncio.sleep(0.02)
    serving.cancel()
    await asyncio.wait([serving])


def held(mode: Mode) -> bytes:
    """What the kernel holds of that which is spoilt."""
    if mode == "nftables":
        argv = ["nft", "list", "set", "ip", "kube-proxy", "cluster-ips"]
    else:
        argv = ["iptables-nft", "-t", "nat", "-S", "KUBE-POSTROUTING"]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("mode", MEDDLING)
@isolated
def test_what_somebody_changes_in_the_moment_of_a_change_is_mended_at_once(mode: Mode) -> None:
    asyncio.run(meddled_with(mode))
