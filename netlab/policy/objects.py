"""Pods and Namespaces as an enforcer keeps them: only what it reads of up to 100,000 Pods. See netlab.proxy.objects."""

# ruff: noqa: N815  # names are the API's

from __future__ import annotations

import dataclasses

import msgspec

from netlab.api import core_types
from netlab.api.cluster import Query
from netlab.api.meta_types import Struct
from netlab.api.resources import NAMESPACES as ALL_OF_NAMESPACES
from netlab.api.resources import NETWORKPOLICIES, Resource
from netlab.api.resources import PODS as ALL_OF_PODS


class Meta(Struct, gc=False):
    """See netlab.api.meta_types.ObjectMeta."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    labels: dict[str, str] = {}


class ContainerPort(Struct, gc=False):
    """See netlab.api.core_types."""

    containerPort: int
    name: str = ""
    protocol: str = "TCP"


class Container(Struct, gc=False):
    """See netlab.api.core_types."""

    ports: tuple[ContainerPort, ...] = ()
    restartPolicy: str | None = None


class PodSpec(Struct, gc=False):
    """See netlab.api.core_types."""

    containers: tuple[Container, ...] = ()
    initContainers: tuple[Container, ...] = ()
    nodeName: str = ""
    hostNetwork: bool = False


class PodIP(Struct, gc=False):
    """See netlab.api.core_types."""

    ip: str = ""


class PodStatus(Struct, gc=False):
    """See netlab.api.core_types."""

    phase: str = ""
    podIP: str = ""
    podIPs: tuple[PodIP, ...] = ()


class Pod(core_types.Pod, kw_only=True, gc=False):
    """See netlab.api.core_types. The type checker takes its parts for the API's own."""

    metadata: Meta = msgspec.field(default_factory=Meta)  # type: ignore[assignment]
    spec: PodSpec = msgspec.field(default_factory=PodSpec)  # type: ignore[assignment]
    status: PodStatus = msgspec.field(default_factory=PodStatus)  # type: ignore[assignment]


PODS: Resource[core_types.Pod] = dataclasses.replace(ALL_OF_PODS, type=Pod)
"""What an enforcer reads of the Pods."""


class Namespace(core_types.Namespace, gc=False):
    """See netlab.api.core_types."""

    metadata: Meta = msgspec.field(default_factory=Meta)  # type: ignore[assignment]


NAMESPACES: Resource[core_types.Namespace] = dataclasses.replace(ALL_OF_NAMESPACES, type=Namespace)
"""What an enforcer reads of the Namespaces."""

OURS = (Query(NETWORKPOLICIES), Query(PODS), Query(NAMESPACES))
"""All that decides who may talk to whom."""
