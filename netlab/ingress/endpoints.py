"""The endpoints behind a port of a Service."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from netlab.api.core_types import Service, ServicePort
from netlab.api.discovery_types import EndpointSlice


class Endpoint(NamedTuple):
    """An address in normal form, and a port."""

    address: str
    port: int


def port_of(service: Service, *, name: str = "", number: int = 0) -> ServicePort | None:
    """The TCP port of a Service that has this name, or this number."""
    for port in service.spec.ports:
        if port.protocol == "TCP" and (port.name == name if name else port.port == number):
            return port
    return None


def endpoints_of(service: Service, port: ServicePort, slices: Iterable[EndpointSlice]) -> frozenset[Endpoint]:
    """Those that take new connections: the ready ones; without any, those that end and still serve (KEP-1669).

    A Service of two families has each endpoint twice, so only those of its first family count.
    """
    ready, serving = set[Endpoint](), set[Endpoint]()
    family = service.spec.ipFamilies[0] if service.spec.ipFamilies else None
    for each in slices:
        if family is not None and each.addressType != family:
            continue
        for number in (p.port for p in each.ports if (p.name or "") == port.name and (p.protocol or "TCP") == "TCP"):
            for endpoint in each.endpoints:
                found = _endpoint(endpoint.addresses, number)
                if found is None:
                    continue
                conditions = endpoint.conditions
                if conditions.ready is not False:
                    ready.add(found)
                elif conditions.serving and conditions.terminating:
                    serving.add(found)
    return frozenset(ready or serving)


def _endpoint(addresses: list[str], port: int | None) -> Endpoint | None:
    """The first address alone: all are one endpoint's. None for what nothing can connect to."""
    try:
        address = ipaddress.ip_address(addresses[0])
    except (ValueError, IndexError):
        return None
    if "%" in str(address) or port is None or not 0 < port < 65536:
        return None
    return Endpoint(str(address), port)
