"""A data plane without a kernel: it can be dumped, and a packet can be traced through it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from netlab.proxy.plan import Endpoint, Family, Frontend, Plan, Scope, Target, Transaction, Verdict, apply


class Packet(NamedTuple):
    """The first packet of a connection, as it reaches the node of the data plane."""

    source: str
    destination: str
    protocol: str
    port: int
    source_is_node: bool = False
    """The source is one of this node's own addresses."""
    to_node: bool = False
    """The destination is one of this node's own addresses."""


class Outcome(NamedTuple):
    """Where a connection may go, whether its source is rewritten there, or why it goes nowhere.

    No endpoints and no verdict: no Service is concerned, the packet passes as it is.
    """

    endpoints: frozenset[tuple[str, int]] = frozenset()
    masquerade: bool = False
    verdict: Verdict | None = None


class FakeExecutor:
    """See netlab.proxy.executor.Executor."""

    def __init__(self, family: Family, cluster_cidrs: Sequence[str] = (), *, masquerade_all: bool = False) -> None:
        self.family = family
        self.plan: dict[Frontend, Target] = {}
        self._cidrs = [ipaddress.ip_network(cidr) for cidr in cluster_cidrs]
        self._masquerade_all = masquerade_all

    async def replace(self, plan: Plan) -> None:
        """See Executor."""
        self.plan = dict(plan)

    async def apply(self, transaction: Transaction) -> None:
        """See Executor."""
        for frontend, old, _ in transaction:
            assert self.plan.get(frontend) == old, f"{frontend} is not what the transaction starts from"
        self.plan = apply(self.plan, transaction)

    async def intact(self) -> bool:
        """See Executor."""
        return True

    def dump(self) -> str:
        """The plan, one line for each frontend, in the order of addresses."""
        return "".join(f"{line}\n" for line in sorted(_line(f, t) for f, t in self.plan.items()))

    def trace(self, packet: Packet, *, backend: Endpoint | None = None) -> Outcome:
        """What becomes of a connection; `backend` is the endpoint chosen, which only a hairpin depends on."""
        target = self.plan.get(Frontend(packet.destination, packet.protocol, packet.port))
        if target is None and packet.to_node and not ipaddress.ip_address(packet.destination).is_loopback:
            target = self.plan.get(Frontend(None, packet.protocol, packet.port))
        if target is None:
            refused = any(f.address == packet.destination and t.scope is Scope.INTERNAL for f, t in self.plan.items())
            return Outcome(verdict=Verdict.REJECT if refused else None)
        from_pod = any(ipaddress.ip_address(packet.source) in cidr for cidr in self._cidrs)
        inside = target.short_cut and bool(target.cluster) and (from_pod or packet.source_is_node)
        endpoints = target.cluster if inside else target.endpoints
        if not endpoints:
            return Outcome(verdict=target.verdict)
        if target.scope is Scope.INTERNAL:
            masquerade = self._masquerade_all or (bool(self._cidrs) and not from_pod)
        else:
            masquerade = (inside and not from_pod) if target.short_cut else True
        hairpin = backend is not None and backend.address == packet.source
        return Outcome(frozenset(e[:2] for e in endpoints), masquerade=masquerade or hairpin)


def _line(frontend: Frontend, target: Target) -> str:
    lists = " ".join(
        f"{name}=[{', '.join(f'{e.address}.{e.port}' for e in sorted(listed))}]"
        for name, listed in (("cluster", target.cluster), ("local", target.local))
        if listed
    )
    affinity = f" affinity={target.affinity_seconds}s" if target.affinity_seconds else ""
    return f"{frontend} {target.scope.value} {target.policy} {target.service}{affinity} {lists or target.verdict.value}"
