"""The planner: from a Service and its EndpointSlices to frontends and the lists they lead to. Pure.

The semantics are those of Kubernetes' documentation ("Virtual IPs and Service Proxies") and of the KEPs cited.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import ipaddress
import itertools
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from netlab.api.core_types import ZONE_LABEL, Node, Service, ServicePort
from netlab.api.discovery_types import HEADLESS_LABEL, EndpointHints, EndpointSlice
from netlab.api.discovery_types import Endpoint as ApiEndpoint
from netlab.errors import UsageError
from netlab.net.addresses import Family, family_of
from netlab.proxy.plan import PROTOCOLS, Endpoint, Frontend, HealthCheck, NodeInfo, Policy, Scope, Target

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
"""On a Service: another proxy handles it (KEP-1959)."""

DEFAULT_AFFINITY_SECONDS = 10800
_MAX_AFFINITY_SECONDS = 86400
_MAX_PORT = 65535
_new = tuple.__new__


class PlanError(UsageError):
    """A Service or an EndpointSlice has an invalid value; the message names the object and the field."""


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

_Listed: TypeAlias = dict[int, dict[str, ApiEndpoint]]
"""The endpoints of a Service's port, by its number there and by address."""


def node_info(node: Node) -> NodeInfo:
    """The properties of a Node that affect plans. Invalid addresses are left out."""
    addresses = []
    for listed in node.status.addresses:
        if listed.type in ("InternalIP", "ExternalIP"):
            with contextlib.suppress(PlanError):
                addresses.append(_address(listed.address, node, "address"))
    return NodeInfo(node.metadata.name, node.metadata.labels.get(ZONE_LABEL, ""), tuple(addresses))


def plan_service(service: Service, slices: Iterable[EndpointSlice], node: NodeInfo, family: Family) -> Planned:
    """The frontends of one Service in one family, as seen from a node."""
    errors: list[PlanError] = []
    frontends: dict[Frontend, Target] = {}
    cluster_addresses = cluster_ips(service)
    if not cluster_addresses or service.spec.type == "ExternalName" or PROXY_NAME_LABEL in service.metadata.labels:
        return Planned(frontends, errors)
    slices = [s for s in slices if s.addressType == family and HEADLESS_LABEL not in s.metadata.labels]
    addresses = _addresses(service, cluster_addresses, node, family, errors)
    spec, name = service.spec, service.key
    internal: Policy = "Local" if spec.internalTrafficPolicy == "Local" else "Cluster"
    external: Policy = "Local" if spec.externalTrafficPolicy == "Local" else "Cluster"
    healthy: set[str] = set()
    for port in spec.ports:
        try:
            protocol = _protocol(service, port)
            listed = _find(slices, port, errors)
            ready = _ready(listed)
            near = _near(ready, node)
            # The ready endpoints, or if there are none the terminating ones that still serve (KEP-1669).
            cluster = _endpoints(near, node) or _endpoints(_draining(listed), node)
            local: tuple[Endpoint, ...] = ()
            if "Local" in (internal, external):
                ready_here = _local(_endpoints(ready, node))
                local = ready_here or _local(_endpoints(_draining(listed), node))
                healthy.update(endpoint.address for endpoint in ready_here)
            affinity_seconds = _affinity_seconds(service)
            serving = _serving(listed) if protocol == "udp" else frozenset()
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
    return Planned(frontends, errors, tuple(_health_checks(service, addresses, len(healthy), errors)))


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


def _addresses(
    service: Service, cluster_addresses: Sequence[str], node: NodeInfo, family: Family, errors: list[PlanError]
) -> dict[str, _Reach]:
    """A Service's addresses of a family: none unless it has a ClusterIP of that family, as upstream.

    Load balancers' addresses come before external IPs, so that an address that is both keeps its source ranges.
    """
    status = service.status.loadBalancer.ingress if service.spec.type == "LoadBalancer" else []
    internal = _normal(service, "clusterIP", cluster_addresses, family, errors)
    found: dict[str, _Reach] = dict.fromkeys(internal, _INSIDE)
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
            address = _address(text, service, field)
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


def _health_checks(
    service: Service, addresses: Mapping[str, _Reach], ready: int, errors: list[PlanError]
) -> Iterator[HealthCheck]:
    spec = service.spec
    if spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local" and spec.healthCheckNodePort and addresses:
        try:
            port = _port_number(spec.healthCheckNodePort, service, "healthCheckNodePort")
        except PlanError as error:
            errors.append(error)
        else:
            yield HealthCheck(service.key, port, ready)


def _frontends(
    service: Service, port: ServicePort, protocol: str, addresses: Mapping[str, _Reach]
) -> Iterator[tuple[Frontend, _Reach]]:
    number = _port_number(port.port, service, "port")
    for address, reach in addresses.items():
        yield Frontend(address, protocol, number), reach
    if port.nodePort and addresses:
        node_port = _port_number(port.nodePort, service, "nodePort")
        yield Frontend(None, protocol, node_port), _OUTSIDE


def _find(slices: Iterable[EndpointSlice], port: ServicePort, errors: list[PlanError]) -> _Listed:
    """Every endpoint of a Service's port, once.

    The port is matched by name; its number is the pod's (a named targetPort may differ from pod to pod).
    """
    found: _Listed = {}
    for endpoint_slice in slices:
        for number in _numbers(endpoint_slice, port, errors):
            addresses, listed = _addressed(endpoint_slice, errors)
            fresh = dict(zip(addresses, listed, strict=True))
            known = found.setdefault(number, fresh)
            if known is fresh and len(fresh) == len(listed):
                continue
            for address, endpoint in zip(addresses, listed, strict=True):
                # While moving between slices, a pod can briefly be in both: one of them has not heard that it is
                # about to be replaced by another of the same address, or that it is.
                if known.setdefault(address, endpoint).conditions.terminating and not endpoint.conditions.terminating:
                    known[address] = endpoint
    return found


def _numbers(endpoint_slice: EndpointSlice, port: ServicePort, errors: list[PlanError]) -> Iterator[int]:
    for slice_port in endpoint_slice.ports:
        same = (slice_port.name or "") == port.name and (slice_port.protocol or "TCP") == (port.protocol or "TCP")
        if same and slice_port.port is not None:
            try:
                yield _port_number(slice_port.port, endpoint_slice, "port")
            except PlanError as error:
                errors.append(error)


def _addressed(endpoint_slice: EndpointSlice, errors: list[PlanError]) -> tuple[Sequence[str], Sequence[ApiEndpoint]]:
    """The addresses of a slice's endpoints, and these endpoints.

    The addresses of one endpoint are one backend; consumers use the first (EndpointSlice API, since 1.21).
    """
    listed = endpoint_slice.endpoints
    if endpoint_slice.addressType == "IPv4":
        try:
            addresses = [each.addresses[0] for each in listed]
            # Nearly always all of them are valid, and there may be 250,000: one by one takes twice as long.
            collections.deque(map(socket.inet_pton, itertools.repeat(socket.AF_INET), addresses), 0)
        except (IndexError, OSError, ValueError):
            pass
        else:
            return addresses, listed
    return _addressed_singly(endpoint_slice, errors)


def _addressed_singly(
    endpoint_slice: EndpointSlice, errors: list[PlanError]
) -> tuple[Sequence[str], Sequence[ApiEndpoint]]:
    addresses, listed = [], []
    for endpoint in endpoint_slice.endpoints:
        try:
            addresses.append(_endpoint_address(endpoint, endpoint_slice))
        except PlanError as error:
            errors.append(error)
        else:
            listed.append(endpoint)
    return addresses, listed


def _endpoint_address(endpoint: ApiEndpoint, endpoint_slice: EndpointSlice) -> str:
    if not endpoint.addresses:
        raise PlanError(f"EndpointSlice {endpoint_slice.key}: an endpoint has no address")
    family = endpoint_slice.addressType
    address = _address(endpoint.addresses[0], endpoint_slice, "address")
    if family_of(address) == family:
        return address
    raise PlanError(f"EndpointSlice {endpoint_slice.key}: address {address} is not of its addressType {family}")


def _ready(listed: _Listed) -> _Listed:
    """Those that are ready; unknown counts as ready (EndpointSlice API)."""
    if False in [each.conditions.ready for by_address in listed.values() for each in by_address.values()]:
        return _chosen(listed, lambda each: each.conditions.ready is not False)
    return listed


def _draining(listed: _Listed) -> _Listed:
    """Those that are terminating but still serve."""
    return _chosen(
        listed,
        lambda each: each.conditions.ready is False and each.conditions.serving and each.conditions.terminating,
    )


def _near(ready: _Listed, node: NodeInfo) -> _Listed:
    """Those hinted for the node, or else those for its zone (KEP-3015, KEP-2433), or else all.

    Hints only apply if every endpoint has one: otherwise they are just being written or withdrawn.
    """
    hints = [each.hints for by_address in ready.values() for each in by_address.values()]
    if None in hints:
        return ready
    for here, names in ((node.name, _nodes), (node.zone, _zones)):
        if here and all(map(names, hints)):
            near = _chosen(ready, functools.partial(_hinted, here, names))
            if any(near.values()):
                return near
    return ready


def _hinted(here: str, names: Callable[[EndpointHints | None], list[str]], endpoint: ApiEndpoint) -> bool:
    return here in names(endpoint.hints)


def _nodes(hints: EndpointHints | None) -> list[str]:
    return [each.name for each in hints.forNodes] if hints else []


def _zones(hints: EndpointHints | None) -> list[str]:
    return [each.name for each in hints.forZones] if hints else []


def _chosen(listed: _Listed, wanted: Callable[[ApiEndpoint], object]) -> _Listed:
    return {
        number: {address: each for address, each in by_address.items() if wanted(each)}
        for number, by_address in listed.items()
    }


def _endpoints(listed: _Listed, node: NodeInfo) -> tuple[Endpoint, ...]:
    """In an order that does not depend on the slices'."""
    here = node.name
    # Like Endpoint(...), in half the time.
    found = [
        _new(Endpoint, (address, number, None if each.nodeName is None else each.nodeName == here))
        for number, by_address in listed.items()
        for address, each in by_address.items()
    ]
    return tuple(sorted(found))


def _local(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple([endpoint for endpoint in endpoints if endpoint.local])


def _serving(listed: _Listed) -> frozenset[tuple[str, int]]:
    """For UDP. Includes ready ones that do not serve (publishNotReadyAddresses), since new flows are sent to them."""
    alive = _chosen(listed, lambda each: each.conditions.ready is not False or each.conditions.serving)
    return frozenset((address, number) for number, by_address in alive.items() for address in by_address)


def _protocol(service: Service, port: ServicePort) -> str:
    try:
        return PROTOCOLS[port.protocol or "TCP"]
    except KeyError:
        raise PlanError(f"Service {service.key}: protocol {port.protocol!r} is not one of TCP, UDP, SCTP") from None


def _port_number(number: int, of: Service | EndpointSlice, field: str) -> int:
    if not 0 < number <= _MAX_PORT:
        raise PlanError(f"{_named(of)}: {field} {number} is not in 1..65535")
    return number


def _address(text: str, of: Service | EndpointSlice | Node, field: str) -> str:
    """The address in normal form.

    Leading zeros are read as decimal, as Kubernetes did when objects with them were still accepted (KEP-4858).
    """
    if _is_normal(text):
        return text
    try:
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12}){3}", text):
            text = ".".join(str(int(part)) for part in text.split("."))
        address = ipaddress.ip_address(text)
    except ValueError:
        raise PlanError(f"{_named(of)}: {field} {text!r} is not an IP address") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise PlanError(f"{_named(of)}: {field} {text!r} has a zone")
    return str(mapped or address)


def _is_normal(text: str) -> bool:
    """Whether it certainly is an address in normal form: ipaddress takes ten times as long."""
    try:
        if ":" not in text:
            socket.inet_pton(socket.AF_INET, text)
            return True
        return "." not in text and socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text)) == text
    except (OSError, ValueError):
        return False


def _named(of: Service | EndpointSlice | Node) -> str:
    return f"{'EndpointSlice' if isinstance(of, EndpointSlice) else type(of).__name__} {of.key}"
