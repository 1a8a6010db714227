"""networking.k8s.io/v1 ServiceCIDR and NetworkPolicy, with the field names of the Kubernetes API (1.33)."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import IntOrString, LabelSelector, Object, Struct


class ServiceCIDRSpec(Struct):
    """networking.k8s.io/v1.ServiceCIDRSpec: one range, or one of each family."""

    cidrs: list[str] = []


class ServiceCIDR(Object):
    """networking.k8s.io/v1.ServiceCIDR: ranges from which ClusterIPs are allocated."""

    spec: ServiceCIDRSpec = msgspec.field(default_factory=ServiceCIDRSpec)


class IPBlock(Struct):
    """networking.k8s.io/v1.IPBlock: a network, without some of its subnets."""

    cidr: str
    except_: list[str] = msgspec.field(name="except", default_factory=list)


class NetworkPolicyPeer(Struct):
    """networking.k8s.io/v1.NetworkPolicyPeer: an ipBlock, or selectors, of which an empty one matches all."""

    podSelector: LabelSelector | None = None
    namespaceSelector: LabelSelector | None = None
    ipBlock: IPBlock | None = None


class NetworkPolicyPort(Struct):
    """networking.k8s.io/v1.NetworkPolicyPort; without a port: all of the protocol."""

    protocol: str = "TCP"
    port: IntOrString | None = None
    endPort: int | None = None


class NetworkPolicyIngressRule(Struct):
    """networking.k8s.io/v1.NetworkPolicyIngressRule; an empty list means all."""

    ports: list[NetworkPolicyPort] = []
    from_: list[NetworkPolicyPeer] = msgspec.field(name="from", default_factory=list)


class NetworkPolicyEgressRule(Struct):
    """networking.k8s.io/v1.NetworkPolicyEgressRule; an empty list means all."""

    ports: list[NetworkPolicyPort] = []
    to: list[NetworkPolicyPeer] = []


class NetworkPolicySpec(Struct):
    """networking.k8s.io/v1.NetworkPolicySpec; policyTypes has Ingress, Egress or both."""

    podSelector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    policyTypes: list[str] = []
    ingress: list[NetworkPolicyIngressRule] = []
    egress: list[NetworkPolicyEgressRule] = []


class NetworkPolicy(Object):
    """networking.k8s.io/v1.NetworkPolicy."""

    spec: NetworkPolicySpec = msgspec.field(default_factory=NetworkPolicySpec)
