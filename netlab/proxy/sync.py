"""A node's proxy between the objects and its data planes: what changed, what is planned again, when it is synced."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import time
from collections.abc import Callable, Container, Iterable, Mapping

from netlab.api.core_types import Node, Service
from netlab.api.discovery_types import SERVICE_NAME_LABEL, TRIGGER_TIME, EndpointSlice
from netlab.api.progress import Progress, Work
from netlab.net.nftables.socket import Nfnetlink
from netlab.proxy.config import ProxyConfig
from netlab.proxy.health import Health, ServiceHealth
from netlab.proxy.logs import fields
from netlab.proxy.metrics import Metrics
from netlab.proxy.pace import Pace
from netlab.proxy.plan import HealthCheck, NodeInfo
from netlab.proxy.plane import Plane
from netlab.proxy.planner import node_info

_STRIDE = 400
"""Services that are planned at a time where there is nothing yet: the kernel takes them while the next are planned."""

log = logging.getLogger(__name__)


class Proxy:
    """The objects as they are known, the plan they make, and the families' data planes.

    `port_taken` is called with health check node ports that cannot be opened, and why.
    """

    def __init__(
        self,
        config: ProxyConfig,
        port_taken: Callable[[HealthCheck, str], None] = lambda *_: None,
        progress: Progress | None = None,
    ) -> None:
        self.metrics = Metrics(config.mode)
        self.progress = progress or Progress()
        """Of what is in force."""
        self.metrics.revision(lambda: self.progress.acted)
        # Upstream's: two periods, in each of which a sync would have been tried.
        self.health = Health(2 * config.resync_seconds)
        self._config = config
        self._started = time.time()
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, EndpointSlice]] = {}
        self._node = NodeInfo(config.node_name)
        self._pod_cidrs: list[str] = []
        self._dirty: dict[str, None] = {}
        """Services, in the order in which they changed."""
        self._waiting: Work | None = None
        """What became due by those changes."""
        self._unsynced: list[Work] = [self.progress.begin()]
        """What became due and has been planned, but may not be in force."""
        self._changed = asyncio.Event()
        self._pace = Pace(config.min_sync_seconds, config.sync_burst)
        # Kept open: closing one waits until the kernel has freed what the last batch deleted, 10 ms.
        self._netlink = Nfnetlink()
        self._generation = 0
        """Of the kernel's ruleset after the last change that was ours."""
        self._resolved: ProxyConfig | None = None
        self._planes: list[Plane] = []
        """None while something of the Node's is missing that the configuration needs."""
        self._checks: dict[str, HealthCheck] = {}
        self._service_health = ServiceHealth(self.health, (), port_taken)
        self._on_synced: Callable[[Mapping[str, int], Container[str]], None] = lambda *_: None
        self._resolve(self._node)

    def on_synced(self, handler: Callable[[Mapping[str, int], Container[str]], None]) -> None:
        """Call `handler` whenever all that is planned is in force: see netlab.proxy.run.Follower."""
        self._on_synced = handler

    # --- What informers call -----------------------------------------------------------------------------------

    def service_changed(self, old: Service | None, new: Service | None) -> None:
        """A Service appeared, changed or went away."""
        self.metrics.service_changes.total += 1
        if new is not None:
            key = new.key
            self._services[key] = new
            self._touch(key)
        elif old is not None:
            self._services.pop(old.key, None)
            self._touch(old.key)

    def slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """An EndpointSlice appeared, changed or went away."""
        self.metrics.endpoint_changes.total += 1
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
        if new is not None:
            self._note_trigger(old, new)
            if new.addressType not in ("IPv4", "IPv6") and old is None:
                log.warning(
                    "EndpointSlice %s: addressType %s is not served; ignored",
                    new.key,
                    new.addressType,
                    extra=fields(slice=new.key),
                )

    def node_changed(self, _old: Node | None, new: Node | None) -> None:
        """This node appeared, changed or went away; of one that is gone what was known last holds on."""
        if new is None:
            return
        self.health.node(new)
        node = node_info(new)
        self._pod_cidrs = new.spec.podCIDRs or [cidr for cidr in [new.spec.podCIDR] if cidr]
        self._resolve(node)
        if node != self._node:
            self._node = node
            for plane in self._planes:
                plane.flows.node(node.addresses)
            for service in self._services:
                self._touch(service)

    def ranges_changed(self, service_cidrs: tuple[str, ...]) -> None:
        """The API server's ranges of ClusterIPs were read, or changed."""
        self._config = dataclasses.replace(self._config, service_cidrs=service_cidrs)
        self._resolve(self._node)

    def _resolve(self, node: NodeInfo) -> None:
        """Fill the configuration in from the Node, and begin anew if that changes it."""
        config: ProxyConfig | None = self._config
        if self._config.needs_node:
            config = self._config.on_node(node.addresses, self._pod_cidrs)
        if config is not None and config != self._resolved:
            self._make_planes(config)

    def _make_planes(self, config: ProxyConfig) -> None:
        """Start again with a configuration: the first sync takes over what is in force."""
        self._resolved = config
        for plane in self._planes:
            plane.close()
        self._planes = [Plane(family, config, self.metrics, self.health) for family in config.families]
        for plane in self._planes:
            plane.flows.node(self._node.addresses)
        self._service_health.node_ports = config.node_port_addresses
        for service in self._services:
            self._touch(service)

    def _note_trigger(self, old: EndpointSlice | None, new: EndpointSlice) -> None:
        """Have it measured how long the change took to come here, unless it came before this proxy did."""
        written = new.metadata.annotations.get(TRIGGER_TIME, "")
        if not written or (old is not None and old.metadata.annotations.get(TRIGGER_TIME) == written):
            return
        try:
            trigger = datetime.datetime.fromisoformat(written).timestamp()
        except ValueError:
            return
        for plane in self._planes:
            if plane.family == new.addressType and trigger >= self._started:
                plane.triggers.append(trigger)

    def _touch(self, service: str) -> None:
        if not self._dirty:
            for plane in self._planes:
                plane.queue()
            self._waiting = self.progress.begin()
            self._changed.set()
        self._dirty[service] = None

    # --- The loop ----------------------------------------------------------------------------------------------

    async def serve(self, on_synced: Callable[[], None]) -> None:
        """Sync at every change, at the configuration's pace; verify and repair in between; never returns."""
        loop = asyncio.get_running_loop()
        announced = False
        verify_at = loop.time() + self._config.resync_seconds
        try:
            while True:
                if self._changed.is_set():
                    await asyncio.sleep(self._pace.delay(loop.time()))
                    self._pace.spend(loop.time())
                    await self._plan()
                await self._sync()
                in_force = bool(self._planes) and all(plane.in_force for plane in self._planes)
                if in_force and not announced:
                    announced = True
                    on_synced()
                self._service_health.sync(self._checks)
                if in_force:
                    local = {key: check.local_endpoints for key, check in self._checks.items()}
                    self._on_synced(local, self._dirty)
                    self._tell_progress()
                await self._wait(self._config.check_seconds)
                verify = loop.time() >= verify_at
                if verify:
                    verify_at = loop.time() + self._config.resync_seconds
                    for plane in self._planes:
                        plane.flows.look_around()
                await self._check(thoroughly=verify)
        finally:
            self._service_health.close()
            for plane in self._planes:
                plane.close()

    async def _sync(self) -> None:
        before, made = self._netlink.generation(), self._batches()
        changed = [await plane.sync() for plane in self._planes]
        if not any(changed) or self._generation not in (0, before):
            return
        after = self._netlink.generation()
        # If there were more changes than ours, the next check sees what another program did.
        if after <= before + self._batches() - made:
            self._generation = after

    def _tell_progress(self) -> None:
        """All that has been planned is in force: say so as soon as no flow of the old rules is left."""
        done, self._unsynced = self._unsynced, []
        forgetting = [pending for plane in self._planes if (pending := plane.flows.pending())]

        def forgotten(each: Iterable[BaseException | None]) -> None:
            if any(each):  # cancelled: other planes have taken over, and begun to look for them
                self._unsynced += done
                return
            for work in done:
                self.progress.end(work)

        if not done or not forgetting:
            forgotten(())
            return
        gathered = asyncio.gather(*forgetting, return_exceptions=True)
        gathered.add_done_callback(lambda all_: forgotten(all_.result()))

    def _batches(self) -> int:
        return sum(plane.batches for plane in self._planes)

    async def _check(self, *, thoroughly: bool) -> None:
        """Notice changes to this network namespace's rules by others, and rebuild ours if they are affected."""
        seen = self._netlink.generation()
        if seen != self._generation or thoroughly:
            self._generation = seen
            for plane in self._planes:
                if not await plane.check() and not self._unsynced:
                    self._unsynced.append(self.progress.begin())

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    async def _plan(self) -> None:
        """Plan again only the Services that changed. What is not in force yet is filled meanwhile."""
        dirty, self._dirty = self._dirty, {}
        if self._waiting is not None:
            self._unsynced.append(self._waiting)
            self._waiting = None
        self._changed.clear()
        for changes in (self.metrics.service_changes, self.metrics.endpoint_changes):
            changes.planned = changes.total
        filling = [plane for plane in self._planes if plane.begin()]
        for number, key in enumerate(dirty, 1):
            self._plan_service(key)
            if number % _STRIDE == 0:
                for plane in filling:
                    await plane.fill()

    def _plan_service(self, key: str) -> None:
        service, slices = self._services.get(key), self._slices.get(key, {}).values()
        self._checks.pop(key, None)
        for plane in self._planes:
            for check in plane.plan(key, service, slices, self._node):
                # A pod of both families is an endpoint in each: it counts once.
                known = self._checks.get(key, check)
                self._checks[key] = max(known, check, key=lambda each: each.local_endpoints)
