"""The planner: from a Service and its EndpointSlices to frontends and the lists they lead to. Pure.

The semantics are those of Kubernetes' documentation ("Virtual IPs and Service Proxies") and of the KEPs cited.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from netlab.api.core_types import ZONE_LABEL, Node, Service, ServicePort
from netlab.api.discovery_types import HEADLESS_LABEL, EndpointHints, EndpointSlice
from netlab.api.discovery_types import Endpoint as ApiEndpoint
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

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
"""On a Service: another proxy handles it (KEP-1959)."""

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


class _Reach(NamedTuple):
    """Who may use an address of a Service."""

    scope: Scope
    sources: tuple[str, ...] = ()
    """See Target."""


@dataclasses.dataclass(slots=True)
class _Found:
    """The endpoints of a Service's port, by what their conditions say."""

    ready: list[Endpoint] = dataclasses.field(default_factory=list)
    draining: list[Endpoint] = dataclasses.field(default_factory=list)
    """They terminate and still serve."""
    serving: set[tuple[str, int]] = dataclasses.field(default_factory=set)
    """Also the ready ones that do not serve (publishNotReadyAddresses): new flows are sent to them."""
    hints: list[EndpointHints | None] = dataclasses.field(default_factory=list)
    """Of the ready ones."""


def node_info(node: Node) -> NodeInfo:
    """What of a Node decides plans. An address that is none is left out: what runs there does not depend on it."""
    addresses = []
    for listed in node.status.addresses:
        if listed.type in ("InternalIP", "ExternalIP"):
            with contextlib.suppress(PlanError):
                addresses.append(_address(listed.address, f"Node {node.metadata.name}: address"))
    return NodeInfo(node.metadata.name, node.metadata.labels.get(ZONE_LABEL, ""), tuple(addresses))


def plan_service(service: Service, slices: Iterable[EndpointSlice], node: NodeInfo, family: Family) -> Planned:
    """The frontends of one Service in one family, as seen from a node."""
    errors: list[PlanError] = []
    frontends: dict[Frontend, Target] = {}
    if not _is_ours(service):
        return Planned(frontends, errors)
    slices = [s for s in slices if s.addressType == family and HEADLESS_LABEL not in s.metadata.labels]
    addresses = _addresses(service, node, family, errors)
    ready_here: set[str] = set()
    for port in service.spec.ports:
        try:
            protocol = _protocol(service, port)
            found = _find(slices, port, node.name, errors)
            # The ready endpoints, or if there are none those that terminate and still serve (KEP-1669).
            cluster = tuple(sorted(_near(found, node) or found.draining))
            ready = [endpoint for endpoint in found.ready if endpoint.local]
            local = tuple(sorted(ready or [endpoint for endpoint in found.draining if endpoint.local]))
            ready_here.update(endpoint.address for endpoint in ready)
            serving = frozenset(found.serving) if protocol == "udp" else frozenset()
            for frontend, (scope, sources) in _frontends(service, port, protocol, addresses):
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
                    serving=serving,
                    sources=sources,
                )
        except PlanError as error:
            errors.append(error)
    return Planned(frontends, errors, tuple(_health_checks(service, addresses, len(ready_here), errors)))


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


def _addresses(service: Service, node: NodeInfo, family: Family, errors: list[PlanError]) -> dict[str, _Reach]:
    """A Service's addresses of a family.

    Load balancers' addresses come before external IPs, so that one which is both keeps its source ranges.
    """
    status = service.status.loadBalancer.ingress if service.spec.type == "LoadBalancer" else []
    internal = _normal(service, "clusterIP", cluster_ips(service), family, errors)
    # ipMode Proxy: the load balancer delivers to the node's own address, so its address must reach it (KEP-1860).
    balanced = _normal(service, "ingress ip", [i.ip for i in status if i.ip and i.ipMode != "Proxy"], family, errors)
    external = _normal(service, "externalIPs", service.spec.externalIPs, family, errors)
    found: dict[str, _Reach] = dict.fromkeys(internal, _Reach(Scope.INTERNAL))
    if balanced:
        try:
            sources = _sources(service, balanced, node, family, errors)
        except PlanError as error:
            errors.append(error)
        else:
            for address in balanced:
                found.setdefault(address, _Reach(Scope.EXTERNAL, sources))
    for address in external:
        if address not in balanced:
            found.setdefault(address, _Reach(Scope.EXTERNAL))
    return found


def _normal(service: Service, field: str, texts: Iterable[str], family: Family, errors: list[PlanError]) -> list[str]:
    """Those addresses of a field that are of the family, in their normal form."""
    found = []
    for text in texts:
        try:
            address = _address(text, f"Service {service.key}: {field}")
        except PlanError as error:
            errors.append(error)
            continue
        if family_of(address) == family:
            found.append(address)
    return found


def _sources(
    service: Service, balanced: Sequence[str], node: NodeInfo, family: Family, errors: list[PlanError]
) -> tuple[str, ...]:
    """Who may connect to the load balancer's addresses; nobody is named when everybody may.

    Raises PlanError when ranges are asked for and none can be read: better no load balancer than an open one.
    """
    # All of one family, which cannot be told to a type checker.
    networks: list[Any] = []
    unread = 0
    for text in service.spec.loadBalancerSourceRanges:
        try:
            # Spaces around a range have always been let through, and so have bits beyond its prefix.
            network = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            unread += 1
            errors.append(PlanError(f"Service {service.key}: loadBalancerSourceRanges {text!r} is not a network"))
            continue
        if family_of(str(network)) == family:
            networks.append(network)
    if unread and not networks:
        raise PlanError(
            f"Service {service.key}: no range of loadBalancerSourceRanges can be read; its load balancer is closed"
        )
    own = [ipaddress.ip_address(address) for address in node.addresses if family_of(address) == family]
    if any(address in network for address in own for network in networks):
        # Some cloud providers give a load balancer's address to every node: what the node, who is allowed, then sends
        # there has that address as its source.
        networks += [ipaddress.ip_network(address) for address in balanced]
    # Without overlaps, which no set of intervals in the kernel takes.
    return tuple(map(str, ipaddress.collapse_addresses(networks)))


def _health_checks(
    service: Service, addresses: Mapping[str, _Reach], ready: int, errors: list[PlanError]
) -> Iterator[HealthCheck]:
    spec = service.spec
    if spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local" and spec.healthCheckNodePort and addresses:
        try:
            port = _port_number(spec.healthCheckNodePort, f"Service {service.key}: healthCheckNodePort")
        except PlanError as error:
            errors.append(error)
        else:
            yield HealthCheck(service.key, port, ready)


def _frontends(
    service: Service, port: ServicePort, protocol: str, addresses: Mapping[str, _Reach]
) -> Iterator[tuple[Frontend, _Reach]]:
    number = _port_number(port.port, f"Service {service.key}: port")
    for address, reach in addresses.items():
        yield Frontend(address, protocol, number), reach
    if port.nodePort and any(reach.scope is Scope.INTERNAL for reach in addresses.values()):
        node_port = _port_number(port.nodePort, f"Service {service.key}: nodePort")
        yield Frontend(None, protocol, node_port), _Reach(Scope.EXTERNAL)


def _find(slices: Iterable[EndpointSlice], port: ServicePort, node_name: str, errors: list[PlanError]) -> _Found:
    """Every endpoint of a Service's port, once.

    The port is found by its name: its number is the pod's (a named targetPort may differ from pod to pod).
    """
    found = _Found()
    seen: set[tuple[str, int]] = set()
    for endpoint_slice in slices:
        for number in _numbers(endpoint_slice, port):
            for listed in endpoint_slice.endpoints:
                try:
                    address = _endpoint_address(listed, endpoint_slice)
                except PlanError as error:
                    errors.append(error)
                    continue
                # While a pod moves between slices it can be in both for a moment.
                if (address, number) in seen:
                    continue
                seen.add((address, number))
                conditions, node = listed.conditions, listed.nodeName
                endpoint = Endpoint(address, number, None if node is None else node == node_name)
                ready = conditions.ready is not False  # unknown: it is (EndpointSlice API)
                serving = ready if conditions.serving is None else conditions.serving
                if ready:
                    found.ready.append(endpoint)
                    found.hints.append(listed.hints)
                elif serving and conditions.terminating:
                    found.draining.append(endpoint)
                if serving or ready:
                    found.serving.add((address, number))
    return found


def _numbers(endpoint_slice: EndpointSlice, port: ServicePort) -> Iterator[int]:
    for slice_port in endpoint_slice.ports:
        same = (slice_port.name or "") == port.name and (slice_port.protocol or "TCP") == (port.protocol or "TCP")
        if same and slice_port.port is not None:
            yield _port_number(slice_port.port, f"EndpointSlice {endpoint_slice.key}: port")


def _endpoint_address(endpoint: ApiEndpoint, endpoint_slice: EndpointSlice) -> str:
    """The addresses of one endpoint are one backend; consumers use the first (EndpointSlice API, since 1.21)."""
    family = endpoint_slice.addressType
    if endpoint.addresses:
        text = endpoint.addresses[0]
        if family == "IPv4" and _is_normal_ipv4(text):
            return text
        address = _address(text, f"EndpointSlice {endpoint_slice.key}: address")
        if family_of(address) == family:
            return address
        raise PlanError(f"EndpointSlice {endpoint_slice.key}: address {address} is not of its addressType {family}")
    raise PlanError(f"EndpointSlice {endpoint_slice.key}: an endpoint has no address")


def _near(found: _Found, node: NodeInfo) -> list[Endpoint]:
    """Of the ready endpoints those hinted for the node, else those for its zone (KEP-3015, KEP-2433), else all.

    Hints hold only if every endpoint has one: otherwise they are being written or taken back at this moment.
    """
    if None in found.hints:
        return found.ready
    hinted = list(zip(found.ready, [hints for hints in found.hints if hints is not None], strict=True))
    if node.name and all(hints.forNodes for _, hints in hinted):
        near = [endpoint for endpoint, hints in hinted if any(each.name == node.name for each in hints.forNodes)]
        if near:
            return near
    if node.zone and all(hints.forZones for _, hints in hinted):
        near = [endpoint for endpoint, hints in hinted if any(each.name == node.zone for each in hints.forZones)]
        if near:
            return near
    return found.ready


def _protocol(service: Service, port: ServicePort) -> str:
    try:
        return PROTOCOLS[port.protocol or "TCP"]
    except KeyError:
        raise PlanError(f"Service {service.key}: protocol {port.protocol!r} is none of TCP, UDP, SCTP") from None


def _port_number(number: int, what: str) -> int:
    if not 0 < number <= _MAX_PORT:
        raise PlanError(f"{what} {number} is not in 1..65535")
    return number


def _is_normal_ipv4(text: str) -> bool:
    """Nearly all addresses are, of which there may be 250,000: ipaddress takes ten times as long to say so."""
    try:
        socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def _address(text: str, what: str) -> str:
    """The address in its normal form.

    Leading zeros are read as decimal, as Kubernetes did when objects with them were still accepted (KEP-4858).
    """
    if _is_normal_ipv4(text):
        return text
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
