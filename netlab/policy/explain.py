"""Why a connection is let through or not, by which policies, and the smallest change that would. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import msgspec

from netlab.api.cluster import node_addresses
from netlab.api.core_types import Namespace, Node, Pod
from netlab.net.addresses import host_port
from netlab.policy import ports
from netlab.policy.book import PodFacts
from netlab.policy.facts import facts
from netlab.policy.rules import (
    DIRECTIONS,
    TIERS,
    AnyPolicy,
    Block,
    Direction,
    Peers,
    PodPeers,
    Policy,
    Rule,
    kind_and_key,
    read,
)

_FIELDS: Mapping[Direction, tuple[str, str]] = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}


class Judgement(msgspec.Struct):
    """What one end of a connection says to it."""

    direction: str
    end: str
    """The pod that judges, as namespace/name; or the address, which judges nobody."""
    allowed: bool
    because: str
    policies: list[str] = []
    """Those that select the pod in that direction."""
    rule: str = ""
    """The rule that decides about the other end, as a path into its policy; empty if none does."""
    change: str = ""
    """If it is not admitted: the smallest change that would admit it."""


class Explanation(msgspec.Struct):
    """What becomes of a new connection, and why."""

    source: str
    destination: str
    allowed: bool
    judgements: list[Judgement]


@dataclasses.dataclass(frozen=True)
class World:
    """The objects that decide, at one moment."""

    policies: Mapping[str, Policy]
    namespaces: Mapping[str, Mapping[str, str]]
    pods: Mapping[str, PodFacts]
    pod_at: Mapping[str, str]
    """Pods by their addresses."""
    node_at: Mapping[str, str]
    """Nodes by their addresses."""
    node_of: Mapping[str, str]
    """The node of each pod."""


def world(
    policies: Iterable[AnyPolicy], namespaces: Iterable[Namespace], pods: Iterable[Pod], nodes: Iterable[Node]
) -> World:
    """Of objects. Raises what `netlab.policy.rules.read` raises."""
    pods = list(pods)
    found = {pod.key: facts(pod) for pod in pods}
    return World(
        {policy.key: read(policy) for policy in policies},
        {each.metadata.name: each.metadata.labels for each in namespaces},
        found,
        {address: key for key, pod in found.items() for address in pod.addresses},
        {address: node.metadata.name for node in nodes for address in node_addresses(node)},
        {pod.key: pod.spec.nodeName for pod in pods},
    )


def explain(known: World, source: str, destination: str, protocol: str, port: int) -> Explanation:
    """What becomes of a new connection between two addresses, after the translation of a Service's."""
    judgements = [
        _judge(known, "Egress", source, destination, protocol, port),
        _judge(known, "Ingress", destination, source, protocol, port),
    ]
    return Explanation(
        source,
        f"{host_port(destination, port)}/{protocol.lower()}",
        all(each.allowed for each in judgements),
        judgements,
    )


def refusal(known: World, node: str, source: str, destination: str, protocol: str, port: int) -> str:
    """Why a node drops the first packet of a connection that it forwards, in a line; empty if it does not."""
    for each in explain(known, source, destination, protocol, port).judgements:
        if not each.allowed and known.node_of[each.end] == node:
            policies = ", ".join(map(kind_and_key, each.policies))
            peer = destination if each.direction == "Egress" else source
            who = known.pod_at.get(peer, peer)
            what = f"{protocol} {port}" if port else protocol
            return f"{policies}: {each.direction.lower()} of {each.end} does not admit {who} at {what}"
    return ""


def _judge(known: World, direction: Direction, address: str, peer: str, protocol: str, port: int) -> Judgement:
    key = known.pod_at.get(address)
    if key is None:
        node = known.node_at.get(address)
        what = f"it is node {node}: policies are about pods with a network of their own" if node else "it is no pod"
        return Judgement(direction, address, allowed=True, because=what)
    pod = known.pods[key]
    selecting = [
        policy
        for policy in known.policies.values()
        if direction in policy.rules
        and policy.subject.matches(pod.namespace, known.namespaces.get(pod.namespace, {}), pod.labels)
    ]
    selecting.sort(key=lambda policy: policy.precedence)
    names = [policy.key for policy in selecting]
    anyway = ""
    if not selecting:
        anyway = f"no policy isolates it for {direction}"
    elif known.pod_at.get(peer) == key:
        anyway = "a pod reaches itself"
    elif known.node_at.get(peer) == known.node_of[key]:
        anyway = "between a pod and its own node everything is let through"
    if anyway:
        return Judgement(direction, key, allowed=True, because=anyway, policies=names)

    def hit(rule: Rule) -> bool:
        return _is_peer(known, rule, peer) and _is_port(known, direction, key, rule, peer, protocol, port)

    for tier in TIERS:
        of_tier = [policy for policy in selecting if policy.tier == tier]
        found = next((rule for policy in of_tier for rule in policy.rules[direction] if hit(rule)), None)
        if found is not None and found.action != "Pass":
            allowed = found.action == "Accept"
            said = f"a rule {'admits' if allowed else 'denies'} {found}"
            change = "" if allowed else f"put a rule with action Accept or Pass before {_path(direction, found)}"
            return Judgement(direction, key, allowed, said, names, _path(direction, found), change)
        if tier == "NetworkPolicy" and of_tier:
            change = _change(known, direction, key, of_tier, peer, protocol, port)
            said = f"it is isolated, and no rule admits {known.pod_at.get(peer, peer)} at {protocol} {port}"
            return Judgement(direction, key, allowed=False, because=said, policies=names, change=change)
    return Judgement(direction, key, allowed=True, because="no policy decides about it", policies=names)


def _is_peer(known: World, rule: Rule, peer: str) -> bool:
    return rule.peers is None or any(_matches(known, each, peer) for each in rule.peers)


def _matches(known: World, peers: Peers, address: str) -> bool:
    if isinstance(peers, Block):
        return peers.contains(address)
    key = known.pod_at.get(address)
    if key is None:
        return False
    pod = known.pods[key]
    return peers.matches(pod.namespace, known.namespaces.get(pod.namespace, {}), pod.labels)


def _is_port(known: World, direction: Direction, key: str, rule: Rule, peer: str, protocol: str, port: int) -> bool:
    if ports.contains(rule.ports, protocol, port):
        return True
    target = key if direction == "Ingress" else known.pod_at.get(peer)
    named = known.pods[target].ports if target is not None else ()
    return any(
        (each.name, each.protocol) in rule.names and (each.protocol, each.number) == (protocol, port) for each in named
    )


# --- The smallest change ---------------------------------------------------------------------------------------------


def _change(
    known: World, direction: Direction, key: str, selecting: list[Policy], peer: str, protocol: str, port: int
) -> str:
    """In the order of what is touched: a port of a rule, a label of a pod, a peer of a rule, a new rule."""
    rules = [rule for policy in selecting for rule in policy.rules[direction]]
    for rule in rules:
        if _is_peer(known, rule, peer):
            return f"add {{protocol: {protocol}, port: {port}}} to {_path(direction, rule)}.ports"
    fitting = [rule for rule in rules if _is_port(known, direction, key, rule, peer, protocol, port)]
    for rule in fitting:
        if label := _missing_label(known, rule, peer):
            return f"label pod {known.pod_at[peer]} with {label}: {_path(direction, rule)} admits it then"
    who = _peer_text(known, selecting[0].key.partition("/")[0], peer)
    field, peers = _FIELDS[direction]
    for rule in fitting:
        return f"add {who} to {_path(direction, rule)}.{peers}"
    rule_text = f"{{{peers}: [{who}], ports: [{{protocol: {protocol}, port: {port}}}]}}"
    return f"add {rule_text} to spec.{field} of NetworkPolicy {selecting[0].key}"


def _missing_label(known: World, rule: Rule, peer: str) -> str:
    """The one label that a pod lacks to be a rule's peer; empty if it lacks more, or has another value."""
    key = known.pod_at.get(peer)
    if key is None:
        return ""
    pod = known.pods[key]
    for peers in rule.peers or ():
        if not isinstance(peers, PodPeers) or not peers.covers(pod.namespace, known.namespaces.get(pod.namespace, {})):
            continue
        unmet = [each for each in peers.pods.requirements if not each.matches(pod.labels)]
        if len(unmet) == 1 and unmet[0].operator in ("In", "Exists") and unmet[0].key not in pod.labels:
            return f"{unmet[0].key}={min(unmet[0].values, default='')}"
    return ""


def _peer_text(known: World, namespace: str, peer: str) -> str:
    key = known.pod_at.get(peer)
    if key is None:
        return f"{{ipBlock: {{cidr: {peer}/{128 if ':' in peer else 32}}}}}"
    pod = known.pods[key]
    labels = ", ".join(f"{name}: {value}" for name, value in sorted(pod.labels.items()))
    selector = f"podSelector: {{matchLabels: {{{labels}}}}}" if labels else "podSelector: {}"
    if pod.namespace == namespace:
        return f"{{{selector}}}"
    return f"{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {pod.namespace}}}}}, {selector}}}"


def _path(direction: Direction, rule: Rule) -> str:
    return f"{kind_and_key(rule.policy)} spec.{_FIELDS[direction][0]}[{rule.number}]"


assert set(_FIELDS) == set(DIRECTIONS)
