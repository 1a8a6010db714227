"""A node's kube-proxy: from the API's Services and EndpointSlices to the kernel, until cancelled."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Protocol

from netlab.api import events
from netlab.api.client import Client
from netlab.api.core_types import Node, Service
from netlab.api.informer import Informer
from netlab.api.meta_types import ObjectMeta
from netlab.api.progress import Progress
from netlab.api.resources import NODES
from netlab.errors import UnsupportedError
from netlab.net.programs import FRESH_GENERATION, ProgramError, generation
from netlab.proxy.config import ProxyConfig
from netlab.proxy.executor import cleanup
from netlab.proxy.health import health_handler, keep_serving, metrics_handler
from netlab.proxy.logs import fields
from netlab.proxy.objects import OUR_SERVICES, OUR_SLICES, SERVICES, SLICES
from netlab.proxy.plan import HealthCheck
from netlab.proxy.ranges import ServiceRanges
from netlab.proxy.sync import Proxy

_BE_LIBERAL = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")

log = logging.getLogger(__name__)


class Follower(Protocol):
    """Acts upon what a proxy knows and has put in force, in the same process: see netlab.speaker."""

    def service_changed(self, old: Service | None, new: Service | None) -> None:
        """A Service appeared, changed or went away; of each there is what netlab.proxy.objects keeps."""

    def node_changed(self, old: Node | None, new: Node | None) -> None:
        """The proxy's Node appeared, changed or went away."""

    def synced(self, local: Mapping[str, int], waiting: Container[str]) -> None:
        """What was told before is in force, but for the `waiting` Services, by NAMESPACE/NAME; called again and again.

        `local` is how many ready endpoints the Services with a health check node port have on this node.
        """


async def run(
    client: Client,
    config: ProxyConfig,
    on_synced: Callable[[], None] = lambda: None,
    in_force: Callable[[int], None] = lambda _: None,
    follower: Follower | None = None,
) -> None:
    """Keep this network namespace's rules true to the API's Services until cancelled.

    `on_synced` is called once, when the first rules are in force, and `in_force` with the resourceVersion for which the
    rules in force stand, whenever that has grown. Errors of objects and of the kernel are logged, and
    what can be done is done; the rules stay as they are when this ends. Raises UnsupportedError when the kernel or a
    program that is needed is missing.
    """
    await _remove_other_mode(config)
    if config.conntrack_be_liberal:
        _be_liberal()
    services = Informer(client, SERVICES, labels=OUR_SERVICES)
    slices = Informer(client, SLICES, labels=OUR_SLICES)
    nodes = Informer(client, NODES, fields=f"metadata.name={config.node_name}")
    async with asyncio.TaskGroup() as tasks:

        def port_taken(check: HealthCheck, reason: str) -> None:
            message = f"node {config.node_name} cannot serve health check node port {check.port}: {reason}"
            log.error("Service %s: %s", check.service, message, extra=fields(service=check.service, port=check.port))
            service = services.items.get(check.service)
            if service is not None:
                tasks.create_task(
                    events.record(
                        client,
                        service,
                        events.WARNING,
                        "FailedToStartServiceHealthcheck",
                        message,
                        component="kube-proxy",
                        host=config.node_name,
                    )
                )

        proxy = Proxy(config, port_taken, Progress(in_force))
        proxy.progress.follow([services, slices, nodes])
        services.on_change(proxy.service_changed)
        slices.on_change(proxy.slice_changed)
        nodes.on_change(proxy.node_changed)
        if follower is not None:
            services.on_change(follower.service_changed)
            nodes.on_change(follower.node_changed)
            proxy.on_synced(follower.synced)
        if config.healthz is not None:
            handler = health_handler(proxy.health, proxy.metrics)
            tasks.create_task(keep_serving(config.healthz, handler, "healthz"))
        if config.metrics is not None:
            handler = metrics_handler(proxy.metrics, config)
            tasks.create_task(keep_serving(config.metrics, handler, "metrics"))

        client.observe = functools.partial(proxy.metrics.request, client.host)
        ranges = ServiceRanges(client, proxy.ranges_changed)
        if config.service_cidrs:
            ranges.known.set()
        else:
            tasks.create_task(ranges.follow())

        def synced() -> None:
            # What was made so far stays as long as its Service does.
            gc.freeze()
            gc.enable()
            on_synced()

        # While objects are only added, the garbage collector finds nothing and takes most of the time of a large start.
        gc.disable()
        for informer in (services, slices, nodes):
            tasks.create_task(informer.run())
        # A plan from half of the objects would cut off what is in force from before a restart.
        await asyncio.gather(services.synced.wait(), slices.synced.wait(), nodes.synced.wait(), ranges.known.wait())
        tasks.create_task(_say_starting(client, nodes.items.get(config.node_name), config))
        await proxy.serve(synced)


async def _say_starting(client: Client, node: Node | None, config: ProxyConfig) -> None:
    """As upstream: an Event on the Node, or on what it will be called."""
    subject = node or Node(kind=NODES.kind, metadata=ObjectMeta(name=config.node_name))
    await events.record(client, subject, events.NORMAL, "Starting", "", component="kube-proxy", host=config.node_name)


def _be_liberal() -> None:
    try:
        _BE_LIBERAL.write_text("1\n", encoding="ascii")
    except OSError as error:
        log.warning("tcpBeLiberal: cannot write %s: %s", _BE_LIBERAL, error.strerror)


async def _remove_other_mode(config: ProxyConfig) -> None:
    """With two modes in force, whichever comes first would translate: remove the other's rules."""
    if generation() == FRESH_GENERATION:
        return
    try:
        await asyncio.to_thread(cleanup, "iptables" if config.mode == "nftables" else "nftables", ("IPv4", "IPv6"))
    except (ProgramError, UnsupportedError) as error:
        # If its program is not installed, there are no rules of it.
        log.info("could not look for the other mode's rules: %s", error)
