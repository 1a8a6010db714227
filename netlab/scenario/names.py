"""Whose an address is: what turns the addresses in a capture into words."""

from __future__ import annotations

import ipaddress

import msgspec

from netlab.api.blocking import BlockingClient
from netlab.api.core_types import Node, Pod, Service
from netlab.api.resources import NODES, PODS, SERVICES
from netlab.lab.paths import OUTSIDE
from netlab.lab.spec import LabSpec

_HEADLESS = "None"


def names_of(client: BlockingClient, spec: LabSpec, namespace: str) -> dict[str, str]:
    """The names of the machines, and of a Namespace's pods and Services, by their addresses of now."""
    names = dict.fromkeys(spec.outside_addresses, OUTSIDE)
    for node in msgspec.convert(client.request("GET", NODES.path(None))["items"], list[Node]):
        names |= dict.fromkeys((each.address for each in node.status.addresses), node.metadata.name)
        for cidr in map(ipaddress.ip_network, node.spec.podCIDRs):
            # Its tunnel has the first address of its range, the bridge of its pods the second.
            names |= dict.fromkeys((str(cidr[0]), str(cidr[1])), node.metadata.name)
    for service in msgspec.convert(client.request("GET", SERVICES.path(namespace))["items"], list[Service]):
        ingress = [each.ip for each in service.status.loadBalancer.ingress if each.ip]
        spoken = [*service.spec.clusterIPs, *service.spec.externalIPs, *ingress]
        names |= dict.fromkeys((each for each in spoken if each != _HEADLESS), f"{service.metadata.name} (Service)")
    for pod in msgspec.convert(client.request("GET", PODS.path(namespace))["items"], list[Pod]):
        if not pod.spec.hostNetwork:
            names |= dict.fromkeys((each.ip for each in pod.status.podIPs), pod.metadata.name)
    return names
