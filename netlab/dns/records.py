"""A Service's records by the Kubernetes DNS specification 1.1.0 (kubernetes/dns, docs/specification.md). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


def of_service(service: Service, slices: Iterable[EndpointSlice], zone: str) -> Iterator[Record]:
    """The records of a Service: sections 2.3 (ClusterIP), 2.4 (headless) and 2.5 (ExternalName).

    `slices` are the Service's own; only a headless one's matter.
    """
    owner = service_name(service.metadata.namespace, service.metadata.name, zone)
    spec = service.spec
    if spec.type == "ExternalName":
        yield Record(owner, "CNAME", spec.externalName.lower().rstrip("."))
    elif spec.clusterIP == "None":
        yield from _of_headless(owner, slices)
    else:
        for address in dict.fromkeys([spec.clusterIP, *spec.clusterIPs]):
            if address:
                yield from _at_address(owner, address)
        for port in spec.ports:
            if port.name and spec.clusterIP:
                yield Record(_port_name(port.name, port.protocol, owner), "SRV", Server(port.port, owner))


def _of_headless(owner: str, slices: Iterable[EndpointSlice]) -> Iterator[Record]:
    for each in slices:
        if each.addressType not in ("IPv4", "IPv6"):
            continue
        for endpoint in each.endpoints:
            # The controller says of unready ones that they are ready if publishNotReadyAddresses is set.
            if endpoint.conditions.ready is False:
                continue
            # Clients may use the first address alone (EndpointSlice's API says so of all of them).
            address = endpoint.addresses[0]
            host = f"{endpoint.hostname or dashed(address)}.{owner}"
            yield Record(owner, _type_of(address), address)
            yield from _at_address(host, address)
            for port in each.ports:
                if port.name and port.port is not None:
                    yield Record(_port_name(port.name, port.protocol or "TCP", owner), "SRV", Server(port.port, host))


def _at_address(owner: str, address: str) -> Iterator[Record]:
    yield Record(owner, _type_of(address), address)
    yield Record(reverse(address), "PTR", owner)


def _type_of(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def _port_name(name: str, protocol: str, owner: str) -> str:
    return f"_{name}._{protocol.lower()}.{owner}"
