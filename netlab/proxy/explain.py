"""Why a connection goes where it goes: the decision of a plan about a packet, with its reasons. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Literal

import msgspec

from netlab.net.addresses import Family, of_family
from netlab.proxy.config import ProxyConfig
from netlab.proxy.model import Model, Packet
from netlab.proxy.plan import Frontend, Plan, Scope, Target, Verdict

Decision = Literal["translated", "rejected", "dropped", "not a Service's"]


class Chance(msgspec.Struct, frozen=True):
    """An endpoint, and the probability with which a new connection goes there."""

    address: str
    port: int
    local: bool | None
    """Whether it is on this node; None: unknown."""
    chance: float


class Explanation(msgspec.Struct, frozen=True):
    """What happens to the first packet of a connection on a node, and why."""

    source: str
    destination: str
    origin: str
    """How the proxy classifies the packet's source."""
    decision: Decision
    why: list[str]
    """One sentence for each Kubernetes rule that led there, in the order in which they apply."""
    frontend: str = ""
    service: str = ""
    """`namespace/name:port`."""
    endpoints: list[Chance] = []
    masquerade: bool = False
    """Whether the endpoint sees the node's address instead of the client's; except in a hairpin."""
    masquerade_why: str = ""
    rules: list[str] = []
    """The elements and rules for the frontend."""
    announcer: str | None = None
    """Of a load balancer's address: the node to which packets for it come from outside; empty: there is none."""
    differences: list[str] = []
    """How the kernel's rules differ from the plan."""


_DECISIONS: dict[Verdict, Decision] = {Verdict.REJECT: "rejected", Verdict.DROP: "dropped"}


def explain(plan: Plan, config: ProxyConfig, family: Family, packet: Packet) -> Explanation:
    """The decision of a family's plan about a packet.

    The decision comes from the trace that the tests check against real packets; this adds the reasons.
    """
    model = Model(plan, family, config)
    outcome = model.trace(packet)
    frontend = model.frontend(packet)
    origin = _origin(model, packet)
    dialled = str(Frontend(packet.destination, packet.protocol, packet.port))
    if frontend is None:
        decision: Decision = _DECISIONS[outcome.verdict] if outcome.verdict else "not a Service's"
        why = list(_of_nobody(plan, config, family, packet, outcome.verdict))
        return Explanation(packet.source, dialled, origin, decision, why)
    target = plan[frontend]
    chosen = [e for e in sorted({*target.cluster, *target.local}) if e.backend in outcome.endpoints]
    return Explanation(
        packet.source,
        dialled,
        origin,
        "translated" if chosen else _DECISIONS[outcome.verdict or Verdict.DROP],
        list(_reasons(model, packet, target)),
        str(frontend),
        target.service,
        [Chance(*endpoint.backend, endpoint.local, 1 / len(chosen)) for endpoint in chosen],
        outcome.masquerade,
        _masquerade(model, config, packet, target) if chosen else "",
    )


def _origin(model: Model, packet: Packet) -> str:
    if model.from_pod(packet):
        return "a pod"
    if not packet.interface:
        return "this node"
    return "no pod" if model.knows_pods else f"from interface {packet.interface}; pods cannot be recognised"


def _of_nobody(
    plan: Plan, config: ProxyConfig, family: Family, packet: Packet, verdict: Verdict | None
) -> Iterator[str]:
    if verdict is Verdict.REJECT:
        ports = sorted(f"{f.port}/{f.protocol}" for f in plan if f.address == packet.destination)
        yield f"{packet.destination} is a ClusterIP, but its Service has no such port; it has {', '.join(ports)}"
        return
    if verdict is Verdict.DROP:
        cidrs = ", ".join(of_family(config.service_cidrs, family))
        yield f"{packet.destination} is in the ClusterIP range {cidrs}, but no Service has it"
        return
    node_port = plan.get(Frontend(None, packet.protocol, packet.port))
    if node_port is None:
        yield "no Service has this address and port"
    elif ipaddress.ip_address(packet.destination).is_loopback:
        yield f"it is a NodePort of {node_port.service}, but NodePorts are not served on loopback"
    elif packet.to_node:
        served = ", ".join(of_family(config.node_port_addresses, family))
        yield f"it is a NodePort of {node_port.service}, but NodePorts are only served at {served}"
    else:
        yield f"it is a NodePort of {node_port.service}, but the address is not this node's"


def _reasons(model: Model, packet: Packet, target: Target) -> Iterator[str]:
    if target.sources:
        ranges = ", ".join(target.sources)
        allowed = any(
            ipaddress.ip_address(packet.source) in ipaddress.ip_network(network, strict=False)
            for network in target.sources
        )
        yield f"the source is {'' if allowed else 'not '}in loadBalancerSourceRanges: {ranges}"
        if not allowed:
            return
    field = "internalTrafficPolicy" if target.scope is Scope.INTERNAL else "externalTrafficPolicy"
    inside = model.from_pod(packet) or not packet.interface
    if target.policy == "Cluster":
        yield f"{field} is Cluster: endpoints of all nodes"
    elif target.short_cut and inside and target.cluster:
        yield f"{field} is Local, but traffic from {_origin(model, packet)} is not external: endpoints of all nodes"
    else:
        yield f"{field} is Local: only this node's endpoints"
        if not target.local and target.cluster:
            yield "there are endpoints on other nodes, but none on this one"
    if not target.cluster and not target.local:
        yield "there is no usable endpoint on any node"
    elif target.affinity_seconds:
        yield f"sessionAffinity is ClientIP: a client keeps its endpoint until quiet for {target.affinity_seconds} s"


def _masquerade(model: Model, config: ProxyConfig, packet: Packet, target: Target) -> str:
    why = _masquerade_rule(model, config, packet, target)
    hairpin = packet.source in {e.address for e in {*target.cluster, *target.local}}
    return f"{why}; yes if it is sent back to the client itself (hairpin)" if hairpin else why


def _masquerade_rule(model: Model, config: ProxyConfig, packet: Packet, target: Target) -> str:
    if target.scope is Scope.INTERNAL:
        if config.masquerade_all:
            return "masqueradeAll is set"
        if not model.knows_pods:
            return "pods cannot be recognised (detectLocalMode)"
        detect = config.detect_local
        known = ", ".join(of_family(detect.cidrs, model.family)) or detect.interface
        return f"the source is {'' if model.from_pod(packet) else 'not '}a pod's ({detect.mode} {known})"
    if target.policy == "Cluster":
        why = "with externalTrafficPolicy Cluster the reply must come back through this node"
    elif model.from_pod(packet):
        why = "a pod's source is known in the whole cluster"
    elif not packet.interface:
        why = "other nodes may not be able to reach this node at the address it sends from"
    else:
        why = "externalTrafficPolicy Local keeps the client's source"
    return why
