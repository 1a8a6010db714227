"""The Endpoints that a Service's slices amount to, and the slices that Endpoints without a selector amount to.

Upstream's pkg/controller/endpoint and pkg/controller/endpointslicemirroring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from netlab.api import config_types as core
from netlab.api.config_types import Endpoints
from netlab.api.core_types import Service
from netlab.api.discovery_types import (
    HEADLESS_LABEL,
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from netlab.api.meta_types import ObjectMeta
from netlab.controlplane.cluster import controller_reference
from netlab.controlplane.slices import MANAGED_BY_LABEL

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
CONTROLLER = "endpoint-controller"

MIRRORED_BY = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
"""The annotation of Endpoints that serve as a lock of leader election."""

OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MOST_ADDRESSES = 1000

_Ports = tuple[tuple[str, str, int, str | None], ...]


def endpoints_of(service: Service, slices: Iterable[EndpointSlice]) -> Endpoints:
    """The Endpoints of a Service with a selector: the addresses of its primary family."""
    family = service.spec.ipFamilies[0] if service.spec.ipFamilies else "IPv4"
    by_ports: dict[_Ports, core.EndpointSubset] = {}
    total = 0
    for found in sorted(slices, key=lambda each: each.metadata.name):
        if found.addressType != family:
            continue
        subset = by_ports.setdefault(_ports_of(found), core.EndpointSubset())
        for endpoint in found.endpoints:
            if endpoint.conditions.terminating and not endpoint.conditions.ready:
                continue
            total += 1
            if total > MOST_ADDRESSES:
                continue
            is_ready = endpoint.conditions.ready is not False
            target = subset.addresses if is_ready else subset.notReadyAddresses
            target.append(_address(endpoint))
    subsets = []
    for ports, subset in sorted(by_ports.items(), key=lambda item: str(item[0])):
        subset.addresses.sort(key=lambda each: each.ip)
        subset.notReadyAddresses.sort(key=lambda each: each.ip)
        subset.ports = [
            core.EndpointPort(name=name, protocol=protocol, port=port, appProtocol=application)
            for name, protocol, port, application in ports
        ]
        if subset.addresses or subset.notReadyAddresses:
            subsets.append(subset)
    meta = service.metadata
    labels = {**meta.labels, MANAGED_BY: CONTROLLER}
    if service.spec.clusterIP == "None":
        labels[HEADLESS_LABEL] = ""
    annotations = {OVER_CAPACITY: "truncated"} if total > MOST_ADDRESSES else {}
    return Endpoints(
        metadata=ObjectMeta(name=meta.name, namespace=meta.namespace, labels=labels, annotations=annotations),
        subsets=subsets,
    )


def _ports_of(found: EndpointSlice) -> _Ports:
    return tuple(
        sorted(
            (
                (port.name or "", port.protocol or "TCP", port.port, port.appProtocol)
                for port in found.ports
                if port.port
            ),
            key=str,
        )
    )


def _address(endpoint: Endpoint) -> core.EndpointAddress:
    return core.EndpointAddress(
        ip=endpoint.addresses[0],
        hostname=endpoint.hostname or "",
        nodeName=endpoint.nodeName,
        targetRef=endpoint.targetRef,
    )


def is_mirrored(endpoints: Endpoints, service: Service | None) -> bool:
    """Whether slices are made of Endpoints: of those that a user wrote for a Service without a selector."""
    meta = endpoints.metadata
    return (
        service is not None
        and not service.spec.selector
        and meta.labels.get(SKIP_MIRROR) != "true"
        and _LEADER not in meta.annotations
        and meta.deletionTimestamp is None
    )


def slices_of(endpoints: Endpoints) -> list[EndpointSlice]:
    """The slices that Endpoints amount to: one for each subset and family."""
    made: dict[str, EndpointSlice] = {}
    for subset in endpoints.subsets:
        addresses = [
            *((each, True) for each in subset.addresses),
            *((each, False) for each in subset.notReadyAddresses),
        ]
        for family in dict.fromkeys(f"IPv{_version(each.ip)}" for each, _ in addresses):
            listed = [_endpoint(each, is_ready) for each, is_ready in addresses if f"IPv{_version(each.ip)}" == family]
            found = _slice(endpoints, subset, family, listed)
            if found.metadata.name in made:
                made[found.metadata.name].endpoints += found.endpoints
            else:
                made[found.metadata.name] = found
    return list(made.values())


def _slice(endpoints: Endpoints, subset: core.EndpointSubset, family: str, listed: list[Endpoint]) -> EndpointSlice:
    meta = endpoints.metadata
    ports = [
        EndpointPort(name=each.name, protocol=each.protocol, port=each.port, appProtocol=each.appProtocol)
        for each in subset.ports
    ]
    identity = f"{family} {[(each.name, each.protocol, each.port) for each in subset.ports]}"
    digest = hashlib.blake2b(identity.encode(), digest_size=5).hexdigest()
    copied = {
        key: value
        for key, value in meta.annotations.items()
        if key not in ("kubectl.kubernetes.io/last-applied-configuration", OVER_CAPACITY)
    }
    own = {SERVICE_NAME_LABEL: meta.name, MANAGED_BY_LABEL: MIRRORED_BY}
    return EndpointSlice(
        metadata=ObjectMeta(
            name=f"{meta.name[:240]}-{digest}",
            namespace=meta.namespace,
            labels={**meta.labels, **own},
            annotations=copied,
            ownerReferences=[controller_reference(endpoints)],
        ),
        addressType=family,
        endpoints=listed,
        ports=ports,
    )


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _endpoint(address: core.EndpointAddress, is_ready: bool) -> Endpoint:
    return Endpoint(
        addresses=[address.ip],
        conditions=EndpointConditions(ready=is_ready),
        hostname=address.hostname or None,
        nodeName=address.nodeName,
        targetRef=address.targetRef,
    )
