"""Where requests about logs, commands, ports and proxies go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from starlette.datastructures import QueryParams

from netlab.api.core_types import Node, Pod, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.errors import ApiError
from netlab.api.server.connect import locations
from netlab.api.server.connect.locations import Location

ONE: dict[str, Any] = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}]}
TWO: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}
STARTING: dict[str, Any] = ONE | {"initContainers": [{"name": "first", "image": "i"}]}


def pod(spec: dict[str, Any], node: str = "node-1", ip: str = "10.244.0.2") -> Pod:
    return msgspec.convert(
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": spec | {"nodeName": node},
            "status": {"podIP": ip},
        },
        Pod,
    )


@pytest.mark.parametrize(
    ("spec", "query", "path"),
    [
        (ONE, "", "/containerLogs/default/web/c"),
        (TWO, "container=d", "/containerLogs/default/web/d"),
        (STARTING, "", "/containerLogs/default/web/c"),
        (STARTING, "container=first&follow=true&x=y", "/containerLogs/default/web/first?follow=true"),
        (ONE, "sinceTime=2026-11-30T02:00Z", "/containerLogs/default/web/c?sinceTime=2026-11-30T02%3A00Z"),
    ],
)
def test_logs(spec: dict[str, Any], query: str, path: str) -> None:
    assert locations.of_log(pod(spec), QueryParams(query)) == path


def test_a_pod_without_a_node_has_no_log() -> None:
    assert locations.of_log(pod(ONE, node=""), QueryParams()) is None


@pytest.mark.parametrize(
    ("spec", "query", "message"),
    [
        (TWO, "", "a container name must be specified for pod web, choose one of: [c d]"),
        (ONE, "container=x", "container x is not valid for pod web"),
        (
            ONE,
            "tailLines=-1",
            'PodLogOptions.meta.k8s.io "web" is invalid: tailLines: Invalid value: "-1": '
            "must be greater than or equal to 0",
        ),
        (
            ONE,
            "sinceSeconds=1&sinceTime=2026-11-30T02:00:04Z",
            "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
    ],
)
def test_logs_that_are_refused(spec: dict[str, Any], query: str, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        locations.of_log(pod(spec), QueryParams(query))
    assert message.partition('"web" is')[2] in str(refused.value)
    assert refused.value.code in (400, 422)


def test_commands() -> None:
    query = QueryParams("command=sh&command=-c&command=a b&stdin=true&stdout=1&tty=false&stderr=true")
    assert locations.of_command("exec", pod(ONE), query) == (
        "/exec/default/web/c?input=1&output=1&error=1&command=sh&command=-c&command=a+b"
    )
    assert locations.of_command("attach", pod(ONE), QueryParams("tty=true&stdin=true")) == (
        "/attach/default/web/c?input=1&tty=1"
    )
    with pytest.raises(ApiError, match="pod web does not have a host assigned"):
        locations.of_command("exec", pod(ONE, node=""), query)


def test_ports() -> None:
    assert (
        locations.of_ports(pod(ONE), QueryParams("ports=80&ports=81")) == "/portForward/default/web?ports=80&ports=81"
    )
    with pytest.raises(ApiError, match="does not have a host assigned"):
        locations.of_ports(pod(ONE, node=""), QueryParams())


@pytest.mark.parametrize(
    ("addresses", "port", "expected"),
    [
        ([("Hostname", "n"), ("InternalIP", "192.0.2.1"), ("InternalIP", "2001:db8::1")], 0, ("192.0.2.1", 10250)),
        ([("Hostname", "n"), ("ExternalIP", "192.0.2.9")], 10299, ("192.0.2.9", 10299)),
        ([("Hostname", "n")], 0, ("n", 10250)),
    ],
)
def test_kubelets(addresses: list[tuple[str, str]], port: int, expected: tuple[str, int]) -> None:
    status: dict[str, Any] = {"addresses": [{"type": kind, "address": address} for kind, address in addresses]}
    if port:
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": port}}
    assert locations.kubelet_of(msgspec.convert({"status": status}, Node)) == expected


def test_a_node_without_an_address() -> None:
    with pytest.raises(ApiError, match="no preferred addresses found"):
        locations.kubelet_of(msgspec.convert({"metadata": {"name": "n"}}, Node))


@pytest.mark.parametrize(
    ("wanted", "port", "tls"),
    [("web", 8080, False), ("web:81", 81, False), ("http:web:82", 82, False), ("https:web:443", 443, True)],
)
def test_pods(wanted: str, port: int, tls: bool) -> None:
    found = locations.of_pod(pod(ONE), wanted, "/a%2Fb", "q=1")
    assert found == Location("10.244.0.2", port, "/a%2Fb", "q=1", tls, "node-1")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("web:http", "invalid port"),
        ("web:0", "invalid port"),
        ("ftp:web:80", "invalid service"),
        ("a:b:c:d", "invalid"),
    ],
)
def test_pods_that_are_refused(wanted: str, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        locations.of_pod(pod(ONE), wanted, "/", "")


@pytest.mark.parametrize("address", ["", "127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "x"])
def test_addresses_that_are_not_reached(address: str) -> None:
    with pytest.raises(ApiError, match="address not allowed"):
        locations.of_pod(pod(ONE, ip=address), "web", "/", "")
    if address:
        with pytest.raises(ApiError, match="address not allowed"):
            service_location("web:http", addresses=[address])


def service_location(wanted: str, **changes: Any) -> Location:
    service = msgspec.convert(
        {
            "metadata": {"name": "web"},
            "spec": {"ports": [{"name": "http", "port": 80}, {"name": "alt", "port": 81}]},
        },
        Service,
    )
    endpoint = {"addresses": ["10.244.1.2"], "nodeName": "node-2", "conditions": {"ready": True}} | changes
    slices = {
        "metadata": {"name": "web-1"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "alt", "port": 8081}],
        "endpoints": [endpoint],
    }
    return locations.of_service(service, [msgspec.convert(slices, EndpointSlice)], wanted, "/", "", lambda count: 0)


@pytest.mark.parametrize(
    ("wanted", "port"), [("web:http", 8080), ("web:80", 8080), ("web:alt", 8081), ("http:web:81", 8081)]
)
def test_services(wanted: str, port: int) -> None:
    assert service_location(wanted) == Location("10.244.1.2", port, "/", "", tls=False, node="node-2")


def test_services_that_cannot_be_reached() -> None:
    with pytest.raises(ApiError, match='no service port "" found for service "web"'):
        service_location("web")
    with pytest.raises(ApiError, match='no endpoints available for service "web"') as refused:
        service_location("web:http", conditions={"ready": False})
    assert refused.value.code == 503
