"""What decides a packet's path through a lab, as values: a probe, and what every network namespace has.

All of it is what the kernel and the API say at one time. `netlab.trace.reading` reads it from a running lab, and
`netlab.trace.predict` needs nothing else. Addresses and networks are text in canonical form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from netlab.net.addresses import Family, host_port
from netlab.policy.explain import World, refusal
from netlab.proxy.config import ProxyConfig
from netlab.proxy.plan import Plan

Protocol = Literal["tcp", "udp", "icmp"]

ANY_PORT = 0
"""In a prediction, a port that the kernel chooses at random (`masquerade fully-random`): it matches any."""


class Probe(msgspec.Struct, frozen=True):
    """A packet to follow: the first of a connection (TCP: the SYN; ICMP: an echo request).

    `source` is the owner of the network namespace it starts in: NAMESPACE/NAME of a pod, a node's name, or `outside`.
    If `source_address` is empty, the kernel chooses it. For ICMP `source_port` is the echo's identifier, and `port`
    is 0. `size` is that of the IP packet in bytes, including headers (0: it fits anywhere, as a SYN always does);
    without `fragment` it may not be fragmented on its way (DF; IPv6 routers never fragment).
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
        """The IP version: 4 or 6."""
        return 6 if ":" in self.destination else 4


class Vxlan(NamedTuple):
    """The tunnel of a VXLAN device; `link` is the underlay's, empty for any."""

    vni: int
    local: str
    port: int
    link: str = ""


class Link(msgspec.Struct, frozen=True):
    """An interface. `peer` is the other end of a veth pair, (owner, name), where that namespace is known.

    `carrier` is False for a veth whose peer is down. `master` is the bridge that it is a port of; the other fields are
    for such ports: `blocked` if its state is not forwarding.
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
    """Where a route leads: a gateway (empty: the destination is on the link), and the link."""

    gateway: str
    link: str


RouteKind = Literal[
    "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"
]


class Route(msgspec.Struct, frozen=True):
    """A route; with ECMP it has several next hops. `mtu` 0 means the link's."""

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
    """A policy routing rule (ip rule): which table to use for which packets, in order of priority.

    Empty fields match everything; `version` is that of IP, 0 for both.
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

    For VXLAN, `destination` is the tunnel's other end. `local` entries are the bridge's own addresses.
    """

    mac: str
    link: str
    destination: str = ""
    local: bool = False


class Listener(NamedTuple):
    """A socket that accepts packets to a port; `address` is `0.0.0.0` or `::` for all addresses of the family."""

    protocol: Protocol
    address: str
    port: int


def end_text(address: str, port: int) -> str:
    """One end of a flow in the usual notation; ANY_PORT is `*`."""
    return host_port(address, "*" if port == ANY_PORT else port)


class Ends(NamedTuple):
    """One direction of a flow. For ICMP both ports are the echo's identifier."""

    source: str
    sport: int
    destination: str
    dport: int

    def __str__(self) -> str:
        return f"{end_text(self.source, self.sport)} > {end_text(self.destination, self.dport)}"


class Announced(NamedTuple):
    """An address for which a node answers on a link, though no interface has it: a load balancer's."""

    address: str
    link: str


class Flow(NamedTuple):
    """A conntrack entry: the original direction, and what an answer looks like here."""

    protocol: str
    original: Ends
    reply: Ends


class Namespace(msgspec.Struct, frozen=True):
    """A network namespace. `owner` is NAMESPACE/NAME of a pod, or the machine's name.

    `sysctls` are named as under /proc/sys (`net/ipv4/ip_forward`); a missing one is unknown.
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
    announced: tuple[Announced, ...] = ()
    sysctls: Mapping[str, int] = {}

    @property
    def is_pod(self) -> bool:
        """Whether it is a pod's, not a machine's."""
        return self.owner != self.machine


class Affinity(NamedTuple):
    """A client whose endpoint a Service's port remembers."""

    service: str
    protocol: str
    client: str
    address: str
    port: int


class Proxy(msgspec.Struct, frozen=True):
    """A node's kube-proxy: what it should do according to the API, and the clients whose endpoints it remembers."""

    config: ProxyConfig
    plans: Mapping[Family, Plan]
    affinities: frozenset[Affinity] = frozenset()


class Masquerade(NamedTuple):
    """What has a source in `source`, and a destination not in `cluster`, leaves with the node's address."""

    source: str
    cluster: str


class State(msgspec.Struct, frozen=True):
    """A lab: namespaces by owner; by node, its proxy and what the pod network masquerades there."""

    namespaces: Mapping[str, Namespace]
    proxies: Mapping[str, Proxy] = {}
    masquerades: Mapping[str, tuple[Masquerade, ...]] = {}
    policies: World | None = None
    """Who may talk to whom; None: everybody."""

    def refusal(self, node: str, source: str, destination: str, protocol: str, port: int) -> str:
        """Why a node's policies drop a first packet, whose addresses are translated; empty: they do not."""
        if self.policies is None:
            return ""
        # Of ICMP it is the echo's identifier.
        number = port if protocol != "icmp" else 0
        return refusal(self.policies, node, source, destination, protocol.upper(), number)
