"""The planner: from a Service and its EndpointSlices to frontends and the lists they lead to. Pure.

The semantics are those of Kubernetes' documentation ("Virtual IPs and Service Proxies") and of the KEPs cited.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from netlab.api.cluster import node_addresses
from netlab.api.core_types import ZONE_LABEL, Node, Service, ServicePort
from netlab.api.discovery_types import HEADLESS_LABEL, EndpointSlice
from netlab.net.addresses import Family, family_of
from netlab.proxy import endpoints
from netlab.proxy.plan import Endpoint, Frontend, HealthCheck, NodeInfo, Policy, Scope, Target
from netlab.proxy.values import PlanError, address_in, port_number, protocol_of

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
"""On a Service: another proxy handles it (KEP-1959)."""

DEFAULT_AFFINITY_SECONDS = 10800
_MAX_AFFINITY_SECONDS = 86400


class Planned(NamedTuple):
    """A Service's frontends, and the errors in its objects: the rest is planned anyway."""

    frontends: dict[Frontend, Target]
    errors: list[PlanError]
    health_checks: tuple[HealthCheck, ...] = ()


class _Reach(NamedTuple):
    """Who may use a Service's address."""

    scope: Scope
    sources: tuple[str, ...] = ()
    """See Target."""


_INSIDE = _Reach(Scope.INTERNAL)
_OUTSIDE = _Reach(Scope.EXTERNAL)


def node_info(node: Node) -> NodeInfo:
    """The properties of a Node that affect plans. Invalid addresses are left out."""
    addresses = []
    for address in node_addresses(node):
        with contextlib.suppress(PlanError):
            addresses.append(address_in(address, node, "address"))
    return NodeInfo(node.metadata.name, node.metadata.labels.get(ZONE_LABEL, ""), tuple(addresses))


def plan_service(service: Service, slices: Iterable[EndpointSlice], node: NodeInfo, family: Family) -> Planned:
    """The frontends of one Service in one family, as seen from a node."""
    errors: list[PlanError] = []
    frontends: dict[Frontend, Target] = {}
    spec, name = service.spec, service.key
    if spec.type == "ExternalName" or PROXY_NAME_LABEL in service.metadata.labels:
        return Planned(frontends, errors)
    addresses = _addresses(service, node, family, errors)
    if not addresses:
        return Planned(frontends, errors)
    slices = [s for s in slices if s.addressType == family and HEADLESS_LABEL not in s.metadata.labels]
    internal: Policy = "Local" if spec.internalTrafficPolicy == "Local" else "Cluster"
    external: Policy = "Local" if spec.externalTrafficPolicy == "Local" else "Cluster"
    healthy: set[str] = set()
    for port in spec.ports:
        try:
            protocol = protocol_of(service, port)
            listed = endpoints.found(slices, port, errors)
            ready = endpoints.ready(listed)
            near = endpoints.near(ready, node)
            # The ready endpoints, or if there are none the terminating ones that still serve (KEP-1669).
            cluster = endpoints.in_order(near, node) or endpoints.in_order(endpoints.draining(listed), node)
            local: tuple[Endpoint, ...] = ()
            if "Local" in (internal, external):
                ready_here = endpoints.local(endpoints.in_order(ready, node))
                local = ready_here or endpoints.local(endpoints.in_order(endpoints.draining(listed), node))
                healthy.update(endpoint.address for endpoint in ready_here)
            affinity_seconds = _affinity_seconds(service)
            serving = endpoints.serving(listed) if protocol == "udp" else frozenset()
            for frontend, (scope, sources) in _frontends(service, port, protocol, addresses):
                if frontend in frontends:
                    errors.append(PlanError(f"Service {name}: {frontend} is declared twice; the first holds"))
                    continue
                policy = internal if scope is Scope.INTERNAL else external
                everywhere = scope is Scope.EXTERNAL or policy == "Cluster"
                frontends[frontend] = Target(
                    service=f"{name}:{port.name}" if port.name else name,
                    scope=scope,
                    policy=policy,
                    # With an internal policy Local, other nodes' endpoints only decide between drop and reject.
                    cluster=cluster if everywhere or not local else (),
                    local=local if policy == "Local" else (),
                    affinity_seconds=affinity_seconds,
                    serving=serving,
                    sources=sources,
                )
        except PlanError as error:
            errors.append(error)
    return Planned(frontends, errors, tuple(_health_checks(service, len(healthy), errors)))


def cluster_ips(service: Service) -> list[str]:
    """The Service's ClusterIPs, the primary first; empty for a headless one or an ExternalName."""
    listed = service.spec.clusterIPs or [service.spec.clusterIP]
    return [address for address in listed if address not in ("", "None")]


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
    """A Service's addresses of a family: none unless it has a ClusterIP of that family, as upstream.

    Load balancers' addresses come before external IPs, so that an address that is both keeps its source ranges.
    """
    internal = _normal(service, "clusterIP", cluster_ips(service), family, errors)
    found: dict[str, _Reach] = dict.fromkeys(internal, _INSIDE)
    status = service.status.loadBalancer.ingress if service.spec.type == "LoadBalancer" else []
    if not internal or not (status or service.spec.externalIPs):
        return found
    # ipMode Proxy: the load balancer delivers to the node's own address, so its own must still reach it (KEP-1860).
    balanced = _normal(service, "ingress ip", [i.ip for i in status if i.ip and i.ipMode != "Proxy"], family, errors)
    external = _normal(service, "externalIPs", service.spec.externalIPs, family, errors)
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
            found.setdefault(address, _OUTSIDE)
    return found


def _normal(service: Service, field: str, texts: Iterable[str], family: Family, errors: list[PlanError]) -> list[str]:
    """A field's addresses of the family, in normal form."""
    found = []
    for text in texts:
        try:
            address = address_in(text, service, field)
        except PlanError as error:
            errors.append(error)
            continue
        if family_of(address) == family:
            found.append(address)
    return found


def _sources(
    service: Service, balanced: Sequence[str], node: NodeInfo, family: Family, errors: list[PlanError]
) -> tuple[str, ...]:
    """Who may connect to the load balancer's addresses; empty if all may.

    Raises PlanError if ranges are given and none is valid: better no load balancer than an open one.
    """
    # All of one family, which the type checker cannot know.
    networks: list[Any] = []
    unread = 0
    for text in service.spec.loadBalancerSourceRanges:
        try:
            # Spaces around a range, and host bits, have always been accepted.
            network = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            unread += 1
            errors.append(PlanError(f"Service {service.key}: loadBalancerSourceRanges {text!r} is not a network"))
            continue
        if family_of(str(network)) == family:
            networks.append(network)
    if unread and not networks:
        raise PlanError(
            f"Service {service.key}: loadBalancerSourceRanges has no valid range; its load balancer is closed"
        )
    own = [ipaddress.ip_address(address) for address in node.addresses if family_of(address) == family]
    if any(address in network for address in own for network in networks):
        # Some cloud providers give a load balancer's address to every node: what the node, which is allowed, then sends
        # there has that address as its source.
        networks += [ipaddress.ip_network(address) for address in balanced]
    # Without overlaps, which the kernel's interval sets refuse.
    return tuple(map(str, ipaddress.collapse_addresses(networks)))


def _health_checks(service: Service, ready: int, errors: list[PlanError]) -> Iterator[HealthCheck]:
    spec = service.spec
    if spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local" and spec.healthCheckNodePort:
        try:
            port = port_number(spec.healthCheckNodePort, service, "healthCheckNodePort")
        except PlanError as error:
            errors.append(error)
        else:
            yield HealthCheck(service.key, port, ready)


def _frontends(
    service: Service, port: ServicePort, protocol: str, addresses: Mapping[str, _Reach]
) -> Iterator[tuple[Frontend, _Reach]]:
    number = port_number(port.port, service, "port")
    for address, reach in addresses.items():
        yield Frontend(address, protocol, number), reach
    if port.nodePort:
        node_port = port_number(port.nodePort, service, "nodePort")
        yield Frontend(None, protocol, node_port), _OUTSIDE
