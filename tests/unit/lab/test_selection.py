"""What a capture is about, by the names that people give."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.cluster import Cluster
from netlab.api.core_types import Node, Pod, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.capture.filters import compile_filter
from netlab.capture.headers import TCP, Headers
from netlab.capture.taps import Tap
from netlab.errors import NetlabError, NotFoundError, UnavailableError, UsageError
from netlab.lab.names import Names
from netlab.lab.selection import Selection, exists, expression, includes, own_addresses, select
from netlab.net.addresses import packed
from tests.changes import change

NETWORKS = ["10.244.0.0/16", "fd00:10:244::/48"]


def pod(name: str, *addresses: str, namespace: str = "default", node: str = "node-1", host: bool = False) -> Pod:
    value = {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "containers": [], "hostNetwork": host},
        "status": {"phase": "Pending", "podIPs": [{"ip": address} for address in addresses]},
    }
    return msgspec.convert(value, Pod)


def service(name: str, endpoints: list[str], namespace: str = "default", **spec: Any) -> tuple[Service, EndpointSlice]:
    meta = {"name": name, "namespace": namespace}
    labels = {"kubernetes.io/service-name": name}
    slices = {
        "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in endpoints],
        "ports": [{"port": 8080}],
    }
    return msgspec.convert({"metadata": meta, "spec": spec}, Service), msgspec.convert(slices, EndpointSlice)


def node(number: int) -> Node:
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}, {"type": "Hostname", "address": "x"}]
    value = {"metadata": {"name": f"node-{number}"}, "spec": {"podCIDRs": [f"10.244.{number}.0/24"]}}
    return msgspec.convert(value | {"status": {"addresses": addresses}}, Node)


WEB = service(
    "web",
    ["10.244.1.2", "10.244.2.2"],
    clusterIPs=["10.96.0.10"],
    externalIPs=["198.51.100.7"],
    ports=[{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
)
ALIAS = service("alias", [], externalName="example.com")
IDLE = service("idle", [], clusterIPs=["None"], ports=[{"port": 1}])
OBJECTS = Cluster(
    [
        node(1),
        node(2),
        pod("web-1", "10.244.1.2"),
        pod("web-2", "10.244.2.2", node="node-2"),
        pod("twin", "10.244.1.5"),
        pod("twin", "10.244.1.6", namespace="other"),
        pod("web", "10.244.1.7"),
        pod("early"),
        pod("host", "192.0.2.1", host=True),
        *(each for pair in (WEB, ALIAS, IDLE) for each in pair),
    ]
)


@pytest.mark.parametrize(
    ("given", "namespace", "found"),
    [
        ({}, None, Selection("all")),
        ({"pod": "web-1"}, None, Selection("pod", "default/web-1")),
        ({"pod": "pod/web-1"}, None, Selection("pod", "default/web-1")),
        ({"pod": "default/web-1"}, None, Selection("pod", "default/web-1")),
        ({"pod": "twin"}, "other", Selection("pod", "other/twin")),
        ({"pod": "other/twin"}, "other", Selection("pod", "other/twin")),
        # An option says what is meant, where a pod and a Service have one name.
        ({"pod": "web"}, None, Selection("pod", "default/web")),
        ({"service": "web"}, None, Selection("service", "default/web")),
        ({"service": "idle"}, "default", Selection("service", "default/idle")),
        ({"node": "node-2"}, None, Selection("node", "node-2")),
        ({"node": "node/node-2"}, None, Selection("node", "node-2")),
        ({"node": "outside"}, None, Selection("node", "outside")),
        ({"pod": "twin"}, None, UsageError),
        ({"pod": "other/twin"}, "default", UsageError),
        ({"pod": "host"}, None, UsageError),
        ({"pod": "early"}, None, UnavailableError),
        ({"pod": "web-1"}, "other", NotFoundError),
        ({"pod": "idle"}, None, NotFoundError),
        ({"service": "alias"}, None, UsageError),
        ({"service": "weeb"}, None, NotFoundError),
        ({"node": "node-3"}, None, NotFoundError),
        ({"node": "node-1", "pod": "web-1"}, None, UsageError),
    ],
)
def test_names(given: dict[str, str], namespace: str | None, found: Selection | type[NetlabError]) -> None:
    names = {"pod": None, "node": None, "service": None} | given
    if isinstance(found, Selection):
        assert select(OBJECTS, namespace=namespace, **names) == found
        assert exists(found, OBJECTS)
    else:
        with pytest.raises(found):
            select(OBJECTS, namespace=namespace, **names)


def test_a_missing_name_is_answered_with_what_might_be_meant() -> None:
    with pytest.raises(NotFoundError, match=r"no pod .idle.*; a Service has that name: --service"):
        select(OBJECTS, pod="idle", node=None, service=None, namespace=None)
    with pytest.raises(NotFoundError, match="did you mean web"):
        select(OBJECTS, pod=None, node=None, service="wep", namespace=None)
    with pytest.raises(UsageError, match="default/twin or other/twin; choose a namespace with -n"):
        select(OBJECTS, pod="twin", node=None, service=None, namespace=None)


def test_what_is_deleted_exists_no_more() -> None:
    assert not exists(Selection("pod", "default/gone"), OBJECTS)
    assert not exists(Selection("service", "other/web"), OBJECTS)


def test_the_filter_of_a_service_takes_what_is_dialled_and_what_is_reached() -> None:
    assert expression(Selection("service", "default/web"), OBJECTS, NETWORKS) == (
        "host 10.96.0.10 or host 198.51.100.7 or tcp port 30080 or host 10.244.1.2 or host 10.244.2.2"
    )


def test_the_filter_of_a_pod_takes_its_services_and_what_leaves_as_its_nodes_own() -> None:
    selection = Selection("pod", "default/web-2")
    assert expression(selection, OBJECTS, NETWORKS) == (
        "host 10.244.2.2 or host 10.96.0.10 or host 198.51.100.7 or tcp port 30080 "
        "or (host 192.0.2.2 and not udp port 4789)"
    )
    assert own_addresses(selection, OBJECTS) == {packed("10.244.2.2")}
    assert own_addresses(Selection("service", "default/web"), OBJECTS) == frozenset()


@pytest.mark.parametrize("count", [0, 1, 64, 65, 5000])
def test_the_filter_of_any_number_of_endpoints_is_one_that_the_kernel_takes(count: int) -> None:
    addresses = [f"10.244.{number // 250}.{number % 250 + 1}" for number in range(count)]
    many, slices = service("many", addresses, clusterIPs=["None"])
    cluster = Cluster([node(1), many, slices])
    program = compile_filter(expression(Selection("service", "default/many"), cluster, NETWORKS))
    assert len(program) <= 4096


@pytest.mark.parametrize("selection", [Selection("all"), Selection("node", "node-1")])
def test_a_node_and_everything_need_no_filter(selection: Selection) -> None:
    assert expression(selection, OBJECTS, NETWORKS) == ""


@pytest.mark.parametrize(
    ("tap", "included"),
    [
        (Tap("node-1", "node-1", "cni0", "bridge"), True),
        (Tap("node-1", "default/web-1", "eth0", "pod", "node-1 veth1"), True),
        (Tap("fabric", "fabric", "a", "underlay", "node-1 eth0"), True),
        (Tap("fabric", "fabric", "b", "underlay", "node-11 eth0"), False),
        (Tap("fabric", "fabric", "fabric0", "bridge"), False),
        (Tap("node-2", "node-2", "eth0", "underlay", "fabric node-2"), False),
    ],
)
def test_a_node_is_what_is_on_it_and_the_port_it_is_wired_to(tap: Tap, included: bool) -> None:
    assert includes(Selection("node", "node-1"), tap) is included
    assert includes(Selection("pod", "default/web-1"), tap)


def test_addresses_have_owners_and_changes_have_causes() -> None:
    names = Names(OBJECTS, ["192.0.2.253"])
    owners = {"10.244.1.2": "default/web-1", "192.0.2.2": "node-2", "192.0.2.253": "outside", "192.0.2.1": "node-1"}
    assert {address: names.owner(packed(address)) for address in owners} == owners
    assert names.owner(packed("fd00::1")) == ""
    assert names.owner(packed("10.244.2.1")) == "node-2"
    told = owners | {"10.244.1.0": "node-1", "10.244.2.1": "node-2", "10.96.0.10": "default/web (Service)"}
    assert {address: names.known().get(address) for address in told} == told
    assert "None" not in names.known()
    assert names.service(packed("192.0.2.2"), 30080, TCP) == "default/web"
    assert names.service(packed("10.96.0.10"), 53, TCP) == ""
    ends = packed("10.244.1.9"), packed("10.96.0.10"), packed("10.244.2.2"), packed("192.0.2.1")
    before = Headers(4, TCP, ends[0], 5000, ends[1], 80, 64, 60)
    after = Headers(4, TCP, ends[3], 5000, ends[2], 8080, 63, 60)
    redirected = change("DNAT 10.96.0.10:80 -> 10.244.2.2:8080")
    assert names.cause(before, after, redirected).service == "default/web"
    assert names.cause(before, after, redirected).comment == f"{redirected} by Service default/web"
    disguised = change("SNAT 10.244.1.9:5000 -> 192.0.2.1:5000")
    assert names.cause(before, after, disguised).comment == f"{disguised} to be answered through node-1"
    assert names.cause(before, after, change("TTL 64 -> 63")) == change("TTL 64 -> 63")
    back = Headers(4, TCP, ends[1], 80, ends[0], 5000, 63, 60)
    assert names.cause(after, back, change("un-DNAT 10.244.2.2:8080 -> 10.96.0.10:80")).service == "default/web"
