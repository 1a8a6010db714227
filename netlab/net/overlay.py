"""The peer entries of a VXLAN device: a value, and how it is read from the kernel and written to it.

Entries are written many at a time: every node of a lab has some for each other one.
"""

from __future__ import annotations

import dataclasses
import errno
import socket
from collections.abc import Iterator

from netlab.net.addresses import address_text, packed, packed_network
from netlab.net.netlink import Message, NetlinkError
from netlab.net.route import neighbours, routes
from netlab.net.route.neighbours import NUD_PERMANENT, neighbours_of
from netlab.net.route.routes import RT_TABLE_MAIN, Route, routes_of
from netlab.net.route.socket import Rtnetlink

_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})
"""What the kernel says when there is nothing to be deleted."""
_AT_ONCE = 100
"""Messages that are sent together: their answers must find room in the socket's buffer."""
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@dataclasses.dataclass(frozen=True)
class Overlay:
    """The peers of a VXLAN device, in the kernel's terms; addresses, MAC addresses and subnets as text.

    Frames for a MAC address leave to an endpoint (`forwarding`), gateways have a MAC address (`neighbours`), and
    subnets are reached through a gateway (`routes`).
    """

    forwarding: frozenset[tuple[str, str]] = frozenset()
    neighbours: frozenset[tuple[str, str]] = frozenset()
    routes: frozenset[tuple[str, str]] = frozenset()

    def __sub__(self, other: Overlay) -> Overlay:
        return Overlay(
            self.forwarding - other.forwarding, self.neighbours - other.neighbours, self.routes - other.routes
        )

    def describe(self, device: str) -> list[str]:
        """Each entry in words, in a fixed order."""
        return [
            *(f"forwarding entry {mac} to {endpoint} on {device}" for mac, endpoint in sorted(self.forwarding)),
            *(f"neighbour {address} with {mac} on {device}" for address, mac in sorted(self.neighbours)),
            *(f"route to {subnet} via {gateway} on {device}" for subnet, gateway in sorted(self.routes)),
        ]


def read(kernel: Rtnetlink, device: str) -> Overlay:
    """The device's current entries. Raises `NetlinkError`: ENODEV if there is no such device."""
    index = kernel.existing(device).index
    return Overlay(
        forwarding=frozenset(
            (entry.mac, address_text(entry.packed))
            for entry in neighbours_of(kernel, socket.AF_BRIDGE, index)
            if entry.packed
        ),
        neighbours=frozenset(
            (address_text(entry.packed), entry.mac)
            for family in _FAMILIES
            for entry in neighbours_of(kernel, family, index)
            if entry.state & NUD_PERMANENT
        ),
        routes=frozenset(
            (_subnet(route), address_text(route.gateway))
            for route in main_routes(kernel)
            if route.index == index and route.gateway
        ),
    )


def apply(kernel: Rtnetlink, device: str, wanted: Overlay) -> None:
    """Make the device's entries exactly `wanted`. Raises `NetlinkError` naming the object at fault."""
    present = read(kernel, device)
    _refuse_foreign_routes(kernel, wanted - present, device)
    change(kernel, device, present, wanted)


def change(kernel: Rtnetlink, device: str, present: Overlay, wanted: Overlay, *, onlink: bool = True) -> None:
    """Replace the entries `present` by `wanted`. Raises `NetlinkError` naming the object that failed.

    With `onlink` the kernel accepts a gateway that no address of the link covers.
    """
    missing, stale = wanted - present, present - wanted
    index = kernel.existing(device).index
    # Deletions come first: a new entry may take an old one's place (a peer whose endpoint or subnet changed).
    for message in _deletions(stale, device, index):
        try:
            kernel.send(message)
        except NetlinkError as error:
            if error.errno not in _GONE:
                raise
    made = list(_additions(missing, device, index, onlink=onlink))
    for start in range(0, len(made), _AT_ONCE):
        kernel.send(*made[start : start + _AT_ONCE])


def main_routes(kernel: Rtnetlink) -> Iterator[Route]:
    """The routes of the main table, both families. Raises `NetlinkError`."""
    return (each for family in _FAMILIES for each in routes_of(kernel, family) if each.table == RT_TABLE_MAIN)


def _deletions(stale: Overlay, device: str, index: int) -> Iterator[Message]:
    for subnet, _ in stale.routes:
        yield routes.deletion(subnet, *packed_network(subnet), index)
    for address, _ in stale.neighbours:
        yield neighbours.deletion(address, device, index)
    for mac, endpoint in stale.forwarding:
        yield neighbours.forwarding_deletion(mac, endpoint, device, index)


def _additions(missing: Overlay, device: str, index: int, *, onlink: bool) -> Iterator[Message]:
    for mac, endpoint in missing.forwarding:
        yield neighbours.forwarding(mac, endpoint, device, index)
    for address, mac in missing.neighbours:
        yield neighbours.replacement(address, mac, device, index)
    for subnet, gateway in missing.routes:
        yield routes.replacement(subnet, *packed_network(subnet), index, [packed(gateway)], onlink=onlink)


def _refuse_foreign_routes(kernel: Rtnetlink, missing: Overlay, device: str) -> None:
    """A route to a peer's subnet that leads elsewhere, such as to this node's own bridge, is not ours to replace."""
    subnets = {subnet for subnet, _ in missing.routes}
    index = kernel.existing(device).index
    for route in main_routes(kernel) if subnets else ():
        subnet = _subnet(route)
        if subnet in subnets and route.index != index:
            name = socket.if_indextoname(route.index) if route.index else "another device"
            raise NetlinkError(errno.EEXIST, f"it already leads to {name}, not to {device}", f"route to {subnet}")


def _subnet(route: Route) -> str:
    return f"{address_text(route.packed)}/{route.length}"
