"""Observing a proxy: what it should have put into the kernel, going by the API, and what the kernel has."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
from http import HTTPStatus
from typing import TypeVar

import msgspec

from netlab.api.client import Client
from netlab.api.core_types import Node
from netlab.api.discovery_types import SERVICE_NAME_LABEL, EndpointSlice
from netlab.api.errors import ApiError
from netlab.api.meta_types import Object
from netlab.api.resources import NODES, SERVICECIDRS, Resource
from netlab.errors import NotFoundError, UsageError
from netlab.net.addresses import family_of, packed
from netlab.net.netlink import NetlinkError
from netlab.net.route.routes import RTN_LOCAL, route_to
from netlab.net.route.socket import Rtnetlink
from netlab.proxy.config import ProxyConfig
from netlab.proxy.executor import executor_for
from netlab.proxy.explain import Explanation, explain
from netlab.proxy.fake import Packet
from netlab.proxy.objects import OUR_SERVICES, OUR_SLICES, SERVICES, SLICES
from netlab.proxy.planner import node_info
from netlab.proxy.ranges import ABSENT, ranges
from netlab.proxy.snapshot import Objects, plan_of

T = TypeVar("T", bound=Object)

_ATTEMPTS = 4
_PAUSE = 0.7
"""Seconds between two looks: longer than a healthy proxy takes to apply a change."""


async def read(client: Client, node_name: str) -> Objects:
    """The objects as they are now. Raises ApiError, ApiUnavailableError and UsageError as the client does."""
    services = {service.key: service for service in await listed(client, SERVICES, labels=OUR_SERVICES)}
    slices: dict[str, list[EndpointSlice]] = {}
    for one in await listed(client, SLICES, labels=OUR_SLICES):
        name = one.metadata.labels.get(SERVICE_NAME_LABEL, "")
        slices.setdefault(f"{one.metadata.namespace}/{name}", []).append(one)
    nodes = await listed(client, NODES, fields=f"metadata.name={node_name}")
    return Objects(services, slices, nodes[0] if nodes else None)


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


async def listed(client: Client, resource: Resource[T], *, labels: str = "", fields: str = "") -> list[T]:
    """All readable objects of a resource, in its older version if the server has no newer one."""
    try:
        return (await client.pages(resource, labels=labels, fields=fields)).items
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND or resource.older is None:
            raise
        return await listed(client, resource.older, labels=labels, fields=fields)


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
        objects = await read(client, config.node_name)
        settled = resolved(await with_ranges(client, config), objects.node)
        lines = []
        for family in config.families:
            executor = executor_for(family, settled)
            await asyncio.to_thread(executor.assume, plan_of(objects, settled, family))
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
    objects = await read(client, config.node_name)
    settled = resolved(await with_ranges(client, config), objects.node)
    plan = plan_of(objects, settled, family)
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
