"""What a capture of a lab selects: which taps, and which packets there. Pure, except for reading the API's objects."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import msgspec

from netlab.api.blocking import BlockingClient
from netlab.api.core_types import Node, Pod, Service
from netlab.api.discovery_types import SERVICE_NAME_LABEL, EndpointSlice
from netlab.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from netlab.capture.taps import Tap
from netlab.errors import NotFoundError, UnavailableError, UsageError
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.net.addresses import VXLAN_PORT, packed

T = TypeVar("T", Pod, Service)


_MOST_HOSTS = 64
"""A filter lists at most this many addresses: the kernel's programs have at most 4,096 instructions, and each address
takes about 20."""


@dataclasses.dataclass(frozen=True)
class Objects:
    """The API's objects that determine the owners of addresses."""

    nodes: Sequence[Node]
    pods: Sequence[Pod]
    services: Sequence[Service]
    slices: Sequence[EndpointSlice]


@dataclasses.dataclass(frozen=True)
class Selection:
    """A whole lab (`name` is empty), or one part: a machine by its name, a pod or Service by NAMESPACE/NAME."""

    kind: Literal["all", "node", "pod", "service"]
    name: str = ""

    def __str__(self) -> str:
        word = {"all": "everything", "service": "Service"}.get(self.kind, self.kind)
        return f"{word} {self.name}".strip()


def read_objects(client: BlockingClient, namespace: str | None = None) -> Objects:
    """The current objects, with the pods and Services of one Namespace or of all. Raises what the client raises."""
    return Objects(
        msgspec.convert(client.request("GET", NODES.path())["items"], list[Node]),
        msgspec.convert(client.request("GET", PODS.path(namespace))["items"], list[Pod]),
        msgspec.convert(client.request("GET", SERVICES.path(namespace))["items"], list[Service]),
        msgspec.convert(client.request("GET", ENDPOINTSLICES.path(namespace))["items"], list[EndpointSlice]),
    )


def select(
    objects: Objects, *, pod: str | None, node: str | None, service: str | None, namespace: str | None
) -> Selection:
    """The selection by at most one given name; without a name, everything.

    A pod or Service is NAME, searched in `namespace` (None: in all), or NAMESPACE/NAME. Raises `UsageError` for several
    names, for a name in several namespaces and for objects without packets of their own, `NotFoundError` (with similar
    names) for an unknown name, `UnavailableError` for a pod that has no address yet.
    """
    given = [f"--{kind}" for kind, name in (("pod", pod), ("node", node), ("service", service)) if name is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: use only one of them, or --all")
    if node is not None:
        machines = [each.metadata.name for each in objects.nodes] + [OUTSIDE, FABRIC]
        name = node.removeprefix("node/")
        if name not in machines:
            raise NotFoundError(f"there is no node {name!r}{_near(name, machines)}")
        return Selection("node", name)
    if pod is not None:
        key = _named("pod", pod.removeprefix("pod/"), namespace, objects.pods, objects.services)
        found = _of(objects.pods, key)
        if found.spec.hostNetwork:
            raise UsageError(f"pod {key} uses its node's network; use --node {found.spec.nodeName}")
        if not _addresses_of(found):
            raise UnavailableError(
                f"pod {key} has no address yet (it is {found.status.phase or 'Pending'}); see `netlab get pods`"
            )
        return Selection("pod", key)
    if service is not None:
        key = _named("Service", service.removeprefix("svc/"), namespace, objects.services, objects.pods)
        if _of(objects.services, key).spec.externalName:
            raise UsageError(f"Service {key} is only a DNS name (ExternalName); no packets are sent to it")
        return Selection("service", key)
    return Selection("all")


def exists(selection: Selection, objects: Objects) -> bool:
    """Whether the selected object still exists."""
    if selection.kind == "pod":
        return any(each.key == selection.name for each in objects.pods)
    return selection.kind != "service" or any(each.key == selection.name for each in objects.services)


def includes(selection: Selection, tap: Tap) -> bool:
    """Whether packets of the selection may pass a tap.

    A node's packets pass its own interfaces, and the fabric's port to it. A pod's or Service's packets may pass
    anywhere: the client may be any pod, or the outside world.
    """
    if selection.kind != "node":
        return True
    return tap.machine == selection.name or (tap.machine == FABRIC and tap.peer.startswith(f"{selection.name} "))


def expression(selection: Selection, objects: Objects, pod_networks: Sequence[str]) -> str:
    """The filter (pcap-filter(7)) for its packets anywhere, translated or not; empty for all packets.

    A filter sees only one packet and its addresses. It accepts more than selected if several senders share a node's
    address: a pod's packets to the outside leave with the node's address, and so do other pods'.
    """
    if selection.kind == "pod":
        pod = _of(objects.pods, selection.name)
        services = [each for each in objects.services if _leads_to(each, pod, objects.slices)]
        node = next((each for each in objects.nodes if each.metadata.name == pod.spec.nodeName), None)
        parts = _hosts(_addresses_of(pod)) + [part for each in services for part in _frontends(each)]
        if node is not None:
            parts += [f"(host {address} and not udp port {VXLAN_PORT})" for address in _node_addresses(node)]
        return " or ".join(dict.fromkeys(parts))
    if selection.kind == "service":
        service = _of(objects.services, selection.name)
        slices = [each for each in objects.slices if _is_of(each, service)]
        addresses = sorted(
            {address for each in slices for endpoint in each.endpoints for address in endpoint.addresses}
        )
        if len(addresses) > _MOST_HOSTS:
            ports = sorted({port.port for each in slices for port in each.ports if port.port})
            some = " or ".join(f"port {port}" for port in ports) or "ip or ip6"
            endpoints = [f"(net {network} and ({some}))" for network in pod_networks]
        else:
            endpoints = _hosts(addresses)
        return " or ".join(dict.fromkeys(_frontends(service) + endpoints)) or "less 0"
    return ""


def own_addresses(selection: Selection, objects: Objects) -> frozenset[bytes]:
    """The addresses of the selection: each of its packets has one of them at some tap. Empty: every packet belongs."""
    if selection.kind == "pod":
        return frozenset(map(packed, _addresses_of(_of(objects.pods, selection.name))))
    return frozenset()


def _frontends(service: Service) -> list[str]:
    spec = service.spec
    ingress = [each.ip for each in service.status.loadBalancer.ingress if each.ip]
    found = _hosts(each for each in [*spec.clusterIPs, *spec.externalIPs, *ingress] if each != "None")
    return found + [f"{port.protocol.lower() or 'tcp'} port {port.nodePort}" for port in spec.ports if port.nodePort]


def _hosts(addresses: Iterable[str]) -> list[str]:
    return [f"host {address}" for address in addresses]


def _addresses_of(pod: Pod) -> list[str]:
    return [each.ip for each in pod.status.podIPs] or ([pod.status.podIP] if pod.status.podIP else [])


def _node_addresses(node: Node) -> list[str]:
    return [each.address for each in node.status.addresses if each.type == "InternalIP"]


def _is_of(slice_: EndpointSlice, service: Service) -> bool:
    meta = slice_.metadata
    return meta.namespace == service.metadata.namespace and (
        meta.labels.get(SERVICE_NAME_LABEL) == service.metadata.name
    )


def _leads_to(service: Service, pod: Pod, slices: Iterable[EndpointSlice]) -> bool:
    own = set(_addresses_of(pod))
    return any(
        own.intersection(endpoint.addresses) for each in slices if _is_of(each, service) for endpoint in each.endpoints
    )


def _of(listed: Iterable[T], key: str) -> T:
    return next(each for each in listed if each.key == key)


def _named(
    what: str,
    text: str,
    namespace: str | None,
    listed: Sequence[Pod] | Sequence[Service],
    others: Sequence[Pod] | Sequence[Service],
) -> str:
    """The full NAMESPACE/NAME for a name; `others` are the objects of the other kind, for a hint."""
    within, _, name = text.rpartition("/")
    if within and namespace not in (None, within):
        raise UsageError(f"{what} {text!r} names a namespace, and so does -n {namespace}; leave out one of them")
    namespace = within or namespace
    keys = [each.key for each in listed if each.metadata.name == name and namespace in (None, each.metadata.namespace)]
    if len(keys) == 1:
        return keys[0]
    if keys:
        raise UsageError(f"{what} {name!r} could be {' or '.join(sorted(keys))}; choose a namespace with -n")
    names = sorted({each.metadata.name for each in listed if namespace in (None, each.metadata.namespace)})
    where = f" in namespace {namespace}" if namespace else ""
    hint = _near(name, names)
    if any(each.metadata.name == name and namespace in (None, each.metadata.namespace) for each in others):
        hint += f"; a {'Service' if what == 'pod' else 'pod'} has that name: --{'service' if what == 'pod' else 'pod'}"
    raise NotFoundError(f"there is no {what} {name!r}{where}{hint}")


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names) or [other for other in names if other.startswith(name)][:3]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there is {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else ""
