"""What others can query: whether the proxy works, its metrics, and whether a Service has endpoints here."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from ipaddress import ip_network

from netlab.api.core_types import Node
from netlab.net.addresses import Family, family_of, of_family
from netlab.proxy.config import Listen, ProxyConfig
from netlab.proxy.configfile import CONFIG_GROUP, document
from netlab.proxy.httpd import NOT_FOUND, Handler, Request, Response, json_answer, serving, text
from netlab.proxy.logs import fields
from netlab.proxy.metrics import CONTENT_TYPE, Metrics
from netlab.proxy.plan import HealthCheck

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
"""The taint of a node that the cluster autoscaler is about to remove."""

_RETRY_SECONDS = 5.0
"""How long to wait before trying again to bind an address, as upstream does."""

log = logging.getLogger(__name__)


class Health:
    """Whether the rules are up to date, and whether load balancers should send the node traffic (KEP-3836).

    A family's rules are out of date when a change has been waiting longer than `timeout` seconds. Times are of
    `clock`, in seconds since the epoch.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.time) -> None:
        self._timeout = timeout
        self._clock = clock
        self._updated: dict[Family, float] = {}
        self._waiting: dict[Family, float] = {}
        """Since when the oldest change has been waiting."""
        self.node_eligible = True

    def follow(self, family: Family) -> None:
        """Report on a family from now on."""
        self._updated.setdefault(family, 0.0)

    def queued(self, family: Family) -> None:
        """A change to a family's rules is waiting."""
        self.follow(family)
        self._waiting.setdefault(family, self._clock())

    def updated(self, family: Family) -> None:
        """A family's rules are up to date."""
        self._waiting.pop(family, None)
        self._updated[family] = self._clock()

    def node(self, node: Node) -> None:
        """The Node changed: one that is being deleted gets no more traffic."""
        tainted = any(taint.key == TO_BE_DELETED for taint in node.spec.taints)
        self.node_eligible = not tainted and node.metadata.deletionTimestamp is None

    def is_healthy(self, family: Family | None = None) -> bool:
        """Whether no change (of one family) has waited too long; true before the first sync as well."""
        now = self._clock()
        waiting = [self._waiting.get(family, now)] if family else self._waiting.values()
        return all(now - since < self._timeout for since in waiting)

    def report(self) -> dict[str, object]:
        """When rules were last up to date (for a healthy proxy that is now, as upstream says), and the time.

        The same for each family, under `status`.
        """
        now = self._clock()
        families: dict[Family, float] = {
            family: now if self.is_healthy(family) else updated for family, updated in self._updated.items()
        }
        return {
            **_state(min(families.values(), default=now), now, healthy=self.is_healthy()),
            "status": {
                family: _state(updated, now, healthy=self.is_healthy(family)) for family, updated in families.items()
            },
        }


def _state(updated: float, now: float, *, healthy: bool) -> dict[str, object]:
    return {"lastUpdated": _moment(updated), "currentTime": _moment(now), "healthy": healthy}


def health_handler(health: Health, metrics: Metrics) -> Handler:
    """Answers /healthz (for load balancers: should the node get traffic?) and /livez (the proxy alone)."""

    def answer(request: Request) -> Response:
        if request.path == "/healthz":
            good, count = health.is_healthy() and health.node_eligible, metrics.healthz
            body = {**health.report(), "nodeEligible": health.node_eligible}
        elif request.path == "/livez":
            good, count, body = health.is_healthy(), metrics.livez, health.report()
        else:
            return NOT_FOUND
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        count.labels(str(int(status))).inc()
        return json_answer(body, status)

    return answer


def metrics_handler(metrics: Metrics, config: ProxyConfig) -> Handler:
    """Answers /metrics, /proxyMode, /configz, and /healthz with `ok`, as upstream's metrics server does."""

    def answer(request: Request) -> Response:
        if request.path == "/metrics":
            return Response(HTTPStatus.OK, metrics.render(), CONTENT_TYPE)
        if request.path == "/configz":
            return json_answer({CONFIG_GROUP: document(config)}, HTTPStatus.OK)
        texts = {"/proxyMode": config.mode, "/healthz": "ok"}
        return text(texts[request.path]) if request.path in texts else NOT_FOUND

    return answer


async def keep_serving(listen: Listen, handler: Handler, what: str) -> None:
    """Answer at an address until cancelled; retry while it cannot be bound (in use, or not configured yet)."""
    complained = False
    while True:
        try:
            with serving(listen, handler):
                log.info("serving %s", what, extra=fields(address=listen))
                await asyncio.Future()
        except OSError as error:
            if not complained:
                log.error("cannot serve %s: %s; will try again", what, _reason(error), extra=fields(address=listen))
            complained = True
            await asyncio.sleep(_RETRY_SECONDS)


class ServiceHealth:
    """Health check node ports: a server for each Service whose load balancer needs to know which nodes have endpoints.

    They are answered at the addresses that serve NodePorts, `node_ports` (networks; empty: all).
    `failed` is called once for a port that cannot be opened; every sync tries it again.
    """

    def __init__(
        self, health: Health, node_ports: Iterable[str], failed: Callable[[HealthCheck, str], None] = lambda *_: None
    ) -> None:
        self._health = health
        self.node_ports = tuple(node_ports)
        self._failed = failed
        self._checks: dict[str, HealthCheck] = {}
        self._servers: dict[str, tuple[int, contextlib.ExitStack]] = {}
        self._complained: set[tuple[str, int]] = set()

    def sync(self, checks: Mapping[str, HealthCheck]) -> None:
        """Run servers for exactly these, by Service."""
        self._checks = dict(checks)
        for service, (port, server) in list(self._servers.items()):
            if service not in checks or checks[service].port != port:
                del self._servers[service]
                server.close()
        self._complained &= {(check.service, check.port) for check in checks.values()}
        for service, check in checks.items():
            if service not in self._servers:
                self._open(check)

    def close(self) -> None:
        """Stop all servers."""
        self.sync({})

    def _open(self, check: HealthCheck) -> None:
        server = contextlib.ExitStack()
        try:
            server.enter_context(serving(Listen("::", check.port), self._handler(check.service)))
        except OSError as error:
            if (check.service, check.port) not in self._complained:
                self._complained.add((check.service, check.port))
                self._failed(check, _reason(error))
        else:
            self._complained.discard((check.service, check.port))
            self._servers[check.service] = (check.port, server)

    def _handler(self, service: str) -> Handler:
        namespace, _, name = service.partition("/")

        def answer(request: Request) -> Response | None:
            check = self._checks.get(service)
            networks = of_family(self.node_ports, family_of(str(request.address)))
            if check is None or (networks and not any(request.address in ip_network(each) for each in networks)):
                return None
            healthy = self._health.is_healthy()
            body: dict[str, object] = {
                "service": {"namespace": namespace, "name": name},
                "localEndpoints": check.local_endpoints,
                "serviceProxyHealthy": healthy,
            }
            good = check.local_endpoints and healthy
            # A load balancer can weigh nodes by this header (kubernetes PR 118999).
            weight = {"X-Load-Balancing-Endpoint-Weight": str(check.local_endpoints)}
            return json_answer(body, HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, weight)

        return answer


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _moment(seconds: float) -> str:
    """As RFC 3339 has it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="microseconds")[:-6] + "Z"
