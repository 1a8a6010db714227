"""Announcing on a link: a node answers for the addresses whose Leases it holds."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Mapping

from netlab.api.client import Client
from netlab.api.coordination_types import Lease
from netlab.api.core_types import Service
from netlab.errors import NetlabError
from netlab.speaker.election import DEADLINE, Record, Standing, Step, is_vacant, step
from netlab.speaker.known import Known
from netlab.speaker.leases import Leases
from netlab.speaker.responder import Responder

_RETRY = 0.5
"""Seconds before a Lease is written again that could not be."""
_REPEATS = 2
"""How often an announcement is repeated, once with each renewal: frames get lost."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LinkConfig:
    """What a node needs to know that answers on a link."""

    node_name: str
    interface: str
    """The link on which it announces."""
    networks: tuple[str, ...]
    """Of the addresses that it may announce."""
    source: str | None
    """An IPv6 address of the interface; None if none of the networks is of IPv6."""


@dataclasses.dataclass
class _Claim:
    """What this node has done about an address. Times are the event loop's."""

    since: float
    renewed: float | None = None
    rest_until: float = 0.0
    told: int = 0


class LinkSpeaker:
    """Answers for addresses on a link, those whose Leases the node holds."""

    def __init__(self, known: Known, client: Client, config: LinkConfig) -> None:
        """`client` may read and write the Leases of addresses."""
        self._known = known
        self._config = config
        self._leases = Leases(client, config.node_name, known.changed.set)
        self._claims: dict[str, _Claim] = {}
        self._responder: Responder | None = None

    # --- The loop ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Announce until cancelled. As long as no Service has an address, nothing is asked of the API server."""
        await self._known.begun.wait()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._leases.informer.run())
                await self._leases.informer.synced.wait()
                while True:
                    self._known.changed.clear()
                    await self._sleep(await self._guarded_turn())
        finally:
            self._fall_silent()

    async def _guarded_turn(self) -> float:
        try:
            return await self._turn()
        except Exception as error:
            # A bug that one object triggers must not end the proxy, whose process this is.
            fault = None if isinstance(error, NetlabError | OSError) else error
            log.error("announcing: %s; retrying in %g s", error, _RETRY, exc_info=fault)
            return _RETRY

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._known.changed.wait(), None if math.isinf(seconds) else seconds)
        except TimeoutError:
            return

    async def _turn(self) -> float:
        """Do what is due; the seconds until something is due again, if nothing changes before."""
        now = _now()
        addresses = self._known.wanted(self._config.networks)
        self._claims = {address: self._claims.get(address) or _Claim(now) for address in addresses}
        steps = {address: self._step(address, services, now) for address, services in addresses.items()}
        self._speak({address: self._silent_at(address) for address, each in steps.items() if each.announce})
        others = self._leases.others(addresses)
        unwanted = [lease for lease, record in others if self._may_remove(record, now)]
        due = {address: each for address, each in steps.items() if each.deed != "nothing"}
        await asyncio.gather(*(self._do(address, each) for address, each in due.items()), *map(self._remove, unwanted))
        if due or unwanted:
            return 0
        expiries = [record.seen + record.duration for _, record in others]
        return max(min([*expiries, *(each.again for each in steps.values())], default=math.inf) - _now(), 0)

    def _silent_at(self, address: str) -> float:
        renewed = self._claims[address].renewed
        assert renewed is not None, "it does not announce without a Lease of its own"
        return renewed + DEADLINE

    def _step(self, address: str, services: list[Service], now: float) -> Step:
        claim = self._claims[address]
        standing = Standing(
            eligible=self._known.may_announce(services),
            ready=self._known.in_force(services),
            since=claim.since,
            renewed=claim.renewed,
        )
        found = step(self._config.node_name, address, standing, self._leases.record(address), now)
        if found.deed != "nothing" and now < claim.rest_until:
            return Step("nothing", found.announce, claim.rest_until)
        return found

    async def _do(self, address: str, due: Step) -> None:
        claim, began = self._claims[address], _now()
        try:
            await self._leases.write(address, due.deed)
        except NetlabError as error:
            # A conflict means that another node was faster: what it wrote is on its way.
            log.debug("%s: cannot %s its Lease: %s", address, due.deed, error)
            claim.rest_until = _now() + _RETRY
            return
        claim.renewed = None if due.deed == "release" else began
        if self._responder is not None and address in self._responder.announced:
            self._tell(address)

    def _may_remove(self, record: Record, now: float) -> bool:
        """Whether this node removes the Lease of an address that no Service has: its holder does; any if it is free."""
        return record.holder == self._config.node_name or is_vacant(record, now)

    async def _remove(self, lease: Lease) -> None:
        try:
            await self._leases.remove(lease)
        except NetlabError as error:
            log.debug("Lease %s: %s", lease.metadata.name, error)
            await asyncio.sleep(_RETRY)

    # --- What neighbours hear ----------------------------------------------------------------------------------

    def _speak(self, addresses: Mapping[str, float]) -> None:
        if not addresses:
            self._fall_silent()
            return
        if self._responder is None:
            config = self._config
            self._responder = Responder(config.interface, config.networks, config.source)
        before = self._responder.announced.keys()
        new, gone = addresses.keys() - before, before - addresses.keys()
        self._responder.announce(addresses)
        for address in sorted(gone):
            log.info("no longer announcing %s", address)
        for address in sorted(new):
            log.info("announcing %s on %s", address, self._config.interface)
            self._claims[address].told = 0
            self._tell(address)

    def _tell(self, address: str) -> None:
        claim = self._claims[address]
        if self._responder is not None and claim.told <= _REPEATS:
            claim.told += 1
            self._responder.tell(address)

    def _fall_silent(self) -> None:
        if self._responder is not None:
            log.info("no longer announcing %s", ", ".join(sorted(self._responder.announced)))
            self._responder.close()
            self._responder = None


def _now() -> float:
    return asyncio.get_running_loop().time()
