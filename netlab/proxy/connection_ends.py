"""From the names that people give the ends of a connection (pods, nodes, Services) to addresses."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping, Sequence
from typing import TypeVar

from netlab.api.cluster import Cluster, pod_addresses
from netlab.api.core_types import Pod, Service
from netlab.errors import NotFoundError, UsageError
from netlab.net.addresses import family_of
from netlab.proxy.plan import PROTOCOLS
from netlab.proxy.planner import cluster_ips, node_info
from netlab.similar import did_you_mean

T = TypeVar("T")

OUTSIDE = "outside"


@dataclasses.dataclass(frozen=True)
class Ends:
    """The ends of a connection: each has an address of every family in which it is known."""

    source: tuple[str, ...]
    destination: tuple[str, ...]
    protocol: str
    port: int
    node: str | None
    """The node whose proxy handles its packets first, if known."""


def ends(
    source: str,
    destination: str,
    namespace: str,
    cluster: Cluster,
    outside: Sequence[str],
    protocol: str = "",
) -> Ends:
    """What SOURCE and DESTINATION mean; `outside` are the addresses of the outside world, if it has a name.

    The protocol is the destination's (/udp), TCP if it has none; a `protocol` argument outranks both. ICMP has no port:
    it is 0. Raises UsageError for malformed names, NotFoundError (naming similar ones) for unknown ones.
    """
    target, protocol = (destination, protocol) if protocol else _protocol(destination)
    from_, node = _source(source, namespace, cluster, outside)
    to, port, called = _destination(target, protocol, namespace, cluster, outside)
    return Ends(from_, to, protocol, port, node or called)


def narrowed(ends: Ends) -> tuple[str, str, str, int]:
    """Source, destination, protocol and port in the first family that both ends have. Raises UsageError."""
    for destination in ends.destination:
        for source in ends.source:
            if family_of(source) == family_of(destination):
                return source, destination, ends.protocol, ends.port
    raise UsageError(f"{', '.join(ends.source)} and {', '.join(ends.destination)} have no address family in common")


def _protocol(text: str) -> tuple[str, str]:
    rest, _, last = text.rpartition("/")
    if last.upper() in PROTOCOLS and rest:
        return rest, PROTOCOLS[last.upper()]
    return text, "tcp"


def _source(text: str, namespace: str, cluster: Cluster, outside: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    kind, _, name = text.rpartition("/")
    address = _address(text)
    if address is not None:
        pod = cluster.pod_at.get(address)
        return (address,), (pod.spec.nodeName if pod else None) or _node_of(address, cluster)
    if text == OUTSIDE and outside:
        return tuple(outside), None
    if kind in ("node", "nodes", "no"):
        return node_info(_named(name, cluster.nodes, "node")).addresses, name
    if kind not in ("", "pod", "pods", "po"):
        raise UsageError(f"SOURCE {text!r}: must be an address, a pod, node/NAME or {OUTSIDE}")
    found = _pod(name, namespace, cluster)
    return tuple(pod_addresses(found)), found.spec.nodeName or None


def _destination(
    text: str,
    protocol: str,
    namespace: str,
    cluster: Cluster,
    outside: Sequence[str],
) -> tuple[tuple[str, ...], int, str | None]:
    kind, _, rest = text.rpartition("/")
    if kind in ("svc", "service", "services"):
        name, _, port = rest.partition(":")
        name, _, other = name.partition(".")
        namespace = other or namespace
        service = _named(name, _within(cluster.services, namespace), "Service", namespace)
        addresses = tuple(cluster_ips(service))
        if not addresses:
            raise UsageError(f"Service {service.key} has no ClusterIP; give an address instead")
        return addresses, _service_port(service, port, protocol), None
    if kind in ("node", "nodes", "no"):
        name, _, port = rest.partition(":")
        node = _named(name, cluster.nodes, "node")
        return node_info(node).addresses, _number(port, text, protocol), name
    if kind in ("", "pod", "pods", "po") and (found := _literal(text, protocol)):
        address, port = found
        return (address,), _number(port, text, protocol), _node_of(address, cluster)
    name, _, port = rest.partition(":")
    if not kind and name == OUTSIDE and outside:
        return tuple(outside), _number(port, text, protocol), None
    if kind not in ("", "pod", "pods", "po") or not name or ":" in port or "[" in name or _address(name):
        raise UsageError(
            f"DESTINATION {text!r}: must be ADDRESS:PORT ([ADDRESS]:PORT for IPv6), svc/NAME:PORT, node/NAME:PORT,"
            f" POD:PORT or {OUTSIDE}:PORT"
        )
    key = f"{namespace}/{name}"
    if key in cluster.services and key not in cluster.pods:
        raise NotFoundError(f"there is no pod {name!r} in namespace {namespace}; did you mean svc/{name}?")
    return tuple(pod_addresses(_pod(name, namespace, cluster))), _number(port, text, protocol), None


def _literal(text: str, protocol: str) -> tuple[str, str] | None:
    """ADDRESS:PORT, or for ICMP an address alone; None for anything else."""
    if protocol == "icmp" and (address := _address(text.strip("[]"))):
        return address, ""
    host, _, port = text.rpartition(":")
    address = _address(host.strip("[]"))
    return None if address is None or (":" in address and not host.startswith("[")) else (address, port)


def _service_port(service: Service, text: str, protocol: str) -> int:
    if protocol == "icmp":
        return _number(text, service.key, protocol)
    ports = [port for port in service.spec.ports if PROTOCOLS.get(port.protocol or "TCP") == protocol]
    for port in ports:
        if text and text in (str(port.port), port.name):
            return port.port
    if text.isdecimal():
        # Even a port that the Service lacks: what happens to it is a fair question.
        return _number(text, text)
    if not text and len(ports) == 1:
        return ports[0].port
    known = ", ".join(f"{port.port}{f' ({port.name})' if port.name else ''}" for port in ports) or "none"
    raise UsageError(f"Service {service.key}: which port? Its {protocol} ports are {known}")


def _number(text: str, whole: str, protocol: str = "") -> int:
    if protocol == "icmp":
        if text:
            raise UsageError(f"DESTINATION {whole!r}: ICMP has no ports; leave out {text}")
        return 0
    if not text:
        raise UsageError(
            f"DESTINATION {whole!r}: which port? Write {whole.rstrip(':')}:PORT, or in `netlab trace` --proto icmp"
        )
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UsageError(f"DESTINATION {whole!r}: its port is not a number in 1..65535")
    return int(text)


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _pod(name: str, namespace: str, cluster: Cluster) -> Pod:
    """A pod that has an address."""
    found = _named(name, _within(cluster.pods, namespace), "pod", namespace)
    if not pod_addresses(found):
        raise NotFoundError(f"pod {name} has no address yet: it is {found.status.phase or 'Pending'}")
    return found


def _node_of(address: str, cluster: Cluster) -> str | None:
    node = cluster.node_at.get(address)
    return node.metadata.name if node else None


def _within(objects: Mapping[str, T], namespace: str) -> dict[str, T]:
    """The objects of a Namespace, by name."""
    return {key.removeprefix(f"{namespace}/"): each for key, each in objects.items() if key.startswith(f"{namespace}/")}


def _named(name: str, known: Mapping[str, T], what: str, namespace: str = "") -> T:
    if name in known:
        return known[name]
    where = f" in namespace {namespace}" if namespace else ""
    raise NotFoundError(f"there is no {what} {name!r}{where}{did_you_mean(name, known)}")
