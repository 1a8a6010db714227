"""The agent of the pod network on one node: what flanneld is to flannel.

It watches Nodes, wires this node to its peers (VXLAN, plain routes, or one flat segment), masquerades what pods send
out of the cluster, and writes the CNI configuration once the node has its pod subnet. `plan` is pure; the executor is
in netlab.node.network_apply.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import json
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from netlab import files
from netlab.api.client import Client
from netlab.api.core_types import NETWORK_UNAVAILABLE, Node
from netlab.api.errors import ApiError
from netlab.api.informer import Informer
from netlab.api.media_types import STRATEGIC_MERGE_PATCH
from netlab.api.meta_types import Condition, now
from netlab.api.progress import Progress, Work
from netlab.api.resources import NODES
from netlab.cni.plugins.main.peers import Peer, gateway
from netlab.cni.plugins.main.peers import plan as plan_overlay
from netlab.errors import NetlabError
from netlab.net.overlay import Overlay
from netlab.node import capabilities

VTEP_MAC = "netlab.dev/vtep-mac"
"""Node annotation: the MAC address of the node's VXLAN device, as flannel publishes its own."""

BRIDGE = "cni0"
VXLAN = "vxlan0"
VXLAN_ID = 1
CONF_FILE = "10-netlab.conflist"

_RETRY = 1.0
"""Seconds before a retry."""

_REST_OF_A_NODE, _LONGEST_REST = 0.01, 1.0
"""Seconds to rest after a change: per node in the cluster, and at most. Each plan reads all nodes, and while a lab
starts all of them change. Changes that arrive during a rest are applied together."""

log = logging.getLogger(__name__)


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


@dataclasses.dataclass(frozen=True)
class Vtep:
    """This node's VXLAN device: its tunnel endpoint and the addresses it carries."""

    local: str
    addresses: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PodRoute:
    """A route to a peer node's pods through `gateway`, the peer's address on `link`."""

    destination: str
    gateway: str
    link: str


@dataclasses.dataclass(frozen=True)
class PodNetwork:
    """What one node's kernel should have for the pod network."""

    pod_cidrs: tuple[str, ...]
    vtep: Vtep | None
    bridge_addresses: tuple[str, ...]
    """Addresses of the node's bridge if the agent makes it (the flat segment); otherwise the CNI plugin makes it."""
    routes: frozenset[PodRoute]
    overlay: Overlay
    """What the VXLAN device should know about its peers."""


def plan(config: NetworkConfig, me: Node, nodes: Collection[Node]) -> PodNetwork:
    """The pod network of node `me` among `nodes`. A peer that has no subnet or no endpoint yet is left out."""
    peers = [node for node in nodes if node.metadata.name != config.node_name and node.spec.podCIDRs]
    routes: set[PodRoute] = set()
    vtep, overlay = None, Overlay()
    if config.network == "vxlan":
        family = ipaddress.ip_network(config.cluster_cidrs[0]).version
        local = internal_ip(me, family)
        assert local is not None, "the kubelet registers a node with its addresses"
        vtep = Vtep(local, tuple(_host_route(gateway(cidr)) for cidr in me.spec.podCIDRs))
        ends = [_tunnel_end(peer) for peer in peers]
        overlay = plan_overlay((end for end in ends if end.mac and end.endpoint(family)), local, VXLAN_ID)
    elif config.network == "routed":
        for peer in peers:
            for cidr in peer.spec.podCIDRs:
                next_hop = internal_ip(peer, ipaddress.ip_network(cidr).version)
                if next_hop:
                    routes.add(PodRoute(cidr, next_hop, config.underlay))
    flat = config.network == "bridge"
    return PodNetwork(
        pod_cidrs=tuple(me.spec.podCIDRs),
        vtep=vtep,
        bridge_addresses=tuple(_flat_gateway(config, cidr) for cidr in me.spec.podCIDRs) if flat else (),
        routes=frozenset(routes),
        overlay=overlay,
    )


def conflist(config: NetworkConfig, pod_cidrs: Collection[str]) -> dict[str, Any]:
    """The CNI network configuration list of a node with these pod subnets."""
    ranges = [[_flat_range(config, cidr) if config.network == "bridge" else {"subnet": cidr}] for cidr in pod_cidrs]
    plugin = {
        "type": "netlab",
        "bridge": BRIDGE,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "mtu": config.mtu,
        "ipam": {"type": "netlab-ipam", "dataDir": str(config.cni_data_dir / "networks"), "ranges": ranges},
    }
    chained = [{"type": kind, "capabilities": {capability: True}} for kind, capability in capabilities.CHAINED.items()]
    return {"cniVersion": "1.0.0", "name": "netlab", "plugins": [plugin, *chained]}


def internal_ip(node: Node, version: int) -> str | None:
    """The node's InternalIP of a family (4 or 6), or None."""
    addresses = (a.address for a in node.status.addresses if a.type == "InternalIP")
    return next((a for a in addresses if (6 if ":" in a else 4) == version), None)


def _tunnel_end(node: Node) -> Peer:
    mac = node.metadata.annotations.get(VTEP_MAC, "")
    subnets = tuple(node.spec.podCIDRs)
    return Peer(node.metadata.name, internal_ip(node, 4) or "", internal_ip(node, 6) or "", mac, subnets)


def _host_route(address: str) -> str:
    return f"{address}/{ipaddress.ip_address(address).max_prefixlen}"


def _cluster_cidr_of(config: NetworkConfig, pod_cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
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


async def run(client: Client, config: NetworkConfig, in_force: Callable[[int], None] = lambda _: None) -> None:
    """Keep the node's pod network up to date until cancelled. Failures are logged and retried.

    `in_force` is called with the resourceVersion that the node now follows, whenever it grows.
    """
    nodes = Informer(client, NODES)
    progress = Progress(in_force)
    progress.follow([nodes])
    changed = asyncio.Event()
    due: list[Work] = [progress.begin()]

    def note(old: Node | None, new: Node | None) -> None:
        if _matters(old, new):
            due.append(progress.begin())
            changed.set()

    nodes.on_change(note)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(nodes.run())
        applied: PodNetwork | None = None
        failed = False
        while True:
            await changed.wait()
            changed.clear()
            doing = len(due)
            try:
                applied = await _sync(client, config, nodes.items, applied)
            except (NetlabError, OSError) as error:
                log.error("pod network: %s; retrying in %.0f s", error, _RETRY)
                await _report(client, config.node_name, type(error).__name__, str(error))
                failed, applied = True, None
                await asyncio.sleep(_RETRY)
                changed.set()
            else:
                for work in due[:doing]:
                    progress.end(work)
                del due[:doing]
                if failed:
                    await _report(client, config.node_name, "PodNetworkIsUp", "")
                failed = False
                if applied is not None:
                    await asyncio.sleep(min(_REST_OF_A_NODE * len(nodes.items), _LONGEST_REST))


def _matters(old: Node | None, new: Node | None) -> bool:
    """Whether a change of a Node can change the plan: the frequent heartbeats cannot."""
    return _facts(old) != _facts(new)


def _facts(node: Node | None) -> object:
    if node is None:
        return None
    return (node.spec.podCIDRs, node.status.addresses, node.metadata.annotations.get(VTEP_MAC))


async def _sync(
    client: Client, config: NetworkConfig, nodes: dict[str, Node], applied: PodNetwork | None
) -> PodNetwork | None:
    from netlab.node.network_apply import apply  # pyroute2 is slow to import

    me = nodes.get(config.node_name)
    if me is None or not me.spec.podCIDRs or not me.status.addresses:
        return applied
    wanted = plan(config, me, list(nodes.values()))
    if wanted.vtep and VTEP_MAC not in me.metadata.annotations:
        applied = None  # the Node is new, or was created again: its peers must learn about the device
    if wanted != applied:
        vtep_mac = await asyncio.to_thread(apply, config, wanted, applied)
        if vtep_mac and me.metadata.annotations.get(VTEP_MAC) != vtep_mac:
            await _annotate(client, config.node_name, vtep_mac)
    _write_conflist(config, wanted.pod_cidrs)
    return wanted


async def _annotate(client: Client, node: str, mac: str) -> None:
    try:
        await client.patch(NODES, node, None, {"metadata": {"annotations": {VTEP_MAC: mac}}})
    except ApiError as error:
        raise NetlabError(f"node {node}: cannot publish its VXLAN endpoint: {error}") from error


async def _report(client: Client, node: str, reason: str, message: str) -> None:
    """Say on the Node why it has no pod network, as flannel does; an empty message says that it has one."""
    status = "True" if message else "False"
    condition = Condition(
        type=NETWORK_UNAVAILABLE, status=status, reason=reason, message=message, lastTransitionTime=now()
    )
    patch = {"status": {"conditions": [condition]}}
    try:
        await client.patch(NODES, node, None, patch, subresource="status", patch_type=STRATEGIC_MERGE_PATCH)
    except NetlabError as error:
        log.warning("node %s: cannot publish its condition: %s", node, error)


def _write_conflist(config: NetworkConfig, pod_cidrs: Collection[str]) -> None:
    path = config.cni_conf_dir / CONF_FILE
    text = json.dumps(conflist(config, pod_cidrs), indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    files.replace(path, text)
