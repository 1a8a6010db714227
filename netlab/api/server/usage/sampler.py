"""Scrapes kubelets on request, and keeps the scrapes for a minute, to compare with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from netlab.api.errors import ApiError
from netlab.api.server.usage import scrapes
from netlab.api.server.usage.scrapes import LONGEST, SHORTEST, Scrape

_PATH = "/metrics/resource"
_PATIENCE = 10.0
"""Seconds in which a kubelet has to answer (metrics-server --kubelet-request-timeout)."""

Ask = Callable[[str, str], Awaitable[bytes]]
"""Asks the kubelet of a node at a path. Raises `ApiError`."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Node:
    kept: list[tuple[float, Scrape]] = field(default_factory=list)
    """Each with when it came, on the monotonic clock; the latest last."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sampler:
    """The latest scrapes of the nodes that clients have asked about."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._nodes: dict[str, _Node] = {}

    async def sample(self, nodes: Iterable[str]) -> dict[str, tuple[Scrape, Scrape]]:
        """For each node whose kubelet answers, what it says now, and what it said before; that is made, if need be."""
        names = list(dict.fromkeys(nodes))
        found = await asyncio.gather(*map(self._sample, names))
        self._forget()
        return {name: pair for name, pair in zip(names, found, strict=True) if pair is not None}

    async def _sample(self, name: str) -> tuple[Scrape, Scrape] | None:
        node = self._nodes.setdefault(name, _Node())
        try:
            async with asyncio.timeout(_PATIENCE), node.lock:
                now = await self._latest(name, node)
                before = scrapes.baseline(now, (each for _, each in node.kept))
                if before is None:
                    # The first that is asked for in a while: the next one is soon enough to compare with.
                    came, before = node.kept[-1]
                    await asyncio.sleep(max(0.0, came + SHORTEST - time.monotonic()))
                    now = await self._scrape(name, node)
                return now, before
        except (ApiError, TimeoutError) as error:
            log.info("node %s: %s", name, error or "its kubelet did not answer in time")
            return None

    async def _latest(self, name: str, node: _Node) -> Scrape:
        if node.kept and time.monotonic() - node.kept[-1][0] < SHORTEST:
            return node.kept[-1][1]
        return await self._scrape(name, node)

    async def _scrape(self, name: str, node: _Node) -> Scrape:
        scrape = scrapes.read((await self._ask(name, _PATH)).decode(errors="replace"))
        came = time.monotonic()
        node.kept = [(when, each) for when, each in node.kept if came - when <= LONGEST]
        node.kept.append((came, scrape))
        return scrape

    def _forget(self) -> None:
        """Forget the nodes about which nobody has asked for a while."""
        since = time.monotonic() - LONGEST
        for name, node in list(self._nodes.items()):
            if not node.lock.locked() and (not node.kept or node.kept[-1][0] < since):
                del self._nodes[name]
