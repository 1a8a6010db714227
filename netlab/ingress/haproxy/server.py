"""What an HAProxy has, and how it gets something else: by commands if they can say it, else by a new configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from netlab.ingress.endpoints import Endpoint
from netlab.ingress.haproxy import config, slots
from netlab.ingress.haproxy.config import Settings
from netlab.ingress.haproxy.process import Haproxy, HaproxyError
from netlab.ingress.haproxy.slots import Slots
from netlab.ingress.model import ServicePort, Table

Endpoints = Mapping[ServicePort, frozenset[Endpoint]]

log = logging.getLogger(__name__)


class Server:
    """An HAProxy that serves a routing table."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._haproxy = Haproxy(directory)
        self._settings = settings
        self._table: Table | None = None
        """What it has; None: that is not known."""
        self._servers: dict[ServicePort, Slots] = {}
        self.reloads = 0
        """How many configurations it has had."""

    async def serve(self, table: Table, endpoints: Endpoints) -> None:
        """Serve a table, with the endpoints of each of its destinations. In force when it returns.

        Raises `HaproxyError`; whatever was in force then still is, or most of it.
        """
        if table == self._table and (moved := self._moved(endpoints)) is not None:
            commands = [
                command
                for port, places in moved.items()
                for command in slots.commands(config.name_of(port), self._servers[port], places)
            ]
            try:
                await self._haproxy.run(commands)
            except HaproxyError as error:
                log.warning("%s: loading a new configuration", error)
                self._table = None
            else:
                self._servers = moved
                return
        await self._reload(table, {port: slots.fresh(endpoints[port]) for port in config.destinations(table)})

    def _moved(self, endpoints: Endpoints) -> dict[ServicePort, Slots] | None:
        found = {}
        for port, places in self._servers.items():
            new = slots.moved(places, endpoints[port])
            if new is None:
                return None
            found[port] = new
        return found

    async def _reload(self, table: Table, servers: dict[ServicePort, Slots]) -> None:
        generation = self._haproxy.next_generation()
        await self._haproxy.use(generation, config.files(table, servers, self._settings, generation))
        self._table, self._servers = table, servers
        self.reloads += 1

    async def gone(self) -> None:
        """Wait until HAProxy has ended."""
        await self._haproxy.gone.wait()

    async def stop(self, seconds: float) -> None:
        """End it; connections that there are have some seconds."""
        await self._haproxy.stop(seconds)
