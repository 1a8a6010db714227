"""What others may ask a kube-proxy: whether it works, what it counts, and whether a Service has endpoints here."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import ipaddress
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from aiohttp import web

from netlab.api.core_types import Node
from netlab.proxy.config import Listen, Mode
from netlab.proxy.logs import fields
from netlab.proxy.metrics import CONTENT_TYPE, Metrics
from netlab.proxy.plan import Family, HealthCheck, family_of, of_family

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
"""The taint of a node that the cluster autoscaler is about to remove."""

_RETRY_SECONDS = 5.0
"""How long until an address that could not be bound is tried again, as upstream does."""

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class Health:
    """Whether the rules are up to date, and whether the node is to get traffic from load balancers (KEP-3836).

    A family's rules are out of date when a change has been waiting longer than `timeout` seconds. Times are of
    `clock`, in seconds since the epoch.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.time) -> None:
        self._timeout = timeout
        self._clock = clock
        self._updated: dict[Family, float] = {}
        self._waiting: dict[Family, float] = {}
        """Since when the oldest change waits."""
        self.node_eligible = True

    def queued(self, family: Family) -> None:
        """A change of a family's rules is waiting."""
        self._waiting.setdefault(family, self._clock())

    def updated(self, family: Family) -> None:
        """A family's rules are those of the last change."""
        self._waiting.pop(family, None)
        self._updated[family] = self._clock()

    def node(self, node: Node) -> None:
        """The Node changed: one that is being deleted gets no more traffic."""
        tainted = any(taint.key == TO_BE_DELETED for taint in node.spec.taints)
        self.node_eligible = not tainted and node.metadata.deletionTimestamp is None

    def is_healthy(self) -> bool:
        """Whether no change has waited too long; also before the first sync."""
        now = self._clock()
        return all(now - since < self._timeout for since in self._waiting.values())

    def report(self) -> dict[str, str]:
        """When rules were last up to date, which those of a healthy proxy are now (as upstream says), and the time."""
        now = self._clock()
        last = now if self.is_healthy() else min(self._updated.get(family, 0.0) for family in self._waiting)
        return {"lastUpdated": _moment(last), "currentTime": _moment(now)}


def health_handler(health: Health, metrics: Metrics) -> Handler:
    """Answers /healthz (for load balancers: also whether the node is to get traffic) and /livez (the proxy alone)."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/healthz":
            good, count = health.is_healthy() and health.node_eligible, metrics.healthz
            body: dict[str, object] = {**health.report(), "nodeEligible": health.node_eligible}
        elif request.path == "/livez":
            good, count, body = health.is_healthy(), metrics.livez, {**health.report()}
        else:
            return _not_found()
        status = 200 if good else 503
        count.labels(str(status)).inc()
        return _json(body, status)

    return answer


def metrics_handler(metrics: Metrics, mode: Mode) -> Handler:
    """Answers /metrics, /proxyMode, and /healthz with `ok`, as upstream's metrics server does."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/metrics":
            return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})
        texts = {"/proxyMode": mode, "/healthz": "ok"}
        return web.Response(text=texts[request.path]) if request.path in texts else _not_found()

    return answer


async def keep_serving(listen: Listen, handler: Handler, what: str) -> None:
    """Answer at an address until cancelled; while it cannot be bound (in use, or not there yet) try again."""
    complained = False
    while True:
        try:
            async with _serving(listen, handler):
                log.info("serving %s", what, extra=fields(address=listen))
                await asyncio.Future()
        except OSError as error:
            if not complained:
                reason = error.strerror or error
                log.error("%s cannot be served: %s; trying again", what, reason, extra=fields(address=listen))
            complained = True
            await asyncio.sleep(_RETRY_SECONDS)


class ServiceHealth:
    """Health check node ports: a server for each Service whose load balancer must know which nodes have endpoints.

    They are answered at the addresses that serve NodePorts, `node_ports` (networks; none are named: at all).
    `failed` is told, once, of one whose port cannot be opened; it is tried again whenever there is a sync.
    """

    def __init__(
        self, health: Health, node_ports: Iterable[str], failed: Callable[[HealthCheck, str], None] = lambda *_: None
    ) -> None:
        self._health = health
        self.node_ports = tuple(node_ports)
        self._failed = failed
        self._checks: dict[str, HealthCheck] = {}
        self._servers: dict[str, tuple[int, contextlib.AsyncExitStack]] = {}
        self._complained: set[tuple[str, int]] = set()

    async def sync(self, checks: Mapping[str, HealthCheck]) -> None:
        """Have servers for these, by Service, and no others."""
        self._checks = dict(checks)
        for service, (port, server) in list(self._servers.items()):
            if service not in checks or checks[service].port != port:
                del self._servers[service]
                await server.aclose()
        self._complained &= {(check.service, check.port) for check in checks.values()}
        for service, check in checks.items():
            if service not in self._servers:
                await self._open(check)

    async def close(self) -> None:
        """End all servers."""
        await self.sync({})

    async def _open(self, check: HealthCheck) -> None:
        server = contextlib.AsyncExitStack()
        try:
            await server.enter_async_context(_serving(Listen("::", check.port), self._handler(check.service)))
        except OSError as error:
            if (check.service, check.port) not in self._complained:
                self._complained.add((check.service, check.port))
                self._failed(check, error.strerror or str(error))
        else:
            self._complained.discard((check.service, check.port))
            self._servers[check.service] = (check.port, server)

    def _handler(self, service: str) -> Handler:
        namespace, _, name = service.partition("/")

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if not self._serves(request):
                assert request.transport is not None
                request.transport.abort()
                return web.Response(status=404)
            healthy, endpoints = self._health.is_healthy(), self._checks[service].local_endpoints
            body: dict[str, object] = {
                "service": {"namespace": namespace, "name": name},
                "localEndpoints": endpoints,
                "serviceProxyHealthy": healthy,
            }
            response = _json(body, 200 if endpoints and healthy else 503)
            # KEP-3836's successor for load balancers that weigh nodes by it.
            response.headers["X-Load-Balancing-Endpoint-Weight"] = str(endpoints)
            return response

        return answer

    def _serves(self, request: web.BaseRequest) -> bool:
        """Whether the client asked at an address that serves NodePorts: addresses come and go, so it is asked late."""
        if request.transport is None:
            return False
        own = ipaddress.ip_address(request.transport.get_extra_info("sockname")[0])
        address = (isinstance(own, ipaddress.IPv6Address) and own.ipv4_mapped) or own
        networks = of_family(self.node_ports, family_of(str(address)))
        return not networks or any(address in ipaddress.ip_network(network) for network in networks)


@contextlib.asynccontextmanager
async def _serving(listen: Listen, handler: Handler) -> AsyncIterator[None]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        response = await handler(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    protocol = web.Server(answer, access_log=None)
    server = await asyncio.get_running_loop().create_server(protocol, sock=_bound(listen))
    try:
        yield
    finally:
        server.close()
        await protocol.shutdown(0)


def _bound(listen: Listen) -> socket.socket:
    if ipaddress.ip_address(listen.host).is_unspecified:
        try:
            return socket.create_server(("::", listen.port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            # Neither is there where the kernel was started without IPv6.
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return socket.create_server(("", listen.port))
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    return socket.create_server(listen, family=family)


def _json(body: Mapping[str, object], status: int) -> web.Response:
    return web.json_response(body, status=status)


def _not_found() -> web.Response:
    return web.Response(status=404, text="404 page not found\n")


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(" ", "microseconds")
