"""discovery.k8s.io/v1 EndpointSlice, with the field names of the Kubernetes API (1.31)."""

from __future__ import annotations

import msgspec

from netlab.api.core_types import ZONE_LABEL, ObjectReference
from netlab.api.meta_types import Object, Struct

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""On an EndpointSlice: the Service it belongs to."""
HEADLESS_LABEL = "service.kubernetes.io/headless"
"""On an EndpointSlice of a Service without a ClusterIP: no proxy handles it."""
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
"""An annotation of an EndpointSlice: when the pod or the Service changed that it was written for."""


class EndpointConditions(Struct):
    """discovery.k8s.io/v1.EndpointConditions; absent means true for ready and serving, false for terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(Struct):
    """discovery.k8s.io/v1.ForZone."""

    name: str


class ForNode(Struct):
    """discovery.k8s.io/v1.ForNode."""

    name: str


class EndpointHints(Struct):
    """discovery.k8s.io/v1.EndpointHints."""

    forZones: list[ForZone] = []
    forNodes: list[ForNode] = []


class Endpoint(Struct, kw_only=True):
    """discovery.k8s.io/v1.Endpoint."""

    addresses: list[str]
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    hostname: str | None = None
    targetRef: ObjectReference | None = None
    nodeName: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None
    deprecatedTopology: dict[str, str] | None = None


class EndpointPort(Struct):
    """discovery.k8s.io/v1.EndpointPort; a port that is absent means all ports."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    appProtocol: str | None = None


class EndpointSlice(Object, kw_only=True):
    """discovery.k8s.io/v1.EndpointSlice; addressType is IPv4, IPv6 or FQDN."""

    # No default: the API requires both to be sent, and one Service has a slice per family.
    addressType: str
    endpoints: list[Endpoint]
    ports: list[EndpointPort] = []


# --- discovery.k8s.io/v1beta1, read only: its fields are those of v1 once it is decoded ---------------------------


class EndpointV1beta1(Endpoint, kw_only=True):
    """discovery.k8s.io/v1beta1.Endpoint, in which the node and the zone are labels of its topology."""

    topology: dict[str, str] = {}

    def __post_init__(self) -> None:
        # The zone as apiserver's own conversion has it, the hostname as kube-proxy: until 1.20 there is no nodeName.
        rest, self.topology = self.topology, {}
        host = rest.pop("kubernetes.io/hostname", None)
        self.nodeName = self.nodeName or host
        self.zone = rest.pop(ZONE_LABEL, None)
        self.deprecatedTopology = rest or None


class EndpointSliceV1beta1(EndpointSlice, kw_only=True):
    """discovery.k8s.io/v1beta1.EndpointSlice."""

    endpoints: list[EndpointV1beta1]  # type: ignore[assignment]
