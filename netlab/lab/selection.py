"""What a capture of a lab selects: which taps, and which packets there. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

from netlab.api.cluster import Cluster, node_addresses, pod_addresses
from netlab.api.core_types import Service
from netlab.capture.taps import Tap
from netlab.errors import NotFoundError, UnavailableError, UsageError
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.net.addresses import packed
from netlab.net.route.vxlan import VXLAN_PORT
from netlab.similar import did_you_mean

_MOST_HOSTS = 64
"""A filter lists at most this many addresses: the kernel's programs have at most 4,096 instructions, and each address
takes about 20."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """A whole lab (`name` is empty), or one part: a machine by its name, a pod or Service by NAMESPACE/NAME."""

    kind: Literal["all", "node", "pod", "service"]
    name: str = ""

    def __str__(self) -> str:
        word = {"all": "everything", "service": "Service"}.get(self.kind, self.kind)
        return f"{word} {self.name}".strip()


def select(
    cluster: Cluster, *, pod: str | None, node: str | None, service: str | None, namespace: str | None
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
        machines = [*cluster.nodes, OUTSIDE, FABRIC]
        name = node.removeprefix("node/")
        if name not in machines:
            raise NotFoundError(f"there is no node {name!r}{_near(name, machines)}")
        return Selection("node", name)
    if pod is not None:
        key = _named("pod", pod.removeprefix("pod/"), namespace, cluster.pods, cluster.services)
        found = cluster.pods[key]
        if found.spec.hostNetwork:
            raise UsageError(f"pod {key} uses its node's network; use --node {found.spec.nodeName}")
        if not pod_addresses(found):
            raise UnavailableError(
                f"pod {key} has no address yet (it is {found.status.phase or 'Pending'}); see `netlab get pods`"
            )
        return Selection("pod", key)
    if service is not None:
        key = _named("Service", service.removeprefix("svc/"), namespace, cluster.services, cluster.pods)
        if cluster.services[key].spec.externalName:
            raise UsageError(f"Service {key} is only a DNS name (ExternalName); no packets are sent to it")
        return Selection("service", key)
    return Selection("all")


def exists(selection: Selection, cluster: Cluster) -> bool:
    """Whether the selected object still exists."""
    if selection.kind == "pod":
        return selection.name in cluster.pods
    return selection.kind != "service" or selection.name in cluster.services


def includes(selection: Selection, tap: Tap) -> bool:
    """Whether packets of the selection may pass a tap.

    A node's packets pass its own interfaces, and the fabric's port to it. A pod's or Service's packets may pass
    anywhere: the client may be any pod, or the outside world.
    """
    if selection.kind != "node":
        return True
    return tap.machine == selection.name or (tap.machine == FABRIC and tap.peer.startswith(f"{selection.name} "))


def expression(selection: Selection, cluster: Cluster, pod_networks: Sequence[str]) -> str:
    """The filter (pcap-filter(7)) for its packets anywhere, translated or not; empty for all packets.

    A filter sees only one packet and its addresses. It accepts more than selected if several senders share a node's
    address: a pod's packets to the outside leave with the node's address, and so do other pods'.
    """
    if selection.kind == "pod":
        pod = cluster.pods[selection.name]
        own = set(pod_addresses(pod))
        services = [
            service
            for key, service in cluster.services.items()
            if any(own.intersection(each.addresses) for one in cluster.slices.get(key, ()) for each in one.endpoints)
        ]
        node = cluster.nodes.get(pod.spec.nodeName)
        parts = _hosts(pod_addresses(pod)) + [part for each in services for part in _frontends(each)]
        if node is not None:
            parts += [f"(host {address} and not udp port {VXLAN_PORT})" for address in node_addresses(node)]
        return " or ".join(dict.fromkeys(parts))
    if selection.kind == "service":
        service = cluster.services[selection.name]
        slices = cluster.slices.get(selection.name, [])
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


def own_addresses(selection: Selection, cluster: Cluster) -> frozenset[bytes]:
    """The addresses of the selection: each of its packets has one of them at some tap. Empty: every packet belongs."""
    if selection.kind == "pod":
        return frozenset(map(packed, pod_addresses(cluster.pods[selection.name])))
    return frozenset()


def _frontends(service: Service) -> list[str]:
    spec = service.spec
    ingress = [each.ip for each in service.status.loadBalancer.ingress if each.ip]
    found = _hosts(each for each in [*spec.clusterIPs, *spec.externalIPs, *ingress] if each != "None")
    return found + [f"{port.protocol.lower() or 'tcp'} port {port.nodePort}" for port in spec.ports if port.nodePort]


def _hosts(addresses: Iterable[str]) -> list[str]:
    return [f"host {address}" for address in addresses]


def _named(what: str, text: str, namespace: str | None, listed: Iterable[str], others: Iterable[str]) -> str:
    """The full NAMESPACE/NAME for a name, if it is listed; `others` are those of the other kind, for a hint."""
    within, _, name = text.rpartition("/")
    if within and namespace not in (None, within):
        raise UsageError(f"{what} {text!r} names a namespace, and so does -n {namespace}; leave out one of them")
    namespace = within or namespace
    inside = [key.split("/") for key in listed if namespace in (None, key.partition("/")[0])]
    keys = ["/".join(key) for key in inside if key[1] == name]
    if len(keys) == 1:
        return keys[0]
    if keys:
        raise UsageError(f"{what} {name!r} could be {' or '.join(sorted(keys))}; choose a namespace with -n")
    names = sorted({key[1] for key in inside})
    where = f" in namespace {namespace}" if namespace else ""
    hint = _near(name, names)
    if any(key.partition("/")[2] == name and namespace in (None, key.partition("/")[0]) for key in others):
        hint += f"; a {'Service' if what == 'pod' else 'pod'} has that name: --{'service' if what == 'pod' else 'pod'}"
    raise NotFoundError(f"there is no {what} {name!r}{where}{hint}")


def _near(name: str, names: Sequence[str]) -> str:
    listed = f"; there is {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else ""
    return did_you_mean(name, names) or listed
