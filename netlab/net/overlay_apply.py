"""Reading and writing a VXLAN device's peer entries (forwarding, neighbours and routes) with pyroute2."""

from __future__ import annotations

import ipaddress
import socket

from pyroute2 import IPRoute

from netlab.net import links
from netlab.net.links import LinkError
from netlab.net.overlay import Overlay

_NUD_PERMANENT = 0x80
_MAIN = 254


def read(ip: IPRoute, device: str) -> Overlay:
    """The device's current entries. Raises `LinkError` if there is no such device."""
    index = links.index_of(ip, device)
    if index is None:
        raise LinkError(f"link {device}: no such link")
    return Overlay(
        forwarding=frozenset(
            (entry.get("lladdr"), entry.get("dst"))
            for entry in ip.get_neighbours(family=socket.AF_BRIDGE, ifindex=index)
            if entry.get("dst")
        ),
        neighbours=frozenset(
            (entry.get("dst"), entry.get("lladdr"))
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in ip.get_neighbours(family=family, ifindex=index)
            if entry["state"] & _NUD_PERMANENT
        ),
        routes=frozenset(
            (destination, gateway) for destination, gateway, link in _routes(ip) if link == index and gateway
        ),
    )


def apply(ip: IPRoute, device: str, wanted: Overlay) -> None:
    """Make the device's entries exactly `wanted`. Raises `LinkError` naming the object at fault."""
    present = read(ip, device)
    _refuse_foreign_routes(ip, wanted - present, device)
    change(ip, device, present, wanted)


def change(ip: IPRoute, device: str, present: Overlay, wanted: Overlay) -> None:
    """Replace the entries `present` by `wanted`. Raises `LinkError` naming the object that failed."""
    missing, stale = wanted - present, present - wanted
    # Deletions come first: a new entry may take the place of an old one (a peer whose endpoint or subnet changed).
    for subnet, _ in stale.routes:
        links.remove_route(ip, subnet, device)
    for address, _ in stale.neighbours:
        links.remove_neighbour(ip, address, device)
    for mac, endpoint in stale.forwarding:
        links.remove_fdb(ip, mac, endpoint, device)
    for mac, endpoint in missing.forwarding:
        links.ensure_fdb(ip, mac, endpoint, device)
    for address, mac in missing.neighbours:
        links.ensure_neighbour(ip, address, mac, device)
    for subnet, gateway in missing.routes:
        links.ensure_route(ip, subnet, [gateway], device, onlink=True)


def _refuse_foreign_routes(ip: IPRoute, missing: Overlay, device: str) -> None:
    """A route to a peer's subnet that leads elsewhere, such as to this node's own bridge, is not ours to replace."""
    subnets = {subnet for subnet, _ in missing.routes}
    index = links.index_of(ip, device)
    for destination, _, link in _routes(ip) if subnets else ():
        if destination in subnets and link != index:
            name = socket.if_indextoname(link) if link else "another device"
            raise LinkError(f"route to {destination}: it already leads to {name}, not to {device}")


def _routes(ip: IPRoute) -> list[tuple[str, str, int]]:
    """Destination, gateway (or nothing) and link of every route of the main table."""
    found = []
    for family, anywhere in ((socket.AF_INET, ipaddress.IPv4Address(0)), (socket.AF_INET6, ipaddress.IPv6Address(0))):
        for route in ip.get_routes(family=family, table=_MAIN):
            destination = ipaddress.ip_network(f"{route.get('dst') or anywhere}/{route['dst_len']}")
            found.append((str(destination), route.get("gateway") or "", route.get("oif") or 0))
    return found
