"""From the names that people give the ends of a connection (pods, nodes, Services) to addresses."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from netlab.api.core_types import Node, Pod, Service
from netlab.api.resources import NODES, PODS, SERVICES
from netlab.errors import NotFoundError, UsageError
from netlab.net.addresses import family_of
from netlab.proxy.plan import PROTOCOLS
from netlab.proxy.planner import cluster_ips, node_info

if TYPE_CHECKING:
    from netlab.api.client import Client  # slow to import, and not needed if the objects are at hand

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
    nodes: Sequence[Node],
    pods: Sequence[Pod],
    services: Sequence[Service],
    outside: Sequence[str],
    protocol: str = "",
) -> Ends:
    """What SOURCE and DESTINATION mean; `outside` are the addresses of the outside world, if it has a name.

    The protocol is the destination's (/udp), TCP if it has none; a `protocol` argument outranks both. ICMP has no port:
    it is 0. Raises UsageError for malformed names, NotFoundError (naming similar ones) for unknown ones.
    """
    target, protocol = (destination, protocol) if protocol else _protocol(destination)
    from_, node = _source(source, namespace, nodes, pods, outside)
    to, port, called = _destination(target, protocol, namespace, nodes, pods, services, outside)
    return Ends(from_, to, protocol, port, node or called)


async def find(client: Client, source: str, destination: str, namespace: str, outside: Sequence[str]) -> Ends:
    """The same, with the objects of an API server. Also raises what the client raises."""
    nodes = (await client.pages(NODES)).items
    pods = (await client.pages(PODS)).items
    services = (await client.pages(SERVICES)).items
    return ends(source, destination, namespace, nodes, pods, services, outside)


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


def _source(
    text: str, namespace: str, nodes: Iterable[Node], pods: Iterable[Pod], outside: Sequence[str]
) -> tuple[tuple[str, ...], str | None]:
    kind, _, name = text.rpartition("/")
    address = _address(text)
    if address is not None:
        owner = next((pod.spec.nodeName for pod in pods if address in _pod_addresses(pod)), None)
        return (address,), owner or _node_of(address, nodes)
    if text == OUTSIDE and outside:
        return tuple(outside), None
    if kind in ("node", "nodes", "no"):
        return node_info(_named(name, {node.metadata.name: node for node in nodes}, "node")).addresses, name
    if kind not in ("", "pod", "pods", "po"):
        raise UsageError(f"SOURCE {text!r}: must be an address, a pod, node/NAME or {OUTSIDE}")
    found = _pod(name, namespace, pods)
    return _pod_addresses(found), found.spec.nodeName or None


def _destination(
    text: str,
    protocol: str,
    namespace: str,
    nodes: Iterable[Node],
    pods: Iterable[Pod],
    services: Iterable[Service],
    outside: Sequence[str],
) -> tuple[tuple[str, ...], int, str | None]:
    kind, _, rest = text.rpartition("/")
    if kind in ("svc", "service", "services"):
        name, _, port = rest.partition(":")
        name, _, other = name.partition(".")
        namespace = other or namespace
        named = {s.metadata.name: s for s in services if s.metadata.namespace == namespace}
        service = _named(name, named, "Service", namespace)
        addresses = tuple(cluster_ips(service))
        if not addresses:
            raise UsageError(f"Service {service.key} has no ClusterIP; give an address instead")
        return addresses, _service_port(service, port, protocol), None
    if kind in ("node", "nodes", "no"):
        name, _, port = rest.partition(":")
        node = _named(name, {node.metadata.name: node for node in nodes}, "node")
        return node_info(node).addresses, _number(port, text, protocol), name
    if kind in ("", "pod", "pods", "po") and (found := _literal(text, protocol)):
        address, port = found
        return (address,), _number(port, text, protocol), _node_of(address, nodes)
    name, _, port = rest.partition(":")
    if not kind and name == OUTSIDE and outside:
        return tuple(outside), _number(port, text, protocol), None
    if kind not in ("", "pod", "pods", "po") or not name or ":" in port or "[" in name or _address(name):
        raise UsageError(
            f"DESTINATION {text!r}: must be ADDRESS:PORT ([ADDRESS]:PORT for IPv6), svc/NAME:PORT, node/NAME:PORT,"
            f" POD:PORT or {OUTSIDE}:PORT"
        )
    if any(s.metadata.name == name and s.metadata.namespace == namespace for s in services):
        pods = list(pods)
        if not any(p.metadata.name == name and p.metadata.namespace == namespace for p in pods):
            raise NotFoundError(f"there is no pod {name!r} in namespace {namespace}; did you mean svc/{name}?")
    pod = _pod(name, namespace, pods)
    return _pod_addresses(pod), _number(port, text, protocol), None


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


def _pod(name: str, namespace: str, pods: Iterable[Pod]) -> Pod:
    """A pod that has an address."""
    found = _named(name, {p.metadata.name: p for p in pods if p.metadata.namespace == namespace}, "pod", namespace)
    if not _pod_addresses(found):
        raise NotFoundError(f"pod {name} has no address yet: it is {found.status.phase or 'Pending'}")
    return found


def _pod_addresses(pod: Pod) -> tuple[str, ...]:
    return tuple(each.ip for each in pod.status.podIPs) or ((pod.status.podIP,) if pod.status.podIP else ())


def _node_of(address: str, nodes: Iterable[Node]) -> str | None:
    return next((node.metadata.name for node in nodes if address in node_info(node).addresses), None)


def _named(name: str, known: dict[str, T], what: str, namespace: str = "") -> T:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known) or [other for other in known if other.startswith(name)][:3]
    where = f" in namespace {namespace}" if namespace else ""
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise NotFoundError(f"there is no {what} {name!r}{where}{hint}")
