"""Connection tracking outlives endpoints: UDP flows whose endpoint is gone must be deleted.

TCP recovers by itself (a reset, a timeout, a new source port); a UDP client keeps sending from the same port, each
packet renews the entry, and the rules are never consulted again (kubernetes issue 19029).

Rules never wait for it: a change says which flows it may have made stale, the kernel looks for those, and the rest is
looked through slowly in the background, for what slipped past: a packet that the old rules were still handling.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from netlab.net.addresses import Family, packed
from netlab.net.conntrack.flows import Conntrack, Flow
from netlab.proxy.logs import fields
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import Frontend, Plan, Target, Transaction

log = logging.getLogger(__name__)

_AF = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
_FEW = 4
"""Looks at the table that are cheaper than reading all of it."""
_SHARE = 20
"""In the background, one part in so many of the time is spent on it."""


class Look(NamedTuple):
    """Flows among which a change may have made some stale: those to a frontend, and to one endpoint if it is given."""

    frontend: Frontend
    endpoint: tuple[str, int] | None = None


class Served:
    """The UDP frontends whose rules are in force, and the endpoints that flows to them may go to. Pure."""

    def __init__(self) -> None:
        self.node_addresses: frozenset[bytes] = frozenset()
        """Packed."""
        self._frontends: dict[bytes, frozenset[bytes]] = {}
        """By address and port as in `Flow`; a NodePort by its port alone."""

    def __bool__(self) -> bool:
        return bool(self._frontends)

    def replace(self, plan: Plan) -> None:
        """All of a plan is in force."""
        self._frontends.clear()
        for frontend, target in plan.items():
            self._set(frontend, target)

    def change(self, transaction: Transaction) -> Iterator[Look]:
        """A transaction is in force: which flows it may have made stale."""
        for frontend, old, new in transaction:
            if frontend.protocol != "udp":
                continue
            self._set(frontend, new)
            if new is None:
                continue  # its flows are nobody's; should the frontend come back, they are looked for then
            if old is None or not old.serving:
                # From before the Service, or its endpoints: the client talks to whatever had that address.
                yield Look(frontend)
            else:
                yield from (Look(frontend, endpoint) for endpoint in old.serving - new.serving)

    def is_stale(self, flow: Flow) -> bool:
        """Whether a flow goes to a frontend, but not to one of its serving endpoints."""
        serving = self._frontends.get(flow.sent_to)
        if serving is None and (flow.sent_to[:-2] in self.node_addresses or flow.answers != flow.sent_to):
            serving = self._frontends.get(flow.sent_to[-2:])
        return serving is not None and flow.answers not in serving

    def _set(self, frontend: Frontend, target: Target | None) -> None:
        if frontend.protocol == "udp":
            key = packed_end(frontend.address, frontend.port)
            if target is None:
                self._frontends.pop(key, None)
            else:
                self._frontends[key] = frozenset(packed_end(*endpoint) for endpoint in target.serving)


def packed_end(address: str | None, port: int) -> bytes:
    """An address and a port as in `Flow`; without an address, the port alone."""
    return (packed(address) if address else b"") + port.to_bytes(2, "big")


def few(looks: Iterable[Look]) -> list[Look] | None:
    """The same looks or fewer: one for a frontend that needs several. None: one look at all flows is cheaper."""
    by_frontend: dict[Frontend, set[Look]] = {}
    for look in looks:
        by_frontend.setdefault(look.frontend, set()).add(look)
    found = [
        look if len(same) == 1 else Look(frontend) for frontend, same in by_frontend.items() for look in list(same)[:1]
    ]
    return found if len(found) <= _FEW else None


class Reconciler:
    """Deletes one family's stale UDP flows in the network namespace of the process.

    Say what is in force after it is: a flow that is deleted earlier comes back through the old rules.
    """

    def __init__(self, family: Family, metrics: Metrics) -> None:
        self._family = family
        self._metrics = metrics
        self._served = Served()
        self._due: set[Look] = set()
        self._everything = False
        """All flows are due."""
        self._waiting: asyncio.Future[None] | None = None
        """Done when what is due has been dealt with."""
        self._current: asyncio.Future[None] | None = None
        """The same, of what is being dealt with."""
        self._working: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None

    def replaced(self, plan: Plan) -> None:
        """A whole plan is in force, and what was there before is not known: all flows are due."""
        self._served.replace(plan)
        if self._served:
            self._everything = True
            self._work()

    def changed(self, transaction: Transaction) -> None:
        """A transaction is in force."""
        looks = set(self._served.change(transaction))
        if looks:
            self._due |= looks
            self._work()

    def node(self, addresses: Iterable[str]) -> None:
        """The node's own addresses, where NodePorts are served."""
        self._served.node_addresses = frozenset(map(packed, addresses))

    def pending(self) -> asyncio.Future[None] | None:
        """What is done when the flows that are stale by now are deleted; None if they are. Cancelled by `close`."""
        return self._waiting or self._current

    def look_around(self) -> None:
        """Look through all flows in the background, unless that is going on."""
        if self._served and (self._background is None or self._background.done()):
            self._background = asyncio.create_task(self._forget(None, share=_SHARE))

    def close(self) -> None:
        """Stop."""
        for each in (self._working, self._background, self._waiting, self._current):
            if each is not None:
                each.cancel()

    def _work(self) -> None:
        self._waiting = self._waiting or asyncio.get_running_loop().create_future()
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._forget_due())

    async def _forget_due(self) -> None:
        while self._waiting is not None:
            self._current, self._waiting = self._waiting, None
            looks = None if self._everything else few(self._due)
            self._due, self._everything = set(), False
            await self._forget(looks)
            self._current.set_result(None)
            self._current = None

    async def _forget(self, looks: Iterable[Look] | None, share: int = 1) -> None:
        """Delete the stale ones among these flows (None: among all), in one part in `share` of the time."""
        began, forgotten = time.monotonic(), 0
        try:
            for look in [None] if looks is None else looks:
                forgotten += await self._forget_among(look, share)
        except OSError as error:
            log.error(
                "%s connection tracking: could not delete stale UDP flows: %s",
                self._family,
                error,
                extra=fields(family=self._family),
            )
        self._metrics.reconciled(self._family, time.monotonic() - began, forgotten)
        if forgotten:
            log.info("deleted stale UDP flows", extra=fields(family=self._family, flows=forgotten))

    async def _forget_among(self, look: Look | None, share: int) -> int:
        forgotten = 0
        # A thread asks the kernel, which may have to go through its whole table; each part is judged here, in a
        # fraction of a millisecond, between other work.
        with Conntrack() as reading, Conntrack() as deleting:
            parts = reading.udp_parts(_AF[self._family], *(criteria(look) if look else ()))
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                began = time.monotonic()
                stale = [flow for flow in map(Flow, part) if self._served.is_stale(flow)]
                if stale:
                    forgotten += await asyncio.to_thread(deleting.forget, stale)
                if share > 1:
                    await asyncio.sleep((share - 1) * (time.monotonic() - began))
        return forgotten


def criteria(look: Look) -> tuple[bytes, int, bytes]:
    """What the kernel is to look for: the address and the port that a flow is sent to, and what answers it."""
    address = look.frontend.address
    answers = packed_end(*look.endpoint) if look.endpoint else b""
    return packed(address) if address else b"", look.frontend.port, answers
