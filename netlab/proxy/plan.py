"""The plan of a kube-proxy: what every address that clients dial leads to. Pure values; nothing here knows a kernel."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

Family = Literal["IPv4", "IPv6"]
Policy = Literal["Cluster", "Local"]

PROTOCOLS: Mapping[str, str] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
"""Kubernetes' name of a protocol to the kernel's tools' name."""


class NodeInfo(NamedTuple):
    """What of the node that a proxy works on decides a plan."""

    name: str
    zone: str = ""
    """The node's label topology.kubernetes.io/zone; empty: unknown."""
    addresses: tuple[str, ...] = ()
    """The node's own addresses, of both families."""


class Endpoint(NamedTuple):
    """Where a connection is sent: a pod's address and port, and whether the pod is on this node (None: unknown)."""

    address: str
    port: int
    local: bool | None


class Frontend(NamedTuple):
    """What a client dials. `address` is None for a NodePort: any address of the node but loopback."""

    address: str | None
    protocol: str
    port: int

    def __str__(self) -> str:
        if self.address is None:
            return f"*:{self.port}/{self.protocol}"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.protocol}"


class Scope(enum.Enum):
    """Who a frontend is for: it decides which traffic policy holds and what is masqueraded."""

    INTERNAL = "internal"
    """A ClusterIP."""
    EXTERNAL = "external"
    """A NodePort, an external IP or the address of a load balancer."""


class Verdict(enum.Enum):
    """What a connection gets that finds no endpoint."""

    REJECT = "reject"
    """The Service has no usable endpoint anywhere: answered with ICMP port unreachable."""
    DROP = "drop"
    """There are endpoints, but the policy is Local and none is on this node."""


class Target(NamedTuple):
    """What a frontend leads to.

    `cluster` and `local` are the lists of the two traffic policies; a list that the policy never uses is empty.
    `serving` are the endpoints whose UDP flows live on (endpoints that terminate but still serve are among them even
    when no new flow is sent there); kept for UDP alone, the protocol whose connection tracking outlives its peers.
    """

    service: str
    """`namespace/name:port`, for people and for names that must stay the same across syncs."""
    scope: Scope
    policy: Policy
    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    affinity_seconds: int = 0
    """Session affinity by client address lasts as long after the last connection; 0 is none."""
    serving: frozenset[tuple[str, int]] = frozenset()
    sources: tuple[str, ...] = ()
    """On a load balancer's address: the networks that may connect, the others are dropped. Empty: everybody may."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The list for a connection without a short cut: from a client outside the cluster, or to a ClusterIP."""
        return self.local if self.policy == "Local" else self.cluster

    @property
    def verdict(self) -> Verdict:
        """What a connection gets when `endpoints` is empty; a Local policy drops, so that another node may serve."""
        return Verdict.DROP if self.cluster else Verdict.REJECT

    @property
    def short_cut(self) -> bool:
        """Pods and this node use all endpoints although the policy is Local: they are not external traffic."""
        return self.scope is Scope.EXTERNAL and self.policy == "Local"


class HealthCheck(NamedTuple):
    """What a load balancer learns at a Service's health check node port: whether this node has ready endpoints."""

    service: str
    """`namespace/name`."""
    port: int
    local_endpoints: int
    """Addresses that are ready on this node. Those that terminate do not count, though they are served (KEP-1669)."""


Plan: TypeAlias = Mapping[Frontend, Target]
"""One family's frontends on one node."""


class Change(NamedTuple):
    """A frontend that appeared (`old` is None), changed, or went away (`new` is None)."""

    frontend: Frontend
    old: Target | None
    new: Target | None


Transaction: TypeAlias = tuple[Change, ...]
"""The difference between two plans of a family: what an executor applies at once or not at all."""


def difference(old: Plan, new: Plan) -> Transaction:
    """What leads from one plan to the other."""
    frontends = [*old, *(frontend for frontend in new if frontend not in old)]
    changes = (Change(frontend, old.get(frontend), new.get(frontend)) for frontend in frontends)
    return tuple(change for change in changes if change.old != change.new)


def apply(plan: Plan, transaction: Transaction) -> dict[Frontend, Target]:
    """The plan after a transaction."""
    result = dict(plan)
    for frontend, _, new in transaction:
        if new is None:
            result.pop(frontend, None)
        else:
            result[frontend] = new
    return result


def family_of(address: str) -> Family:
    """The family of a normal address."""
    return "IPv6" if ":" in address else "IPv4"


def of_family(networks: Iterable[str], family: Family) -> tuple[str, ...]:
    """Those networks (or addresses) that are of a family."""
    return tuple(network for network in networks if family_of(network) == family)
