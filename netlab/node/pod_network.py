"""The pod network as one node has it, computed from all Nodes: peers, routes and the CNI configuration. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Collection
from pathlib import Path
from typing import Any

from netlab.api.core_types import Node
from netlab.cni.plugins.main.peers import Peer
from netlab.node import capabilities

BRIDGE = "cni0"
VXLAN = "vxlan0"
VXLAN_ID = 1

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """What a node's agent needs to know about the pod network.

    `cluster_cidrs` are the pods' ranges, the primary family first; `underlay` is the interface to the other nodes and
    `segment` the one to the flat segment of the `bridge` network; `mtu` is the pods', in bytes.
    """

    node_name: str
    network: str
    cluster_cidrs: tuple[str, ...]
    mtu: int
    cni_conf_dir: Path
    cni_data_dir: Path
    underlay: str = "eth0"
    segment: str = "eth1"

    @property
    def peers_file(self) -> Path:
        """Where the CNI plugin reads the nodes of the `vxlan` network."""
        return self.cni_data_dir / "peers.json"


@dataclasses.dataclass(frozen=True)
class PodNetwork:
    """What one node should have for the pod network."""

    plugin: dict[str, Any]
    """The configuration of the CNI plugin that connects pods."""
    peers: tuple[Peer, ...] = ()
    """The nodes of the `vxlan` network, this one among them."""
    bridge_addresses: tuple[str, ...] = ()
    """Addresses of the node's bridge if the agent makes it (the flat segment); otherwise the CNI plugin makes it."""
    routes: frozenset[tuple[str, str]] = frozenset()
    """Routes of the `routed` network: a peer's pod subnet, and the peer's address on the underlay."""


def plan(config: NetworkConfig, me: Node, nodes: Collection[Node]) -> PodNetwork:
    """The pod network of node `me` among `nodes`. A peer that has no subnet or no endpoint yet is left out."""
    peers = [node for node in nodes if node.metadata.name != config.node_name and node.spec.podCIDRs]
    if config.network == "vxlan":
        local, ends = _tunnels(config, me, peers)
        vxlan = {
            "id": VXLAN_ID,
            "name": VXLAN,
            "device": config.underlay,
            "localAddress": local,
            "peersFile": str(config.peers_file),
        }
        return PodNetwork(_plugin(config, me, mode="vxlan", vxlan=vxlan), peers=ends)
    if config.network == "routed":
        ways = [
            (cidr, internal_ip(peer, ipaddress.ip_network(cidr).version))
            for peer in peers
            for cidr in peer.spec.podCIDRs
        ]
        routes = frozenset((cidr, gateway) for cidr, gateway in ways if gateway)
        return PodNetwork(_plugin(config, me), routes=routes)
    addresses = tuple(_flat_gateway(config, cidr) for cidr in me.spec.podCIDRs)
    return PodNetwork(_plugin(config, me), bridge_addresses=addresses)


def conflist(network: PodNetwork) -> dict[str, Any]:
    """The CNI network configuration list of a node."""
    chained = [{"type": kind, "capabilities": {capability: True}} for kind, capability in capabilities.CHAINED.items()]
    return {"cniVersion": "1.0.0", "name": "netlab", "plugins": [network.plugin, *chained]}


def internal_ip(node: Node, version: int) -> str | None:
    """The node's InternalIP of a family (4 or 6), or None."""
    addresses = (a.address for a in node.status.addresses if a.type == "InternalIP")
    return next((a for a in addresses if (6 if ":" in a else 4) == version), None)


def _tunnels(config: NetworkConfig, me: Node, peers: Collection[Node]) -> tuple[str, tuple[Peer, ...]]:
    """This node's tunnel endpoint, and those of all nodes with their pods' subnets.

    A node that joins under a new name can have the address of one whose Node is still there: the newer one counts.
    """
    version = ipaddress.ip_network(config.cluster_cidrs[0]).version
    local = internal_ip(me, version)
    assert local is not None, "the kubelet registers a node with its addresses"
    found = {}
    for node in [*sorted(peers, key=lambda each: each.metadata.creationTimestamp or ""), me]:
        if endpoint := internal_ip(node, version):
            public = (endpoint, "") if version == 4 else ("", endpoint)
            found[endpoint] = Peer(node.metadata.name, *public, mac="", subnets=tuple(node.spec.podCIDRs))
    return local, tuple(found.values())


def _plugin(config: NetworkConfig, me: Node, **more: Any) -> dict[str, Any]:
    flat = config.network == "bridge"
    ranges = [[_flat_range(config, cidr) if flat else {"subnet": cidr}] for cidr in me.spec.podCIDRs]
    return {
        "type": "netlab",
        **more,
        "bridge": BRIDGE,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "mtu": config.mtu,
        # Outside the cluster nobody knows the pods' addresses.
        "ipMasq": True,
        "nonMasqueradeCIDRs": list(config.cluster_cidrs),
        "ipam": {"type": "netlab-ipam", "dataDir": str(config.cni_data_dir / "networks"), "ranges": ranges},
    }


def _cluster_cidr_of(config: NetworkConfig, pod_cidr: str) -> IPNetwork:
    version = ipaddress.ip_network(pod_cidr).version
    return next(n for n in map(ipaddress.ip_network, config.cluster_cidrs) if n.version == version)


def _flat_gateway(config: NetworkConfig, pod_cidr: str) -> str:
    prefix = _cluster_cidr_of(config, pod_cidr).prefixlen
    return f"{ipaddress.ip_network(pod_cidr).network_address + 1}/{prefix}"


def _flat_range(config: NetworkConfig, pod_cidr: str) -> dict[str, str]:
    subnet = ipaddress.ip_network(pod_cidr)
    # All nodes share the segment's subnet; each gives out only addresses from its own part.
    return {
        "subnet": str(_cluster_cidr_of(config, pod_cidr)),
        "rangeStart": str(subnet.network_address + 2),
        "rangeEnd": str(subnet.broadcast_address - 1),
        "gateway": str(subnet.network_address + 1),
    }
