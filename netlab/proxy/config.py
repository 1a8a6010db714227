"""A kube-proxy's configuration."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from netlab.errors import UsageError
from netlab.net.addresses import Family, family_of, host_port

Mode = Literal["nftables", "iptables"]


DetectLocalMode = Literal["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", "none"]

PRIMARY = "primary"
"""Among nodePortAddresses: the first address that the Node has of each family (upstream's default for nftables)."""

_NOWHERE: dict[Family, str] = {"IPv4": "127.0.0.1/32", "IPv6": "::1/128"}
"""NodePorts are never served on loopback: stands for no address at all, since an empty list means all."""


class Listen(NamedTuple):
    """Where one of the proxy's own servers listens."""

    host: str
    """An address; the unspecified one of either family means all addresses of both, as in Go."""
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)


HEALTHZ = Listen("0.0.0.0", 10256)  # noqa: S104  # load balancers query it from outside
METRICS = Listen("127.0.0.1", 10249)
"""Upstream's defaults."""


@dataclasses.dataclass(frozen=True)
class DetectLocal:
    """How the proxy recognises a pod's packet: by its source (`cidrs`), or by where it comes in (`interface`)."""

    mode: DetectLocalMode = "none"
    cidrs: tuple[str, ...] = ()
    """For the modes ClusterCIDR and NodeCIDR, both families. NodeCIDR with none takes them from the Node."""
    interface: str = ""
    """The bridge's name, or the prefix of pods' interface names."""


@dataclasses.dataclass(frozen=True)
class ProxyConfig:
    """How one node's kube-proxy works. Raises UsageError for an invalid network or bit."""

    node_name: str
    mode: Mode = "nftables"
    cluster_cidrs: Sequence[str] = ()
    """The pods' addresses (detectLocalMode ClusterCIDR). Empty: no source is known to be a pod."""
    detect_local: DetectLocal = DetectLocal()
    """What is unset is taken from cluster_cidrs."""
    node_port_addresses: tuple[str, ...] = ()
    """NodePorts are served at this node's addresses in these networks, or PRIMARY. Empty: all but loopback."""
    service_cidrs: tuple[str, ...] = ()
    """The ranges of ClusterIPs. Traffic to one that no Service has is dropped."""
    masquerade_bit: int = 14
    """The bit of a packet's mark that requests masquerading (0 to 31)."""
    families: Sequence[Family] = ("IPv4",)
    masquerade_all: bool = False
    """Masquerade everything that goes to a ClusterIP, not only what comes from outside the cluster."""
    conntrack_be_liberal: bool = False
    """Make the kernel track TCP packets outside the window instead of calling them invalid (tcpBeLiberal)."""
    healthz: Listen | None = None
    """Where /healthz and /livez are answered, if anywhere."""
    metrics: Listen | None = None
    """Where /metrics and /proxyMode are answered, if anywhere."""
    min_sync_seconds: float = 1.0
    """The minimum time between two syncs on average (minSyncPeriod); with 0 every change syncs at once."""
    sync_burst: int = 10
    """How many syncs may follow each other at once after a quiet time of as many min_sync_seconds."""
    check_seconds: float = 1.0
    """How often to check whether another program changed the kernel's rules."""
    resync_seconds: float = 30.0
    """How often to verify the kernel's rules even if nothing seems to have changed them (syncPeriod)."""
    retry_seconds: float = 2.0
    """How long to wait before retrying rules that the kernel refused."""

    def __post_init__(self) -> None:
        if self.cluster_cidrs and self.detect_local == DetectLocal():
            object.__setattr__(self, "detect_local", DetectLocal("ClusterCIDR", tuple(self.cluster_cidrs)))
        _check_networks("cluster CIDR", self.detect_local.cidrs)
        _check_networks("node port address", (a for a in self.node_port_addresses if a != PRIMARY))
        _check_networks("service CIDR", self.service_cidrs)
        if not 0 <= self.masquerade_bit <= 31:
            raise UsageError(f"masquerade bit {self.masquerade_bit} is not in 0..31")

    @property
    def needs_node(self) -> bool:
        """Whether rules depend on something in the Node."""
        node_cidr = self.detect_local.mode == "NodeCIDR" and not self.detect_local.cidrs
        return node_cidr or PRIMARY in self.node_port_addresses

    def on_node(self, addresses: Sequence[str], pod_cidrs: Sequence[str]) -> ProxyConfig | None:
        """The same, filled in from the Node; None while the Node does not have it yet."""
        detect = self.detect_local
        if detect.mode == "NodeCIDR" and not detect.cidrs:
            if not pod_cidrs:
                return None
            detect = dataclasses.replace(detect, cidrs=tuple(pod_cidrs))
        node_ports = self.node_port_addresses
        if PRIMARY in node_ports:
            if not addresses:
                return None
            primary: dict[Family, str] = dict(_NOWHERE)
            for address in reversed(addresses):
                primary[family_of(address)] = str(ipaddress.ip_network(address))
            node_ports = tuple(dict.fromkeys([a for a in node_ports if a != PRIMARY] + list(primary.values())))
        return dataclasses.replace(self, detect_local=detect, node_port_addresses=node_ports)


def _check_networks(what: str, networks: Iterable[str]) -> None:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise UsageError(f"{what} {network!r}: {error}; write it like 10.244.0.0/16") from error
