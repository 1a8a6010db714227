"""What a Service's type gives it: node ports, a health check, an externalTrafficPolicy."""

from __future__ import annotations

from netlab.api.server.objects.schema import JSONObject

HEADLESS = "None"
"""The clusterIP of a Service that has none."""


def has_node_ports(spec: JSONObject) -> bool:
    """Whether each port of the Service is to have a node port."""
    allocates: bool = spec.get("allocateLoadBalancerNodePorts", True)
    return spec["type"] == "NodePort" or (spec["type"] == "LoadBalancer" and allocates)


def has_health_check(spec: JSONObject) -> bool:
    """Whether the Service has a node port for health checks."""
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def is_reached_from_outside(spec: JSONObject) -> bool:
    """Whether the Service has an externalTrafficPolicy (pkg/api/service.ExternallyAccessible)."""
    return spec["type"] in ("NodePort", "LoadBalancer") or (
        spec["type"] == "ClusterIP" and bool(spec.get("externalIPs"))
    )
