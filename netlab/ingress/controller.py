"""Follows the API, and keeps an HAProxy and what is said about it true to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from netlab.api import load_balancers
from netlab.api.client import Client
from netlab.api.informer import Informer
from netlab.api.resources import ENDPOINTSLICES, INGRESSCLASSES, INGRESSES, SECRETS, SERVICES
from netlab.backoff import Backoff
from netlab.errors import NetlabError
from netlab.ingress import certificates, rules
from netlab.ingress.endpoints import Endpoint, endpoints_of, port_of
from netlab.ingress.haproxy import config
from netlab.ingress.haproxy.server import Server
from netlab.ingress.model import ServicePort, Table
from netlab.ingress.objects import Objects, by_service
from netlab.ingress.status import Status

_GATHER = 0.01
"""Seconds in which to wait for more changes: what is applied together comes one after the other."""
_RETRY = Backoff(first=0.1, last=10, steady=1)

log = logging.getLogger(__name__)


class Controller:
    """Serves the Ingresses of an API server until cancelled."""

    def __init__(self, client: Client, server: Server, service: str) -> None:
        """`service` is the key of the Service by which the world reaches the HAProxy."""
        self._server = server
        self._service = service
        self._status = Status(client)
        self._ingresses = Informer(client, INGRESSES)
        self._classes = Informer(client, INGRESSCLASSES)
        self._services = Informer(client, SERVICES)
        self._slices = Informer(client, ENDPOINTSLICES)
        self._secrets = Informer(client, SECRETS, fields=f"type={certificates.TYPE}")
        self._informers = (self._ingresses, self._classes, self._services, self._slices, self._secrets)
        self._due = asyncio.Event()
        for informer in self._informers:
            informer.on_change(lambda _old, _new: self._due.set())

    async def run(self) -> None:
        """Follow and serve. What fails is logged, and tried again."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers:
                tasks.create_task(informer.run())
            for informer in self._informers:
                await informer.synced.wait()
            self._due.set()
            backoff, loop = _RETRY, asyncio.get_running_loop()
            while True:
                await self._due.wait()
                await asyncio.sleep(_GATHER)
                self._due.clear()
                began = loop.time()
                try:
                    await self._bring_about()
                except NetlabError as error:
                    log.error("%s; trying again", error)
                    self._due.set()
                    backoff = backoff.failed(loop.time() - began)
                    await asyncio.sleep(backoff.delay)
                else:
                    backoff = _RETRY

    async def _bring_about(self) -> None:
        objects = Objects(
            self._ingresses.items,
            self._classes.items,
            self._services.items,
            by_service(self._slices.items.values()),
            self._secrets.items,
        )
        plan = rules.plan(objects)
        await self._server.serve(plan.table, _endpoints(plan.table, objects))
        own = self._services.items.get(self._service)
        addresses = load_balancers.addresses(own) if own is not None else []
        await self._status.write(plan, self._ingresses.items, addresses)


def _endpoints(table: Table, objects: Objects) -> Mapping[ServicePort, frozenset[Endpoint]]:
    found = {}
    for each in config.destinations(table):
        key = f"{each.namespace}/{each.service}"
        service = objects.services[key]
        port = port_of(service, number=each.port)
        assert port is not None
        found[each] = endpoints_of(service, port, objects.slices.get(key, ()))
    return found
