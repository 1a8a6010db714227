"""Who calls what, and what must become of it: the one table behind the trace and the live packets.

The Services are seen from node-1, where pod a (a backend) and pod c (none) run; pod b, the other backend, is on node-2.
Expectations are those of Kubernetes' documentation, "Virtual IPs and Service Proxies" and "Source IP".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from netlab.api.core_types import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from netlab.api.discovery_types import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from netlab.api.meta_types import ObjectMeta
from netlab.proxy.plan import Family, Frontend, NodeInfo, Target, Verdict
from netlab.proxy.planner import Book, plan_service

NODE = "node-1"
TARGET_PORT = 8080
CLUSTER_CIDRS = {"IPv4": "10.244.0.0/16", "IPv6": "fd00:10:244::/48"}
ADDRESSES: dict[str, dict[str, str]] = {
    "IPv4": {"a": "10.244.1.2", "c": "10.244.1.3", "b": "10.244.2.2", "node": "192.0.2.1", "outside": "192.0.2.253"},
    "IPv6": {
        "a": "fd00:10:244:1::2",
        "c": "fd00:10:244:1::3",
        "b": "fd00:10:244:2::2",
        "node": "2001:db8::1",
        "outside": "2001:db8::fd",
    },
}
PREFIXES = {
    "IPv4": {"clusterIP": "10.96.0.", "externalIP": "198.51.100.", "loadBalancer": "198.51.100.1"},
    "IPv6": {"clusterIP": "fd00:10:96::", "externalIP": "2001:db8:ffff::", "loadBalancer": "2001:db8:ffff::1"},
}
READY = EndpointConditions(ready=True, serving=True, terminating=False)
DRAINING = EndpointConditions(ready=False, serving=True, terminating=True)
BROKEN = EndpointConditions(ready=False, serving=False, terminating=False)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A Service of the table: its number makes its addresses and its NodePort."""

    name: str
    number: int
    backends: dict[str, EndpointConditions]
    local: bool = False
    """Both traffic policies are Local."""


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("cluster", 11, {"a": READY, "b": READY}),
        Variant("local", 12, {"a": READY, "b": READY}, local=True),
        Variant("remote", 13, {"b": READY}, local=True),
        Variant("empty", 14, {}),
        Variant("empty-local", 15, {}, local=True),
        Variant("draining", 16, {"a": DRAINING, "b": BROKEN}),
        Variant("preferred", 17, {"a": DRAINING, "b": READY}),
        Variant("broken", 18, {"a": BROKEN, "b": BROKEN}),
        # Decided separately for the two lists (KEP-1669): here the node drains while the cluster has ready ones.
        Variant("draining-local", 19, {"a": DRAINING, "b": READY}, local=True),
    )
}


def dialled(variant: Variant, kind: str, family: Family) -> tuple[str, int]:
    """The address and port a client dials."""
    if kind == "nodePort":
        return ADDRESSES[family]["node"], 30000 + variant.number
    address = f"{PREFIXES[family]['clusterIP' if kind == 'wrongPort' else kind]}{variant.number}"
    return address, 81 if kind == "wrongPort" else 80


def service_of(variant: Variant) -> Service:
    families: tuple[Family, Family] = ("IPv4", "IPv6")
    ips = {kind: [dialled(variant, kind, f)[0] for f in families] for kind in PREFIXES["IPv4"]}
    policy = "Local" if variant.local else "Cluster"
    return Service(
        metadata=ObjectMeta(name=variant.name, namespace="default"),
        spec=ServiceSpec(
            type="LoadBalancer",
            clusterIP=ips["clusterIP"][0],
            clusterIPs=ips["clusterIP"],
            externalIPs=ips["externalIP"],
            externalTrafficPolicy=policy,
            internalTrafficPolicy=policy,
            ports=[
                ServicePort(name=protocol.lower(), protocol=protocol, port=80, nodePort=30000 + variant.number)
                for protocol in ("TCP", "UDP")
            ],
        ),
        status=ServiceStatus(
            loadBalancer=LoadBalancerStatus(ingress=[LoadBalancerIngress(ip=ip) for ip in ips["loadBalancer"]])
        ),
    )


def slices_of(name: str, backends: dict[str, EndpointConditions]) -> list[EndpointSlice]:
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
                )
                for pod, conditions in backends.items()
            ],
            ports=[
                EndpointPort(name=protocol.lower(), protocol=protocol, port=TARGET_PORT) for protocol in ("TCP", "UDP")
            ],
        )
        for family in ("IPv4", "IPv6")
    ]


def plan_of_all(family: Family) -> dict[Frontend, Target]:
    book = Book()
    for variant in VARIANTS.values():
        planned = plan_service(service_of(variant), slices_of(variant.name, variant.backends), NodeInfo(NODE), family)
        assert planned.errors == []
        assert book.set_service(f"default/{variant.name}", "", planned.frontends) == []
    return book.plan


@dataclasses.dataclass(frozen=True)
class Flow:
    """One line of the table. `masquerade` leaves out hairpins, which follow from the backend that is chosen."""

    variant: Variant
    kind: str
    origin: str
    backends: frozenset[str] = frozenset()
    masquerade: bool = False
    verdict: Verdict | None = None

    def __str__(self) -> str:
        return f"{self.origin}-{self.variant.name}-{self.kind}"


EXTERNAL = ("externalIP", "loadBalancer", "nodePort")
ORIGINS = ("c", "a", "node", "outside")

# For each Service and kind of frontend, what pod c, pod a, the node and the outside get: backends, `!` when the source
# is rewritten (masqueradeAll off, cluster CIDR known), or a verdict.
_TABLE: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "cluster": {"clusterIP": ("ab", "ab", "ab!", "ab!"), "external": ("ab!", "ab!", "ab!", "ab!")},
    "local": {"clusterIP": ("a", "a", "a!", "a!"), "external": ("ab", "ab", "ab!", "a")},
    "remote": {"clusterIP": ("drop",) * 4, "external": ("b", "b", "b!", "drop")},
    "empty": {"clusterIP": ("reject",) * 4, "external": ("reject",) * 4},
    "empty-local": {"clusterIP": ("reject",) * 4, "external": ("reject",) * 4},
    "draining": {"clusterIP": ("a", "a", "a!", "a!"), "external": ("a!", "a!", "a!", "a!")},
    "preferred": {"clusterIP": ("b", "b", "b!", "b!"), "external": ("b!", "b!", "b!", "b!")},
    "broken": {"clusterIP": ("reject",) * 4, "external": ("reject",) * 4},
    "draining-local": {"clusterIP": ("a", "a", "a!", "a!"), "external": ("b", "b", "b!", "a")},
}


def flows() -> Iterator[Flow]:
    for name, row in _TABLE.items():
        kinds = ("clusterIP", *EXTERNAL, "wrongPort") if name in ("cluster", "remote") else ("clusterIP", *EXTERNAL)
        for kind in kinds:
            cells = ("reject",) * 4 if kind == "wrongPort" else row.get(kind, row["external"])
            for origin, cell in zip(ORIGINS, cells, strict=True):
                if cell in ("drop", "reject"):
                    yield Flow(VARIANTS[name], kind, origin, verdict=Verdict(cell))
                else:
                    backends = frozenset(cell.rstrip("!"))
                    yield Flow(VARIANTS[name], kind, origin, backends, masquerade=cell.endswith("!"))


FLOWS = list(flows())
