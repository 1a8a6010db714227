"""Who calls what, and what must become of it: the one table behind the trace and the live packets.

The Services are seen from node-1, where pod a (a backend) and pod c (none) run; pod b, the other backend, is on node-2.
The outside world has two addresses, of which load balancers let one through: the stranger's is the other.

Expectations are those of Kubernetes' documentation ("Virtual IPs and Service Proxies", "Source IP", "Service") and of
the KEPs cited, re-derived; where upstream's tests differ from it, the row says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from netlab.api.core_types import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from netlab.api.discovery_types import (
    HEADLESS_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
)
from netlab.api.meta_types import ObjectMeta
from netlab.net.addresses import Family
from netlab.proxy.book import Book
from netlab.proxy.config import DetectLocal, Mode, ProxyConfig
from netlab.proxy.plan import Frontend, NodeInfo, Policy, Target, Verdict
from netlab.proxy.planner import PROXY_NAME_LABEL, plan_service

NODE = "node-1"
FAMILIES: tuple[Family, Family] = ("IPv4", "IPv6")
TARGET_PORT = 8080
CLUSTER_CIDRS = {"IPv4": "10.244.0.0/16", "IPv6": "fd00:10:244::/48"}
NODE_CIDRS = {"IPv4": "10.244.1.0/24", "IPv6": "fd00:10:244:1::/64"}
SERVICE_CIDRS = {"IPv4": "10.96.0.0/16", "IPv6": "fd00:10:96::/112"}
BRIDGE = "cni0"
"""Where the node's pods come in."""
ADDRESSES: dict[str, dict[str, str]] = {
    "IPv4": {
        "a": "10.244.1.2",
        "c": "10.244.1.3",
        "b": "10.244.2.2",
        "node": "192.0.2.1",
        "n": "192.0.2.1",
        "outside": "192.0.2.253",
        "stranger": "192.0.2.100",
        "secondary": "198.18.0.1",
        "gateway": "10.244.1.1",
        "loopback": "127.0.0.1",
    },
    "IPv6": {
        "a": "fd00:10:244:1::2",
        "c": "fd00:10:244:1::3",
        "b": "fd00:10:244:2::2",
        "node": "2001:db8::1",
        "n": "2001:db8::1",
        "outside": "2001:db8::fd",
        "stranger": "2001:db8::64",
        "secondary": "2001:db8:1::1",
        "gateway": "fd00:10:244:1::1",
        "loopback": "::1",
    },
}
"""The hosts' own addresses; the node has four. A pod `n` is in its network (hostNetwork)."""
NODE_INFO = NodeInfo(NODE, "zone-1", tuple(ADDRESSES[family]["node"] for family in FAMILIES))
PREFIXES = {
    "IPv4": {"clusterIP": "10.96.0.", "externalIP": "198.51.100.", "loadBalancer": "198.51.100.1"},
    "IPv6": {"clusterIP": "fd00:10:96::", "externalIP": "2001:db8:ffff::", "loadBalancer": "2001:db8:ffff::1"},
}
READY = EndpointConditions(ready=True, serving=True, terminating=False)
DRAINING = EndpointConditions(ready=False, serving=True, terminating=True)
BROKEN = EndpointConditions(ready=False, serving=False, terminating=False)
PUBLISHED = EndpointConditions(ready=True, serving=False, terminating=True)
"""What the EndpointSlice controller writes of a pod that is not ready, with publishNotReadyAddresses."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A Service of the table: its number makes its addresses and its NodePort."""

    name: str
    number: int
    backends: dict[str, EndpointConditions]
    external: Policy = "Cluster"
    internal: Policy = "Cluster"
    ranges: tuple[str, ...] = ()
    ip_mode: str | None = None
    hints: dict[str, EndpointHints] = dataclasses.field(default_factory=dict)
    also: dict[str, EndpointConditions] = dataclasses.field(default_factory=dict)
    """The endpoints of a second slice."""
    also_port: int = TARGET_PORT
    labels: tuple[str, ...] = ()
    """Of the Service and its slices."""
    slice_labels: tuple[str, ...] = ()
    other_family: bool = False
    """Its ClusterIP is of the other family alone."""


BOTH = {"a": READY, "b": READY}
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("cluster", 11, BOTH),
        Variant("etp", 12, BOTH, external="Local"),
        Variant("itp", 13, BOTH, internal="Local"),
        Variant("local", 14, BOTH, external="Local", internal="Local"),
        Variant("remote", 15, {"b": READY}, external="Local", internal="Local"),
        Variant("empty", 16, {}),
        Variant("empty-local", 17, {}, external="Local", internal="Local"),
        Variant("draining", 18, {"a": DRAINING, "b": BROKEN}),
        Variant("preferred", 19, {"a": DRAINING, "b": READY}),
        Variant("broken", 20, {"a": BROKEN, "b": BROKEN}),
        Variant("published", 21, {"a": PUBLISHED, "b": BROKEN}),
        Variant("draining-local", 22, {"a": DRAINING, "b": READY}, external="Local", internal="Local"),
        Variant("draining-away", 23, {"a": BROKEN, "b": DRAINING}, external="Local", internal="Local"),
        Variant("host", 24, {"n": READY}),
        Variant("host-local", 25, {"n": READY, "b": READY}, external="Local", internal="Local"),
        # While a pod moves between slices, it is in both: the one that does not terminate wins.
        Variant("moving", 26, {"a": READY, "b": DRAINING}, also={"a": DRAINING, "b": READY}),
        Variant("moved", 27, {"a": BROKEN}, "Local", also={"a": DRAINING}),
        Variant("port-zero", 28, {"a": READY}, also={"b": READY}, also_port=0),
        # A Service is headless by its ClusterIP, and another proxy's by its own label (KEP-1959).
        Variant("labelled", 29, BOTH, labels=(HEADLESS_LABEL,), slice_labels=(PROXY_NAME_LABEL,)),
        Variant("other-family", 30, BOTH, other_family=True),
        Variant("ranges", 31, BOTH, ranges=("192.0.2.128/25", "2001:db8::80/121")),
        Variant("ranges-node", 32, BOTH, ranges=("192.0.2.0/29", "2001:db8::/125")),
        Variant("ranges-local", 33, BOTH, "Local", ranges=(
            "192.0.2.253/32", "10.244.0.0/16", "2001:db8::fd/128", "fd00:10:244::/48",
        )),
        Variant("ranges-empty", 34, {}, ranges=("192.0.2.128/25", "2001:db8::80/121")),
        Variant("ranges-remote", 35, {"b": READY}, "Local", ranges=("192.0.2.128/25", "2001:db8::80/121")),
        Variant("proxied", 36, BOTH, ip_mode="Proxy"),
        Variant("same-zone", 41, BOTH, hints={
            "a": EndpointHints(forZones=[ForZone("zone-2")]), "b": EndpointHints(forZones=[ForZone("zone-1")]),
        }),
        Variant("same-node", 42, BOTH, hints={
            "a": EndpointHints(forZones=[ForZone("zone-1")], forNodes=[ForNode("node-2")]),
            "b": EndpointHints(forZones=[ForZone("zone-2")], forNodes=[ForNode(NODE)]),
        }),
        Variant("hints-local", 43, BOTH, "Local", hints={
            "a": EndpointHints(forZones=[ForZone("zone-2")]), "b": EndpointHints(forZones=[ForZone("zone-1")]),
        }),
    )
}  # fmt: skip
NOBODY = Variant("nobody", 99, {})
"""Addresses and a NodePort that no Service has."""


def dialled(variant: Variant, kind: str, family: Family) -> tuple[str, int]:
    """The address and port a client dials: of a Service, or its NodePort at one of the node's addresses."""
    if kind in PREFIXES[family]:
        return f"{PREFIXES[family][kind]}{variant.number}", 80
    if kind == "wrongPort":
        return f"{PREFIXES[family]['clusterIP']}{variant.number}", 81
    return ADDRESSES[family]["node" if kind == "nodePort" else kind], 30000 + variant.number


def service_of(variant: Variant, family: Family = "IPv4") -> Service:
    """The Service, made for a plan of that family if its own is the other one."""
    ips = {kind: [dialled(variant, kind, f)[0] for f in FAMILIES] for kind in PREFIXES["IPv4"]}
    if variant.other_family:
        del ips["clusterIP"][FAMILIES.index(family)]
    return Service(
        metadata=ObjectMeta(name=variant.name, namespace="default", labels=dict.fromkeys(variant.labels, "")),
        spec=ServiceSpec(
            type="LoadBalancer",
            clusterIP=ips["clusterIP"][0],
            clusterIPs=ips["clusterIP"],
            externalIPs=ips["externalIP"],
            externalTrafficPolicy=variant.external,
            internalTrafficPolicy=variant.internal,
            loadBalancerSourceRanges=list(variant.ranges),
            ports=[
                ServicePort(name=protocol.lower(), protocol=protocol, port=80, nodePort=30000 + variant.number)
                for protocol in ("TCP", "UDP", "SCTP")
            ],
        ),
        status=ServiceStatus(
            loadBalancer=LoadBalancerStatus(
                ingress=[LoadBalancerIngress(ip=ip, ipMode=variant.ip_mode) for ip in ips["loadBalancer"]]
            )
        ),
    )


def slices_of(
    name: str, backends: dict[str, EndpointConditions], hints: dict[str, EndpointHints] | None = None
) -> list[EndpointSlice]:
    return [
        EndpointSlice(
            metadata=ObjectMeta(
                name=f"{name}-{family.lower()}", namespace="default", labels={"kubernetes.io/service-name": name}
            ),
            addressType=family,
            endpoints=[
                Endpoint(
                    addresses=[ADDRESSES[family][pod]],
                    conditions=conditions,
                    nodeName="node-2" if pod == "b" else NODE,
                    hints=(hints or {}).get(pod),
                )
                for pod, conditions in backends.items()
            ],
            ports=[
                EndpointPort(name=protocol.lower(), protocol=protocol, port=TARGET_PORT)
                for protocol in ("TCP", "UDP", "SCTP")
            ],
        )
        for family in FAMILIES
    ]


def all_slices_of(variant: Variant) -> list[EndpointSlice]:
    slices = slices_of(variant.name, variant.backends, variant.hints)
    if variant.also:
        more = slices_of(variant.name, variant.also)
        for each in more:
            each.metadata.name += "-also"
            for port in each.ports:
                port.port = variant.also_port
        slices += more
    for each in slices:
        each.metadata.labels |= dict.fromkeys(variant.slice_labels, "")
    return slices


def plan_of_all(family: Family) -> dict[Frontend, Target]:
    book = Book()
    for variant in VARIANTS.values():
        planned = plan_service(service_of(variant, family), all_slices_of(variant), NODE_INFO, family)
        assert bool(planned.errors) == (variant.also_port == 0)
        assert book.set_service(f"default/{variant.name}", "", planned.frontends) == []
    return book.plan


# --- Flows -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Flow:
    """One cell of a table. `masquerade` leaves out hairpins, which follow from the backend that is chosen."""

    variant: Variant
    kind: str
    origin: str
    backends: frozenset[str] = frozenset()
    masquerade: bool = False
    verdict: Verdict | None = None
    passes_to: str = ""
    """No Service is concerned: who answers instead; `nobody` is there, and the host itself refuses."""

    def __str__(self) -> str:
        return f"{self.origin}-{self.variant.name}-{self.kind}"


def flow(name: str, kind: str, origin: str, cell: str) -> Flow:
    """A cell: backends, `!` when the source is rewritten; or a verdict; or, after `>`, who gets the packet as it is."""
    variant = VARIANTS.get(name, NOBODY)
    if cell in ("drop", "reject"):
        return Flow(variant, kind, origin, verdict=Verdict(cell))
    if cell.startswith(">"):
        return Flow(variant, kind, origin, passes_to=cell[1:])
    return Flow(variant, kind, origin, frozenset(cell.rstrip("!")), masquerade=cell.endswith("!"))


def _rows(table: str) -> Iterator[list[str]]:
    return (line.split() for line in table.splitlines() if line.strip() and not line.lstrip().startswith("#"))


EXTERNAL = ("externalIP", "loadBalancer", "nodePort")

_COMMON = """
# service        dialled       c       a       node    outside stranger
cluster          externalIP    ab!     ab!     ab!     ab!     .
cluster          loadBalancer  .       ab!     .       .       .
cluster          nodePort      .       ab!     .       .       .
# A port that a live ClusterIP has not, and an address in the range of ClusterIPs that no Service has.
cluster          wrongPort     reject  reject  reject  reject  .
remote           wrongPort     reject  .       .       .       .
nobody           clusterIP     drop    .       drop    drop    .
nobody           nodePort      >nobody .       >nobody >nobody .
# Traffic policies: a Local one without a local endpoint drops, so that whoever can serve may. Pods and the node are not
# external traffic (kubernetes issue 131765 is of a proxy that forgot it).
etp              externalIP    ab      ab      ab!     a       .
itp              externalIP    ab!     ab!     ab!     ab!     .
local            clusterIP     a       a       a!      a!      .
local            external      ab      ab      ab!     a       .
remote           clusterIP     drop    drop    drop    drop    .
remote           external      b       b       b!      drop    .
# Nothing to send to anywhere is refused whatever the policy, so that clients hear of it at once.
empty            clusterIP     reject  .       reject  reject  .
empty            external      reject  .       reject  reject  .
empty-local      clusterIP     reject  .       reject  reject  .
empty-local      external      reject  .       reject  reject  .
broken           clusterIP     reject  .       .       .       .
broken           nodePort      .       .       .       reject  .
# Terminating endpoints are the last resort, of each list by itself (KEP-1669).
draining         clusterIP     a       a       a!      a!      .
draining         external      a!      a!      a!      a!      .
preferred        clusterIP     b       b       b!      b!      .
preferred        external      b!      b!      b!      b!      .
draining-local   clusterIP     a       a       a!      a!      .
draining-local   external      b       b       b!      a       .
draining-away    clusterIP     drop    .       .       .       .
draining-away    external      b       b       b!      drop    .
# What is published although it is not ready gets traffic like any other, also while it terminates.
published        clusterIP     a       a       a!      a!      .
published        external      a!      a!      a!      a!      .
# A pod in the node's own network; what reaches it by the node's own way is not forwarded, and so never masqueraded.
host             clusterIP     n       n       n!      n!      .
host             nodePort      n!      .       n!      n!      .
host             externalIP    n!      .       n!      n!      .
host-local       clusterIP     n       n       n!      n!      .
host-local       external      bn      .       bn!     n       .
moving           clusterIP    ab      ab      ab!     ab!     .
moving           external     ab!     .       ab!     ab!     .
moved            clusterIP    reject  .       .       .       .
port-zero        clusterIP    a       a       a!      a!      .
port-zero        external     a!      .       .       a!      .
labelled         clusterIP    ab      .       .       ab!     .
labelled         nodePort     .       .       .       ab!     .
other-family     clusterIP    drop    .       drop    drop    .
other-family     externalIP   >world  .       >world  >world  .
other-family     loadBalancer >world  .       >world  >world  .
other-family     nodePort     >nobody .       >nobody >nobody .
# loadBalancerSourceRanges: the balancer's address alone, for everybody, before anything else is decided.
ranges           clusterIP     ab      .       .       ab!     ab!
ranges           externalIP    ab!     .       .       ab!     ab!
ranges           nodePort      ab!     .       .       ab!     ab!
ranges           loadBalancer  drop    drop    drop    ab!     drop
ranges-node      loadBalancer  drop    .       ab!     drop    drop
ranges-local     loadBalancer  ab      ab      drop    a       drop
ranges-empty     loadBalancer  drop    .       drop    reject  drop
ranges-remote    loadBalancer  drop    .       drop    drop    drop
ranges-remote    nodePort      b       .       b!      drop    .
# ipMode Proxy: the balancer itself is reached (KEP-1860); it delivers to NodePorts, say.
proxied          loadBalancer  >world  >world  >world  >world  .
proxied          nodePort      ab!     .       ab!     ab!     .
# Hints narrow the list of the policy Cluster (KEP-2433, KEP-3015), never the list of this node's own.
same-zone        clusterIP     b       b       b!      b!      .
same-zone        external      b!      b!      b!      b!      .
same-node        clusterIP     b       b       b!      b!      .
hints-local      clusterIP     b       b       b!      b!      .
hints-local      external      b       b       b!      a       .
"""
COMMON_ORIGINS = ("c", "a", "node", "outside", "stranger")

_SOURCES = """
# service dialled      origin  known unknown all  all-unknown
cluster   clusterIP    c       ab    ab      ab!  ab!
cluster   nodePort     c       ab!   ab!     ab!  ab!
cluster   loadBalancer c       ab!   ab!     ab!  ab!
cluster   clusterIP    node    ab!   ab      ab!  ab!
cluster   nodePort     node    ab!   ab!     ab!  ab!
cluster   loadBalancer node    ab!   ab!     ab!  ab!
cluster   clusterIP    outside ab!   ab      ab!  ab!
cluster   nodePort     outside ab!   ab!     ab!  ab!
cluster   loadBalancer outside ab!   ab!     ab!  ab!
# The external policy says nothing of ClusterIPs. From outside only local endpoints, and the source is kept; a pod
# (where it is known for one) and the node get what they would get by the way of the balancer, without the detour.
etp       clusterIP    c       ab    ab      ab!  ab!
etp       nodePort     c       ab    a       ab   a
etp       loadBalancer c       ab    a       ab   a
etp       clusterIP    node    ab!   ab      ab!  ab!
# Upstream's row of this name dials another Service's NodePort; this one dials its own.
etp       nodePort     node    ab!   ab!     ab!  ab!
etp       loadBalancer node    ab!   ab!     ab!  ab!
etp       clusterIP    outside ab!   ab      ab!  ab!
etp       nodePort     outside a     a       a    a
etp       loadBalancer outside a     a       a    a
# The internal policy narrows ClusterIPs alone, and changes nothing of who is masqueraded.
itp       clusterIP    c       a     a       a!   a!
itp       nodePort     c       ab!   ab!     ab!  ab!
itp       loadBalancer c       ab!   ab!     ab!  ab!
itp       clusterIP    node    a!    a       a!   a!
itp       nodePort     node    ab!   ab!     ab!  ab!
itp       loadBalancer node    ab!   ab!     ab!  ab!
itp       clusterIP    outside a!    a       a!   a!
itp       nodePort     outside ab!   ab!     ab!  ab!
itp       loadBalancer outside ab!   ab!     ab!  ab!
# A pod that is a backend itself: what comes back to it has another source in every setting (hairpin).
cluster   clusterIP    a       ab    ab      ab!  ab!
etp       nodePort     a       ab    a       ab   a
itp       clusterIP    a       a     a       a!   a!
"""
"""Whose source is rewritten: the 27 flows and four settings of upstream's TestInternalExternalMasquerade, and hairpins.

Known or unknown: whether the proxy can tell pods (detectLocalMode); all: masqueradeAll.
"""

_NODE_ADDRESSES = """
# served at  node    secondary gateway loopback
all          ab!     ab!       ab!     >nobody
primary      ab!     >nobody   >nobody >nobody
cidr         >nobody ab!       >nobody >nobody
"""
"""nodePortAddresses, as the node itself dials the NodePort of `cluster`; loopback has none (KEP-3866)."""


class Setting(NamedTuple):
    """How the proxy is configured for a column of the table; what is not said is the same for all."""

    detect: str = "ClusterCIDR"
    """A detectLocalMode, or `none`."""
    masquerade_all: bool = False
    node_ports: str = "all"

    def __str__(self) -> str:
        return f"{self.detect}{'-masqueradeAll' if self.masquerade_all else ''}-NodePorts-{self.node_ports}"


_DETECT: dict[str, DetectLocal] = {
    "none": DetectLocal(),
    "ClusterCIDR": DetectLocal("ClusterCIDR", tuple(CLUSTER_CIDRS.values())),
    "NodeCIDR": DetectLocal("NodeCIDR", tuple(NODE_CIDRS.values())),
    "BridgeInterface": DetectLocal("BridgeInterface", interface=BRIDGE),
    "InterfaceNamePrefix": DetectLocal("InterfaceNamePrefix", interface=BRIDGE[:-1]),
}
_NODE_PORTS = {"all": (), "primary": NODE_INFO.addresses, "cidr": ("198.18.0.0/15", "2001:db8:1::/64")}


def config_of(setting: Setting, family: Family, mode: Mode = "nftables") -> ProxyConfig:
    return ProxyConfig(
        node_name=NODE,
        mode=mode,
        families=[family],
        detect_local=_DETECT[setting.detect],
        masquerade_all=setting.masquerade_all,
        node_port_addresses=_NODE_PORTS[setting.node_ports],
        service_cidrs=tuple(SERVICE_CIDRS.values()),
    )


def _common() -> Iterator[Flow]:
    for name, dialled_, *cells in _rows(_COMMON):
        for kind in EXTERNAL if dialled_ == "external" else (dialled_,):
            for origin, cell in zip(COMMON_ORIGINS, cells, strict=True):
                if cell != ".":
                    yield flow(name, kind, origin, cell)


def _column(index: int) -> list[Flow]:
    return [flow(name, kind, origin, cells[index]) for name, kind, origin, *cells in _rows(_SOURCES)]


def _node_addresses() -> Iterator[tuple[Setting, list[Flow]]]:
    for served, *cells in _rows(_NODE_ADDRESSES):
        kinds = ("nodePort", "secondary", "gateway", "loopback")
        yield (
            Setting(node_ports=served),
            [flow("cluster", kind, "node", cell) for kind, cell in zip(kinds, cells, strict=True)],
        )


SETTINGS: Sequence[tuple[Setting, list[Flow]]] = (
    (Setting(), [*_common(), *_column(0)]),
    (Setting("none"), _column(1)),
    (Setting(masquerade_all=True), _column(2)),
    (Setting("none", masquerade_all=True), _column(3)),
    # However the proxy tells pods, the outcome is the same.
    (Setting("NodeCIDR"), _column(0)),
    (Setting("BridgeInterface"), _column(0)),
    (Setting("InterfaceNamePrefix"), _column(0)),
    *_node_addresses(),
)
"""Every setting with its flows."""
