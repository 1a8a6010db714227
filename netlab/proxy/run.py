"""A node's kube-proxy: from the API's Services and EndpointSlices to the kernel, until cancelled."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Sequence

from pyroute2.netlink.exceptions import NetlinkError

from netlab.api.client import Client
from netlab.api.core_types import Node, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.informer import Informer
from netlab.api.resources import NODES, SERVICES
from netlab.errors import UnsupportedError
from netlab.net.nfelements import Nfnetlink
from netlab.proxy import conntrack
from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.executor import cleanup_iptables, cleanup_nftables, executor_for
from netlab.proxy.kernel import FRESH_GENERATION, ProgramError, generation
from netlab.proxy.objects import SLICES
from netlab.proxy.plan import Family, NodeInfo
from netlab.proxy.planner import (
    HEADLESS_LABEL,
    PROXY_NAME_LABEL,
    SERVICE_NAME_LABEL,
    Book,
    Planned,
    node_info,
    plan_service,
)

__all__ = ["ProxyConfig", "cleanup", "run"]

_OURS = f"!{PROXY_NAME_LABEL},!{HEADLESS_LABEL}"
"""The Services and EndpointSlices that the server is asked for."""

log = logging.getLogger(__name__)


async def run(client: Client, config: ProxyConfig, on_synced: Callable[[], None] = lambda: None) -> None:
    """Keep this network namespace's rules true to the API's Services until cancelled.

    `on_synced` is called once, when the first rules are in force. Errors of objects and of the kernel are logged, and
    what can be done is done; the rules stay as they are when this ends. Raises UnsupportedError when the kernel or a
    program that is needed is missing.
    """
    await _remove_other_mode(config)
    services = Informer(client, SERVICES, labels=_OURS)
    # The EndpointSlice controller gives a Service's labels to its slices.
    slices = Informer(client, SLICES, labels=_OURS)
    nodes = Informer(client, NODES, fields=f"metadata.name={config.node_name}")
    proxy = Proxy(config)
    services.on_change(proxy.service_changed)
    slices.on_change(proxy.slice_changed)
    nodes.on_change(proxy.node_changed)

    def synced() -> None:
        # What was made until now stays for as long as its Service does.
        gc.freeze()
        gc.enable()
        on_synced()

    # While objects are only added, the garbage collector finds nothing and takes most of the time of a large start.
    gc.disable()
    async with asyncio.TaskGroup() as tasks:
        for informer in (services, slices, nodes):
            tasks.create_task(informer.run())
        # A plan from half of the objects would cut off what is in force from before a restart.
        await asyncio.gather(services.synced.wait(), slices.synced.wait(), nodes.synced.wait())
        await proxy.serve(synced)


async def _remove_other_mode(config: ProxyConfig) -> None:
    """Two modes in force at once would translate by whichever comes first: remove the other's rules."""
    if generation() == FRESH_GENERATION:
        return
    try:
        await cleanup("iptables" if config.mode == "nftables" else "nftables", ("IPv4", "IPv6"))
    except (ProgramError, UnsupportedError) as error:
        # Its program may well not be installed, and then its rules are not there.
        log.info("the other mode's rules were not looked for: %s", error)


async def cleanup(mode: Mode, families: Sequence[Family]) -> None:
    """Remove what a kube-proxy of this mode made in this network namespace; that there is nothing is no error.

    Raises ProgramError when the kernel refuses.
    """
    if mode == "nftables":
        await cleanup_nftables(families)
    else:
        await cleanup_iptables(families)


class Proxy:
    """The objects as they are known, the plan they make, and the families' data planes."""

    def __init__(self, config: ProxyConfig) -> None:
        self._config = config
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, EndpointSlice]] = {}
        self._node = NodeInfo(config.node_name)
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        # Kept open: closing one waits until the kernel has freed what the last batch deleted, 10 ms.
        self._netlink = Nfnetlink()
        self._generation = 0
        """Of the kernel's ruleset after the last change that was ours."""
        self._planes = [_Plane(family, config) for family in config.families]

    # --- What informers call -----------------------------------------------------------------------------------

    def service_changed(self, old: Service | None, new: Service | None) -> None:
        """A Service appeared, changed or went away."""
        if new is not None:
            self._services[new.key] = new
            self._touch(new.key)
        elif old is not None:
            self._services.pop(old.key, None)
            self._touch(old.key)

    def slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """An EndpointSlice appeared, changed or went away."""
        for endpoint_slice in (old, new):
            if endpoint_slice is None:
                continue
            name = endpoint_slice.metadata.labels.get(SERVICE_NAME_LABEL)
            if name is None:
                continue
            service = f"{endpoint_slice.metadata.namespace}/{name}"
            siblings = self._slices.setdefault(service, {})
            if endpoint_slice is new:
                siblings[new.key] = new
            else:
                siblings.pop(endpoint_slice.key, None)
                if not siblings:
                    del self._slices[service]
            self._touch(service)

    def node_changed(self, _old: Node | None, new: Node | None) -> None:
        """This node appeared, changed or went away; of one that is gone what was known last holds on."""
        node = node_info(new) if new is not None else self._node
        if node != self._node:
            self._node = node
            for service in self._services:
                self._touch(service)

    def _touch(self, service: str) -> None:
        self._dirty.add(service)
        self._changed.set()

    # --- The loop ----------------------------------------------------------------------------------------------

    async def serve(self, on_synced: Callable[[], None]) -> None:
        """Sync at every change, at most once per min-sync interval; verify and repair in between; never returns."""
        loop = asyncio.get_running_loop()
        announced = False
        verify_at = loop.time() + self._config.resync_seconds
        pause = self._config.min_sync_seconds
        while True:
            self._changed.clear()
            self._plan()
            changed = await self._sync()
            if not announced and all(plane.in_force for plane in self._planes):
                announced = True
                on_synced()
            if changed:
                await asyncio.sleep(pause)
                busy = self._changed.is_set()
                pause = min(2 * pause, self._config.burst_sync_seconds) if busy else self._config.min_sync_seconds
            await self._wait(self._config.check_seconds if announced else self._config.min_sync_seconds)
            verify = loop.time() >= verify_at
            if verify:
                verify_at = loop.time() + self._config.resync_seconds
            await self._check(thoroughly=verify)

    async def _sync(self) -> bool:
        before = self._netlink.generation()
        changed = [await plane.sync(frozenset(self._node.addresses)) for plane in self._planes]
        # A foreign change between the two calls goes unnoticed until the next thorough check.
        if any(changed) and (before == self._generation or not self._generation):
            self._generation = self._netlink.generation()
        return any(changed)

    async def _check(self, *, thoroughly: bool) -> None:
        """Notice that somebody changed the rules of this network namespace, and have ours rebuilt if they suffered."""
        seen = self._netlink.generation()
        if seen != self._generation or thoroughly:
            self._generation = seen
            for plane in self._planes:
                await plane.check()

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    def _plan(self) -> None:
        """Plan again the Services that changed, and those only."""
        dirty, self._dirty = sorted(self._dirty), set()
        for key in dirty:
            service = self._services.get(key)
            for plane in self._planes:
                plane.plan(key, service, self._slices.get(key, {}).values(), self._node)


class _Plane:
    """One family: its frontends, and what of them is in force."""

    def __init__(self, family: Family, config: ProxyConfig) -> None:
        self.in_force = False
        """Whether the kernel holds the last plan. If not, the next sync puts all of it there anew."""
        self._config = config
        self._family = family
        self._executor = executor_for(family, config)
        self._book = Book()
        self._retry_at = 0.0
        self._errors: dict[str, set[str]] = {}

    def plan(self, key: str, service: Service | None, slices: Iterable[EndpointSlice], node: NodeInfo) -> None:
        """Plan a Service again (None: it is gone); what is wrong with it is logged once."""
        planned = Planned({}, [])
        created = ""
        if service is not None:
            created = service.metadata.creationTimestamp or ""
            planned = plan_service(service, slices, node, self._family)
        errors = {str(e) for e in (*planned.errors, *self._book.set_service(key, created, planned.frontends))}
        for error in sorted(errors - self._errors.get(key, set())):
            log.error("%s", error)
        if errors:
            self._errors[key] = errors
        else:
            self._errors.pop(key, None)

    async def sync(self, node_addresses: frozenset[str]) -> bool:
        """Bring the kernel to the plan; whether it changed. A failure is logged, and made good by a later call."""
        now = asyncio.get_running_loop().time()
        if self.in_force:
            transaction = self._book.take_changes()
            if not transaction:
                return False
        elif now < self._retry_at:
            return False
        try:
            if self.in_force:
                await self._executor.apply(transaction)
            else:
                self._book.take_changes()
                await self._executor.replace(self._book.plan)
                transaction = ()
        except ProgramError as error:
            # Nothing of the batch is in force. What the table holds is no longer certain: rebuild it.
            self._retry_at = now if self.in_force else now + self._config.retry_seconds
            self.in_force = False
            log.error("%s rules: %s; rebuilding them", self._family, error)
            return False
        self.in_force = True
        log.info("%s rules: %d frontends changed, %d in force", self._family, len(transaction), len(self._book.plan))
        try:
            forgotten = await conntrack.forget_stale(self._family, self._book.plan, node_addresses)
        except (OSError, NetlinkError) as error:
            log.error("%s connection tracking: stale UDP flows stay: %s", self._family, error)
        else:
            if forgotten:
                log.info("%s connection tracking: forgot %d stale UDP flows", self._family, forgotten)
        return True

    async def check(self) -> None:
        """Have the rules rebuilt by the next sync if the kernel does not hold them any more."""
        if self.in_force and not await self._executor.intact():
            log.warning("%s rules: somebody changed them; rebuilding them", self._family)
            self.in_force = False
