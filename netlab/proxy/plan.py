"""The plan of a kube-proxy: where each address that clients dial leads. Pure values; nothing here touches a kernel.

There may be 250,000 endpoints: what is made of fields in C is made in a third of the time of a named tuple, and what
holds no garbage is none of the garbage collector's business.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from netlab.net.addresses import host_port

Policy = Literal["Cluster", "Local"]

PROTOCOLS: Mapping[str, str] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
"""From Kubernetes' name of a protocol to that of the kernel's tools."""


class NodeInfo(NamedTuple):
    """The properties of the proxy's node that affect a plan."""

    name: str
    zone: str = ""
    """The node's label topology.kubernetes.io/zone; empty: unknown."""
    addresses: tuple[str, ...] = ()
    """The node's own addresses, of both families."""


class Endpoint(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where a connection is sent: a pod's address and port, and whether the pod is on this node (None: unknown)."""

    address: str
    port: int
    local: bool | None

    @property
    def backend(self) -> tuple[str, int]:
        """Where packets go."""
        return self.address, self.port


class Frontend(msgspec.Struct, frozen=True, gc=False):
    """What a client dials. `address` is None for a NodePort: any address of the node but loopback."""

    address: str | None
    protocol: str
    port: int

    def __str__(self) -> str:
        if self.address is None:
            return f"*:{self.port}/{self.protocol}"
        return f"{host_port(self.address, self.port)}/{self.protocol}"


class Scope(enum.Enum):
    """Who a frontend is for: it decides which traffic policy holds and what is masqueraded."""

    INTERNAL = "internal"
    """A ClusterIP."""
    EXTERNAL = "external"
    """A NodePort, an external IP or the address of a load balancer."""


class Verdict(enum.Enum):
    """What happens to a connection that finds no endpoint."""

    REJECT = "reject"
    """The Service has no usable endpoint anywhere: the answer is ICMP port unreachable."""
    DROP = "drop"
    """There are endpoints, but the policy is Local and none of them is on this node."""


class Target(msgspec.Struct, frozen=True, gc=False):
    """Where a frontend leads.

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
    """How long session affinity by client address lasts after the last connection; 0 for no affinity."""
    serving: frozenset[tuple[str, int]] = frozenset()
    sources: tuple[str, ...] = ()
    """On a load balancer's address: the networks that may connect; others are dropped. Empty: all may connect."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The list for a connection without a short cut: from a client outside the cluster, or to a ClusterIP."""
        return self.local if self.policy == "Local" else self.cluster

    @property
    def verdict(self) -> Verdict:
        """What happens to a connection if `endpoints` is empty. A Local policy drops: another node may serve."""
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
    """Addresses that are ready on this node. Terminating ones do not count, though they are served (KEP-1669)."""


Plan: TypeAlias = Mapping[Frontend, Target]
"""One family's frontends on one node."""


class Change(NamedTuple):
    """A frontend that was added (`old` is None), changed, or removed (`new` is None)."""

    frontend: Frontend
    old: Target | None
    new: Target | None


Transaction: TypeAlias = tuple[Change, ...]
"""The difference between two plans of a family: what an executor applies at once or not at all."""


def difference(old: Plan, new: Plan) -> Transaction:
    """The transaction that leads from one plan to the other."""
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
