"""The ranges of ClusterIPs, where the API server has them as objects (ServiceCIDR, KEP-1880)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from netlab.api.client import Client
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.informer import Informer
from netlab.api.networking_types import ServiceCIDR
from netlab.api.resources import SERVICECIDRS

ABSENT = (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN)
"""The server is older than 1.31, or the proxy's role is: then nobody knows the ranges."""
_RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class ServiceRanges:
    """Follows the API server's ServiceCIDRs; `changed` is called with the ranges whenever they change."""

    def __init__(self, client: Client, changed: Callable[[tuple[str, ...]], None]) -> None:
        self.known = asyncio.Event()
        """Set when the ranges have been read, or cannot be."""
        self._client = client
        self._changed = changed
        self._last: tuple[str, ...] = ()

    async def follow(self) -> None:
        """Follow them until cancelled; returns if there is nothing to follow. Raises UsageError as the client does."""
        try:
            while not await self._served():  # noqa: ASYNC110  # the API server is away
                await asyncio.sleep(_RETRY_SECONDS)
        except ApiError as error:
            log.info("the ranges of ClusterIPs are not known: %s", error)
            self.known.set()
            return
        informer = Informer(self._client, SERVICECIDRS)

        def read(*_: ServiceCIDR | None) -> None:
            # Only together: the first of two ranges alone is another layout of the table.
            if informer.synced.is_set():
                self._tell(informer)

        informer.on_change(read)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informer.run())
            await informer.synced.wait()
            self._tell(informer)
            self.known.set()

    async def _served(self) -> bool:
        """Whether the server has them; False: it does not answer now. Raises ApiError if it does not have them."""
        for resource in filter(None, (SERVICECIDRS, SERVICECIDRS.older)):
            try:
                await self._client.pages(resource)
            except ApiUnavailableError:
                return False
            except ApiError as error:
                if error.code not in ABSENT:
                    return False
                if resource.older is None:
                    raise
            else:
                return True
        return False

    def _tell(self, informer: Informer[ServiceCIDR]) -> None:
        found = ranges(informer.items.values())
        if found != self._last:
            self._last = found
            self._changed(found)


def ranges(objects: Iterable[ServiceCIDR]) -> tuple[str, ...]:
    """All ranges, without those that are within others, in order."""
    # All of one family each, which the type checker cannot know.
    networks: dict[int, list[Any]] = {4: [], 6: []}
    for each in objects:
        for cidr in each.spec.cidrs:
            with contextlib.suppress(ValueError):  # none that the API server has accepted
                network = ipaddress.ip_network(cidr)
                networks[network.version].append(network)
    return tuple(str(network) for each in networks.values() for network in ipaddress.collapse_addresses(each))
