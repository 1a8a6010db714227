"""A lab's specification, and the addresses that follow from it. Pure values."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from netlab.counted import counted
from netlab.errors import UsageError
from netlab.lab.paths import OUTSIDE
from netlab.net.addresses import Family, family_of
from netlab.net.route.vxlan import VXLAN_OVERHEAD

Network = Literal["vxlan", "routed", "bridge"]
ProxyMode = Literal["nftables", "iptables"]
LoadBalancerProtocol = Literal["arp", "bgp"]
StoreKind = Literal["sqlite", "etcd"]
Runtime = Literal["builtin", "docker"]

API_VERSION = "netlab/v1"
MOST_NODES = 100
"""For more nodes, the plan below has no addresses, and one machine has no room."""

UNDERLAY_MTU = 1500
_HTTPS = 443

CLUSTER_DOMAIN = "cluster.local"
_DNS_OFFSET = 10
"""Which address of a Service range the cluster's DNS has, as kubeadm has it."""

_UNDERLAY: dict[Family, str] = {"IPv4": "192.0.2.0/24", "IPv6": "2001:db8::/64"}
_OUTSIDE_ADDRESS: dict[Family, str] = {"IPv4": "192.0.2.253", "IPv6": "2001:db8::fd"}
_FABRIC_ADDRESS: dict[Family, str] = {"IPv4": "192.0.2.254", "IPv6": "2001:db8::fe"}
_EXTERNAL_RANGE: dict[Family, str] = {"IPv4": "198.51.100.0/24", "IPv6": "2001:db8:ffff::/64"}
_LOAD_BALANCER_POOL: dict[LoadBalancerProtocol, dict[Family, str]] = {
    "arp": {"IPv4": "192.0.2.128/26", "IPv6": "2001:db8::1:0/112"},
    "bgp": {"IPv4": "203.0.113.0/24", "IPv6": "2001:db8:fffe::/64"},
}
_POD_CIDR: dict[Family, str] = {"IPv4": "10.244.0.0/16", "IPv6": "fd00:10:244::/48"}
_SERVICE_CIDR: dict[Family, str] = {"IPv4": "10.96.0.0/16", "IPv6": "fd00:10:96::/112"}
_NODE_MASK: dict[Family, int] = {"IPv4": 24, "IPv6": 64}


class Join(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The cluster that a lab's only node is a part of: it has another API server, controllers and scheduler."""

    node: str
    """The node's name there."""
    url: str
    """The API server's, as its kubeconfig has it."""
    serverName: str
    """The name, or the address, that its certificate must have."""
    address: str
    """The address of this host under which the cluster knows the node, and reaches its kubelet."""
    port: int
    """The kubelet's, at that address."""
    podCIDRs: list[str] = []
    """What the node asks for when it registers; empty: what the cluster gives it."""
    dns: list[str] = []
    """The addresses of the cluster's DNS; empty: it has none."""

    @property
    def server(self) -> tuple[str, int]:
        """The API server's host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _HTTPS


class LabSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A lab, as `netlab up` or the `spec` of a lab.yaml describes it.

    There is one CIDR per family in `families`, in the same order; empty lists mean the defaults. Of load balancers'
    pools there may be any number.
    """

    nodes: int = 3
    network: Network = "vxlan"
    proxy: ProxyMode = "nftables"
    families: list[Family] = msgspec.field(default_factory=lambda: ["IPv4"])
    podCIDRs: list[str] = []
    serviceCIDRs: list[str] = []
    nodeCIDRMaskSizes: list[int] = []
    loadBalancerPools: list[str] = []
    loadBalancerProtocol: LoadBalancerProtocol = "arp"
    maxPods: int = 110
    apiAddress: str = "127.0.0.1"
    store: StoreKind = "sqlite"
    dns: bool = True
    ingress: bool = False
    joins: Join | None = None
    runtime: Runtime = "builtin"

    def __post_init__(self) -> None:
        self.podCIDRs = self.podCIDRs or [_POD_CIDR[f] for f in self.families]
        self.serviceCIDRs = self.serviceCIDRs or [_SERVICE_CIDR[f] for f in self.families]
        pools = _LOAD_BALANCER_POOL[self.loadBalancerProtocol]
        self.loadBalancerPools = self.loadBalancerPools or [pools[family] for family in self.families]
        self.nodeCIDRMaskSizes = self.nodeCIDRMaskSizes or [_NODE_MASK[f] for f in self.families]

    @property
    def machine_names(self) -> list[str]:
        """The machines besides the fabric: the nodes, and the world outside unless that is another cluster's."""
        return [*self.node_names, *([] if self.joins is not None else [OUTSIDE])]

    @property
    def node_names(self) -> list[str]:
        """The nodes' names, `node-1` first."""
        if self.joins is not None:
            return [self.joins.node]
        return [f"node-{number}" for number in range(1, self.nodes + 1)]

    @property
    def underlay_family(self) -> Family:
        """The family that nodes use among themselves: the primary one."""
        return self.families[0]

    @property
    def pod_mtu(self) -> int:
        """The MTU of pods in bytes: the underlay's, minus the pod network's overhead."""
        version = int(self.underlay_family.removeprefix("IPv"))
        return UNDERLAY_MTU - (VXLAN_OVERHEAD[version] if self.network == "vxlan" else 0)

    def node_addresses(self, number: int) -> list[str]:
        """The underlay addresses of node `number` (from 1), one per family, the primary first."""
        # The IPv6 address has the number in decimal digits, so that node-12 reads as ::12.
        by_family: dict[Family, str] = {"IPv4": f"192.0.2.{number}", "IPv6": f"2001:db8::{number}"}
        return [by_family[family] for family in self.families]

    @property
    def outside_addresses(self) -> list[str]:
        """The addresses of the outside, one per family."""
        return [_OUTSIDE_ADDRESS[family] for family in self.families]

    @property
    def fabric_addresses(self) -> list[str]:
        """The underlay addresses of the fabric, one per family: there the nodes reach the API server."""
        return [_FABRIC_ADDRESS[family] for family in self.families]

    @property
    def external_ranges(self) -> list[str]:
        """The ranges from which a Service may take externalIPs: the outside routes them to the nodes."""
        return [_EXTERNAL_RANGE[family] for family in self.families]

    @property
    def dns_addresses(self) -> list[str]:
        """The addresses of the cluster's DNS, one per family; none where there is no such."""
        return [str(ipaddress.ip_network(each)[_DNS_OFFSET]) for each in self.serviceCIDRs] if self.dns else []

    def underlay(self, family: Family) -> str:
        """The underlay's network."""
        return _UNDERLAY[family]

    def underlay_prefix(self, family: Family) -> int:
        """The prefix length of the underlay's network."""
        return ipaddress.ip_network(_UNDERLAY[family]).prefixlen

    def validate(self) -> None:
        """Raise `UsageError`, naming the field, for a specification that cannot be built."""
        if not 1 <= self.nodes <= MOST_NODES:
            raise UsageError(f"nodes: {self.nodes} is not between 1 and {MOST_NODES}")
        if self.families not in (["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]):
            raise UsageError(f"families: {self.families} is not one or both of IPv4 and IPv6, each once")
        try:
            ipaddress.ip_address(self.apiAddress)
        except ValueError:
            raise UsageError(f"apiAddress: {self.apiAddress!r} is no address such as 127.0.0.1") from None
        if not 1 <= self.maxPods <= 1000:
            raise UsageError(f"maxPods: {self.maxPods} is not between 1 and 1000")
        for field in ("podCIDRs", "serviceCIDRs", "nodeCIDRMaskSizes"):
            if len(getattr(self, field)) != len(self.families):
                raise UsageError(f"{field}: expected one for each of the families {', '.join(self.families)}")
        networks = [("underlay", _network("underlay", _UNDERLAY[f], f)) for f in self.families]
        networks += [("external IPs", _network("external", _EXTERNAL_RANGE[f], f)) for f in self.families]
        for index, family in enumerate(self.families):
            pods = _network(f"podCIDRs[{index}]", self.podCIDRs[index], family)
            services = _network(f"serviceCIDRs[{index}]", self.serviceCIDRs[index], family)
            if self.dns and services.num_addresses <= _DNS_OFFSET:
                raise UsageError(
                    f"serviceCIDRs[{index}]: {services} has no {_DNS_OFFSET}th address, which the cluster's DNS has; "
                    "make it larger, or set dns: false"
                )
            mask = self.nodeCIDRMaskSizes[index]
            if not pods.prefixlen <= mask <= pods.max_prefixlen - 2:
                raise UsageError(
                    f"nodeCIDRMaskSizes[{index}]: {mask} is not between {pods.prefixlen} (the length of {pods}) "
                    f"and {pods.max_prefixlen - 2}"
                )
            if 2 ** (mask - pods.prefixlen) < self.nodes:
                raise UsageError(
                    f"podCIDRs[{index}]: {pods} has {counted(2 ** (mask - pods.prefixlen), 'subnet')} of /{mask}, too "
                    f"few for {counted(self.nodes, 'node')}; make it larger, or use a longer nodeCIDRMaskSizes"
                )
            networks += [(f"podCIDRs[{index}]", pods), (f"serviceCIDRs[{index}]", services)]
        _refuse_overlaps(networks)
        self._validate_pools(networks)

    def _validate_pools(self, others: list[tuple[str, _AnyNetwork]]) -> None:
        """Addresses for which nodes answer are the underlay's, and no host's; those told to a router are nobody's."""
        hosts = [(name, self.node_addresses(number)) for number, name in enumerate(self.node_names, 1)]
        hosts += [("the outside", self.outside_addresses), ("the API server", self.fabric_addresses)]
        seen: list[tuple[str, _AnyNetwork]] = []
        for index, text in enumerate(self.loadBalancerPools):
            field = f"loadBalancerPools[{index}]"
            family = family_of(text)
            if family not in self.families:
                raise UsageError(f"{field}: {text} is {family}, and the lab is {' and '.join(self.families)}")
            pool = _network(field, text, family)
            underlay = _network("underlay", _UNDERLAY[family], family)
            if self.loadBalancerProtocol == "arp" and not pool.subnet_of(underlay):  # type: ignore[arg-type]
                raise UsageError(f"{field}: {pool} is not in the underlay {underlay}, where nodes announce addresses")
            for name, addresses in hosts:
                if taken := [each for each in addresses if ipaddress.ip_address(each) in pool]:
                    raise UsageError(f"{field}: {pool} has {taken[0]}, the address of {name}")
            seen.append((field, pool))
        _refuse_overlaps([*others, *seen] if self.loadBalancerProtocol == "bgp" else seen)


_AnyNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(field: str, text: str, family: Family) -> _AnyNetwork:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageError(f"{field}: {error}") from None
    if f"IPv{network.version}" != family:
        raise UsageError(f"{field}: {text} is not {family}")
    return network


def _refuse_overlaps(networks: list[tuple[str, _AnyNetwork]]) -> None:
    for index, (name, network) in enumerate(networks):
        for other_name, other in networks[index + 1 :]:
            if network.version == other.version and network.overlaps(other):
                raise UsageError(f"{other_name}: {other} overlaps {name} {network}")


def load(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a lab.yaml: the `spec` of its Lab document as plain values, and the manifests beside it.

    Raises `UsageError` for a file that cannot be read, or whose Lab document has a wrong field.
    """
    from netlab.api.manifests import load_documents  # YAML is slow to import

    spec: dict[str, Any] | None = None
    manifests = []
    for document in load_documents([path]):
        if document.get("apiVersion") != API_VERSION:
            manifests.append(document)
        elif document.get("kind") != "Lab" or spec is not None:
            raise UsageError(f"{path}: expected one document of kind Lab ({API_VERSION}), found another")
        else:
            spec = document.get("spec")
            if not isinstance(spec, dict | None):
                raise UsageError(f"{path}: spec: expected fields, each with its value")
            spec = spec or {}
            if "joins" in spec:
                raise UsageError(f"{path}: spec.joins: a node joins a cluster by `netlab node join`, not by a file")
            unknown = sorted(document.keys() - {"apiVersion", "kind", "metadata", "spec"})
            if unknown:
                raise UsageError(f"{path}: {unknown[0]!r}: there is no such field: a Lab has metadata and spec")
    return spec or {}, manifests


def from_values(values: dict[str, Any], source: str = "lab") -> LabSpec:
    """A validated specification from plain values; raises `UsageError` naming the source and the field."""
    from netlab.lab.fields import convert

    try:
        spec = convert(values, LabSpec)
        spec.validate()
    except UsageError as error:
        raise UsageError(f"{source}: spec.{error}") from None
    return spec
