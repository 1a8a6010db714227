"""Which EndpointSlices a Service should have: upstream's endpointslice reconciler as a pure function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import msgspec

from netlab.api.core_types import ObjectReference, Pod, Service, ServicePort
from netlab.api.discovery_types import (
    HEADLESS_LABEL,
    SERVICE_NAME_LABEL,
    TRIGGER_TIME,
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
)
from netlab.api.meta_types import ObjectMeta
from netlab.controlplane.cluster import controller_reference, is_finished, is_ready
from netlab.net.addresses import family_of

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGED_BY = "endpointslice-controller.k8s.io"
MAX_ENDPOINTS = 100
"""Endpoints in one slice (upstream's --max-endpoints-per-slice)."""

PortKey = tuple[tuple[str | None, str | None, int | None, str | None], ...]
EndpointKey = tuple[str, str]
"""The uid of the pod, and its address."""


@dataclasses.dataclass
class SlicePlan:
    """The changes to a Service's slices; slices not named stay as they are."""

    create: list[EndpointSlice] = dataclasses.field(default_factory=list)
    update: list[EndpointSlice] = dataclasses.field(default_factory=list)
    delete: list[EndpointSlice] = dataclasses.field(default_factory=list)


def plan_slices(
    service: Service,
    pods: Iterable[Pod],
    existing: Sequence[EndpointSlice],
    zone_of: Callable[[str], str | None],
    trigger_time: str,
) -> SlicePlan:
    """Compare the slices a Service has with those it should have.

    `pods` are those its selector matches, `existing` the slices this controller made for it, `zone_of` gives a
    node's zone, and `trigger_time` (RFC 3339) is written into the slices whose endpoints change.

    Writes as few slices as possible, and moves no endpoint from one slice to another: packing tighter would cost every
    kube-proxy more than it saves.
    """
    families = [family for family in service.spec.ipFamilies if family in ("IPv4", "IPv6")]
    groups: dict[tuple[str, PortKey], dict[EndpointKey, Endpoint]] = {}
    for pod in pods:
        if is_finished(pod) or not pod.status.podIPs:
            continue
        ports = _ports(service, pod)
        for family in families:
            if address := _address(pod, family):
                endpoint = _endpoint(service, pod, address, zone_of)
                groups.setdefault((family, ports), {})[pod.metadata.uid, address] = endpoint
    for family in families:
        # Kube-proxy distinguishes "no endpoints" from "not known yet" by an empty slice.
        if not any(group[0] == family for group in groups):
            groups[family, ()] = {}
    remaining: dict[tuple[str, PortKey], list[EndpointSlice]] = {}
    for found in sorted(existing, key=lambda s: (s.metadata.creationTimestamp or "", s.metadata.name)):
        if found.metadata.deletionTimestamp is None:
            remaining.setdefault((found.addressType, _port_key(found.ports)), []).append(found)
    plan = SlicePlan()
    for group, desired in groups.items():
        _reconcile(plan, _blank(service, group), desired, remaining.pop(group, []), trigger_time)
    plan.delete += [found for slices in remaining.values() for found in slices]
    _reuse(plan)
    return plan


@dataclasses.dataclass(eq=False)
class _Bin:
    """An existing slice, and its future contents."""

    slice: EndpointSlice
    endpoints: list[Endpoint]

    @property
    def is_changed(self) -> bool:
        return self.endpoints != self.slice.endpoints

    def take(self, endpoints: list[Endpoint]) -> None:
        """Take as many of `endpoints` as there is room for."""
        room = MAX_ENDPOINTS - len(self.endpoints)
        self.endpoints += endpoints[:room]
        del endpoints[:room]


def _reconcile(
    plan: SlicePlan,
    blank: EndpointSlice,
    desired: dict[EndpointKey, Endpoint],
    existing: list[EndpointSlice],
    trigger_time: str,
) -> None:
    """Plan one address family with one set of ports; `blank` is an empty slice of it."""
    unplaced = dict(desired)
    bins = []
    for found in existing:
        # Popped: an endpoint in two slices, because an answer was lost, stays in the first.
        stay = (unplaced.pop(_key(endpoint), None) for endpoint in found.endpoints)
        bins.append(_Bin(found, [endpoint for endpoint in stay if endpoint is not None]))
    new = list(unplaced.values())
    for one in bins:
        # First where a slice is written anyway, the emptied ones included.
        if new and one.is_changed:
            one.take(new)
    if new:
        # Then the fullest other slice with room for the rest, the empty slice of "no endpoints" included.
        roomy = [one for one in bins if len(one.endpoints) + len(new) % MAX_ENDPOINTS <= MAX_ENDPOINTS]
        if roomy and len(new) % MAX_ENDPOINTS:
            rest = new[-(len(new) % MAX_ENDPOINTS) :]
            del new[-len(rest) :]
            max(roomy, key=lambda one: len(one.endpoints)).take(rest)
    for start in range(0, len(new), MAX_ENDPOINTS):
        plan.create.append(_filled(blank, new[start : start + MAX_ENDPOINTS], trigger_time))
    holding = [one for one in bins if one.endpoints]
    if not desired:
        # The empty slice that says "none": an existing one, or a new one.
        holding = bins[:1]
        if not bins:
            plan.create.append(_filled(blank, [], trigger_time))
    plan.delete += [one.slice for one in bins if one not in holding]
    for one in holding:
        if one.is_changed or one.slice.metadata.labels != blank.metadata.labels:
            filled = _filled(blank, one.endpoints, trigger_time if one.is_changed else "")
            plan.update.append(_in_place_of(one.slice, filled))


def _reuse(plan: SlicePlan) -> None:
    """Reuse slices due for deletion for those due for creation, per family: one change instead of two."""
    kept = []
    for dead in plan.delete:
        born = next((s for s in plan.create if s.addressType == dead.addressType), None)
        if born is None:
            kept.append(dead)
            continue
        plan.create = [s for s in plan.create if s is not born]
        plan.update.append(_in_place_of(dead, born))
    plan.delete = kept


def _in_place_of(old: EndpointSlice, new: EndpointSlice) -> EndpointSlice:
    identity = msgspec.structs.replace(
        old.metadata,
        labels=new.metadata.labels,
        annotations={**old.metadata.annotations, **new.metadata.annotations},
        ownerReferences=new.metadata.ownerReferences,
    )
    return msgspec.structs.replace(new, metadata=identity)


def _filled(blank: EndpointSlice, endpoints: list[Endpoint], trigger_time: str) -> EndpointSlice:
    meta = blank.metadata
    return EndpointSlice(
        metadata=ObjectMeta(
            generateName=meta.generateName,
            namespace=meta.namespace,
            labels=meta.labels,
            annotations={TRIGGER_TIME: trigger_time} if trigger_time else {},
            ownerReferences=meta.ownerReferences,
        ),
        addressType=blank.addressType,
        endpoints=endpoints,
        ports=blank.ports,
    )


def _blank(service: Service, group: tuple[str, PortKey]) -> EndpointSlice:
    family, ports = group
    meta = service.metadata
    # The Service's own labels are mirrored, except those that this controller writes.
    labels = {k: v for k, v in meta.labels.items() if k not in (SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL)}
    labels |= {SERVICE_NAME_LABEL: meta.name, MANAGED_BY_LABEL: MANAGED_BY}
    if service.spec.clusterIP == "None":
        labels[HEADLESS_LABEL] = ""
    return EndpointSlice(
        metadata=ObjectMeta(
            generateName=f"{meta.name}-",
            namespace=meta.namespace,
            labels=labels,
            ownerReferences=[controller_reference(service)],
        ),
        addressType=family,
        endpoints=[],
        ports=[EndpointPort(name=n, protocol=proto, port=number, appProtocol=app) for n, proto, number, app in ports],
    )


def _endpoint(service: Service, pod: Pod, address: str, zone_of: Callable[[str], str | None]) -> Endpoint:
    meta, spec = pod.metadata, pod.spec
    serving = is_ready(pod)
    terminating = meta.deletionTimestamp is not None
    ready = service.spec.publishNotReadyAddresses or (serving and not terminating)
    named = spec.hostname and spec.subdomain == service.metadata.name and meta.namespace == service.metadata.namespace
    zone = zone_of(spec.nodeName) if spec.nodeName else None
    return Endpoint(
        addresses=[address],
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hostname=spec.hostname if named else None,
        nodeName=spec.nodeName or None,
        zone=zone,
        hints=_hints(service, spec.nodeName, zone) if ready else None,
        # No resourceVersion (upstream dropped it in 1.20): an endpoint must not change with every change of its pod.
        targetRef=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
    )


def _hints(service: Service, node: str, zone: str | None) -> EndpointHints | None:
    """The hints of an endpoint, if the Service's traffic should stay close (KEP-4444, KEP-3015)."""
    wanted = service.spec.trafficDistribution
    if wanted not in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        return None
    zones = [ForZone(zone)] if zone else []
    nodes = [ForNode(node)] if node and wanted == "PreferSameNode" else []
    return EndpointHints(forZones=zones, forNodes=nodes) if zones or nodes else None


def _address(pod: Pod, family: str) -> str | None:
    # Not parsed, for all pods at each change: the API server refuses an invalid address, in the slice.
    return next((ip.ip for ip in pod.status.podIPs if family_of(ip.ip) == family), None)


def _ports(service: Service, pod: Pod) -> PortKey:
    """The Service's ports with their numbers in this pod; ports that the pod does not name are left out."""
    found = [
        (port.name, port.protocol, number, port.appProtocol)
        for port in service.spec.ports
        if (number := target_port(port, pod)) is not None
    ]
    return tuple(sorted(found, key=str))


def target_port(port: ServicePort, pod: Pod) -> int | None:
    """The number of a Service's port in a pod; None if the pod has no container port of that name and protocol."""
    target = port.targetPort
    if target is None or target in (0, ""):
        return port.port
    if isinstance(target, int):
        return target
    return next(
        (
            candidate.containerPort
            for container in pod.spec.containers
            for candidate in container.ports
            if candidate.name == target and candidate.protocol == port.protocol
        ),
        None,
    )


def _port_key(ports: Iterable[EndpointPort]) -> PortKey:
    return tuple(sorted(((p.name or "", p.protocol or "TCP", p.port, p.appProtocol) for p in ports), key=str))


def _key(endpoint: Endpoint) -> EndpointKey:
    return endpoint.targetRef.uid if endpoint.targetRef else "", endpoint.addresses[0] if endpoint.addresses else ""
