"""A BGP session with a router, which gets prefixes and is asked for none."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging

from netlab.backoff import Backoff
from netlab.net.addresses import family_of, of_family
from netlab.speaker import messages
from netlab.speaker.messages import BgpError

HOLD_TIME = 9
"""Seconds after which each end gives a silent peer up (RFC 4271 suggests 90, for routers that are far away)."""
_CONNECT = 5.0
"""Seconds for the connection, and for each answer of the handshake."""
_RETRY = Backoff(first=0.5, last=5, steady=10)

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Router:
    """The router to which a node speaks, and as whom; `own` are the node's addresses, the next hops of each family."""

    address: str
    asn: int
    own_asn: int
    identifier: str
    own: tuple[str, ...]


class Session:
    """Keeps a router told of `prefixes`, from `run`; connects again when the session ends."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._wanted: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    def tell(self, addresses: frozenset[str]) -> None:
        """From now on these addresses, and no others, are reached by this node."""
        if addresses != self._wanted:
            self._wanted = addresses
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled; then a NOTIFICATION ends it."""
        backoff = _RETRY
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._serve()
            except Exception as error:
                # A bug must not end the proxy, whose process this is.
                known = isinstance(error, BgpError | OSError | asyncio.IncompleteReadError)
                said = "it does not answer in time" if isinstance(error, TimeoutError) else error
                log.warning("router %s: %s", self._router.address, said, exc_info=None if known else error)
            backoff = backoff.failed(asyncio.get_running_loop().time() - began)
            await asyncio.sleep(backoff.delay)

    async def _serve(self) -> None:
        router = self._router
        own = next(iter(of_family(router.own, family_of(router.address))))
        async with asyncio.timeout(_CONNECT):
            reader, writer = await asyncio.open_connection(router.address, messages.PORT, local_addr=(own, 0))
        try:
            async with asyncio.timeout(_CONNECT):
                hold_time = await self._handshake(reader, writer)
            log.info("router %s: the session is up", router.address)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_listen(reader, hold_time))
                tasks.create_task(self._speak(writer, hold_time))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                writer.write(messages.notification(messages.CEASE))
            writer.close()

    async def _handshake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        """The hold time of both, in seconds."""
        router = self._router
        writer.write(messages.open_message(router.own_asn, HOLD_TIME, router.identifier))
        kind, body = await _message(reader)
        if kind != messages.OPEN:
            raise BgpError("the peer does not begin with an OPEN")
        said = messages.read_open(body)
        if said.asn != router.asn:
            raise BgpError(f"the peer is of AS {said.asn}, and not {router.asn}")
        writer.write(messages.keepalive())
        kind, _ = await _message(reader)
        if kind != messages.KEEPALIVE:
            raise BgpError("the peer does not confirm the OPEN")
        return min(HOLD_TIME, said.hold_time or HOLD_TIME)

    async def _speak(self, writer: asyncio.StreamWriter, hold_time: float) -> None:
        told: frozenset[str] = frozenset()
        while True:
            self._changed.clear()
            for message in self._updates(told, self._wanted):
                writer.write(message)
            told = self._wanted
            await writer.drain()
            try:
                await asyncio.wait_for(self._changed.wait(), hold_time / 3)
            except TimeoutError:
                writer.write(messages.keepalive())

    def _updates(self, told: frozenset[str], wanted: frozenset[str]) -> list[bytes]:
        found: list[bytes] = []
        for own in self._router.own:
            family = family_of(own)
            gone, come = (_hosts(of_family(each, family)) for each in (told - wanted, wanted - told))
            found += messages.withdrawals(gone) + messages.announcements(come, self._router.own_asn, own)
        return found


async def _listen(reader: asyncio.StreamReader, hold_time: float) -> None:
    """Until the peer ends the session, or falls silent. What routes it has does not concern this node."""
    while True:
        async with asyncio.timeout(hold_time):
            kind, body = await _message(reader)
        if kind == messages.NOTIFICATION:
            raise messages.read_notification(body)


async def _message(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind, length = messages.length_of(await reader.readexactly(messages.HEADER))
    return kind, await reader.readexactly(length)


def _hosts(addresses: tuple[str, ...]) -> list[str]:
    return [f"{address}/{128 if ':' in address else 32}" for address in addresses]
