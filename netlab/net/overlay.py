"""The peer entries of a VXLAN device, as a value; netlab.net.overlay_apply reads and writes them."""

from __future__ import annotations

import dataclasses


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
