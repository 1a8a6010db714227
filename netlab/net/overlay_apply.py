"""Reading and writing a VXLAN device's peer entries (forwarding, neighbours and routes).

They are read with pyroute2 and written with raw netlink, many at a time: every node of a lab has some for each other
one.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator

from pyroute2 import IPRoute

from netlab.net import links
from netlab.net.links import LinkError
from netlab.net.netlink import Message, NetlinkError
from netlab.net.overlay import Overlay
from netlab.net.route import neighbours, routes
from netlab.net.route.socket import Rtnetlink

_NUD_PERMANENT = 0x80
_MAIN = 254
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})
"""What the kernel says when there is nothing to be deleted."""
_AT_ONCE = 100
"""Messages that are sent together: their answers must find room in the socket's buffer."""


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
    change(device, present, wanted)


def change(device: str, present: Overlay, wanted: Overlay, *, onlink: bool = True) -> None:
    """Replace the entries `present` by `wanted`. Raises `LinkError` naming the object that failed.

    With `onlink` the kernel accepts a gateway that no address of the link covers.
    """
    missing, stale = wanted - present, present - wanted
    with Rtnetlink() as kernel:
        try:
            link = kernel.link(device)
            if link is None:
                raise LinkError(f"link {device}: no such link")
            # Deletions come first: a new entry may take an old one's place (a peer whose endpoint or subnet changed).
            for message in _deletions(stale, device, link.index):
                with _tolerating_gone():
                    kernel.send(message)
            made = _additions(missing, device, link.index, onlink=onlink)
            for start in range(0, len(made), _AT_ONCE):
                kernel.send(*made[start : start + _AT_ONCE])
        except NetlinkError as error:
            raise LinkError(f"{error.filename}: {os.strerror(error.errno or 0)}") from error


def _deletions(stale: Overlay, device: str, index: int) -> list[Message]:
    return [
        *(routes.deletion(subnet, *_network(subnet), index) for subnet, _ in stale.routes),
        *(neighbours.deletion(address, device, index) for address, _ in stale.neighbours),
        *(neighbours.forwarding_deletion(mac, endpoint, device, index) for mac, endpoint in stale.forwarding),
    ]


def _additions(missing: Overlay, device: str, index: int, *, onlink: bool) -> list[Message]:
    return [
        *(neighbours.forwarding(mac, endpoint, device, index) for mac, endpoint in missing.forwarding),
        *(neighbours.replacement(address, mac, device, index) for address, mac in missing.neighbours),
        *(
            routes.replacement(subnet, *_network(subnet), index, neighbours.packed_address(gateway), onlink=onlink)
            for subnet, gateway in missing.routes
        ),
    ]


def _network(subnet: str) -> tuple[bytes, int]:
    address, _, length = subnet.partition("/")
    return neighbours.packed_address(address), int(length)


@contextlib.contextmanager
def _tolerating_gone() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.errno not in _GONE:
            raise


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
