"""networking.k8s.io/v1 ServiceCIDR, with the field names of the Kubernetes API (1.33)."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import Object, Struct


class ServiceCIDRSpec(Struct):
    """networking.k8s.io/v1.ServiceCIDRSpec: one range, or one of each family."""

    cidrs: list[str] = []


class ServiceCIDR(Object):
    """networking.k8s.io/v1.ServiceCIDR: ranges from which ClusterIPs are allocated."""

    spec: ServiceCIDRSpec = msgspec.field(default_factory=ServiceCIDRSpec)
