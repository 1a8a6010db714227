"""Load balancers' addresses: which Services netlab gives them, and the Lease that says which node announces one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from netlab.api.core_types import Service

CLASS = "netlab"
"""The loadBalancerClass of Services that are ours, beside those that name none."""

LEASE_NAMESPACE = "kube-system"
LEASE_LABELS = {"netlab.dev/lease": "load-balancer-address"}
"""Of the Leases of addresses: there may be others in that namespace."""


def is_ours(service: Service) -> bool:
    """Whether the Service is of type LoadBalancer, and netlab's to serve."""
    return service.spec.type == "LoadBalancer" and service.spec.loadBalancerClass in (None, "", CLASS)


def addresses(service: Service) -> list[str]:
    """The addresses in the Service's status, in normal form; what is none is left out."""
    found = []
    for each in service.status.loadBalancer.ingress:
        try:
            found.append(str(ipaddress.ip_address(each.ip)))
        except ValueError:
            continue
    return found


def lease_name(address: str) -> str:
    """The name of the Lease of an address in normal form: whoever holds it announces the address."""
    # A name must not end with a colon's substitute, so IPv6 is written out.
    return f"load-balancer-{ipaddress.ip_address(address).exploded.replace(':', '-')}"


def is_in(address: str, networks: Iterable[str]) -> bool:
    """Whether one of the networks, as ADDRESS/LENGTH, has the address."""
    number = ipaddress.ip_address(address)
    return any(number in ipaddress.ip_network(each) for each in networks)
