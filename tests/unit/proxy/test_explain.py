"""Explanations agree with the table of flows, and name the rule of Kubernetes that decided; names become addresses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from netlab.api.cluster import Cluster
from netlab.api.core_types import (
    Node,
    NodeAddress,
    NodeStatus,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from netlab.api.meta_types import ObjectMeta
from netlab.errors import NetlabError, NotFoundError, UsageError
from netlab.net.addresses import Family
from netlab.proxy.config import DetectLocal, ProxyConfig
from netlab.proxy.connection_ends import Ends, ends, narrowed
from netlab.proxy.explain import explain
from netlab.proxy.model import Packet
from netlab.proxy.plan import Endpoint, Frontend, Scope, Target
from tests.unit.proxy.flows import ADDRESSES, FAMILIES, SETTINGS, TARGET_PORT, Flow, Setting, config_of, plan_of_all
from tests.unit.proxy.test_trace import packet


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("setting", "flows"), SETTINGS, ids=[str(s) for s, _ in SETTINGS])
def test_every_flow_is_explained_as_it_goes(setting: Setting, flows: list[Flow], family: Family) -> None:
    plan, config = plan_of_all(family), config_of(setting, family)
    for one in flows:
        found = explain(plan, config, family, packet(one, family))
        expected = {(ADDRESSES[family][pod], TARGET_PORT) for pod in one.backends}
        assert {(endpoint.address, endpoint.port) for endpoint in found.endpoints} == expected, one
        assert sum(endpoint.chance for endpoint in found.endpoints) == pytest.approx(1 if expected else 0), one
        assert found.masquerade == one.masquerade, one
        decisions = {"drop": "dropped", "reject": "rejected"}
        passed = "not a Service's" if one.passes_to else "translated"
        assert found.decision == (decisions[one.verdict.value] if one.verdict else passed), one
        assert found.why, one
        assert bool(found.masquerade_why) == bool(one.backends), one


HERE, THERE = Endpoint("10.244.1.2", 8080, True), Endpoint("10.244.2.2", 8080, False)
VIP, EXTERNAL, NODE = "10.96.0.10", "198.51.100.7", "192.0.2.1"


def target(**changes: object) -> Target:
    fields = {"scope": Scope.INTERNAL, "policy": "Cluster", "cluster": (HERE, THERE), "local": ()} | changes
    return Target("shop/web:http", **fields)  # type: ignore[arg-type]


PLAN = {
    Frontend(VIP, "tcp", 80): target(affinity_seconds=60),
    Frontend(VIP, "tcp", 81): target(policy="Local", cluster=(THERE,)),
    Frontend(VIP, "tcp", 82): target(cluster=()),
    Frontend(EXTERNAL, "tcp", 80): target(scope=Scope.EXTERNAL, policy="Local", local=(HERE,)),
    Frontend(EXTERNAL, "tcp", 81): target(scope=Scope.EXTERNAL, sources=("203.0.113.0/24",)),
    Frontend(None, "tcp", 30080): target(scope=Scope.EXTERNAL),
}
CONFIG = ProxyConfig(
    "node-1",
    cluster_cidrs=["10.244.0.0/16"],
    service_cidrs=("10.96.0.0/16",),
    node_port_addresses=("192.0.2.0/24",),
)
POD, OUTSIDE = ("10.244.1.9", "cni0"), ("192.0.2.253", "eth0")


@pytest.mark.parametrize(
    ("source", "destination", "port", "why", "masquerade"),
    [
        (POD, VIP, 80, ["internalTrafficPolicy is Cluster", "sessionAffinity is ClientIP"], "the source is a pod's"),
        (OUTSIDE, VIP, 80, ["internalTrafficPolicy is Cluster", "sessionAffinity"], "the source is not a pod's"),
        (
            ("10.244.1.2", "cni0"),
            VIP,
            80,
            ["internal", "session"],
            "the source is a pod's (ClusterCIDR 10.244.0.0/16); yes",
        ),
        (POD, VIP, 81, ["internalTrafficPolicy is Local", "there are endpoints on other nodes, but none"], ""),
        (POD, VIP, 82, ["internalTrafficPolicy", "there is no usable endpoint on any node"], ""),
        (POD, VIP, 83, ["10.96.0.10 is a ClusterIP, but its Service has no such port; it has 80/tcp, 81/tcp, 82/"], ""),
        (POD, "10.96.0.11", 80, ["10.96.0.11 is in the ClusterIP range 10.96.0.0/16, but no Service has it"], ""),
        (
            OUTSIDE,
            EXTERNAL,
            80,
            ["externalTrafficPolicy is Local: only this node's endpoints"],
            "externalTrafficPolicy Loc",
        ),
        (
            POD,
            EXTERNAL,
            80,
            ["externalTrafficPolicy is Local, but traffic from a pod is not"],
            "a pod's source is known",
        ),
        (
            (NODE, ""),
            EXTERNAL,
            80,
            ["externalTrafficPolicy is Local, but traffic from this node"],
            "other nodes may not be able to reach",
        ),
        (OUTSIDE, EXTERNAL, 81, ["the source is not in loadBalancerSourceRanges: 203.0.113.0/24"], ""),
        (("203.0.113.9", "eth0"), EXTERNAL, 81, ["the source is in load", "external"], "with externalTrafficPolicy Cl"),
        (OUTSIDE, NODE, 30080, ["externalTrafficPolicy is Cluster"], "with externalTrafficPolicy Cluster"),
        (
            (NODE, ""),
            "127.0.0.1",
            30080,
            ["it is a NodePort of shop/web:http, but NodePorts are not served on loop"],
            "",
        ),
        (
            POD,
            "10.244.1.1",
            30080,
            ["it is a NodePort of shop/web:http, but NodePorts are only served at 192.0.2.0/24"],
            "",
        ),
        (POD, "192.0.2.2", 30080, ["it is a NodePort of shop/web:http, but the address is not this node's"], ""),
        (POD, "203.0.113.1", 443, ["no Service has this address and port"], ""),
    ],
    ids=str,
)
def test_the_reasons(source: tuple[str, str], destination: str, port: int, why: list[str], masquerade: str) -> None:
    to_node = destination in (NODE, "127.0.0.1", "10.244.1.1")
    found = explain(PLAN, CONFIG, "IPv4", Packet(source[0], destination, "tcp", port, source[1], to_node))
    assert len(found.why) == len(why), found.why
    assert all(said.startswith(expected) for said, expected in zip(found.why, why, strict=True)), found.why
    assert found.masquerade_why.startswith(masquerade)
    assert bool(found.masquerade_why) == bool(masquerade)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (ProxyConfig("n", masquerade_all=True), "masqueradeAll is set"),
        (ProxyConfig("n"), "pods cannot be recognised (detectLocalMode)"),
        (
            ProxyConfig("n", detect_local=DetectLocal("BridgeInterface", interface="cni0")),
            "the source is a pod's (BridgeInterface cni0)",
        ),
    ],
    ids=["masqueradeAll", "no detector", "bridge"],
)
def test_the_settings_decide_who_is_masqueraded(config: ProxyConfig, why: str) -> None:
    assert explain(PLAN, config, "IPv4", Packet(POD[0], VIP, "tcp", 80, "cni0")).masquerade_why == why


# --- Names -------------------------------------------------------------------------------------------------------


def node(name: str, *addresses: str) -> Node:
    listed = [NodeAddress(type="InternalIP", address=address) for address in addresses]
    return Node(metadata=ObjectMeta(name=name), status=NodeStatus(addresses=listed))


def pod(name: str, node_name: str, *addresses: str) -> Pod:
    status = PodStatus(podIP=addresses[0] if addresses else "", podIPs=[PodIP(ip=address) for address in addresses])
    return Pod(
        metadata=ObjectMeta(name=name, namespace="shop"), spec=PodSpec(containers=[], nodeName=node_name), status=status
    )


def service(name: str, cluster_ip: str, *ports: ServicePort) -> Service:
    return Service(
        metadata=ObjectMeta(name=name, namespace="shop"), spec=ServiceSpec(clusterIP=cluster_ip, ports=list(ports))
    )


def asked(source: str, destination: str, protocol: str = "") -> Ends:
    return ends(
        source,
        destination,
        "shop",
        Cluster(
            [
                node("node-1", "192.0.2.1", "2001:db8::1"),
                node("node-2", "192.0.2.2"),
                pod("web-1", "node-2", "10.244.2.2", "fd00::2"),
                pod("late", ""),
                service("web", "10.96.0.10", ServicePort(port=80, name="http")),
                service("dns", "10.96.0.53", ServicePort(port=53, protocol="UDP"), ServicePort(port=53, name="tcp")),
                service("two", "10.96.0.2", ServicePort(port=1, name="a"), ServicePort(port=2, name="b")),
                service("headless", "None", ServicePort(port=80)),
            ]
        ),
        ["192.0.2.253"],
        protocol,
    )


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("web-1", "svc/web", Ends(("10.244.2.2", "fd00::2"), ("10.96.0.10",), "tcp", 80, "node-2")),
        ("pod/web-1", "svc/web.shop:http", Ends(("10.244.2.2", "fd00::2"), ("10.96.0.10",), "tcp", 80, "node-2")),
        ("10.244.2.2", "svc/web:81", Ends(("10.244.2.2",), ("10.96.0.10",), "tcp", 81, "node-2")),
        ("192.0.2.2", "svc/dns/udp", Ends(("192.0.2.2",), ("10.96.0.53",), "udp", 53, "node-2")),
        ("node/node-2", "198.51.100.7:443/SCTP", Ends(("192.0.2.2",), ("198.51.100.7",), "sctp", 443, "node-2")),
        (
            "outside",
            "node/node-1:30080",
            Ends(("192.0.2.253",), ("192.0.2.1", "2001:db8::1"), "tcp", 30080, "node-1"),
        ),
        ("2001:db8::9", "[2001:DB8::1]:80", Ends(("2001:db8::9",), ("2001:db8::1",), "tcp", 80, "node-1")),
        ("outside", "198.51.100.7:443", Ends(("192.0.2.253",), ("198.51.100.7",), "tcp", 443, None)),
        ("outside", "web-1:8080", Ends(("192.0.2.253",), ("10.244.2.2", "fd00::2"), "tcp", 8080, None)),
        ("node/node-2", "outside:7/udp", Ends(("192.0.2.2",), ("192.0.2.253",), "udp", 7, "node-2")),
    ],
)
def test_what_the_names_mean(source: str, destination: str, expected: Ends) -> None:
    assert asked(source, destination) == expected


@pytest.mark.parametrize(
    ("destination", "addresses"),
    [
        ("pod/web-1", ("10.244.2.2", "fd00::2")),
        ("svc/web", ("10.96.0.10",)),
        ("outside", ("192.0.2.253",)),
        ("2001:db8::1", ("2001:db8::1",)),
        ("node/node-2", ("192.0.2.2",)),
    ],
)
def test_icmp_has_no_port(destination: str, addresses: tuple[str, ...]) -> None:
    found = asked("web-1", destination, "icmp")
    assert (found.destination, found.protocol, found.port) == (addresses, "icmp", 0)


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (
            lambda: asked("web-2", "svc/web"),
            NotFoundError,
            "there is no pod 'web-2' in namespace shop; did you mean web-1",
        ),
        (lambda: asked("late", "svc/web"), NotFoundError, "pod late has no address yet: it is Pending"),
        (lambda: asked("node/node-3", "svc/web"), NotFoundError, "there is no node 'node-3'; did you mean"),
        (lambda: asked("svc/web", "svc/web"), UsageError, "SOURCE 'svc/web': must be an address, a pod, node/NAME"),
        (lambda: asked("web-1", "svc/wep"), NotFoundError, "there is no Service 'wep' in namespace shop; did you mean"),
        (lambda: asked("web-1", "svc/web.else"), NotFoundError, "there is no Service 'web' in namespace else"),
        (lambda: asked("web-1", "svc/two"), UsageError, "Service shop/two: which port? Its tcp ports are 1 (a), 2 (b)"),
        (
            lambda: asked("web-1", "svc/web:https"),
            UsageError,
            "Service shop/web: which port? Its tcp ports are 80 (http)",
        ),
        (lambda: asked("web-1", "svc/headless:80"), UsageError, "Service shop/headless has no ClusterIP; give an add"),
        (lambda: asked("web-1", "10.96.0.10"), UsageError, "DESTINATION '10.96.0.10': must be ADDRESS:PORT"),
        (lambda: asked("web-1", "fd00::1:80"), UsageError, "DESTINATION 'fd00::1:80': must be ADDRESS:PORT"),
        (lambda: asked("web-1", "10.96.0.10:0"), UsageError, "DESTINATION '10.96.0.10:0': its port is not a number"),
        (lambda: asked("web-1", "node/node-1:x"), UsageError, "DESTINATION 'node/node-1:x': its port is not a number"),
        (lambda: asked("web-1", "web-1"), UsageError, "DESTINATION 'web-1': which port? Write web-1:PORT, or in"),
        (
            lambda: asked("web-1", "outside:"),
            UsageError,
            "DESTINATION 'outside:': which port? Write outside:PORT, or in",
        ),
        (lambda: asked("web-1", "job/web-1:80"), UsageError, "DESTINATION 'job/web-1:80': must be ADDRESS:PORT"),
        (lambda: asked("web-1", "web-2:80"), NotFoundError, "there is no pod 'web-2' in namespace shop; did you mean"),
        (
            lambda: asked("web-1", "dns:53"),
            NotFoundError,
            "there is no pod 'dns' in namespace shop; did you mean svc/d",
        ),
        (lambda: asked("web-1", "late:80"), NotFoundError, "pod late has no address yet: it is Pending"),
        (lambda: asked("web-1", "web-1:80", "icmp"), UsageError, "DESTINATION 'web-1:80': ICMP has no ports"),
        (lambda: narrowed(asked("node/node-2", "[fd00::1]:80")), UsageError, "192.0.2.2 and fd00::1 have no address"),
    ],
)
def test_what_is_not_there_or_cannot_be_read(ask: Callable[[], object], kind: type[NetlabError], message: str) -> None:
    with pytest.raises(kind) as raised:
        ask()
    assert str(raised.value).startswith(message)


def test_the_first_family_of_both_ends_is_taken() -> None:
    assert narrowed(asked("web-1", "node/node-1:80")) == ("10.244.2.2", "192.0.2.1", "tcp", 80)
    assert narrowed(asked("2001:db8::9", "node/node-1:80")) == ("2001:db8::9", "2001:db8::1", "tcp", 80)
