"""A cluster's Nodes, Pods, Services and EndpointSlices at one moment, by key, by address and by Service."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from netlab.api.core_types import Node, Pod, Service
from netlab.api.discovery_types import SERVICE_NAME_LABEL, EndpointSlice
from netlab.api.errors import ApiError
from netlab.api.meta_types import Object
from netlab.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES, Resource

if TYPE_CHECKING:
    from netlab.api.blocking import BlockingClient
    from netlab.api.client import Client  # slow to import, and not needed for the other one

T = TypeVar("T", bound=Object)


class Query(NamedTuple):
    """Which objects of a resource to read."""

    resource: Resource[Any]
    labels: str = ""
    """A label selector."""
    fields: str = ""
    """A field selector."""


NAMED = (Query(NODES), Query(PODS), Query(SERVICES))
"""What people name."""
ALL = (*NAMED, Query(ENDPOINTSLICES))


class Cluster:
    """The objects that decide who has which address and where its packets go: a value, which does not change."""

    def __init__(self, objects: Iterable[Node | Pod | Service | EndpointSlice]) -> None:
        self.nodes: dict[str, Node] = {}
        """By name."""
        self.pods: dict[str, Pod] = {}
        """By NAMESPACE/NAME."""
        self.services: dict[str, Service] = {}
        """By NAMESPACE/NAME."""
        self.slices: dict[str, list[EndpointSlice]] = {}
        """By NAMESPACE/NAME of their Service; without a Service by `NAMESPACE/`."""
        for one in objects:
            if isinstance(one, EndpointSlice):
                service = one.metadata.labels.get(SERVICE_NAME_LABEL, "")
                self.slices.setdefault(f"{one.metadata.namespace}/{service}", []).append(one)
            elif isinstance(one, Service):
                self.services[one.key] = one
            elif isinstance(one, Pod):
                self.pods[one.key] = one
            else:
                self.nodes[one.metadata.name] = one

    @functools.cached_property
    def node_at(self) -> Mapping[str, Node]:
        """Nodes by their addresses, in normal form; of several with one address the first."""
        return {_normal(address): node for node in reversed(self.nodes.values()) for address in node_addresses(node)}

    @functools.cached_property
    def pod_at(self) -> Mapping[str, Pod]:
        """Pods by their addresses, in normal form; of several with one address, as their node's, the first."""
        return {_normal(address): pod for pod in reversed(self.pods.values()) for address in pod_addresses(pod)}


def read(client: BlockingClient, queries: Iterable[Query] = ALL, namespace: str | None = None) -> Cluster:
    """The objects as they are now, those with a Namespace of one or of all. Raises what the client raises."""
    found = (client.list(each.resource, namespace, labels=each.labels, fields=each.fields) for each in queries)
    return Cluster(one for some in found for one in some)


async def fetch(client: Client, queries: Iterable[Query] = ALL) -> Cluster:
    """The same, of any API server."""
    found = [await listed(client, each.resource, labels=each.labels, fields=each.fields) for each in queries]
    return Cluster(one for some in found for one in some)


async def listed(client: Client, resource: Resource[T], *, labels: str = "", fields: str = "") -> list[T]:
    """All readable objects of a resource, in its older version if the server has no newer one."""
    try:
        return (await client.pages(resource, labels=labels, fields=fields)).items
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND or resource.older is None:
            raise
        return await listed(client, resource.older, labels=labels, fields=fields)


def node_addresses(node: Node) -> list[str]:
    """A Node's addresses that packets can have."""
    return [each.address for each in node.status.addresses if each.type in ("InternalIP", "ExternalIP")]


def pod_addresses(pod: Pod) -> list[str]:
    """A Pod's addresses; none until it has a network."""
    return [each.ip for each in pod.status.podIPs] or ([pod.status.podIP] if pod.status.podIP else [])


def _normal(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address
