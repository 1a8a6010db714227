"""Services and EndpointSlices as a proxy keeps them: only what it reads of up to 10,000 Services and 250,000 endpoints.

Without its pod's details an endpoint takes a third of the memory, and a Service takes half, or much less if it has
annotations, whatever they say. Nothing of this can be part of a circle: the garbage collector can ignore it. Tuples are
smaller than the API's lists, and are decoded in two thirds of the time.
"""

# ruff: noqa: N815  # names are the API's

from __future__ import annotations

import dataclasses
from typing import TypedDict

import msgspec

from netlab.api import core_types, discovery_types
from netlab.api.cluster import Query
from netlab.api.discovery_types import HEADLESS_LABEL, SERVICE_NAME_LABEL, TRIGGER_TIME
from netlab.api.meta_types import Struct
from netlab.api.resources import ENDPOINTSLICES, Resource
from netlab.api.resources import SERVICES as ALL_OF_SERVICES
from netlab.proxy.planner import PROXY_NAME_LABEL

# What is read of labels and annotations; the names are those of constants, which the type checker does not follow.
_ServiceLabels = TypedDict("_ServiceLabels", {PROXY_NAME_LABEL: str}, total=False)  # type: ignore[misc]
_SliceLabels = TypedDict("_SliceLabels", {SERVICE_NAME_LABEL: str, HEADLESS_LABEL: str}, total=False)  # type: ignore[misc]
_SliceAnnotations = TypedDict("_SliceAnnotations", {TRIGGER_TIME: str}, total=False)  # type: ignore[misc]


class ServiceMeta(Struct, gc=False):
    """See netlab.api.meta_types.ObjectMeta."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    creationTimestamp: str | None = None
    labels: _ServiceLabels = {}


class ServicePort(Struct, gc=False):
    """See netlab.api.core_types."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    nodePort: int = 0


class ServiceSpec(Struct, gc=False):
    """See netlab.api.core_types."""

    type: str = ""
    ports: tuple[ServicePort, ...] = ()
    clusterIP: str = ""
    clusterIPs: tuple[str, ...] = ()
    externalIPs: tuple[str, ...] = ()
    externalTrafficPolicy: str = ""
    internalTrafficPolicy: str | None = None
    sessionAffinity: str = ""
    sessionAffinityConfig: core_types.SessionAffinityConfig | None = None
    loadBalancerSourceRanges: tuple[str, ...] = ()
    loadBalancerClass: str | None = None
    healthCheckNodePort: int = 0


class LoadBalancerStatus(Struct, gc=False):
    """See netlab.api.core_types."""

    ingress: tuple[core_types.LoadBalancerIngress, ...] = ()


class ServiceStatus(Struct, gc=False):
    """See netlab.api.core_types."""

    loadBalancer: LoadBalancerStatus = msgspec.field(default_factory=LoadBalancerStatus)


class Service(core_types.Service, kw_only=True, gc=False):
    """See netlab.api.core_types. The type checker takes its parts for the API's own."""

    metadata: ServiceMeta = msgspec.field(default_factory=ServiceMeta)  # type: ignore[assignment]
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)  # type: ignore[assignment]
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)  # type: ignore[assignment]


SERVICES: Resource[core_types.Service] = dataclasses.replace(ALL_OF_SERVICES, type=Service)
"""What a proxy reads from an API server."""


class SliceMeta(Struct, gc=False):
    """See netlab.api.meta_types.ObjectMeta."""

    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""
    labels: _SliceLabels = {}
    annotations: _SliceAnnotations = {}


class EndpointConditions(discovery_types.EndpointConditions, gc=False):
    """See netlab.api.discovery_types."""


class Endpoint(Struct, kw_only=True, gc=False):
    """See netlab.api.discovery_types."""

    addresses: tuple[str, ...]
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    nodeName: str | None = None
    hints: discovery_types.EndpointHints | None = None


class EndpointPort(discovery_types.EndpointPort, gc=False):
    """See netlab.api.discovery_types."""


class EndpointSlice(discovery_types.EndpointSlice, kw_only=True, gc=False):
    """See netlab.api.discovery_types. The type checker takes its parts for the API's own."""

    metadata: SliceMeta = msgspec.field(default_factory=SliceMeta)  # type: ignore[assignment]
    endpoints: tuple[Endpoint, ...]  # type: ignore[assignment]
    ports: tuple[EndpointPort, ...] = ()  # type: ignore[assignment]


SLICES: Resource[discovery_types.EndpointSlice] = dataclasses.replace(ENDPOINTSLICES, type=EndpointSlice)
"""What a proxy reads from an API server."""

OUR_SERVICES = f"!{PROXY_NAME_LABEL}"
"""Those that no other proxy handles. That a Service is headless its ClusterIP says, not a label."""

OUR_SLICES = f"!{HEADLESS_LABEL}"
"""Those of Services with a ClusterIP: the label is the EndpointSlice controller's. Which proxy handles a Service, only
the Service says."""

OURS = (Query(SERVICES, OUR_SERVICES), Query(SLICES, OUR_SLICES))
"""All that decides a node's rules, but for its Node."""
