"""Observing a proxy: what it should have put into the kernel, going by the API, and what the kernel has."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket

import msgspec

from netlab.api.client import Client
from netlab.api.cluster import Cluster, Query, fetch, listed
from netlab.api.core_types import Node
from netlab.api.errors import ApiError
from netlab.api.resources import NODES, SERVICECIDRS
from netlab.errors import NotFoundError, UsageError
from netlab.net.addresses import family_of, packed
from netlab.net.netlink import NetlinkError
from netlab.net.route.routes import RTN_LOCAL, route_to
from netlab.net.route.socket import Rtnetlink
from netlab.proxy.book import plan_of
from netlab.proxy.config import ProxyConfig
from netlab.proxy.executor import executor_for
from netlab.proxy.explain import Explanation, explain
from netlab.proxy.model import Packet
from netlab.proxy.objects import OURS
from netlab.proxy.planner import node_info
from netlab.proxy.ranges import ABSENT, ranges

_ATTEMPTS = 4
_PAUSE = 0.7
"""Seconds between two looks: longer than a healthy proxy takes to apply a change."""


async def with_ranges(client: Client, config: ProxyConfig) -> ProxyConfig:
    """The configuration with the API server's ranges of ClusterIPs, unless it has its own or the server has none."""
    if config.service_cidrs:
        return config
    try:
        return dataclasses.replace(config, service_cidrs=ranges(await listed(client, SERVICECIDRS)))
    except ApiError as error:
        if error.code not in ABSENT:
            raise
        return config


async def read(client: Client, config: ProxyConfig) -> tuple[Cluster, ProxyConfig]:
    """The cluster as its proxy sees it, and the configuration in which that proxy runs.

    Raises what the client raises, and NotFoundError while the Node lacks something.
    """
    cluster = await fetch(client, (*OURS, Query(NODES, fields=f"metadata.name={config.node_name}")))
    return cluster, resolved(await with_ranges(client, config), cluster.nodes.get(config.node_name))


def resolved(config: ProxyConfig, node: Node | None) -> ProxyConfig:
    """The configuration, filled in from the Node. Raises NotFoundError while the Node lacks something."""
    if not config.needs_node:
        return config
    addresses = node_info(node).addresses if node is not None else ()
    found = config.on_node(addresses, node.spec.podCIDRs if node is not None else [])
    if found is None:
        raise NotFoundError(
            f"Node {config.node_name} does not exist, or lacks addresses or podCIDRs that the configuration needs"
        )
    return found


async def differences(client: Client, config: ProxyConfig) -> list[str]:
    """How this network namespace's rules differ from what the API's objects require, in words.

    Waits for a change that is being applied. Raises what the client raises, and ProgramError.
    """
    lines: list[str] = []
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_PAUSE)
        cluster, settled = await read(client, config)
        lines = []
        for family in config.families:
            executor = executor_for(family, settled)
            await asyncio.to_thread(executor.assume, plan_of(cluster, config.node_name, family))
            lines += [f"{family}: {line}" for line in await asyncio.to_thread(executor.differences)]
        if not lines:
            break
    return lines


async def explained(client: Client, config: ProxyConfig, packet: Packet) -> Explanation:
    """What happens to a packet in this network namespace, with the kernel's rules and how they differ from the plan.

    Raises UsageError if the proxy does not serve the packet's family, and what `differences` raises.
    """
    family = family_of(packet.destination)
    if family not in config.families:
        raise UsageError(f"{packet.destination}: the proxy only serves {' and '.join(config.families)}")
    differing = await differences(client, config)
    cluster, settled = await read(client, config)
    plan = plan_of(cluster, config.node_name, family)
    executor = executor_for(family, settled)
    await asyncio.to_thread(executor.assume, plan)
    found = explain(plan, settled, family, packet)
    frontend = next((each for each in plan if str(each) == found.frontend), None)
    rules = executor.explain(frontend) if frontend is not None else []
    return msgspec.structs.replace(found, rules=rules, differences=differing)


def arriving(source: str, destination: str, protocol: str, port: int) -> Packet:
    """The packet as it reaches this network namespace, by its routes: where it came in, and whether it is local.

    Raises UsageError if there is no route to the source: nothing then says where its packets come in.
    """
    own, interface = _route(source)
    if own is None:
        raise UsageError(f"{source}: this node has no route to it, so it is not known where its packets come in")
    return Packet(source, destination, protocol, port, "" if own else interface, bool(_route(destination)[0]))


def _route(address: str) -> tuple[bool | None, str]:
    """Whether an address is this namespace's own (None: no route to it), and the link that leads there."""
    with Rtnetlink() as kernel:
        try:
            route = route_to(kernel, packed(address))
        except NetlinkError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
                return None, ""
            raise
    return (True, "") if route.type == RTN_LOCAL else (False, socket.if_indextoname(route.index))
