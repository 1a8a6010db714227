"""What becomes of a packet by a plan. Pure; the tests hold it against real packets."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from netlab.net.addresses import Family, of_family
from netlab.proxy.config import ProxyConfig
from netlab.proxy.plan import Endpoint, Frontend, Plan, Scope, Target, Verdict


class Packet(NamedTuple):
    """The first packet of a connection, as it reaches the node of the data plane."""

    source: str
    destination: str
    protocol: str
    port: int
    interface: str = ""
    """Where it came in; empty: it is the node's own."""
    to_node: bool = False
    """The destination is one of this node's addresses."""


class Outcome(NamedTuple):
    """Where a connection may go, whether its source is rewritten, or why it goes nowhere.

    No endpoints and no verdict: no Service matches, and the packet passes unchanged.
    """

    endpoints: frozenset[tuple[str, int]] = frozenset()
    masquerade: bool = False
    verdict: Verdict | None = None


class Model:
    """What the data planes make of a plan, without a kernel."""

    def __init__(self, plan: Plan, family: Family, config: ProxyConfig) -> None:
        self.plan = plan
        self.family = family
        self._config = config
        self._node_ports = of_family(config.node_port_addresses, family)
        self._service_cidrs = of_family(config.service_cidrs, family)
        self._clients: dict[tuple[str, str, Endpoint, str], float] = {}
        """When each client last connected to each endpoint of a Service's port with session affinity."""

    def trace(self, packet: Packet, *, backend: Endpoint | None = None, at: float = 0.0) -> Outcome:
        """What happens to a connection.

        `backend` is the chosen endpoint, which only matters for a hairpin; `at` is the time in seconds, which only
        matters for session affinity.
        """
        target = self._target(packet)
        if target is None:
            return Outcome(verdict=self._refusal(packet))
        if target.sources and not _among(packet.source, target.sources):
            return Outcome(verdict=Verdict.DROP)
        from_pod = self.from_pod(packet)
        inside = target.short_cut and bool(target.cluster) and (from_pod or not packet.interface)
        endpoints = target.cluster if inside else target.endpoints
        if not endpoints:
            return Outcome(verdict=target.verdict)
        if target.scope is Scope.INTERNAL:
            masquerade = self._config.masquerade_all or (self.knows_pods and not from_pod)
        else:
            masquerade = (inside and not from_pod) if target.short_cut else True
        for endpoint in sorted(endpoints):
            last = self._clients.get((target.service, packet.protocol, endpoint, packet.source))
            if last is not None and at - last < target.affinity_seconds:
                endpoints = (endpoint,)
                break
        hairpin = backend is not None and backend.address == packet.source
        return Outcome(frozenset(e.backend for e in endpoints), masquerade=masquerade or hairpin)

    def remember(self, packet: Packet, backend: str, *, at: float) -> None:
        """Note a connection to the endpoint at that address: session affinity remembers its client."""
        target = self._target(packet)
        assert target is not None, f"{packet} matches no Service"
        for endpoint in {*target.cluster, *target.local}:
            if endpoint.address == backend and target.affinity_seconds:
                self._clients[target.service, packet.protocol, endpoint, packet.source] = at

    def frontend(self, packet: Packet) -> Frontend | None:
        """The plan's entry for a packet; None if no Service matches."""
        dialled = Frontend(packet.destination, packet.protocol, packet.port)
        if dialled in self.plan:
            return dialled
        node_port = Frontend(None, packet.protocol, packet.port)
        if not packet.to_node or ipaddress.ip_address(packet.destination).is_loopback or node_port not in self.plan:
            return None
        return node_port if not self._node_ports or _among(packet.destination, self._node_ports) else None

    def _target(self, packet: Packet) -> Target | None:
        frontend = self.frontend(packet)
        return None if frontend is None else self.plan[frontend]

    def _refusal(self, packet: Packet) -> Verdict | None:
        """The verdict for a port that a ClusterIP lacks, or an address that no Service has."""
        if any(f.address == packet.destination and t.scope is Scope.INTERNAL for f, t in self.plan.items()):
            return Verdict.REJECT
        return Verdict.DROP if _among(packet.destination, self._service_cidrs) else None

    @property
    def knows_pods(self) -> bool:
        """Whether pods can be recognised at all."""
        detect = self._config.detect_local
        return bool(detect.interface or of_family(detect.cidrs, self.family))

    def from_pod(self, packet: Packet) -> bool:
        """Whether a packet is known to come from a pod (detectLocalMode)."""
        detect = self._config.detect_local
        if detect.mode == "BridgeInterface":
            return packet.interface == detect.interface
        if detect.mode == "InterfaceNamePrefix":
            return packet.interface.startswith(detect.interface)
        return _among(packet.source, of_family(detect.cidrs, self.family))


def _among(address: str, networks: Iterable[str]) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False) for network in networks)
