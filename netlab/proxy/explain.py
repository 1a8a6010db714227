"""Why a connection goes where it goes: the decision of a plan about a packet, with its reasons. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from netlab.proxy.config import ProxyConfig
from netlab.proxy.fake import FakeExecutor, Packet
from netlab.proxy.plan import Family, Frontend, Plan, Scope, Target, Verdict, of_family

Decision = Literal["translated", "rejected", "dropped", "not a Service's"]


class Chance(NamedTuple):
    """An endpoint, and the probability with which a new connection goes there."""

    address: str
    port: int
    local: bool | None
    """Whether it is on this node; None: unknown."""
    chance: float


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of the first packet of a connection on a node, and why."""

    source: str
    destination: str
    origin: str
    """What the packet's source is to the proxy."""
    decision: Decision
    why: list[str]
    """One sentence for each rule of Kubernetes that led there, in the order in which they are asked."""
    frontend: str = ""
    service: str = ""
    """`namespace/name:port`."""
    endpoints: list[Chance] = []
    masquerade: bool = False
    """Whether the endpoint sees the node's address instead of the client's; a hairpin aside."""
    masquerade_why: str = ""
    rules: list[str] = []
    """The elements and rules that take the frontend."""
    differences: list[str] = []
    """What the kernel's rules lack, or have beyond the plan."""


_DECISIONS: dict[Verdict, Decision] = {Verdict.REJECT: "rejected", Verdict.DROP: "dropped"}


def explain(plan: Plan, config: ProxyConfig, family: Family, packet: Packet) -> Explanation:
    """The decision of a family's plan about a packet.

    What is decided is taken from the trace that the tests hold against real packets; here are the reasons.
    """
    fake = FakeExecutor(family, config)
    fake.plan = dict(plan)
    outcome = fake.trace(packet)
    frontend = fake.frontend(packet)
    origin = _origin(fake, packet)
    dialled = str(Frontend(packet.destination, packet.protocol, packet.port))
    if frontend is None:
        decision: Decision = _DECISIONS[outcome.verdict] if outcome.verdict else "not a Service's"
        why = list(_of_nobody(plan, config, family, packet, outcome.verdict))
        return Explanation(packet.source, dialled, origin, decision, why)
    target = plan[frontend]
    chosen = [e for e in sorted({*target.cluster, *target.local}) if e[:2] in outcome.endpoints]
    return Explanation(
        packet.source,
        dialled,
        origin,
        "translated" if chosen else _DECISIONS[outcome.verdict or Verdict.DROP],
        list(_reasons(fake, packet, target)),
        str(frontend),
        target.service,
        [Chance(*endpoint, 1 / len(chosen)) for endpoint in chosen],
        outcome.masquerade,
        _masquerade(fake, config, packet, target) if chosen else "",
    )


def _origin(fake: FakeExecutor, packet: Packet) -> str:
    if fake.from_pod(packet):
        return "a pod"
    if not packet.interface:
        return "this node"
    return "no pod" if fake.knows_pods else f"from interface {packet.interface}; nothing tells pods from others"


def _of_nobody(
    plan: Plan, config: ProxyConfig, family: Family, packet: Packet, verdict: Verdict | None
) -> Iterator[str]:
    if verdict is Verdict.REJECT:
        ports = sorted(f"{f.port}/{f.protocol}" for f in plan if f.address == packet.destination)
        yield f"{packet.destination} is a ClusterIP, whose Service has no such port; it has {', '.join(ports)}"
        return
    if verdict is Verdict.DROP:
        cidrs = ", ".join(of_family(config.service_cidrs, family))
        yield f"ClusterIPs are from {cidrs}, and no Service has {packet.destination}"
        return
    node_port = plan.get(Frontend(None, packet.protocol, packet.port))
    if node_port is None:
        yield "no Service has this address and port"
    elif ipaddress.ip_address(packet.destination).is_loopback:
        yield f"it is a NodePort of {node_port.service}, but NodePorts are not served on loopback"
    elif packet.to_node:
        served = ", ".join(of_family(config.node_port_addresses, family))
        yield f"it is a NodePort of {node_port.service}, but NodePorts are served at {served} alone"
    else:
        yield f"it is a NodePort of {node_port.service}, but the address is none of this node's"


def _reasons(fake: FakeExecutor, packet: Packet, target: Target) -> Iterator[str]:
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
    inside = fake.from_pod(packet) or not packet.interface
    if target.policy == "Cluster":
        yield f"{field} is Cluster: endpoints of all nodes"
    elif target.short_cut and inside and target.cluster:
        yield f"{field} is Local, but {_origin(fake, packet)} is no external traffic: endpoints of all nodes"
    else:
        yield f"{field} is Local: endpoints of this node alone"
        if not target.local and target.cluster:
            yield "there are endpoints on other nodes, and none on this one"
    if not target.cluster and not target.local:
        yield "there is no usable endpoint on any node"
    elif target.affinity_seconds:
        yield f"sessionAffinity is ClientIP: a client keeps its endpoint until {target.affinity_seconds} s of quiet"


def _masquerade(fake: FakeExecutor, config: ProxyConfig, packet: Packet, target: Target) -> str:
    why = _masquerade_rule(fake, config, packet, target)
    hairpin = packet.source in {e.address for e in {*target.cluster, *target.local}}
    return f"{why}; yes where it is sent back to the client itself (hairpin)" if hairpin else why


def _masquerade_rule(fake: FakeExecutor, config: ProxyConfig, packet: Packet, target: Target) -> str:
    if target.scope is Scope.INTERNAL:
        if config.masquerade_all:
            return "masqueradeAll is set"
        if not fake.knows_pods:
            return "nothing tells pods from others (detectLocalMode)"
        detect = config.detect_local
        known = ", ".join(of_family(detect.cidrs, fake.family)) or detect.interface
        return f"the source is {'' if fake.from_pod(packet) else 'not '}a pod's ({detect.mode} {known})"
    if target.policy == "Cluster":
        why = "with externalTrafficPolicy Cluster the reply must come back by way of this node"
    elif fake.from_pod(packet):
        why = "a pod's source is known in the whole cluster"
    elif not packet.interface:
        why = "this node's own address may not be the one by which other nodes reach it"
    else:
        why = "externalTrafficPolicy Local keeps the client's source"
    return why
