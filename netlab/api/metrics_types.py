"""metrics.k8s.io/v1beta1, with the field names of the Kubernetes API."""

from __future__ import annotations

from netlab.api.meta_types import Object, Quantity, Struct

METRICS = "metrics.k8s.io"
"""The group that metrics-server serves upstream."""


class NodeMetrics(Object, kw_only=True):
    """What a node used: over `window` (metav1.Duration) until `timestamp`, processor time; memory at its end."""

    timestamp: str
    window: str
    usage: dict[str, Quantity]


class ContainerMetrics(Struct):
    """What a container of a pod used."""

    name: str
    usage: dict[str, Quantity]


class PodMetrics(Object, kw_only=True):
    """What the containers of a pod used, as with a node."""

    timestamp: str
    window: str
    containers: list[ContainerMetrics]
