"""Announcing to a router by BGP: each node that may take an address's packets says so, and the router spreads them."""

from __future__ import annotations

import asyncio

from netlab.speaker.known import Known
from netlab.speaker.session import Router, Session


class RouteSpeaker:
    """Tells a router of the addresses that this node may announce. No election: the more nodes, the better."""

    def __init__(self, known: Known, router: Router, networks: tuple[str, ...]) -> None:
        """`networks` are those of the addresses that it may announce."""
        self._known = known
        self._networks = networks
        self._session = Session(router)

    async def run(self) -> None:
        """Announce until cancelled. As long as no Service has an address, there is no session."""
        await self._known.begun.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._session.run())
            announced: frozenset[str] = frozenset()
            while True:
                self._known.changed.clear()
                announced = frozenset(
                    address
                    for address, services in self._known.wanted(self._networks).items()
                    if self._known.may_announce(services) and (address in announced or self._known.in_force(services))
                )
                self._session.tell(announced)
                await self._known.changed.wait()
