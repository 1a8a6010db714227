"""The planner: from a Service and its EndpointSlices to frontends and the lists they lead to. Pure.

The semantics are those of Kubernetes' documentation ("Virtual IPs and Service Proxies") and of the KEPs cited.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from netlab.api.core_types import Service, ServicePort
from netlab.api.discovery_types import Endpoint as ApiEndpoint
from netlab.api.discovery_types import EndpointSlice
from netlab.errors import UsageError
from netlab.proxy.plan import (
    PROTOCOLS,
    Change,
    Endpoint,
    Family,
    Frontend,
    HealthCheck,
    NodeInfo,
    Policy,
    Scope,
    Target,
    Transaction,
    family_of,
)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""On an EndpointSlice: the Service it belongs to."""
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
"""On a Service: another proxy handles it (KEP-1959)."""
HEADLESS_LABEL = "service.kubernetes.io/headless"
"""On a Service or an EndpointSlice: no proxy handles it."""

DEFAULT_AFFINITY_SECONDS = 10800
_MAX_AFFINITY_SECONDS = 86400
_MAX_PORT = 65535


class PlanError(UsageError):
    """A Service or an EndpointSlice says something that cannot be; the message names the object and the field."""


class Planned(NamedTuple):
    """A Service's frontends, and what was wrong with its objects: the rest of them is planned all the same."""

    frontends: dict[Frontend, Target]
    errors: list[PlanError]
    health_checks: tuple[HealthCheck, ...] = ()


class _Candidate(NamedTuple):
    endpoint: Endpoint
    ready: bool
    serving: bool
    terminating: bool


def plan_service(service: Service, slices: Iterable[EndpointSlice], node: NodeInfo, family: Family) -> Planned:
    """The frontends of one Service in one family, as seen from a node."""
    errors: list[PlanError] = []
    frontends: dict[Frontend, Target] = {}
    if not _is_ours(service):
        return Planned(frontends, errors)
    slices = [s for s in slices if s.addressType == family and HEADLESS_LABEL not in s.metadata.labels]
    for port in service.spec.ports:
        try:
            protocol = _protocol(service, port)
            candidates = list(_candidates(slices, port, node.name, errors))
            cluster = _usable(candidates)
            local = _usable([c for c in candidates if c.endpoint.local])
            serving = frozenset((c.endpoint.address, c.endpoint.port) for c in candidates if c.serving)
            for frontend, scope in _frontends(service, port, protocol, family, errors):
                if frontend in frontends:
                    errors.append(PlanError(f"Service {service.key}: {frontend} is declared twice; the first holds"))
                    continue
                policy = _policy(service, scope)
                everywhere = scope is Scope.EXTERNAL or policy == "Cluster"
                frontends[frontend] = Target(
                    service=f"{service.key}:{port.name}" if port.name else service.key,
                    scope=scope,
                    policy=policy,
                    # With an internal policy Local the other nodes' endpoints only decide between drop and reject.
                    cluster=cluster if everywhere or not local else (),
                    local=local if policy == "Local" else (),
                    affinity_seconds=_affinity_seconds(service),
                    serving=serving if protocol == "udp" else frozenset(),
                )
        except PlanError as error:
            errors.append(error)
    return Planned(frontends, errors)


def cluster_ips(service: Service) -> list[str]:
    """The Service's ClusterIPs, the primary first; empty for a headless one or an ExternalName."""
    listed = service.spec.clusterIPs or [service.spec.clusterIP]
    return [address for address in listed if address not in ("", "None")]


def _is_ours(service: Service) -> bool:
    labels = service.metadata.labels
    if service.spec.type == "ExternalName" or PROXY_NAME_LABEL in labels or HEADLESS_LABEL in labels:
        return False
    return bool(cluster_ips(service))


def _policy(service: Service, scope: Scope) -> Policy:
    chosen = service.spec.internalTrafficPolicy if scope is Scope.INTERNAL else service.spec.externalTrafficPolicy
    return "Local" if chosen == "Local" else "Cluster"


def _affinity_seconds(service: Service) -> int:
    if service.spec.sessionAffinity != "ClientIP":
        return 0
    config = service.spec.sessionAffinityConfig
    seconds = config.clientIP.timeoutSeconds if config is not None and config.clientIP is not None else None
    if seconds is None:
        return DEFAULT_AFFINITY_SECONDS
    if not 0 < seconds <= _MAX_AFFINITY_SECONDS:
        raise PlanError(
            f"Service {service.key}: sessionAffinityConfig.clientIP.timeoutSeconds {seconds} is not in 1..86400"
        )
    return seconds


def _frontends(
    service: Service, port: ServicePort, protocol: str, family: Family, errors: list[PlanError]
) -> Iterator[tuple[Frontend, Scope]]:
    number = _port_number(port.port, f"Service {service.key}: port")
    status = service.status.loadBalancer.ingress if service.spec.type == "LoadBalancer" else []
    sources = [("clusterIP", address, Scope.INTERNAL) for address in cluster_ips(service)]
    sources += [("externalIPs", address, Scope.EXTERNAL) for address in service.spec.externalIPs]
    # ipMode Proxy: the load balancer delivers to the node's own address, so its address must reach it (KEP-1860).
    sources += [("ingress ip", i.ip, Scope.EXTERNAL) for i in status if i.ip and i.ipMode != "Proxy"]
    for field, text, scope in sources:
        try:
            address = _address(text, f"Service {service.key}: {field}")
        except PlanError as error:
            errors.append(error)
            continue
        if family_of(address) == family:
            yield Frontend(address, protocol, number), scope
    families = {family_of(address) for _, address, scope in sources if scope is Scope.INTERNAL}
    if port.nodePort and family in families:
        yield Frontend(None, protocol, _port_number(port.nodePort, f"Service {service.key}: nodePort")), Scope.EXTERNAL


def _candidates(
    slices: Iterable[EndpointSlice], port: ServicePort, node_name: str, errors: list[PlanError]
) -> Iterator[_Candidate]:
    """Every endpoint of a Service's port, once.

    The port is found by its name: its number is the pod's (a named targetPort may differ from pod to pod).
    """
    seen: set[tuple[str, int]] = set()
    for endpoint_slice in slices:
        where = f"EndpointSlice {endpoint_slice.key}"
        for number in _numbers(endpoint_slice, port):
            for endpoint in endpoint_slice.endpoints:
                try:
                    candidate = _candidate(endpoint, number, node_name, endpoint_slice.addressType, where)
                except PlanError as error:
                    errors.append(error)
                    continue
                # While a pod moves between slices it can be in both for a moment.
                if candidate.endpoint[:2] not in seen:
                    seen.add(candidate.endpoint[:2])
                    yield candidate


def _numbers(endpoint_slice: EndpointSlice, port: ServicePort) -> Iterator[int]:
    for slice_port in endpoint_slice.ports:
        same = (slice_port.name or "") == port.name and (slice_port.protocol or "TCP") == (port.protocol or "TCP")
        if same and slice_port.port is not None:
            yield _port_number(slice_port.port, f"EndpointSlice {endpoint_slice.key}: port")


def _candidate(endpoint: ApiEndpoint, port: int, node_name: str, family: str, where: str) -> _Candidate:
    if not endpoint.addresses:
        raise PlanError(f"{where}: an endpoint has no address")
    # The addresses of one endpoint are one backend; consumers use the first (EndpointSlice API, since 1.21).
    address = _address(endpoint.addresses[0], f"{where}: address")
    if family_of(address) != family:
        raise PlanError(f"{where}: address {address} is not of its addressType {family}")
    ready, serving, terminating = (
        endpoint.conditions.ready,
        endpoint.conditions.serving,
        endpoint.conditions.terminating,
    )
    is_ready = True if ready is None else ready
    return _Candidate(
        Endpoint(address, port, None if endpoint.nodeName is None else endpoint.nodeName == node_name),
        ready=is_ready,
        serving=is_ready if serving is None else serving,
        terminating=bool(terminating),
    )


def _usable(candidates: list[_Candidate]) -> tuple[Endpoint, ...]:
    """The ready endpoints, or if there are none those that terminate and still serve (KEP-1669)."""
    ready = [c.endpoint for c in candidates if c.ready]
    return tuple(sorted(ready or [c.endpoint for c in candidates if c.serving and c.terminating]))


def _protocol(service: Service, port: ServicePort) -> str:
    try:
        return PROTOCOLS[port.protocol or "TCP"]
    except KeyError:
        raise PlanError(f"Service {service.key}: protocol {port.protocol!r} is none of TCP, UDP, SCTP") from None


def _port_number(number: int, what: str) -> int:
    if not 0 < number <= _MAX_PORT:
        raise PlanError(f"{what} {number} is not in 1..65535")
    return number


def _address(text: str, what: str) -> str:
    """The address in its normal form.

    Leading zeros are read as decimal, as Kubernetes did when objects with them were still accepted (KEP-4858).
    """
    try:
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12}){3}", text):
            text = ".".join(str(int(part)) for part in text.split("."))
        address = ipaddress.ip_address(text)
    except ValueError:
        raise PlanError(f"{what} {text!r} is not an IP address") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise PlanError(f"{what} {text!r} has a zone")
    return str(mapped or address)


class Book:
    """All Services' frontends of one family: who holds a frontend that several claim, and what has changed.

    The Service that is older holds it (then the one whose key is less), whatever the order in which they came.
    """

    def __init__(self) -> None:
        self.plan: dict[Frontend, Target] = {}
        self._before: dict[Frontend, Target | None] = {}
        self._services: dict[str, dict[Frontend, Target]] = {}
        self._ages: dict[str, tuple[str, str]] = {}
        self._claims: dict[Frontend, set[str]] = {}

    def set_service(self, key: str, created: str, frontends: Mapping[Frontend, Target]) -> list[PlanError]:
        """Put a Service's frontends (none: it is gone) in place of what it had; the conflicts it takes part in."""
        before = self._services.get(key, {})
        self._ages[key] = (created, key)
        self._services[key] = dict(frontends)
        for frontend in before.keys() - frontends.keys():
            self._claims[frontend].discard(key)
        for frontend in frontends:
            self._claims.setdefault(frontend, set()).add(key)
        if not frontends:
            del self._services[key], self._ages[key]
        conflicts = []
        for frontend in before.keys() | frontends.keys():
            holder = self._settle(frontend)
            if frontend in frontends and holder != key:
                conflicts.append(PlanError(f"Service {key}: {frontend} belongs to Service {holder}; ignored"))
        return conflicts

    def take_changes(self) -> Transaction:
        """The difference to the plan at the last call; proportional to what changed."""
        changes = (Change(frontend, old, self.plan.get(frontend)) for frontend, old in self._before.items())
        taken = tuple(change for change in changes if change.old != change.new)
        self._before = {}
        return taken

    def _settle(self, frontend: Frontend) -> str | None:
        self._before.setdefault(frontend, self.plan.get(frontend))
        claims = self._claims[frontend]
        if not claims:
            del self._claims[frontend]
            self.plan.pop(frontend, None)
            return None
        holder = min(claims, key=self._ages.__getitem__)
        self.plan[frontend] = self._services[holder][frontend]
        return holder
