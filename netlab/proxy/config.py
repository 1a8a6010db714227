"""What a kube-proxy must be told."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import Literal

from netlab.errors import UsageError
from netlab.proxy.plan import Family

Mode = Literal["nftables", "iptables"]


DetectLocalMode = Literal["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", "none"]


@dataclasses.dataclass(frozen=True)
class DetectLocal:
    """How the proxy tells a pod's packet: by its source (`cidrs`), or by where it comes in (`interface`)."""

    mode: DetectLocalMode = "none"
    cidrs: tuple[str, ...] = ()
    """Of the modes ClusterCIDR and NodeCIDR, of both families."""
    interface: str = ""
    """The bridge's name, or what the names of pods' interfaces begin with."""


@dataclasses.dataclass(frozen=True)
class ProxyConfig:
    """How one node's kube-proxy works. Raises UsageError for a cluster CIDR that is none."""

    node_name: str
    mode: Mode = "nftables"
    cluster_cidrs: Sequence[str] = ()
    """The pods' addresses (detectLocalMode ClusterCIDR). Empty: no source is known to be a pod."""
    detect_local: DetectLocal = DetectLocal()
    """What is not said is taken from cluster_cidrs."""
    node_port_addresses: tuple[str, ...] = ()
    """The networks whose addresses of this node serve NodePorts; none are named: all but loopback."""
    service_cidrs: tuple[str, ...] = ()
    """Where ClusterIPs are from. What goes to one that no Service has is dropped."""
    masquerade_bit: int = 14
    """The bit of a packet's mark that asks for masquerading (0 to 31)."""
    families: Sequence[Family] = ("IPv4",)
    masquerade_all: bool = False
    """Masquerade everything that goes to a ClusterIP, not only what comes from outside the cluster."""
    min_sync_seconds: float = 0.1
    """The least time between two syncs: a burst of changes costs one. The first change is applied at once."""
    burst_sync_seconds: float = 1.0
    """What that time doubles up to for as long as changes keep coming: upstream's default minSyncPeriod."""
    check_seconds: float = 1.0
    """How often to look whether somebody else changed the kernel's rules."""
    resync_seconds: float = 30.0
    """How often to verify the kernel's rules although nobody seems to have changed them."""
    retry_seconds: float = 2.0
    """How long until rules that the kernel refused are tried again."""

    def __post_init__(self) -> None:
        if self.cluster_cidrs and self.detect_local == DetectLocal():
            object.__setattr__(self, "detect_local", DetectLocal("ClusterCIDR", tuple(self.cluster_cidrs)))
        for cidr in self.cluster_cidrs:
            try:
                ipaddress.ip_network(cidr)
            except ValueError as error:
                raise UsageError(f"cluster CIDR {cidr!r}: {error}; give it as 10.244.0.0/16") from error

    def cidrs(self, family: Family) -> list[str]:
        """The cluster CIDRs of a family."""
        version = 4 if family == "IPv4" else 6
        networks = (ipaddress.ip_network(cidr) for cidr in self.cluster_cidrs)
        return [str(network) for network in networks if network.version == version]
