"""A Service's records by the Kubernetes DNS specification 1.1.0 (kubernetes/dns, docs/specification.md). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from netlab.api.core_types import Service
from netlab.api.discovery_types import EndpointSlice
from netlab.dns.names import dashed, reverse

SCHEMA_VERSION = "1.1.0"
"""Section 2.2."""


class Server(NamedTuple):
    """What an SRV record says (RFC 2782): where a named port is served."""

    port: int
    target: str


class Authority(NamedTuple):
    """What a SOA record says: the zone, its serial number, and for how many seconds a denial may be kept."""

    zone: str
    serial: int
    ttl: int


Data = str | Server | Authority
"""A record's data: an address, a name or a text, except where a type has several fields."""

Node = Mapping[str, tuple[Data, ...]]
"""What a name has, by type. A name that exists and has nothing is empty (RFC 8020)."""


class Record(NamedTuple):
    """One record; its class is IN."""

    owner: str
    type: str
    data: Data


def service_name(namespace: str, name: str, zone: str) -> str:
    """The name of a Service."""
    return f"{name}.{namespace}.svc.{zone}"


def of_service(service: Service, zone: str) -> Iterator[Record]:
    """A Service's own records: sections 2.3 (ClusterIP) and 2.5 (ExternalName). A headless one has none."""
    owner = service_name(service.metadata.namespace, service.metadata.name, zone)
    spec = service.spec
    if spec.type == "ExternalName":
        yield Record(owner, "CNAME", spec.externalName.lower().rstrip("."))
    elif not is_headless(service):
        for address in dict.fromkeys([spec.clusterIP, *spec.clusterIPs]):
            if address:
                yield from _at_address(owner, address)
        for port in spec.ports:
            if port.name and spec.clusterIP:
                yield Record(_port_name(port.name, port.protocol, owner), "SRV", Server(port.port, owner))


def is_headless(service: Service) -> bool:
    """Whether a Service's names are those of its endpoints."""
    return service.spec.type != "ExternalName" and service.spec.clusterIP == "None"


def of_slice(service: Service, endpoints: EndpointSlice, zone: str) -> Iterator[Record]:
    """What an EndpointSlice gives to its Service, which is headless: section 2.4."""
    if endpoints.addressType not in ("IPv4", "IPv6"):
        return
    owner = service_name(service.metadata.namespace, service.metadata.name, zone)
    ports = [
        (_port_name(port.name, port.protocol or "TCP", owner), port.port)
        for port in endpoints.ports
        if port.name and port.port is not None
    ]
    for endpoint in endpoints.endpoints:
        # The controller says of unready ones that they are ready if publishNotReadyAddresses is set.
        if endpoint.conditions.ready is False:
            continue
        # Clients may use the first address alone (EndpointSlice's API says so of all of them).
        address = endpoint.addresses[0]
        host = f"{endpoint.hostname or dashed(address)}.{owner}"
        yield Record(owner, _type_of(address), address)
        yield from _at_address(host, address)
        for name, number in ports:
            yield Record(name, "SRV", Server(number, host))


def _at_address(owner: str, address: str) -> Iterator[Record]:
    yield Record(owner, _type_of(address), address)
    yield Record(reverse(address), "PTR", owner)


def _type_of(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def _port_name(name: str, protocol: str, owner: str) -> str:
    return f"_{name}._{protocol.lower()}.{owner}"
