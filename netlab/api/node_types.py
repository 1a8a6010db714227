"""node.k8s.io/v1, with the field names of the Kubernetes API."""

from __future__ import annotations

from netlab.api.core_types import Toleration
from netlab.api.meta_types import Object, Quantity, Struct


class Overhead(Struct):
    """node.k8s.io/v1.Overhead: what a pod needs besides its containers."""

    podFixed: dict[str, Quantity] = {}


class Scheduling(Struct):
    """node.k8s.io/v1.Scheduling: which nodes have the runtime."""

    nodeSelector: dict[str, str] = {}
    tolerations: list[Toleration] = []


class RuntimeClass(Object, kw_only=True):
    """node.k8s.io/v1.RuntimeClass; every handler is the one runtime that there is."""

    handler: str
    overhead: Overhead | None = None
    scheduling: Scheduling | None = None
