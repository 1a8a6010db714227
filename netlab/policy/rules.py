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
from netlab.errors import UsageError
from netlab.policy.cluster_types import (
    ClusterNetworkPolicy,
    ClusterNetworkPolicyPeer,
    ClusterNetworkPolicyProtocol,
    ClusterNetworkPolicyRule,
)
from netlab.policy.ports import EVERYTHING, NOTHING, PROTOCOLS, Ports, spans, union

Direction: TypeAlias = Literal["Ingress", "Egress"]
Action: TypeAlias = Literal["Accept", "Deny", "Pass"]
Tier: TypeAlias = Literal["Admin", "NetworkPolicy", "Baseline"]
TIERS: tuple[Tier, ...] = ("Admin", "NetworkPolicy", "Baseline")
"""In the order in which they judge. NetworkPolicies decide about their pods; the cluster's may leave it open."""
DIRECTIONS: tuple[Direction, ...] = ("Ingress", "Egress")

AnyPolicy: TypeAlias = NetworkPolicy | ClusterNetworkPolicy
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_LAST_PORT = 65535


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
    faults: tuple[str, ...] = ()
    """What of it cannot be understood. Such a rule fails closed: it admits nobody, or denies everybody."""

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
    """A policy's rules.

    Raises `UsageError` or `ValueError` if it cannot be understood whom it is about. API servers check policies; another
    one's may know more than this, and what a rule says that is not understood must not open anything.
    """
    if isinstance(policy, ClusterNetworkPolicy):
        return _read_of_cluster(policy)
    spec, namespace = policy.spec, policy.metadata.namespace
    subject = PodPeers(namespace, None, _selector(spec.podSelector))
    kinds = spec.policyTypes or (["Ingress", "Egress"] if spec.egress else ["Ingress"])
    rules: dict[Direction, tuple[Rule, ...]] = {}
    faults: list[str] = []
    if "Ingress" in kinds:
        listed = [(each.from_, each.ports) for each in spec.ingress]
        rules["Ingress"] = _rules(policy.key, namespace, "ingress", listed, faults)
    if "Egress" in kinds:
        listed = [(each.to, each.ports) for each in spec.egress]
        rules["Egress"] = _rules(policy.key, namespace, "egress", listed, faults)
    return Policy(policy.key, subject, rules, faults=tuple(faults))


def _read_of_cluster(policy: ClusterNetworkPolicy) -> Policy:
    spec = policy.spec
    if spec.subject.namespaces is None and spec.subject.pods is None:
        raise ValueError("spec.subject: names neither namespaces nor pods")
    (subject,) = _cluster_peers(spec.subject)
    assert isinstance(subject, PodPeers)
    rules: dict[Direction, tuple[Rule, ...]] = {}
    faults: list[str] = []
    if spec.ingress:
        of_ingress = [(each, each.from_) for each in spec.ingress]
        rules["Ingress"] = _cluster_rules(policy.key, "ingress", of_ingress, faults)
    if spec.egress:
        of_egress = [(each, each.to) for each in spec.egress]
        rules["Egress"] = _cluster_rules(policy.key, "egress", of_egress, faults)
    tier: Tier = "Admin" if spec.tier == "Admin" else "Baseline"
    return Policy(policy.key, subject, rules, tier, spec.priority, tuple(faults))


def _cluster_rules(
    key: str,
    field: str,
    listed: Iterable[tuple[ClusterNetworkPolicyRule, list[ClusterNetworkPolicyPeer]]],
    faults: list[str],
) -> tuple[Rule, ...]:
    found = []
    for number, (rule, peers) in enumerate(listed):
        action: Action = "Accept" if rule.action == "Accept" else "Pass" if rule.action == "Pass" else "Deny"
        try:
            known = [list(_cluster_peers(each)) for each in peers]
            if not all(known):
                raise ValueError("a peer is of a kind that is not known here")
            who = tuple(peer for each in known for peer in each)
            found.append(Rule(key, number, who, *_cluster_ports(rule.protocols), action))
        except (UsageError, ValueError) as error:
            faults.append(f"spec.{field}[{number}]: {error}")
            if action != "Accept":
                # As upstream says of unknown peers: an Accept matches nothing, the others deny everything.
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
                numbers.append(_spans(protocol, port.range.start, port.range.end))
            else:
                numbers.append(_spans(protocol, port.number, port.number))
    return (union(numbers), tuple(names)) if numbers or names else (EVERYTHING, ())


def _rules(
    key: str,
    namespace: str,
    field: str,
    listed: Iterable[tuple[list[NetworkPolicyPeer], list[NetworkPolicyPort]]],
    faults: list[str],
) -> tuple[Rule, ...]:
    found = []
    for number, (peers, ports) in enumerate(listed):
        try:
            who = tuple(_peers(namespace, peer) for peer in peers) or None
            found.append(Rule(key, number, who, *_ports(ports)))
        except (UsageError, ValueError) as error:
            faults.append(f"spec.{field}[{number}]: {error}")
            found.append(Rule(key, number, (), NOTHING))
    return tuple(found)


def _peers(namespace: str, peer: NetworkPolicyPeer) -> Peers:
    by_labels = peer.podSelector is not None or peer.namespaceSelector is not None
    if by_labels == (peer.ipBlock is not None):
        raise ValueError("a peer names either an ipBlock or selectors")
    if peer.ipBlock is not None:
        return _block(peer.ipBlock)
    pods = _selector(peer.podSelector or LabelSelector())
    if peer.namespaceSelector is None:
        return PodPeers(namespace, None, pods)
    return PodPeers(None, _selector(peer.namespaceSelector), pods)


def _block(block: IPBlock) -> Block:
    network, excepted = _network(block.cidr), tuple(map(_network, block.except_))
    for each in excepted:
        if each.version != network.version or not each.subnet_of(network):  # type: ignore[arg-type]
            raise ValueError(f"{each} is not in {network}")
    return Block(network, excepted)


def _network(text: str) -> Network:
    return ipaddress.ip_network(text, strict=False)


def _ports(ports: Iterable[NetworkPolicyPort]) -> tuple[Ports, tuple[PortName, ...]]:
    names, numbers = [], []
    for each in ports:
        if each.protocol not in ("TCP", "UDP", "SCTP"):
            raise ValueError(f"protocol {each.protocol!r} is none of TCP, UDP and SCTP")
        if each.endPort is not None and not isinstance(each.port, int):
            raise ValueError("endPort needs a number as port")
        if each.port is None:
            numbers.append(spans(each.protocol))
        elif isinstance(each.port, str):
            names.append(PortName(each.port, each.protocol))
        else:
            numbers.append(_spans(each.protocol, each.port, each.port if each.endPort is None else each.endPort))
    return (union(numbers), tuple(names)) if numbers or names else (EVERYTHING, ())


def _spans(protocol: str, first: int, last: int) -> Ports:
    if not 1 <= first <= last <= _LAST_PORT:
        raise ValueError(f"ports {first} to {last} are no range of ports")
    return spans(protocol, first, last)


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
