"""networking.k8s.io/v1 ServiceCIDR, NetworkPolicy, Ingress and IngressClass, as the Kubernetes API names them."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import Ignored, IntOrString, LabelSelector, Object, Struct


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


# --- Ingress ------------------------------------------------------------------------------------------------------


class ServiceBackendPort(Struct):
    """networking.k8s.io/v1.ServiceBackendPort: a name or a number."""

    name: str = ""
    number: int = 0


class IngressServiceBackend(Struct):
    """networking.k8s.io/v1.IngressServiceBackend: a port of a Service of the Ingress's own namespace."""

    name: str
    port: ServiceBackendPort = msgspec.field(default_factory=ServiceBackendPort)


class IngressBackend(Struct):
    """networking.k8s.io/v1.IngressBackend: a Service. (Another resource, which the API also allows, is not served.)"""

    service: IngressServiceBackend | None = None
    resource: Ignored = None


class HTTPIngressPath(Struct):
    """networking.k8s.io/v1.HTTPIngressPath; pathType is Exact, Prefix or ImplementationSpecific."""

    backend: IngressBackend
    path: str = ""
    pathType: str | None = None


class HTTPIngressRuleValue(Struct):
    """networking.k8s.io/v1.HTTPIngressRuleValue."""

    paths: list[HTTPIngressPath]


class IngressRule(Struct):
    """networking.k8s.io/v1.IngressRule; an empty host means every host."""

    host: str = ""
    http: HTTPIngressRuleValue | None = None


class IngressTLS(Struct):
    """networking.k8s.io/v1.IngressTLS: the hosts for which a Secret's certificate is; none means those it names."""

    hosts: list[str] = []
    secretName: str = ""


class IngressSpec(Struct):
    """networking.k8s.io/v1.IngressSpec."""

    ingressClassName: str | None = None
    defaultBackend: IngressBackend | None = None
    tls: list[IngressTLS] = []
    rules: list[IngressRule] = []


class IngressPortStatus(Struct):
    """networking.k8s.io/v1.IngressPortStatus."""

    port: int
    protocol: str
    error: str | None = None


class IngressLoadBalancerIngress(Struct):
    """networking.k8s.io/v1.IngressLoadBalancerIngress: an address at which it is reached."""

    ip: str = ""
    hostname: str = ""
    ports: list[IngressPortStatus] = []


class IngressLoadBalancerStatus(Struct):
    """networking.k8s.io/v1.IngressLoadBalancerStatus."""

    ingress: list[IngressLoadBalancerIngress] = []


class IngressStatus(Struct):
    """networking.k8s.io/v1.IngressStatus."""

    loadBalancer: IngressLoadBalancerStatus = msgspec.field(default_factory=IngressLoadBalancerStatus)


class Ingress(Object):
    """networking.k8s.io/v1.Ingress."""

    spec: IngressSpec = msgspec.field(default_factory=IngressSpec)
    status: IngressStatus = msgspec.field(default_factory=IngressStatus)


class IngressClassSpec(Struct):
    """networking.k8s.io/v1.IngressClassSpec: what serves the Ingresses of the class."""

    controller: str = ""
    parameters: Ignored = None


class IngressClass(Object):
    """networking.k8s.io/v1.IngressClass."""

    spec: IngressClassSpec = msgspec.field(default_factory=IngressClassSpec)
