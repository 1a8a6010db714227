"""Predictions in a world of one node, two pods on its bridge, and the outside at the other end of its wire."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from netlab.errors import NotFoundError
from netlab.proxy.config import ProxyConfig
from netlab.proxy.plan import Endpoint, Frontend, Scope, Target
from netlab.trace.model import Path
from netlab.trace.predict import predict
from netlab.trace.routing import address_on, lookup
from netlab.trace.state import (
    Address,
    Affinity,
    Announced,
    Ends,
    Flow,
    Forwarding,
    Link,
    Listener,
    Masquerade,
    Namespace,
    Neighbour,
    NextHop,
    Probe,
    Proxy,
    Route,
    Rule,
    State,
)

A, B, NODE, OUTSIDE, SERVICE, BALANCER = (
    "10.244.1.2",
    "10.244.1.3",
    "192.0.2.1",
    "192.0.2.253",
    "10.96.0.10",
    "203.0.113.9",
)
_LO = Link("lo", "loopback", mtu=65536)


def namespace(
    owner: str, machine: str, links: Sequence[Link], addresses: Sequence[Address], *routes: Route, **more: Any
) -> Namespace:
    """A namespace with the routes that its addresses bring."""
    made = list(routes)
    for one in addresses:
        network = ipaddress.ip_interface(f"{one.address}/{one.length}").network
        made.append(Route(f"{one.address}/32", "local", (NextHop("", one.link),), 255, source=one.address))
        made.append(Route(str(network), hops=(NextHop("", one.link),), source=one.address))
    return Namespace(owner, machine, (_LO, *links), tuple(addresses), tuple(made), **more)


def default(gateway: str) -> Route:
    return Route("0.0.0.0/0", hops=(NextHop(gateway, "eth0"),))


def pod(name: str, address: str, mac: str, **more: Any) -> Namespace:
    eth0 = Link("eth0", "veth", mac, peer=("node-1", f"veth-{name}"))
    macs = {A: "02:00:00:00:00:0a", B: "02:00:00:00:00:0b", "10.244.1.1": "02:00:00:00:00:02"}
    known = tuple(Neighbour(one, "eth0", mac, "stale") for one, mac in macs.items())
    listening = {"listeners": (Listener("tcp", "0.0.0.0", 8080), Listener("udp", "0.0.0.0", 8080))} | more
    return namespace(
        f"default/{name}",
        "node-1",
        [eth0],
        [Address(address, 24, "eth0")],
        default("10.244.1.1"),
        neighbours=known,
        **listening,
    )


def node(**more: Any) -> Namespace:
    links = [
        Link("eth0", "veth", "02:00:00:00:00:01", peer=("outside", "eth0")),
        Link("cni0", "bridge", "02:00:00:00:00:02"),
        Link("veth-a", "veth", "02:00:00:00:00:03", peer=("default/a", "eth0"), master="cni0", hairpin=True),
        Link("veth-b", "veth", "02:00:00:00:00:04", peer=("default/b", "eth0"), master="cni0", hairpin=True),
    ]
    addresses = [Address(NODE, 24, "eth0"), Address("10.244.1.1", 24, "cni0")]
    sysctls = {"net/ipv4/ip_forward": 1, "net/bridge/bridge-nf-call-iptables": 1}
    return namespace("node-1", "node-1", links, addresses, default(OUTSIDE), **({"sysctls": sysctls} | more))


def target(*endpoints: str, **more: Any) -> Target:
    values: dict[str, Any] = {"service": "default/web:http", "scope": Scope.INTERNAL, "policy": "Cluster", "local": ()}
    return Target(**values | {"cluster": tuple(Endpoint(one, 8080, True) for one in endpoints)} | more)


def state(
    plan: Mapping[Frontend, Target] | None = None,
    *,
    changed: Namespace | None = None,
    affinities: frozenset[Affinity] = frozenset(),
    mode: Any = "nftables",
) -> State:
    """The world with this plan of the proxy, and one namespace in place of its own."""
    wire = Link("eth0", "veth", "02:00:00:00:00:fd", peer=("node-1", "eth0"))
    outside = namespace("outside", "outside", [wire], [Address(OUTSIDE, 24, "eth0")])
    config = ProxyConfig("node-1", mode, ("10.244.0.0/16",), service_cidrs=("10.96.0.0/16",))
    listed = [
        pod("a", A, "02:00:00:00:00:0a"),
        pod("b", B, "02:00:00:00:00:0b"),
        node(),
        outside,
        *([changed] if changed else []),
    ]
    return State(
        {one.owner: one for one in listed},
        {"node-1": Proxy(config, {"IPv4": plan or {}}, affinities)},
        {"node-1": (Masquerade("10.244.1.0/24", "10.244.0.0/16"),)},
    )


def places(path: Path) -> list[str]:
    return [f"{hop.owner} {hop.interface} {hop.direction}" for hop in path.hops]


def test_pods_of_a_bridge_speak_past_the_node() -> None:
    (path,) = predict(state(), Probe("default/a", B, "tcp", 8080))
    assert places(path) == ["default/a eth0 out", "node-1 veth-a in", "node-1 veth-b out", "default/b eth0 in"]
    assert [hop.interface for hop in path.reply] == ["eth0", "veth-b", "veth-a", "eth0"]
    assert (path.verdict.outcome, path.verdict.node) == ("delivered", "node-1")


def test_every_endpoint_is_a_way_of_its_own() -> None:
    found = predict(state({Frontend(SERVICE, "tcp", 80): target(A, B)}), Probe("outside", NODE, "tcp", 80))
    assert [path.verdict.outcome for path in found] == ["refused"]  # a ClusterIP is no port of the node's
    found = predict(state({Frontend(NODE, "tcp", 80): target(A, B)}), Probe("outside", NODE, "tcp", 80))
    assert [path.hops[-1].owner for path in found] == ["default/a", "default/b"]
    assert all(path.hops[-1].src == "10.244.1.1" and path.hops[-1].sport == 0 for path in found)
    assert list(map(str, found[0].hops[2].changed)) == [
        f"DNAT {NODE}:80 -> {A}:8080",
        f"SNAT {OUTSIDE}:* -> 10.244.1.1:*",
        "TTL 64 -> 63",
    ]


def test_affinity_leaves_one() -> None:
    plan = {Frontend(NODE, "tcp", 80): target(A, B, affinity_seconds=100)}
    remembered = frozenset({Affinity("default/web:http", "tcp", OUTSIDE, B, 8080)})
    (path,) = predict(state(plan, affinities=remembered), Probe("outside", NODE, "tcp", 80))
    assert path.hops[-1].owner == "default/b"


BALANCED, _NOBODY = "192.0.2.128", "nothing answers for it on eth0"


@pytest.mark.parametrize(
    ("announced", "reason"),
    [
        ((Announced(BALANCED, "eth0"),), ""),
        ((), "nothing answers"),
        ((Announced(BALANCED, "cni0"),), "nothing answers"),
    ],
)
def test_an_address_that_no_interface_has_is_where_it_is_announced(
    announced: tuple[Announced, ...], reason: str
) -> None:
    world = state({Frontend(BALANCED, "tcp", 80): target(A)}, changed=node(announced=announced))
    (path,) = predict(world, Probe("outside", BALANCED, "tcp", 80))
    assert path.verdict.outcome == ("dropped" if reason else "delivered")
    assert reason in path.verdict.reason
    assert [hop.owner for hop in path.hops][-1:] == ([] if reason else ["default/a"])


def test_a_flow_that_is_known_goes_where_it_went() -> None:
    stale = Flow("udp", Ends(OUTSIDE, 5000, NODE, 53), Ends("10.244.1.9", 8080, OUTSIDE, 5000))
    world = state({Frontend(NODE, "udp", 53): target(A)}, changed=node(flows=(stale,)))
    (fresh,) = predict(world, Probe("outside", NODE, "udp", 53, 5001))
    assert fresh.hops[-1].owner == "default/a"
    (path,) = predict(world, Probe("outside", NODE, "udp", 53, 5000))
    assert path.verdict.outcome == "dropped"
    assert path.verdict.reason == "no neighbour 10.244.1.9: nothing answers for it on cni0"


REFUSALS = [
    (target(A, scope=Scope.EXTERNAL, sources=("198.51.100.0/24",)), "dropped", "is not for 192.0.2.253"),
    (target(A, scope=Scope.EXTERNAL, policy="Local"), "dropped", "has no endpoint on this node"),
    (target(scope=Scope.EXTERNAL), "rejected", "has no endpoint"),
]


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@pytest.mark.parametrize(("to", "outcome", "why"), REFUSALS)
def test_what_the_proxy_refuses(to: Target, outcome: str, why: str, mode: str) -> None:
    world = state({Frontend(BALANCER, "tcp", 80): to}, mode=mode)
    outside = world.namespaces["outside"]
    routes = (*outside.routes, Route(f"{BALANCER}/32", hops=(NextHop(NODE, "eth0"),)))
    changed = msgspec.structs.replace(outside, routes=routes)
    world = state({Frontend(BALANCER, "tcp", 80): to}, mode=mode, changed=changed)
    (path,) = predict(world, Probe("outside", BALANCER, "tcp", 80))
    assert (path.verdict.outcome, path.verdict.node) == (outcome, "node-1")
    assert why in path.verdict.reason
    assert bool(path.reply) == (outcome == "rejected")


def test_a_hairpin_is_masqueraded_on_the_bridge() -> None:
    plan = {Frontend(SERVICE, "tcp", 80): target(A)}
    path = predict(state(plan), Probe("default/a", SERVICE, port=80))[0]
    assert places(path)[1:4] == ["node-1 veth-a in", "node-1 cni0 out", "node-1 veth-a out"]
    assert list(map(str, path.hops[2].changed)) == [f"DNAT {SERVICE}:80 -> {A}:8080"]
    assert list(map(str, path.hops[3].changed)) == [f"SNAT {A}:* -> 10.244.1.1:*"]
    assert path.verdict.outcome == "delivered"


@pytest.mark.parametrize(
    ("mode", "back", "answers"), [(0, "eth0", True), (1, "eth0", False), (2, "eth0", True), (1, "cni0", True)]
)
def test_whom_rp_filter_would_not_let_in_is_not_told_a_mac_address(mode: int, back: str, answers: bool) -> None:
    settings = {"net/ipv4/ip_forward": 1, "net/ipv4/conf/cni0/rp_filter": mode}
    router = msgspec.structs.replace(
        node(sysctls=settings), routes=(*node().routes, Route(f"{A}/32", hops=(NextHop("", back),)))
    )
    world = state(changed=router)
    ignorant = msgspec.structs.replace(world.namespaces["default/a"], neighbours=())
    world = msgspec.structs.replace(world, namespaces={**world.namespaces, "default/a": ignorant})
    (path,) = predict(world, Probe("default/a", NODE, "icmp"))
    if answers:
        assert path.hops[0].interface == "eth0"
        return
    assert path.hops == []
    assert (path.verdict.outcome, path.verdict.reason) == (
        "dropped",
        f"no neighbour 10.244.1.1: node-1 does not answer: rp_filter 1 of cni0: the route back to {A} leads to eth0",
    )


def test_a_neighbour_that_is_known_is_bridged_to_past_the_nodes_own_tap() -> None:
    plan = {Frontend(SERVICE, "tcp", 80): target(B)}
    known = node(neighbours=(Neighbour(B, "cni0", "02:00:00:00:00:0b", "reachable"),))
    direct, by_bridge = predict(state(plan, changed=known), Probe("default/a", SERVICE, port=80))
    assert places(direct)[1:3] == ["node-1 veth-a in", "node-1 veth-b out"]
    assert places(by_bridge)[1:4] == ["node-1 veth-a in", "node-1 cni0 out", "node-1 veth-b out"]


def changed_link(world: Namespace, name: str, **fields: Any) -> Namespace:
    links = tuple(msgspec.structs.replace(link, **fields) if link.name == name else link for link in world.links)
    return msgspec.structs.replace(world, links=links)


POD_A, POD_B = pod("a", A, "02:00:00:00:00:0a"), pod("b", B, "02:00:00:00:00:0b")
WRONG = Forwarding("02:00:00:00:00:0b", "veth-a")
FAULTS = {
    "isolated": (changed_link(changed_link(node(), "veth-a", isolated=True), "veth-b", isolated=True), 2),
    "down or blocked": (changed_link(node(), "veth-b", blocked=True), 2),
    "no port of cni0 leads to 02:00:00:00:00:0b": (changed_link(node(), "veth-b", master=""), 2),
    "not in hairpin mode": (changed_link(node(forwarding=(WRONG,)), "veth-a", hairpin=False), 2),
    "the frame is for 02:00:00:00:00:0b": (node(forwarding=(WRONG,)), 4),
    "eth0 of default/b, where veth-b leads, is down": (changed_link(POD_B, "eth0", up=False), 3),
    "eth0 has no carrier": (changed_link(POD_A, "eth0", carrier=False), 1),
    "eth0 is down": (changed_link(POD_A, "eth0", up=False), 0),
    "nothing listens": (pod("b", B, "02:00:00:00:00:0b", listeners=()), 4),
    "martian source": (
        namespace("default/b", "node-1", POD_B.links[1:], [Address(B, 24, "eth0"), Address(A, 32, "lo")]),
        4,
    ),
}


@pytest.mark.parametrize("why", FAULTS)
def test_where_it_dies(why: str) -> None:
    fault, hops = FAULTS[why]
    path = predict(state(changed=fault), Probe("default/a", B, "tcp", 8080))[0]
    assert why in path.verdict.reason
    assert len(path.hops) == hops


def test_what_is_too_long_dies_or_is_taken_apart() -> None:
    world = state(changed=changed_link(node(), "eth0", mtu=1300))
    (path,) = predict(world, Probe("default/a", OUTSIDE, "icmp", size=1400, fragment=False))
    assert (path.verdict.outcome, path.verdict.node) == ("rejected", "node-1")
    assert path.reply[-1].protocol == "icmp"
    (path,) = predict(world, Probe("default/a", OUTSIDE, "icmp", size=1400))
    assert path.verdict.outcome == "delivered"


def test_who_is_not_there_sends_nothing() -> None:
    with pytest.raises(NotFoundError, match="default/c has no network"):
        predict(state(), Probe("default/c", A))


ROUTES = (
    Route("0.0.0.0/0", hops=(NextHop("192.0.2.1", "eth0"),)),
    Route("10.0.0.0/8", hops=(NextHop("192.0.2.2", "eth0"),), metric=20),
    Route("10.0.0.0/8", hops=(NextHop("192.0.2.3", "eth0"),), metric=10),
    Route("10.1.0.0/16", "blackhole"),
    Route("10.1.0.0/16", "throw", table=100),
    Route("0.0.0.0/0", "unreachable", table=100),
    Route("::/0", hops=(NextHop("fe80::1", "eth0"),)),
)
POLICY = (Rule(32766), Rule(100, 100, source="172.16.0.0/12", version=4), Rule(50, action="prohibit", incoming="eth9"))
LOOKUPS = [
    ("198.51.100.1", {}, "0.0.0.0/0 via 192.0.2.1 dev eth0"),
    ("10.2.0.1", {}, "10.0.0.0/8 via 192.0.2.3 dev eth0"),
    ("10.1.0.1", {}, "blackhole 10.1.0.0/16"),
    ("10.1.0.1", {"source": "172.16.0.1"}, "blackhole 10.1.0.0/16"),
    ("10.2.0.1", {"source": "172.16.0.1"}, "unreachable 0.0.0.0/0"),
    ("10.2.0.1", {"incoming": "eth9"}, "prohibit 10.2.0.1/32"),
    ("2001:db8::1", {}, "::/0 via fe80::1 dev eth0"),
]


@pytest.mark.parametrize(("destination", "packet", "route"), LOOKUPS)
def test_rules_come_first_and_the_longest_prefix_wins(destination: str, packet: dict[str, str], route: str) -> None:
    assert str(lookup(Namespace("x", "x", routes=ROUTES, rules=POLICY), destination, **packet)) == route


def test_without_a_route_there_is_none() -> None:
    assert lookup(Namespace("x", "x"), "10.0.0.1") is None


ADDRESSES = (
    Address("127.0.0.1", 8, "lo", "host"),
    Address("192.0.2.1", 24, "eth0"),
    Address("198.51.100.1", 24, "eth0"),
    Address("fe80::1", 64, "eth0", "link"),
    Address("fd00::1", 64, "eth0"),
    Address("2001:db8::1", 64, "eth0"),
)
SPOKEN = [
    ("eth0", "198.51.100.9", "10.0.0.1", "198.51.100.1"),
    ("eth0", "10.0.0.1", "10.0.0.1", "192.0.2.1"),
    ("eth1", "10.0.0.1", "10.0.0.1", "192.0.2.1"),
    ("eth0", "fe80::9", "2001:db8:1::1", "2001:db8::1"),
    ("eth0", "fe80::9", "fd00:1::1", "fd00::1"),
]


@pytest.mark.parametrize(("link", "neighbour", "destination", "address"), SPOKEN)
def test_which_address_speaks(link: str, neighbour: str, destination: str, address: str) -> None:
    assert address_on(Namespace("x", "x", addresses=ADDRESSES), link, neighbour, destination) == address
