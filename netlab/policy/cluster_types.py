"""policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy (kubernetes-sigs/network-policy-api), and its definition."""

# ruff: noqa: N815  # names are the API's

from __future__ import annotations

import functools
from importlib import resources as packaged
from typing import Any

import msgspec

from netlab.api import documents
from netlab.api.meta_types import LabelSelector, Object, Struct
from netlab.api.resources import AddedResource


class NamespacedPod(Struct):
    """Pods of namespaces, both by their labels."""

    namespaceSelector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    podSelector: LabelSelector = msgspec.field(default_factory=LabelSelector)


class ClusterNetworkPolicyPeer(Struct):
    """One of these; a peer of a kind that is not known here has none of them."""

    namespaces: LabelSelector | None = None
    pods: NamespacedPod | None = None
    networks: list[str] = []


class PortRange(Struct):
    """Ports, both ends included."""

    start: int
    end: int


class Port(Struct):
    """A number, or a range."""

    number: int = 0
    range: PortRange | None = None


class ProtocolPorts(Struct):
    """Of a protocol: one port or range, or all."""

    destinationPort: Port | None = None


class ClusterNetworkPolicyProtocol(Struct):
    """One of these."""

    tcp: ProtocolPorts | None = None
    udp: ProtocolPorts | None = None
    sctp: ProtocolPorts | None = None
    destinationNamedPort: str = ""


class ClusterNetworkPolicyRule(Struct):
    """A rule of ingress (`from`) or of egress (`to`); action is Accept, Deny or Pass."""

    action: str
    name: str = ""
    from_: list[ClusterNetworkPolicyPeer] = msgspec.field(name="from", default_factory=list)
    to: list[ClusterNetworkPolicyPeer] = []
    protocols: list[ClusterNetworkPolicyProtocol] = []


class ClusterNetworkPolicySpec(Struct):
    """tier is Admin or Baseline; a lower priority is judged first."""

    tier: str
    priority: int
    subject: ClusterNetworkPolicyPeer
    ingress: list[ClusterNetworkPolicyRule] = []
    egress: list[ClusterNetworkPolicyRule] = []


class ClusterNetworkPolicy(Object, kw_only=True):
    """policy.networking.k8s.io/v1alpha2.ClusterNetworkPolicy."""

    spec: ClusterNetworkPolicySpec


CLUSTERNETWORKPOLICIES = AddedResource(
    "policy.networking.k8s.io",
    "v1alpha2",
    "ClusterNetworkPolicy",
    "clusternetworkpolicies",
    ClusterNetworkPolicy,
    namespaced=False,
    short_names=("cnp",),
)
DEFINITION_NAME = CLUSTERNETWORKPOLICIES.collection


@functools.cache
def definition() -> Any:
    """The CustomResourceDefinition of ClusterNetworkPolicies, which every lab has."""
    name = "clusternetworkpolicies.yaml"
    (found,) = documents.parse(name, packaged.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return found
