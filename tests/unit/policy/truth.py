"""Who may connect to whom, slowly and plainly: every policy is asked about every connection, in the API's own terms.

It shares nothing with the planner. The cluster is that of upstream's policy suite: pods a, b and c in the namespaces x,
y and z, which serve the ports 80 and 81 with TCP, UDP and SCTP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]
Labels = Mapping[str, str]

PROTOCOLS = ("TCP", "UDP", "SCTP")
PORTS = (80, 81)
WORLD = ("198.51.100.7", "2001:db8:ffff::7")
"""Addresses outside the cluster."""


class Pod(NamedTuple):
    """A pod, with its address of either family, and the names of its ports by (protocol, number)."""

    namespace: str
    name: str
    labels: Labels
    addresses: tuple[str, str]
    names: Mapping[tuple[str, int], str] = {}

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Cluster(NamedTuple):
    """Namespaces by their labels, and pods."""

    namespaces: Mapping[str, Labels]
    pods: tuple[Pod, ...]

    def pod(self, key: str) -> Pod:
        """A pod by its key."""
        return next(pod for pod in self.pods if pod.key == key)

    def at(self, address: str) -> Pod | None:
        """The pod with an address."""
        return next((pod for pod in self.pods if address in pod.addresses), None)


def cluster() -> Cluster:
    """Upstream's nine pods."""
    names = {(protocol, port): f"serve-{port}-{protocol.lower()}" for protocol in PROTOCOLS for port in PORTS}
    pods = [
        Pod(space, name, {"pod": name}, (f"10.244.{i}.{j}", f"fd00:10:244:{i}::{j}"), names)
        for i, space in enumerate("xyz", start=1)
        for j, name in enumerate("abc", start=1)
    ]
    return Cluster({space: {"ns": space, "kubernetes.io/metadata.name": space} for space in "xyz"}, tuple(pods))


def allowed(found: Cluster, policies: Iterable[Json], source: str, destination: str, protocol: str, port: int) -> bool:
    """Whether a new connection between two addresses is let through, be they pods' or others'."""
    if source == destination:
        return True
    listed = list(policies)
    return _side(found, listed, "Egress", source, destination, protocol, port) and _side(
        found, listed, "Ingress", destination, source, protocol, port
    )


def _side(
    found: Cluster, policies: Sequence[Json], direction: str, judge: str, peer: str, protocol: str, port: int
) -> bool:
    pod = found.at(judge)
    if pod is None:
        return True
    target = pod if direction == "Ingress" else found.at(peer)
    peers = "from" if direction == "Ingress" else "to"
    for tier in ("Admin", "NetworkPolicy", "Baseline"):
        mine = [policy for policy in policies if _tier(policy) == tier and _selects(found, policy, direction, pod)]
        if tier == "NetworkPolicy":
            if mine:
                return any(
                    _admits(found, rule, peers, policy["metadata"]["namespace"], peer, target, protocol, port)
                    for policy in mine
                    for rule in policy["spec"].get(direction.lower(), [])
                )
            continue
        for policy in sorted(mine, key=lambda policy: policy["spec"]["priority"]):
            action = next(
                (
                    rule["action"]
                    for rule in policy["spec"].get(direction.lower(), [])
                    if any(_is_cluster_peer(found, each, peer) for each in rule[peers])
                    and _is_cluster_port(rule.get("protocols"), target, protocol, port)
                ),
                None,
            )
            if action in ("Accept", "Deny"):
                return bool(action == "Accept")
            if action == "Pass":
                break
    return True


def _tier(policy: Json) -> str:
    return str(policy["spec"].get("tier", "NetworkPolicy"))


def _selects(found: Cluster, policy: Json, direction: str, pod: Pod) -> bool:
    spec = policy["spec"]
    if "tier" in spec:
        return bool(spec.get(direction.lower())) and _is_of(found, spec["subject"], pod)
    own = policy["metadata"]["namespace"] == pod.namespace
    return own and direction in spec["policyTypes"] and matches(spec.get("podSelector", {}), pod.labels)


def _is_of(found: Cluster, pods: Json, pod: Pod) -> bool:
    if "namespaces" in pods:
        return matches(pods["namespaces"], found.namespaces[pod.namespace])
    both = pods["pods"]
    of_namespace = matches(both["namespaceSelector"], found.namespaces[pod.namespace])
    return of_namespace and matches(both["podSelector"], pod.labels)


def _is_cluster_peer(found: Cluster, peer: Json, address: str) -> bool:
    if "networks" in peer:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in peer["networks"])
    pod = found.at(address)
    return pod is not None and _is_of(found, peer, pod)


def _is_cluster_port(wanted: list[Json] | None, target: Pod | None, protocol: str, port: int) -> bool:
    for each in wanted or []:
        if name := each.get("destinationNamedPort"):
            if target is not None and target.names.get((protocol, port)) == name:
                return True
            continue
        if (ports := each.get(protocol.lower())) is None:
            continue
        at = ports.get("destinationPort", {"range": {"start": 1, "end": 65535}})
        if port == at.get("number") or ("range" in at and at["range"]["start"] <= port <= at["range"]["end"]):
            return True
    return not wanted


def _admits(
    found: Cluster,
    rule: Json,
    peers: str,
    namespace: str,
    peer: str,
    target: Pod | None,
    protocol: str,
    port: int,
) -> bool:
    if rule.get(peers) and not any(_is_peer(found, each, namespace, peer) for each in rule[peers]):
        return False
    ports = rule.get("ports")
    return not ports or any(_is_port(each, target, protocol, port) for each in ports)


def _is_peer(found: Cluster, peer: Json, namespace: str, address: str) -> bool:
    if "ipBlock" in peer:
        block, at = peer["ipBlock"], ipaddress.ip_address(address)
        return at in ipaddress.ip_network(block["cidr"]) and not any(
            at in ipaddress.ip_network(each) for each in block.get("except", [])
        )
    pod = found.at(address)
    if pod is None:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], found.namespaces[pod.namespace]):
            return False
    elif pod.namespace != namespace:
        return False
    return matches(peer.get("podSelector", {}), pod.labels)


def _is_port(wanted: Json, target: Pod | None, protocol: str, port: int) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    number: Any = wanted.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        return target is not None and target.names.get((protocol, port)) == number
    last: int = wanted.get("endPort", number)
    return bool(number <= port <= last)


def matches(selector: Json, labels: Labels) -> bool:
    """Whether a LabelSelector matches labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_meets(each, labels) for each in selector.get("matchExpressions", []))


def _meets(requirement: Json, labels: Labels) -> bool:
    key, values = requirement["key"], requirement.get("values", [])
    match requirement["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
