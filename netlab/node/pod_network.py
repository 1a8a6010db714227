"""The pod network as one node has it, computed from all Nodes: peers, routes and the CNI configuration. Pure."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import ipaddress
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import msgspec

from netlab.api.core_types import Node
from netlab.cni.plugins.main.peers import Peer
from netlab.errors import ConflictError
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
    has_underlay: bool = True
    """Whether this node and the others reach each other; without that, the pod network is this node's alone."""
    policy_socket: str = ""
    """Where the plugin asks before a pod's containers start; empty: nowhere."""

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
    """The pod network of node `me` among `nodes`.

    A peer that has no subnet or no endpoint yet is left out, and so are subnets and addresses that are none, and
    subnets of another node's: the right to write one Node is not the power to cut off the others. Raises
    `ConflictError` if this node's own are of that kind.
    """
    me = _readable(config, me)
    if not me.spec.podCIDRs:
        raise ConflictError(f"node {config.node_name}: none of its podCIDRs is a subnet of the pods' ranges")
    if not config.has_underlay:
        return PodNetwork(_plugin(config, me))
    peers = _disjoint(me, [_readable(config, each) for each in nodes if each.metadata.name != config.node_name])
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


def _readable(config: NetworkConfig, node: Node) -> Node:
    """The node with those of its subnets that are in a range of the pods, one of a family, and its valid addresses."""
    subnets = _subnets(tuple(node.spec.podCIDRs), config.cluster_cidrs)
    addresses = [each for each in node.status.addresses if _is_address(each.address)]
    return msgspec.structs.replace(
        node,
        spec=msgspec.structs.replace(node.spec, podCIDRs=list(subnets)),
        status=msgspec.structs.replace(node.status, addresses=addresses),
    )


def _disjoint(me: Node, peers: Iterable[Node]) -> list[Node]:
    """The peers whose subnets are nobody else's: not this node's, nor those of an older node."""
    taken: list[tuple[int, int, int]] = []
    found = []
    for node in [me, *sorted(peers, key=_age)]:
        spans = [_span(cidr) for cidr in node.spec.podCIDRs]
        if spans and all(_is_free(span, taken) for span in spans):
            for span in spans:
                bisect.insort(taken, span)
            found.append(node)
    return found[1:]


def _is_free(span: tuple[int, int, int], taken: list[tuple[int, int, int]]) -> bool:
    """Whether a range is none of those taken, which are sorted, and overlap nowhere."""
    version, first, last = span
    place = bisect.bisect(taken, span)
    before, after = taken[place - 1 : place], taken[place : place + 1]
    return not any(other[0] == version and other[1] <= last and first <= other[2] for other in (*before, *after))


def _age(node: Node) -> str:
    return node.metadata.creationTimestamp or ""


# Cached, because each change of a Node has all of them planned again, on every node.
@functools.lru_cache(4096)
def _subnets(cidrs: tuple[str, ...], ranges: tuple[str, ...]) -> tuple[str, ...]:
    found: dict[int, str] = {}
    for cidr in cidrs:
        try:
            subnet = ipaddress.ip_network(cidr)
        except ValueError:
            continue
        if any(is_within(subnet, ipaddress.ip_network(each)) for each in ranges):
            found.setdefault(subnet.version, cidr)
    return tuple(found.values())


@functools.lru_cache(4096)
def _span(cidr: str) -> tuple[int, int, int]:
    """A subnet as its IP version, first and last address."""
    subnet = ipaddress.ip_network(cidr)
    return subnet.version, int(subnet.network_address), int(subnet.broadcast_address)


@functools.lru_cache(4096)
def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # What no packet can be sent to from elsewhere; a zone (fe80::1%eth0) is this host's own.
    return not (address.is_unspecified or address.is_multicast or address.is_loopback or "%" in text)


def is_within(subnet: IPNetwork, wider: IPNetwork) -> bool:
    """Whether all of a subnet is in another of its family."""
    return subnet.version == wider.version and subnet.subnet_of(wider)  # type: ignore[arg-type]


def _tunnels(config: NetworkConfig, me: Node, peers: Collection[Node]) -> tuple[str, tuple[Peer, ...]]:
    """This node's tunnel endpoint, and those of all nodes with their pods' subnets.

    A node that joins under a new name can have the address of one whose Node is still there: the newer one counts.
    """
    version = ipaddress.ip_network(config.cluster_cidrs[0]).version
    local = internal_ip(me, version)
    if local is None:
        raise ConflictError(f"node {config.node_name}: it has no InternalIP of IPv{version}, from which tunnels start")
    found = {}
    for node in [*sorted(peers, key=_age), me]:
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
        **({"policySocket": config.policy_socket} if config.policy_socket else {}),
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
