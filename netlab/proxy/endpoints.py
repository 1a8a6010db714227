"""A Service's endpoints from its EndpointSlices, and which of them are chosen. Pure."""

from __future__ import annotations

import functools
import itertools
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from netlab.api.core_types import ServicePort
from netlab.api.discovery_types import Endpoint as ApiEndpoint
from netlab.api.discovery_types import EndpointHints, EndpointSlice
from netlab.net.addresses import family_of
from netlab.proxy.plan import Endpoint, NodeInfo
from netlab.proxy.values import PlanError, address_in, port_number

Listed: TypeAlias = dict[int, dict[str, ApiEndpoint]]
"""The endpoints of a Service's port, by its number there and by address."""


def found(slices: Iterable[EndpointSlice], port: ServicePort, errors: list[PlanError]) -> Listed:
    """Every endpoint of a Service's port, once.

    The port is matched by name; its number is the pod's (a named targetPort may differ from pod to pod).
    """
    found: Listed = {}
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
    name, protocol = port.name, port.protocol or "TCP"
    for each in endpoint_slice.ports:
        if each.port is not None and (each.name or "") == name and (each.protocol or "TCP") == protocol:
            try:
                yield port_number(each.port, endpoint_slice, "port")
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
            all(map(socket.inet_pton, itertools.repeat(socket.AF_INET), addresses))
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
    address = address_in(endpoint.addresses[0], endpoint_slice, "address")
    if family_of(address) == family:
        return address
    raise PlanError(f"EndpointSlice {endpoint_slice.key}: address {address} is not of its addressType {family}")


def ready(listed: Listed) -> Listed:
    """Those that are ready; unknown counts as ready (EndpointSlice API)."""
    if False in [each.conditions.ready for by_address in listed.values() for each in by_address.values()]:
        return _chosen(listed, lambda each: each.conditions.ready is not False)
    return listed


def draining(listed: Listed) -> Listed:
    """Those that are terminating but still serve."""
    return _chosen(
        listed,
        lambda each: each.conditions.ready is False and each.conditions.serving and each.conditions.terminating,
    )


def near(ready: Listed, node: NodeInfo) -> Listed:
    """Those hinted for the node, or else those for its zone (KEP-3015, KEP-2433), or else all.

    Hints only apply if every endpoint has one: otherwise they are just being written or withdrawn.
    """
    hints = []
    for by_address in ready.values():
        for each in by_address.values():
            if each.hints is None:
                return ready
            hints.append(each.hints)
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


def _chosen(listed: Listed, wanted: Callable[[ApiEndpoint], object]) -> Listed:
    return {
        number: {address: each for address, each in by_address.items() if wanted(each)}
        for number, by_address in listed.items()
    }


def in_order(listed: Listed, node: NodeInfo) -> tuple[Endpoint, ...]:
    """In an order that does not depend on the slices'."""
    here = node.name
    found = [
        Endpoint(address, number, None if each.nodeName is None else each.nodeName == here)
        for number, by_address in listed.items()
        for address, each in by_address.items()
    ]
    found.sort()
    return tuple(found)


def local(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Those on the node."""
    return tuple([endpoint for endpoint in endpoints if endpoint.local])


def serving(listed: Listed) -> frozenset[tuple[str, int]]:
    """For UDP. Includes ready ones that do not serve (publishNotReadyAddresses), since new flows are sent to them."""
    alive = _chosen(listed, lambda each: each.conditions.ready is not False or each.conditions.serving)
    return frozenset((address, number) for number, by_address in alive.items() for address in by_address)
