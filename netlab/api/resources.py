"""The resources that exist: the one table from which paths, decoding and listings are derived."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

from netlab.api.apps_types import Deployment, ReplicaSet
from netlab.api.core_types import Event, Namespace, Node, Pod, Service
from netlab.api.discovery_types import EndpointSlice, EndpointSliceV1beta1
from netlab.api.meta_types import Object

T = TypeVar("T", bound=Object)


@dataclasses.dataclass(frozen=True)
class Resource(Generic[T]):
    """One kind of object, and where the API serves it."""

    group: str
    version: str
    kind: str
    plural: str
    type: type[T]
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    has_status: bool = True
    nullable: tuple[str, ...] = ()
    """Required lists that servers send as null when they are empty."""
    older: Resource[T] | None = None
    """What to read instead from a server that does not serve this version yet."""

    @property
    def api_version(self) -> str:
        """`v1` for the core group, `group/version` for the others."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        """The name in the singular, lower case, as kubectl takes it."""
        return self.kind.lower()

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The REST path of the collection, of one object, or of a part of one.

        A namespaced resource without a namespace gives the path of all namespaces.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


NAMESPACES = Resource("", "v1", "Namespace", "namespaces", Namespace, namespaced=False, short_names=("ns",))
NODES = Resource("", "v1", "Node", "nodes", Node, namespaced=False, short_names=("no",))
PODS = Resource("", "v1", "Pod", "pods", Pod, short_names=("po",))
SERVICES = Resource("", "v1", "Service", "services", Service, short_names=("svc",))
EVENTS = Resource("", "v1", "Event", "events", Event, short_names=("ev",), has_status=False)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", Deployment, short_names=("deploy",))
REPLICASETS = Resource("apps", "v1", "ReplicaSet", "replicasets", ReplicaSet, short_names=("rs",))
_ENDPOINTSLICES_V1BETA1: Resource[EndpointSlice] = Resource(
    "discovery.k8s.io", "v1beta1", "EndpointSlice", "endpointslices", EndpointSliceV1beta1, nullable=("endpoints",)
)
"""Of servers before 1.21; 1.25 has it no more."""
ENDPOINTSLICES = Resource(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    EndpointSlice,
    has_status=False,
    nullable=("endpoints",),
    older=_ENDPOINTSLICES_V1BETA1,
)

ALL: tuple[Resource[Object], ...] = (
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    EVENTS,
    DEPLOYMENTS,
    REPLICASETS,
    ENDPOINTSLICES,
)  # type: ignore[assignment]
"""Every resource, in the order in which a file's objects are applied: what others live in comes first."""


def by_name(name: str) -> Resource[Object] | None:
    """The resource a person means: plural, singular, kind or short name, in any case; None if there is none."""
    wanted = name.lower()
    return next((r for r in ALL if wanted in (r.plural, r.singular, *r.short_names)), None)


def by_kind(api_version: str, kind: str) -> Resource[Object] | None:
    """The resource a manifest means; None if there is none."""
    return next((r for r in ALL if (r.api_version, r.kind) == (api_version, kind)), None)
