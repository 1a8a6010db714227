"""Services and EndpointSlices as a proxy keeps them: only what it reads of up to 10,000 Services and 250,000 endpoints.

Without its pod's details an endpoint takes a third of the memory, and the garbage collector can ignore it; a Service
takes two thirds.
"""

# ruff: noqa: N815  # names are the API's

from __future__ import annotations

import dataclasses

import msgspec

from netlab.api import core_types, discovery_types
from netlab.api.cluster import Query
from netlab.api.meta_types import Struct
from netlab.api.resources import ENDPOINTSLICES, Resource
from netlab.api.resources import SERVICES as ALL_OF_SERVICES
from netlab.proxy.planner import PROXY_NAME_LABEL


class ObjectMeta(Struct):
    """See netlab.api.meta_types."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    creationTimestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ServiceSpec(Struct):
    """See netlab.api.core_types."""

    type: str = ""
    ports: list[core_types.ServicePort] = []
    clusterIP: str = ""
    clusterIPs: list[str] = []
    externalIPs: list[str] = []
    externalTrafficPolicy: str = ""
    internalTrafficPolicy: str | None = None
    sessionAffinity: str = ""
    sessionAffinityConfig: core_types.SessionAffinityConfig | None = None
    loadBalancerSourceRanges: list[str] = []
    healthCheckNodePort: int = 0


class ServiceStatus(Struct):
    """See netlab.api.core_types."""

    loadBalancer: core_types.LoadBalancerStatus = msgspec.field(default_factory=core_types.LoadBalancerStatus)


class Service(core_types.Service, kw_only=True):
    """See netlab.api.core_types."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)  # type: ignore[assignment]  # a part of it
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)  # type: ignore[assignment]
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)  # type: ignore[assignment]


SERVICES: Resource[core_types.Service] = dataclasses.replace(ALL_OF_SERVICES, type=Service)
"""What a proxy reads from an API server."""


class EndpointConditions(discovery_types.EndpointConditions, gc=False):
    """See netlab.api.discovery_types."""


class Endpoint(Struct, kw_only=True, gc=False):
    """See netlab.api.discovery_types."""

    addresses: tuple[str, ...]
    """Like the API's list, but decoded in two thirds of the time."""
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    nodeName: str | None = None
    hints: discovery_types.EndpointHints | None = None


class EndpointSlice(discovery_types.EndpointSlice, kw_only=True):
    """See netlab.api.discovery_types."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)  # type: ignore[assignment]  # a part of it
    endpoints: list[Endpoint]  # type: ignore[assignment]  # a list that nothing is added to


SLICES: Resource[discovery_types.EndpointSlice] = dataclasses.replace(ENDPOINTSLICES, type=EndpointSlice)
"""What a proxy reads from an API server."""

OUR_SERVICES = f"!{PROXY_NAME_LABEL}"
"""Those that no other proxy handles. That a Service is headless its ClusterIP says, not a label."""

OUR_SLICES = f"!{discovery_types.HEADLESS_LABEL}"
"""Those of Services with a ClusterIP: the label is the EndpointSlice controller's. Which proxy handles a Service, only
the Service says."""

OURS = (Query(SERVICES, OUR_SERVICES), Query(SLICES, OUR_SLICES))
"""All that decides a node's rules, but for its Node."""
