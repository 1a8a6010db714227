"""Carries connections from a node that has joined another cluster to that cluster's API server.

The node's components reach it on the node's loopback. Its pods reach it as any cluster's pods do, by the Service
`kubernetes`: the addresses of that Service's endpoints are the node's own, as far as the node is concerned.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
from collections.abc import Callable, Iterable
from socket import socket

from netlab.api.client import Client
from netlab.api.discovery_types import EndpointSlice
from netlab.api.endpoint import Endpoint
from netlab.api.informer import Informer
from netlab.api.resources import ENDPOINTSLICES
from netlab.errors import NetlabError
from netlab.lab import relay
from netlab.lab.topology import NODE_INTERFACE
from netlab.net.addresses import host_port, packed
from netlab.net.route import addresses
from netlab.net.route.socket import Rtnetlink

_SERVICE = "default/kubernetes"

log = logging.getLogger(__name__)

Place = tuple[str, int]


def serve(api: Endpoint, own: Iterable[Place], connect: Callable[[], socket]) -> None:
    """Carry until the process ends what comes to a place of `own`, by which `api` is reached, or of the Service's.

    `connect` reaches the server. Raises `NetlabError` when a place is taken.
    """
    places_here = set(own)
    for place in places_here:
        relay.Relay(relay.listen_at(*place), connect).start()
    asyncio.run(_follow(api, places_here, connect))


async def _follow(api: Endpoint, carried: set[Place], connect: Callable[[], socket]) -> None:
    def changed(_: EndpointSlice | None, new: EndpointSlice | None) -> None:
        if new is None or new.key != _SERVICE:
            return
        for place in places(new) - carried:
            try:
                _carry(place, connect)
            except (NetlabError, OSError) as error:
                log.warning("pods do not reach the API server at %s: %s", host_port(*place), error)
            else:
                carried.add(place)

    async with Client(api, user_agent="netlab-gateway") as client:
        slices = Informer(client, ENDPOINTSLICES, fields="metadata.name=kubernetes")
        slices.on_change(changed)
        await slices.run()


def places(found: EndpointSlice) -> set[Place]:
    """The addresses and ports that a slice tells of, but those that are a pod's own."""
    ports = [each.port for each in found.ports or () if each.port]
    listed: Iterable[str] = (address for each in found.endpoints or () for address in each.addresses)
    return {(address, port) for address in listed if _is_elsewhere(address) for port in ports}


def _is_elsewhere(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local)


def _carry(place: Place, connect: Callable[[], socket]) -> None:
    with Rtnetlink() as kernel:
        index = kernel.existing(NODE_INTERFACE).index
        whole = packed(place[0])
        kernel.send(addresses.addition(NODE_INTERFACE, index, whole, len(whole) * 8), tolerate=errno.EEXIST)
    relay.Relay(relay.listen_at(*place), connect).start()
