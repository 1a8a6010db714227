"""One family's data plane: its frontends, which of them are in force, and what was wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from netlab.api.core_types import Service
from netlab.api.discovery_types import EndpointSlice
from netlab.net.addresses import Family
from netlab.net.programs import ProgramError
from netlab.proxy.book import Book
from netlab.proxy.config import ProxyConfig
from netlab.proxy.conntrack import Reconciler
from netlab.proxy.executor import Filling, executor_for
from netlab.proxy.health import Health
from netlab.proxy.iptables.executor import IptablesExecutor
from netlab.proxy.logs import fields
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import HealthCheck, NodeInfo, Transaction
from netlab.proxy.planner import Planned, plan_service

P = ParamSpec("P")
T = TypeVar("T")

_AHEAD = 2
"""How many parts may wait for the kernel while the next is planned."""

log = logging.getLogger(__name__)


class Plane:
    """The plan of a family and the kernel's tables, which follow it."""

    def __init__(self, family: Family, config: ProxyConfig, metrics: Metrics, health: Health) -> None:
        self.family = family
        self.in_force = False
        """Whether the kernel holds the last plan. If not, the next sync rebuilds all of it."""
        self._config = config
        self._metrics = metrics
        self._health = health
        self._executor = executor_for(family, config)
        self._book = Book()
        self._kernel = ThreadPoolExecutor(1, f"rules-{family}")
        self._filling: asyncio.Future[Filling | None] | None = None
        self._sending: deque[asyncio.Future[None]] = deque()
        """The parts of it that the kernel works on or has to."""
        self._began = 0.0
        """When that started, on the monotonic clock."""
        self.triggers: list[float] = []
        """When the changes for the next sync were made, if known, in seconds since the epoch."""
        self._retry_at = 0.0
        self._errors: dict[str, set[str]] = {}
        self.flows = Reconciler(family, metrics)
        metrics.follow(family, lambda: self._book.plan)
        health.follow(family)

    @property
    def batches(self) -> int:
        """How many batches the kernel has accepted for this plane."""
        return self._executor.batches

    def queue(self) -> None:
        """Note that a change is waiting."""
        self._health.queued(self.family)
        self._metrics.queued(self.family, time.time())

    def plan(
        self, key: str, service: Service | None, slices: Iterable[EndpointSlice], node: NodeInfo
    ) -> tuple[HealthCheck, ...]:
        """Plan a Service again (None: it is gone); log each of its faults once."""
        planned = Planned({}, []) if service is None else plan_service(service, slices, node, self.family)
        created = "" if service is None else service.metadata.creationTimestamp or ""
        conflicts = self._book.set_service(key, created, planned.frontends)
        if planned.errors or conflicts or key in self._errors:
            self._tell(key, {str(error) for error in (*planned.errors, *conflicts)})
        return planned.health_checks

    def _tell(self, key: str, errors: set[str]) -> None:
        for error in sorted(errors - self._errors.pop(key, set())):
            log.error("%s", error, extra=fields(family=self.family))
        if errors:
            self._errors[key] = errors

    def begin(self) -> bool:
        """Before anything is planned: start to `fill` what is not in force yet. False: `sync` will do everything."""
        if self._book.plan or self.in_force:
            return False
        self._began = time.monotonic()
        self._filling = self._in_kernel(self._executor.begin)
        return True

    async def fill(self) -> None:
        """Apply what has been planned so far; a failure is logged, and repaired by `sync`."""
        try:
            filling = await self._begun()
            if filling is not None:
                await self._add(filling, self._book.take_changes())
        except ProgramError as error:
            self._filling = None
            await self._failed(error)

    async def _begun(self) -> Filling | None:
        """What is being filled, if anything."""
        filling = None
        if self._filling is not None:
            with contextlib.suppress(ProgramError):  # `sync` will get the same error
                filling = await self._filling
        if filling is None:
            self._filling = None
        return filling

    async def _add(self, filling: Filling, transaction: Transaction) -> None:
        for part in filling.parts(transaction):
            await self._sent(_AHEAD)
            # The kernel works on this part while the next ones are planned.
            self._sending.append(self._in_kernel(filling.send, part))

    async def _sent(self, but: int = 0) -> None:
        """Wait until the kernel has all parts but so many."""
        while len(self._sending) > but:
            await self._sending.popleft()

    def _in_kernel(self, function: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> asyncio.Future[T]:
        """Call a function that may wait for the kernel, one after the other."""
        return asyncio.get_running_loop().run_in_executor(self._kernel, function, *arguments)

    async def sync(self) -> bool:
        """Bring the kernel to the plan; returns whether it changed. A failure is logged; a later call repairs it."""
        now = asyncio.get_running_loop().time()
        full = not self.in_force
        if full and now < self._retry_at:
            return False
        transaction = self._book.take_changes()
        if not full and not transaction:
            self._done()
            return False
        filling, self._filling = await self._begun(), None
        began = self._began if filling else time.monotonic()
        try:
            if filling:
                await self._add(filling, transaction)
                await self._sent()
                await self._in_kernel(filling.end)
            elif full:
                await self._in_kernel(self._executor.replace, self._book.plan)
            elif len(transaction) <= self._executor.few:
                self._executor.apply(transaction)
            else:
                await self._in_kernel(self._executor.apply, transaction)
        except ProgramError as error:
            # None of the batch is in force, but it is no longer certain what the table holds: rebuild it.
            self._retry_at = now + self._config.retry_seconds if full else now
            self.in_force = False
            await self._failed(error)
            return False
        self.in_force = True
        seconds = time.monotonic() - began
        self._metrics.synced(self.family, time.time(), seconds, full=full)
        if isinstance(self._executor, IptablesExecutor):
            self._metrics.rules(self.family, self._executor.rules, self._executor.written)
        self._done()
        log.info(
            "%s rules are in force",
            self.family,
            extra=fields(
                family=self.family,
                frontends=len(self._book.plan),
                changed=len(self._book.plan) if full else len(transaction),
                full=full,
                seconds=seconds,
            ),
        )
        if full:
            self.flows.replaced(self._book.plan)
        else:
            self.flows.changed(transaction)
        return True

    async def check(self) -> bool:
        """Whether the kernel still holds the rules; if not, the next sync rebuilds them."""
        if self.in_force and not await self._in_kernel(self._executor.intact):
            log.warning(
                "%s rules: changed by another program; rebuilding them", self.family, extra=fields(family=self.family)
            )
            self.in_force = False
            self.queue()
        return self.in_force

    def close(self) -> None:
        """Stop; the kernel's tables stay as they are."""
        self.flows.close()
        self._executor.stop()

    async def _failed(self, error: ProgramError) -> None:
        await asyncio.gather(*self._sending, return_exceptions=True)  # the same error
        self._sending.clear()
        self._metrics.failed(self.family)
        log.error("%s rules: %s; rebuilding them", self.family, error, extra=fields(family=self.family))

    def _done(self) -> None:
        self._metrics.programmed(self.family, time.time(), self.triggers)
        self.triggers.clear()
        self._health.updated(self.family)
