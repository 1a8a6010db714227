"""The policies of upstream's suite (test/e2e/network/netpol), and who reaches whom with them: one table for all tests.

Each case says what is let through to a pod or from it, in words of pods; everything else about that pod is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.unit.policy.truth import WORLD, allowed, cluster

Json = dict[str, Any]

A: Json = {"matchLabels": {"pod": "a"}}
EVERYTHING: Json = {}


def labels(**pairs: str) -> Json:
    """A selector of labels."""
    return {"matchLabels": pairs}


def policy(name: str, selector: Json, *, namespace: str = "x", types: str = "", **rules: list[Json]) -> Json:
    """A NetworkPolicy; without `types` it isolates in the directions of which it has rules."""
    kinds = types.split() or [kind for kind in ("Ingress", "Egress") if kind.lower() in rules]
    spec = {"podSelector": selector, "policyTypes": kinds, **rules}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def of_cluster(name: str, tier: str, priority: int, subject: Json, **rules: list[Json]) -> Json:
    """A ClusterNetworkPolicy about pods with these labels, of any namespace."""
    pods = {"pods": {"namespaceSelector": {}, "podSelector": subject}}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {"tier": tier, "priority": priority, "subject": pods, **rules},
    }


def key_of(policy: Json) -> str:
    """A policy's key: `namespace/name`, or `name` of one of the cluster's."""
    metadata = policy["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else str(metadata["name"])


class Case(NamedTuple):
    """Policies, and connections that they leave open and closed: `SOURCE DESTINATION:PORT/PROTOCOL; ...`."""

    name: str
    policies: list[Json]
    open: str
    closed: str


class Connection(NamedTuple):
    """A new connection between two addresses, and whether it is let through."""

    source: str
    destination: str
    protocol: str
    port: int
    open: bool


def connections(case: Case, family: int) -> Iterator[Connection]:
    """A case's connections: in IPv4 (0) as the case says, and in IPv6 (1) as the slow evaluator does."""
    found = cluster()

    def address(end: str) -> str:
        return WORLD[family] if end == "world" else found.pod(end).addresses[family]

    for listed, expected in ((case.open, True), (case.closed, False)):
        for each in filter(None, map(str.strip, listed.split(";"))):
            source, _, target = each.partition(" ")
            destination, _, port = target.partition(":")
            number, _, protocol = port.partition("/")
            ends = address(source), address(destination), protocol or "TCP", int(number)
            yield Connection(*ends, allowed(found, case.policies, *ends) if family else expected)


ANY_NAMESPACE: Json = {"namespaceSelector": {}}


def rule(action: str, peers: Json, **more: Any) -> Json:
    """A rule of ingress of the cluster's."""
    return {"action": action, "from": [peers], **more}


FROM_Y = {"namespaces": labels(ns="y")}
ALL_PODS: Json = {"namespaces": {}}
TCP_80 = [{"tcp": {"destinationPort": {"number": 80}}}]

CASES = [
    Case("no policy", [], "y/a x/a:80; world x/a:80; x/a world:443", ""),
    Case(
        "default deny of ingress",
        [policy("deny", EVERYTHING, types="Ingress")],
        "x/a y/a:80; x/a x/a:80",
        "y/a x/a:80; x/b x/a:81; world x/c:80/UDP",
    ),
    Case(
        "default deny of egress",
        [policy("deny", EVERYTHING, types="Egress")],
        "y/a x/a:80; x/a x/a:80",
        "x/a y/a:80; x/b x/a:80; x/a world:53/UDP",
    ),
    Case(
        "default deny of both, and all let in again",
        [policy("deny", EVERYTHING, types="Ingress Egress"), policy("allow", EVERYTHING, ingress=[{}])],
        "y/a x/a:80; world x/a:81",
        "x/a y/a:80",
    ),
    Case(
        "pods of the own namespace",
        [policy("p", A, ingress=[{"from": [{"podSelector": labels(pod="b")}]}])],
        "x/b x/a:80",
        "x/c x/a:80; y/b x/a:80; world x/a:80",
    ),
    Case(
        "pods of a namespace: both must match",
        [policy("p", A, ingress=[{"from": [{"namespaceSelector": labels(ns="y"), "podSelector": labels(pod="b")}]}])],
        "y/b x/a:80",
        "y/a x/a:80; x/b x/a:80; z/b x/a:80",
    ),
    Case(
        "pods, or a namespace: either may match",
        [policy("p", A, ingress=[{"from": [{"namespaceSelector": labels(ns="y")}, {"podSelector": labels(pod="b")}]}])],
        "y/b x/a:80; y/a x/a:80; x/b x/a:80",
        "x/c x/a:80; z/b x/a:80",
    ),
    Case(
        "any pod, and nobody else", [policy("p", A, ingress=[{"from": [ANY_NAMESPACE]}])], "z/c x/a:80", "world x/a:80"
    ),
    Case(
        "expressions",
        [
            policy(
                "p",
                A,
                ingress=[
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]
                                },
                                "podSelector": {
                                    "matchExpressions": [{"key": "pod", "operator": "In", "values": ["a", "b"]}]
                                },
                            }
                        ]
                    }
                ],
            )
        ],
        "y/a x/a:80; z/b x/a:80",
        "x/b x/a:80; y/c x/a:80",
    ),
    Case(
        "one port",
        [policy("p", A, ingress=[{"ports": [{"port": 81}]}])],
        "y/b x/a:81; world x/a:81",
        "y/b x/a:80; y/b x/a:81/UDP",
    ),
    Case(
        "a range of ports",
        [policy("p", A, ingress=[{"ports": [{"port": 81, "endPort": 90}]}])],
        "y/b x/a:81; y/b x/a:90",
        "y/b x/a:80; y/b x/a:91",
    ),
    Case(
        "a protocol",
        [policy("p", A, ingress=[{"ports": [{"protocol": "UDP"}]}])],
        "y/b x/a:80/UDP",
        "y/b x/a:80; y/b x/a:80/SCTP",
    ),
    Case(
        "SCTP",
        [policy("p", A, ingress=[{"ports": [{"protocol": "SCTP", "port": 80}]}])],
        "y/b x/a:80/SCTP",
        "y/b x/a:80; y/b x/a:81/SCTP",
    ),
    Case(
        "a port by its name",
        [policy("p", A, ingress=[{"ports": [{"port": "serve-80-tcp"}]}])],
        "y/b x/a:80",
        "y/b x/a:81",
    ),
    Case(
        "a port by the name that the destination gives",
        [policy("p", A, egress=[{"ports": [{"port": "serve-81-tcp"}]}])],
        "x/a y/b:81",
        "x/a y/b:80; x/a world:81",
    ),
    Case("a name that nobody gives", [policy("p", A, ingress=[{"ports": [{"port": "none"}]}])], "", "y/b x/a:80"),
    Case(
        "rules and policies add up",
        [
            policy("p", A, ingress=[{"ports": [{"port": 80}]}, {"from": [{"podSelector": labels(pod="b")}]}]),
            policy("q", A, ingress=[{"from": [{"namespaceSelector": labels(ns="z")}], "ports": [{"port": 81}]}]),
        ],
        "y/a x/a:80; x/b x/a:81; z/c x/a:81",
        "y/a x/a:81",
    ),
    Case(
        "both ends must agree",
        [
            policy("in", A, ingress=[{"from": [ANY_NAMESPACE], "ports": [{"port": 80}]}]),
            policy(
                "out",
                labels(pod="b"),
                namespace="y",
                egress=[{"to": [{"namespaceSelector": labels(ns="x")}], "ports": [{"port": 80}, {"port": 81}]}],
            ),
        ],
        "y/b x/a:80; y/b x/b:81",
        "y/b x/a:81; y/b z/a:80",
    ),
    Case(
        "a block of addresses",
        [policy("p", A, egress=[{"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}])],
        "x/a world:443",
        "x/a y/a:80",
    ),
    Case(
        "a block without a part",
        [
            policy(
                "p",
                A,
                egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.2.0/24", "198.51.100.0/28"]}}]}],
            )
        ],
        "x/a z/a:80",
        "x/a y/a:80; x/a world:443",
    ),
    Case(
        "the part, by another rule",
        [
            policy(
                "p",
                A,
                egress=[
                    {
                        "to": [
                            {"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.2.0/24"]}},
                            {"ipBlock": {"cidr": "10.244.2.2/32"}},
                        ]
                    }
                ],
            )
        ],
        "x/a y/b:80; x/a z/a:80",
        "x/a y/a:80",
    ),
    Case(
        "a block of the other family",
        [policy("p", A, ingress=[{"from": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}])],
        "",
        "world x/a:80; y/a x/a:80",
    ),
    Case("no peers: an empty list is all", [policy("p", A, ingress=[{"from": [], "ports": []}])], "world x/a:80", ""),
    Case(
        "a namespace with a name",
        [policy("p", A, ingress=[{"from": [{"namespaceSelector": labels(**{"kubernetes.io/metadata.name": "z"})}]}])],
        "z/a x/a:80",
        "y/a x/a:80",
    ),
    Case(
        "the cluster denies, whatever a namespace admits",
        [
            of_cluster("c", "Admin", 1, A, ingress=[rule("Deny", FROM_Y, protocols=TCP_80)]),
            policy("p", A, ingress=[{}]),
        ],
        "y/a x/a:81; z/a x/a:80; world x/a:80; y/a x/b:80",
        "y/a x/a:80",
    ),
    Case(
        "the cluster accepts, whatever a namespace isolates",
        [of_cluster("c", "Admin", 1, A, ingress=[rule("Accept", FROM_Y)]), policy("deny", EVERYTHING, types="Ingress")],
        "y/a x/a:80/UDP",
        "z/a x/a:80; y/a x/b:80",
    ),
    Case(
        "the cluster passes, and the namespace decides",
        [
            of_cluster("a", "Admin", 1, A, ingress=[rule("Pass", FROM_Y)]),
            of_cluster("b", "Admin", 2, A, ingress=[rule("Deny", ALL_PODS)]),
            policy("p", A, ingress=[{"ports": [{"port": 80}]}]),
        ],
        "y/a x/a:80; world x/a:80",
        "y/a x/a:81; z/a x/a:80",
    ),
    Case(
        "the lower priority judges first, and in it the first rule",
        [
            of_cluster("a", "Admin", 9, A, ingress=[rule("Deny", FROM_Y)]),
            of_cluster("b", "Admin", 3, A, ingress=[rule("Accept", FROM_Y, protocols=TCP_80), rule("Deny", ALL_PODS)]),
        ],
        "y/a x/a:80; world x/a:81",
        "y/a x/a:81; z/a x/a:80",
    ),
    Case(
        "a baseline holds until a namespace has a policy",
        [
            of_cluster("c", "Baseline", 1, A, ingress=[rule("Deny", ALL_PODS)]),
            policy("p", A, namespace="y", ingress=[{"from": [{"namespaceSelector": {}}]}]),
        ],
        "z/a y/a:80; world x/a:80; x/a x/b:80",
        "z/a x/a:80; world y/a:80",
    ),
    Case(
        "the cluster's egress, by networks and by name",
        [
            of_cluster(
                "c",
                "Admin",
                1,
                A,
                egress=[
                    {
                        "action": "Accept",
                        "to": [{"namespaces": labels(ns="y")}],
                        "protocols": [{"destinationNamedPort": "serve-80-tcp"}],
                    },
                    {"action": "Deny", "to": [{"networks": ["10.244.2.0/24", "198.51.100.0/24"]}]},
                ],
            )
        ],
        "x/a y/b:80; x/a z/b:80; x/b y/b:81",
        "x/a y/b:81; x/a world:443; x/a y/b:80/UDP",
    ),
]
