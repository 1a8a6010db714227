"""What decides a packet's way through a lab, as values: a probe, and what every network namespace has.

All of it is what the kernel and the API say at one time; `netlab.trace.reading` gets it from a lab that is up, and
`netlab.trace.predict` asks nothing else. Addresses and networks are text in their normal form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from netlab.proxy.config import ProxyConfig
from netlab.proxy.plan import Family, Plan

Protocol = Literal["tcp", "udp", "icmp"]

ANY_PORT = 0
"""The port of a hop of a prediction that the kernel chooses at random (`masquerade fully-random`): any is right."""


class Probe(msgspec.Struct, frozen=True):
    """A packet to be followed: the first of a connection (TCP: the SYN; ICMP: an echo request).

    `source` is the owner of the network namespace it starts in: NAMESPACE/NAME of a pod, a node's name, or `outside`.
    `source_address` left empty is what the kernel chooses. Of ICMP `source_port` is the echo's identifier, and `port`
    is 0. `size` is that of the IP packet in bytes, headers and all (0: it fits anywhere, as a SYN does in any case);
    without `fragment` it may not be taken apart on its way (DF; IPv6's routers never do).
    """

    source: str
    destination: str
    protocol: Protocol = "tcp"
    port: int = 0
    source_port: int = 0
    source_address: str = ""
    size: int = 0
    fragment: bool = True
    ttl: int = 64

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return 6 if ":" in self.destination else 4


class Vxlan(NamedTuple):
    """What makes a link a tunnel; `link` is the underlay's, empty if any will do."""

    vni: int
    local: str
    port: int
    link: str = ""


class Link(msgspec.Struct, frozen=True):
    """An interface. `peer` is the other end of a veth pair, (owner, name), where that namespace is known.

    `carrier` is False of a veth whose peer is down. `master` is the bridge whose port it is; the rest is of such ports:
    `blocked` when its state is other than forwarding.
    """

    name: str
    kind: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = True
    carrier: bool = True
    alias: str = ""
    peer: tuple[str, str] | None = None
    vxlan: Vxlan | None = None
    master: str = ""
    hairpin: bool = False
    isolated: bool = False
    blocked: bool = False


class Address(NamedTuple):
    """An address of a link, and the length of its network's prefix."""

    address: str
    length: int
    link: str
    scope: str = "global"


class NextHop(NamedTuple):
    """Where a route leads: a gateway (empty: the destination itself is on the link), and the link."""

    gateway: str
    link: str


RouteKind = Literal[
    "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"
]


class Route(msgspec.Struct, frozen=True):
    """A route; several next hops are ECMP's. `mtu` 0 is the link's."""

    destination: str
    kind: RouteKind = "unicast"
    hops: tuple[NextHop, ...] = ()
    table: int = 254
    metric: int = 0
    source: str = ""
    mtu: int = 0

    def __str__(self) -> str:
        kind = "" if self.kind == "unicast" else f"{self.kind} "
        ways = [f"{f' via {hop.gateway}' if hop.gateway else ''} dev {hop.link}" for hop in self.hops]
        return f"{kind}{self.destination}{' nexthop'.join(ways)}"


class Rule(msgspec.Struct, frozen=True):
    """A rule of the routing policy (ip rule): which table is asked about which packets, in the order of priority.

    Empty fields match everything; `version` is that of IP, 0 both.
    """

    priority: int
    table: int = 254
    action: Literal["lookup", "blackhole", "unreachable", "prohibit", "other"] = "lookup"
    source: str = ""
    destination: str = ""
    incoming: str = ""
    outgoing: str = ""
    mark: int = 0
    mask: int = 0
    version: int = 0


class Neighbour(NamedTuple):
    """An ARP or NDP entry. `state` is in ip(8)'s words; `failed` and `incomplete` have no MAC address."""

    address: str
    link: str
    mac: str
    state: str


class Forwarding(NamedTuple):
    """An entry of a bridge's or a VXLAN device's forwarding database: frames for `mac` leave by `link`.

    Of VXLAN `destination` is the tunnel's other end. `local` entries are the bridge's own addresses.
    """

    mac: str
    link: str
    destination: str = ""
    local: bool = False


class Listener(NamedTuple):
    """A socket that takes what comes to a port; `address` is `0.0.0.0` or `::` where any of the family will do."""

    protocol: Protocol
    address: str
    port: int


def end_text(address: str, port: int) -> str:
    """One end of a flow, as people write it; ANY_PORT is `*`."""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{'*' if port == ANY_PORT else port}"


class Ends(NamedTuple):
    """One direction of a flow. Of ICMP both ports are the echo's identifier."""

    source: str
    sport: int
    destination: str
    dport: int

    def __str__(self) -> str:
        return f"{end_text(self.source, self.sport)} > {end_text(self.destination, self.dport)}"


class Flow(NamedTuple):
    """A conntrack entry: what was sent, and what an answer to it looks like here."""

    protocol: str
    original: Ends
    reply: Ends


class Namespace(msgspec.Struct, frozen=True):
    """A network namespace. `owner` is whose it is (NAMESPACE/NAME of a pod, else the machine's name).

    `sysctls` are named as beneath /proc/sys (`net/ipv4/ip_forward`); one that is not there is not known.
    """

    owner: str
    machine: str
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    forwarding: tuple[Forwarding, ...] = ()
    listeners: tuple[Listener, ...] = ()
    flows: tuple[Flow, ...] = ()
    sysctls: Mapping[str, int] = {}

    @property
    def is_pod(self) -> bool:
        """Whether it is a pod's, and not a machine's own."""
        return self.owner != self.machine


class Affinity(NamedTuple):
    """A client that a Service's port remembers the endpoint of."""

    service: str
    protocol: str
    client: str
    address: str
    port: int


class Proxy(msgspec.Struct, frozen=True):
    """A node's kube-proxy: what it should do, according to the API, and the clients whose endpoints it remembers."""

    config: ProxyConfig
    plans: Mapping[Family, Plan]
    affinities: frozenset[Affinity] = frozenset()


class Masquerade(NamedTuple):
    """What leaves by `link` with a source in `source` and a destination not in `cluster` gets the node's address."""

    name: str
    source: str
    cluster: str
    link: str


class State(msgspec.Struct, frozen=True):
    """A lab: namespaces by owner; by node, its proxy and what the pod network masquerades there."""

    namespaces: Mapping[str, Namespace]
    proxies: Mapping[str, Proxy] = {}
    masquerades: Mapping[str, tuple[Masquerade, ...]] = {}
