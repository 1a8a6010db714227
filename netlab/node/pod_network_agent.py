"""The agent of the pod network on one node: what flanneld is to flannel.

It watches Nodes, writes the CNI configuration and the peers file as an operator would, has the CNI plugin's own code
apply the peers file whenever it changes, and does what no plugin does: routes to peers, and the port of a flat segment.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import logging
from collections.abc import Callable
from pathlib import Path

from netlab import files
from netlab.api.client import Client
from netlab.api.core_types import NETWORK_UNAVAILABLE, Node
from netlab.api.informer import Informer
from netlab.api.media_types import STRATEGIC_MERGE_PATCH
from netlab.api.meta_types import Condition, now
from netlab.api.progress import Progress, Work
from netlab.api.resources import NODES
from netlab.cni.plugins.main import vtep
from netlab.cni.plugins.main.peers import format_peers
from netlab.cni.plugins.main.tunnel import Tunnel
from netlab.errors import NetlabError
from netlab.net import overlay
from netlab.net.addresses import packed_network
from netlab.net.overlay import Overlay
from netlab.net.route import addresses, links
from netlab.net.route.socket import Rtnetlink
from netlab.node.pod_network import BRIDGE, NetworkConfig, PodNetwork, conflist, is_within, plan

CONF_FILE = "10-netlab.conflist"

_RETRY = 1.0
"""Seconds before a retry."""

_REST_OF_A_NODE, _LONGEST_REST = 0.01, 1.0
"""Seconds to rest after a change: per node in the cluster, and at most. Each plan reads all nodes, and while a lab
starts all of them change. Changes that arrive during a rest are applied together."""

log = logging.getLogger(__name__)


async def run(
    reader: Client, reporter: Client, config: NetworkConfig, in_force: Callable[[int], None] = lambda _: None
) -> None:
    """Keep the node's pod network up to date until cancelled. Failures are logged and retried.

    `reader` watches all Nodes, `reporter` writes the status of this one, which is the kubelet's to write.
    `in_force` is called with the resourceVersion that the node now follows, whenever it grows.
    """
    nodes = Informer(reader, NODES)
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
                applied = await _sync(config, nodes.items, applied)
            except Exception as error:
                # A bug that one Node triggers must not end the kubelet, whose process this is.
                fault = None if isinstance(error, NetlabError | OSError) else error
                log.error("pod network: %s; retrying in %.0f s", error, _RETRY, exc_info=fault)
                await _report(reporter, config.node_name, type(error).__name__, str(error))
                failed, applied = True, None
                await asyncio.sleep(_RETRY)
                changed.set()
            else:
                for work in due[:doing]:
                    progress.end(work)
                del due[:doing]
                if failed:
                    await _report(reporter, config.node_name, "PodNetworkIsUp", "")
                failed = False
                if applied is not None:
                    await asyncio.sleep(min(_REST_OF_A_NODE * len(nodes.items), _LONGEST_REST))


def _matters(old: Node | None, new: Node | None) -> bool:
    """Whether a change of a Node can change the plan: the frequent heartbeats cannot."""
    return _facts(old) != _facts(new)


def _facts(node: Node | None) -> object:
    return None if node is None else (node.spec.podCIDRs, node.status.addresses)


async def _sync(config: NetworkConfig, nodes: dict[str, Node], applied: PodNetwork | None) -> PodNetwork | None:
    me = nodes.get(config.node_name)
    if me is None or not me.spec.podCIDRs or not me.status.addresses:
        return applied
    wanted = plan(config, me, list(nodes.values()))
    if wanted != applied:
        await asyncio.to_thread(apply, config, wanted, applied)
        _write(config.cni_conf_dir / CONF_FILE, json.dumps(conflist(wanted), indent=2) + "\n")
    return wanted


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


def apply(config: NetworkConfig, wanted: PodNetwork, applied: PodNetwork | None) -> None:
    """Have the node's kernel match `wanted`. Blocking. Raises `NetlabError`, or `OSError`, naming the object.

    With `applied` None (at the start, or after a failure) what an earlier agent left for former peers is removed too.
    """
    if config.network == "vxlan":
        _write(config.peers_file, format_peers(wanted.peers).decode())
        vtep.ensure(Tunnel(wanted.plugin, config.mtu))
    elif config.network == "routed":
        with Rtnetlink() as kernel:
            before = _found_routes(kernel, config) if applied is None else applied.routes
            gone, come = Overlay(routes=before), Overlay(routes=wanted.routes)
            overlay.change(kernel, config.underlay, gone, come, onlink=False)
    else:
        _ensure_segment(config, wanted)


def _found_routes(kernel: Rtnetlink, config: NetworkConfig) -> frozenset[tuple[str, str]]:
    """The routes into the pods' ranges that lead to other nodes now."""
    present = overlay.read(kernel, config.underlay).routes
    ranges = [ipaddress.ip_network(cidr) for cidr in config.cluster_cidrs]
    return frozenset(each for each in present if any(is_within(ipaddress.ip_network(each[0]), r) for r in ranges))


def _ensure_segment(config: NetworkConfig, wanted: PodNetwork) -> None:
    with Rtnetlink() as kernel:
        kernel.send(links.bridge(BRIDGE, mtu=config.mtu), tolerate=errno.EEXIST)
        index = kernel.set_up(BRIDGE).index
        kernel.set_up(config.segment, master=BRIDGE)
        for address in wanted.bridge_addresses:
            kernel.send(addresses.addition(BRIDGE, index, *packed_network(address)), tolerate=errno.EEXIST)


def _write(path: Path, text: str) -> None:
    """Replace a file, if it has another text: plugins read it at any time."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        files.replace(path, text)
