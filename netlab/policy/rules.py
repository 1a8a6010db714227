"""NetworkPolicies as rules: whom each is about, which peers it admits, at which ports. Pure.

What an absent field means and what an empty one does is upstream's (k8s.io/api/networking/v1, types.go).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from netlab.api.meta_types import LabelSelector
from netlab.api.networking_types import IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort
from netlab.api.selectors import Selector, from_label_selector
from netlab.policy.cluster_types import (
    ClusterNetworkPolicy,
    ClusterNetworkPolicyPeer,
    ClusterNetworkPolicyProtocol,
    ClusterNetworkPolicyRule,
)
from netlab.policy.ports import EVERYTHING, PROTOCOLS, Ports, spans, union

Direction: TypeAlias = Literal["Ingress", "Egress"]
Action: TypeAlias = Literal["Accept", "Deny", "Pass"]
Tier: TypeAlias = Literal["Admin", "NetworkPolicy", "Baseline"]
TIERS: tuple[Tier, ...] = ("Admin", "NetworkPolicy", "Baseline")
"""In the order in which they judge. NetworkPolicies decide about their pods; the cluster's may leave it open."""
DIRECTIONS: tuple[Direction, ...] = ("Ingress", "Egress")

AnyPolicy: TypeAlias = NetworkPolicy | ClusterNetworkPolicy
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class PodPeers(NamedTuple):
    """Pods by their labels, in one namespace or in those that a selector matches."""

    namespace: str | None
    namespaces: Selector | None
    """None if `namespace` says which."""
    pods: Selector

    def matches(self, namespace: str, namespace_labels: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        """Whether a pod of that namespace with these labels is among them."""
        return self.covers(namespace, namespace_labels) and self.pods.matches(labels)

    def covers(self, namespace: str, namespace_labels: Mapping[str, str]) -> bool:
        """Whether pods of that namespace can be among them."""
        if self.namespaces is None:
            return namespace == self.namespace
        return self.namespaces.matches(namespace_labels)

    def __str__(self) -> str:
        where = f"namespace {self.namespace}" if self.namespaces is None else _namespaces(self.namespaces)
        return f"pods {self.pods} of {where}" if self.pods.requirements else f"all pods of {where}"


class Block(NamedTuple):
    """The addresses of a network, without those of some of its subnets."""

    network: Network
    excepted: tuple[Network, ...] = ()

    def contains(self, address: str) -> bool:
        """Whether an address is among them."""
        found = ipaddress.ip_address(address)
        return found in self.network and not any(found in each for each in self.excepted)

    def __str__(self) -> str:
        return f"{self.network}" + (f" except {', '.join(map(str, self.excepted))}" if self.excepted else "")


Peers: TypeAlias = PodPeers | Block


class PortName(NamedTuple):
    """A port by its name: which number that is, the pod that is connected to says."""

    name: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.protocol} {self.name}"


class Rule(NamedTuple):
    """What one rule of a policy admits."""

    policy: str
    """`namespace/name`."""
    number: int
    """Which rule of its direction, from 0."""
    peers: tuple[Peers, ...] | None
    """None: everybody."""
    ports: Ports
    names: tuple[PortName, ...] = ()
    """Ports in addition."""
    action: Action = "Accept"

    def __str__(self) -> str:
        whom = "everybody" if self.peers is None else "; ".join(map(str, self.peers)) or "nobody"
        return f"{whom}: {', '.join([*map(str, self.names), *_listed(self.ports)])}"


@dataclasses.dataclass(frozen=True, eq=False)
class Policy:
    """A NetworkPolicy or ClusterNetworkPolicy as it was read: each reading is another."""

    key: str
    """`namespace/name`, or `name` of one of the cluster's."""
    subject: PodPeers
    rules: Mapping[Direction, tuple[Rule, ...]]
    """Of the directions in which it judges its pods' peers, and of no other."""
    tier: Tier = "NetworkPolicy"
    priority: int = 0
    """Within its tier: the lower one judges first."""

    @property
    def precedence(self) -> tuple[int, int, str]:
        """By which policies are sorted."""
        return TIERS.index(self.tier), self.priority, self.key

    def __str__(self) -> str:
        return kind_and_key(self.key)


def kind_and_key(key: str) -> str:
    """What a policy is called: those of the cluster are of no namespace."""
    return f"{'NetworkPolicy' if '/' in key else 'ClusterNetworkPolicy'} {key}"


def read(policy: AnyPolicy) -> Policy:
    """A policy's rules. Raises `UsageError` for a selector, `ValueError` for a network that cannot be understood."""
    if isinstance(policy, ClusterNetworkPolicy):
        return _read_of_cluster(policy)
    spec, namespace = policy.spec, policy.metadata.namespace
    subject = PodPeers(namespace, None, _selector(spec.podSelector))
    kinds = spec.policyTypes or (["Ingress", "Egress"] if spec.egress else ["Ingress"])
    rules: dict[Direction, tuple[Rule, ...]] = {}
    if "Ingress" in kinds:
        rules["Ingress"] = _rules(policy.key, namespace, ((each.from_, each.ports) for each in spec.ingress))
    if "Egress" in kinds:
        rules["Egress"] = _rules(policy.key, namespace, ((each.to, each.ports) for each in spec.egress))
    return Policy(policy.key, subject, rules)


def _read_of_cluster(policy: ClusterNetworkPolicy) -> Policy:
    spec = policy.spec
    (subject,) = _cluster_peers(spec.subject)
    assert isinstance(subject, PodPeers)
    rules: dict[Direction, tuple[Rule, ...]] = {}
    if spec.ingress:
        rules["Ingress"] = _cluster_rules(policy.key, ((each, each.from_) for each in spec.ingress))
    if spec.egress:
        rules["Egress"] = _cluster_rules(policy.key, ((each, each.to) for each in spec.egress))
    tier: Tier = "Admin" if spec.tier == "Admin" else "Baseline"
    return Policy(policy.key, subject, rules, tier, spec.priority)


def _cluster_rules(
    key: str, listed: Iterable[tuple[ClusterNetworkPolicyRule, list[ClusterNetworkPolicyPeer]]]
) -> tuple[Rule, ...]:
    found = []
    for number, (rule, peers) in enumerate(listed):
        known = [list(_cluster_peers(each)) for each in peers]
        action: Action = "Accept" if rule.action == "Accept" else "Pass" if rule.action == "Pass" else "Deny"
        if all(known):
            who = tuple(peer for each in known for peer in each)
            found.append(Rule(key, number, who, *_cluster_ports(rule.protocols), action))
        elif action != "Accept":
            # Of a peer of an unknown kind upstream says: fail closed. An Accept matches nothing, the others deny all.
            found.append(Rule(key, number, None, EVERYTHING, (), "Deny"))
    return tuple(found)


def _cluster_peers(peer: ClusterNetworkPolicyPeer) -> Iterable[Peers]:
    if peer.namespaces is not None:
        yield PodPeers(None, _selector(peer.namespaces), Selector())
    elif peer.pods is not None:
        yield PodPeers(None, _selector(peer.pods.namespaceSelector), _selector(peer.pods.podSelector))
    else:
        yield from (Block(_network(each)) for each in peer.networks)


def _cluster_ports(protocols: Iterable[ClusterNetworkPolicyProtocol]) -> tuple[Ports, tuple[PortName, ...]]:
    names, numbers = [], []
    for each in protocols:
        if each.destinationNamedPort:
            names += [PortName(each.destinationNamedPort, protocol) for protocol in ("TCP", "UDP", "SCTP")]
        for protocol, wanted in (("TCP", each.tcp), ("UDP", each.udp), ("SCTP", each.sctp)):
            if wanted is None:
                continue
            port = wanted.destinationPort
            if port is None:
                numbers.append(spans(protocol))
            elif port.range is not None:
                numbers.append(spans(protocol, port.range.start, port.range.end))
            else:
                numbers.append(spans(protocol, port.number, port.number))
    return (union(numbers), tuple(names)) if numbers or names else (EVERYTHING, ())


def _rules(
    key: str, namespace: str, listed: Iterable[tuple[list[NetworkPolicyPeer], list[NetworkPolicyPort]]]
) -> tuple[Rule, ...]:
    found = []
    for number, (peers, ports) in enumerate(listed):
        who = tuple(_peers(namespace, peer) for peer in peers) or None
        found.append(Rule(key, number, who, *_ports(ports)))
    return tuple(found)


def _peers(namespace: str, peer: NetworkPolicyPeer) -> Peers:
    if peer.ipBlock is not None:
        return _block(peer.ipBlock)
    pods = _selector(peer.podSelector or LabelSelector())
    if peer.namespaceSelector is None:
        return PodPeers(namespace, None, pods)
    return PodPeers(None, _selector(peer.namespaceSelector), pods)


def _block(block: IPBlock) -> Block:
    return Block(_network(block.cidr), tuple(map(_network, block.except_)))


def _network(text: str) -> Network:
    return ipaddress.ip_network(text, strict=False)


def _ports(ports: Iterable[NetworkPolicyPort]) -> tuple[Ports, tuple[PortName, ...]]:
    names, numbers = [], []
    for each in ports:
        if each.port is None:
            numbers.append(spans(each.protocol))
        elif isinstance(each.port, str):
            names.append(PortName(each.port, each.protocol))
        else:
            numbers.append(spans(each.protocol, each.port, each.endPort or each.port))
    return (union(numbers), tuple(names)) if numbers or names else (EVERYTHING, ())


def _selector(selector: LabelSelector) -> Selector:
    found = from_label_selector(selector)
    # In one order: what says the same is the same.
    return Selector(tuple(sorted(found.requirements, key=str)))


@functools.lru_cache(100_000)
def digest(item: Peers | PodPort) -> bytes:
    """Eight bytes that stand for it, in every process."""
    return hashlib.blake2s(f"{type(item).__name__} {item}".encode(), digest_size=8).digest()


class PodPort(NamedTuple):
    """That a pod calls a port by a name."""

    name: str
    protocol: str
    number: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.name}={self.number}"


def _namespaces(selector: Selector) -> str:
    return f"namespaces {selector}" if selector.requirements else "all namespaces"


def _listed(ports: Ports) -> list[str]:
    return ["all ports"] if ports == EVERYTHING else list(map(str, ports))


assert set(PROTOCOLS) > {"TCP", "UDP", "SCTP"}
