"""Which addresses are to be announced, and whether this node may: from Services, the Node and the proxy. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from netlab.api import load_balancers
from netlab.api.core_types import Node, Service

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
"""A label: no load balancer sends this node anything (KEP-1143)."""


def wanted(services: Iterable[Service], networks: Collection[str]) -> dict[str, list[Service]]:
    """The addresses of load balancers that are ours, each with the Services that share it.

    Only addresses of the `networks`: who may write a Service's status does not get another host's address announced.
    """
    found: dict[str, list[Service]] = {}
    for service in services:
        if load_balancers.is_ours(service):
            for address in load_balancers.addresses(service):
                if load_balancers.is_in(address, networks):
                    found.setdefault(address, []).append(service)
    return found


def takes_traffic(node: Node | None) -> bool:
    """Whether load balancers may use the node at all."""
    if node is None or node.metadata.deletionTimestamp is not None or EXCLUDED in node.metadata.labels:
        return False
    return any(each.type == "Ready" and each.status == "True" for each in node.status.conditions)


def has_endpoints(services: Iterable[Service], local: Mapping[str, int]) -> bool:
    """Whether the node serves all Services of an address: with externalTrafficPolicy Local it needs endpoints.

    `local` is how many ready endpoints of a Service, by NAMESPACE/NAME, are on the node.
    """
    return all(each.spec.externalTrafficPolicy != "Local" or local.get(each.key, 0) for each in services)
