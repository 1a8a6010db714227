"""Where a request about an object's log, commands, ports or proxy goes: pure functions over the stored objects.

The words of refusals are upstream's (pkg/registry/core/pod/strategy.go, pkg/registry/core/node and service).
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams

from netlab.api.core_types import Node, Pod, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.meta_types import StatusCause
from netlab.api.server import refusals
from netlab.api.serving.kubelets import PORT, is_true

_SCHEMES = ("http", "https")
_ADDRESSES = ("InternalIP", "ExternalIP", "Hostname")
"""In this order (kube-apiserver --kubelet-preferred-address-types, as kubeadm sets it)."""


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a request goes."""

    host: str
    port: int
    path: str
    query: str
    tls: bool
    node: str = ""
    """The node over whose kubelet it goes; empty: directly."""


def kubelet_of(node: Node) -> tuple[str, int]:
    """The address and the port of a node's kubelet. Raises `ApiError` when it has said neither."""
    by_type = {each.type: each.address for each in reversed(node.status.addresses)}
    address = next((by_type[kind] for kind in _ADDRESSES if kind in by_type), "")
    if not address:
        raise refusals.bad_request(
            f'no preferred addresses found; known addresses: of node "{node.metadata.name}" none'
        )
    endpoints = node.status.daemonEndpoints
    return address, (endpoints.kubeletEndpoint.Port if endpoints is not None else 0) or PORT


def of_log(pod: Pod, params: QueryParams) -> str | None:
    """The kubelet's path of a container's log; None while the pod has no node. Raises `ApiError` (400, 422)."""
    container = _container(pod, params.get("container", ""))
    causes = _log_causes(params)
    if causes:
        raise refusals.invalid_options("PodLogOptions", causes, "", pod.metadata.name)
    if not pod.spec.nodeName:
        return None
    wanted = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
    query = urlencode([(name, params[name]) for name in wanted if name in params])
    return _path("containerLogs", pod, container) + (f"?{query}" if query else "")


def of_command(kind: str, pod: Pod, params: QueryParams) -> str:
    """The kubelet's path of a command (`exec`) or of the container itself (`attach`). Raises `ApiError` (400)."""
    container = _container(pod, params.get("container", ""))
    _needs_node(pod)
    query = [
        (theirs, "1")
        for ours, theirs in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
        if is_true(params.get(ours))
    ]
    query += [("command", each) for each in params.getlist("command")] if kind == "exec" else []
    return f"{_path(kind, pod, container)}?{urlencode(query)}"


def of_ports(pod: Pod, params: QueryParams) -> str:
    """The kubelet's path for ports of a pod. Raises `ApiError` (400)."""
    _needs_node(pod)
    query = urlencode([("ports", each) for each in params.getlist("ports")])
    return _path("portForward", pod) + (f"?{query}" if query else "")


def of_pod(pod: Pod, wanted: str, path: str, query: str) -> Location:
    """Where a request that is passed on to a pod goes; `wanted` is `[scheme:]name[:port]`. Raises `ApiError` (400)."""
    scheme, _, port = _split(wanted)
    ports = [each.containerPort for container in pod.spec.containers for each in container.ports]
    _may_be_reached(pod.status.podIP)
    number = _number(port) if port else (ports[0] if ports else 443 if scheme == "https" else 80)
    return Location(pod.status.podIP, number, path, query, scheme == "https", pod.spec.nodeName)


def of_service(
    service: Service,
    slices: Sequence[EndpointSlice],
    wanted: str,
    path: str,
    query: str,
    choose: Callable[[int], int],
) -> Location:
    """Where a request that is passed on to a Service goes: to one of its endpoints; `choose` picks one of so many.

    Raises `ApiError`: 400 for a port that the Service does not have, 503 when there is no endpoint.
    """
    scheme, name, port = _split(wanted)
    names = {
        each.name or ""
        for each in service.spec.ports
        if port in (each.name or "", str(each.port)) or (not port and len(service.spec.ports) == 1)
    }
    if not names:
        raise refusals.service_unavailable(f'no service port "{port}" found for service "{name}"')
    found = []
    for each in slices:
        numbers = [one.port for one in each.ports or () if (one.name or "") in names and one.port]
        for endpoint in each.endpoints or ():
            if numbers and endpoint.addresses and endpoint.conditions.ready is not False:
                found.append((endpoint.addresses[0], numbers[0], endpoint.nodeName or ""))
    if not found:
        raise refusals.service_unavailable(f'no endpoints available for service "{name}"')
    host, number, node = found[choose(len(found))]
    _may_be_reached(host)
    return Location(host, number, path, query, scheme == "https", node)


def name_in(wanted: str) -> str:
    """The object's name in `[scheme:]name[:port]`."""
    return _split(wanted)[1]


def _split(wanted: str) -> tuple[str, str, str]:
    """Scheme, name and port (apimachinery, SplitSchemeNamePort). Raises `ApiError` (400)."""
    parts = wanted.split(":")
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in _SCHEMES:
        return parts[0], parts[1], parts[2]
    raise refusals.bad_request(f'invalid service request "{wanted}"')


def _may_be_reached(address: str) -> None:
    """Refuse what is no address of another host: who writes a pod's status must not reach a node's own servers.

    As apiserver's util/proxy, IsProxyableIP (CVE-2020-8562).
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise refusals.bad_request("address not allowed") from None
    if found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified:
        raise refusals.bad_request("address not allowed")


def _number(port: str) -> int:
    if not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise refusals.bad_request(f'invalid port "{port}": expected a number from 1 to 65535')
    return int(port)


def _path(kind: str, pod: Pod, container: str = "") -> str:
    parts = [kind, pod.metadata.namespace, pod.metadata.name, *([container] if container else [])]
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _needs_node(pod: Pod) -> None:
    if not pod.spec.nodeName:
        raise refusals.bad_request(f"pod {pod.metadata.name} does not have a host assigned")


def _container(pod: Pod, name: str) -> str:
    """The container that is meant; without a name, the only one that is no other's helper. Raises `ApiError` (400)."""
    names = [each.name for each in pod.spec.all_containers()]
    if name:
        if name not in names:
            raise refusals.bad_request(f"container {name} is not valid for pod {pod.metadata.name}")
        return name
    if len(pod.spec.containers) == 1:
        return pod.spec.containers[0].name
    raise refusals.bad_request(
        f"a container name must be specified for pod {pod.metadata.name}, choose one of: [{' '.join(names)}]"
    )


def _log_causes(params: QueryParams) -> list[StatusCause]:
    causes = []
    for name, least in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
        text = params.get(name)
        if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) >= least):
            wrong = f"must be greater than or equal to {least}"
            causes.append(StatusCause("FieldValueInvalid", f'Invalid value: "{text[:40]}": {wrong}', name))
    if "sinceSeconds" in params and "sinceTime" in params:
        causes.append(
            StatusCause(
                "FieldValueForbidden", "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
            )
        )
    return causes
