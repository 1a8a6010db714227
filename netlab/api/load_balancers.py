"""Load balancers' addresses: which Services netlab gives them, and the Lease that says which node announces one."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable

from netlab.api.coordination_types import Lease
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
    """The name of the Lease of an address in normal form: its holder announces the address."""
    # A name must not end with a colon's substitute, so IPv6 is written out.
    return f"load-balancer-{ipaddress.ip_address(address).exploded.replace(':', '-')}"


def announcers(services: Iterable[Service], leases: Iterable[Lease], now: float) -> dict[str, str]:
    """The node that announces each address of the Services; empty for those that none does.

    `now` is in seconds since the epoch: a Lease that has run out by then says nothing.
    """
    holders = {lease.metadata.name: lease.spec.holderIdentity for lease in leases if _is_held(lease, now)}
    given = (address for service in services if is_ours(service) for address in addresses(service))
    return {address: holders.get(lease_name(address)) or "" for address in given}


def _is_held(lease: Lease, now: float) -> bool:
    try:
        renewed = datetime.datetime.fromisoformat(lease.spec.renewTime or "").timestamp()
    except ValueError:
        return False
    return now < renewed + (lease.spec.leaseDurationSeconds or 0)


def is_in(address: str, networks: Iterable[str]) -> bool:
    """Whether one of the networks, as ADDRESS/LENGTH, has the address."""
    number = ipaddress.ip_address(address)
    return any(number in ipaddress.ip_network(each) for each in networks)
