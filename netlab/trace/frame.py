"""What links carry: frames, with the VXLAN packets around them."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from netlab.net.route.vxlan import VXLAN_OVERHEAD
from netlab.trace.state import Vxlan
from netlab.trace.translation import Packet


class Carrier(NamedTuple):
    """The VXLAN packet around a frame, and that frame's addresses."""

    vxlan: Vxlan
    source: str
    destination: str
    inner: Frame

    def __str__(self) -> str:
        return f"VXLAN {self.vxlan.vni} {self.source} > {self.destination}"

    @property
    def version(self) -> int:
        """The IP version."""
        return 6 if ":" in self.destination else 4


class Frame(NamedTuple):
    """What a link carries: the destination MAC address, the packet, and the VXLAN packet around it, if any."""

    to: str
    packet: Packet
    carrier: Carrier | None = None

    @property
    def size(self) -> int:
        """The size of the outermost IP packet, in bytes."""
        return self.packet.size + self._around if self.packet.size else 0

    @property
    def version(self) -> int:
        """The IP version of the outermost packet."""
        return self.carrier.version if self.carrier else self.packet.version

    @property
    def fragmentable(self) -> bool:
        """Whether it may be fragmented on the way: the kernel allows it for tunnel packets."""
        return self.carrier is not None or self.packet.fragment

    def fragmented(self, mtu: int) -> Frame:
        """The frame of the first fragment."""
        return self._replace(packet=dataclasses.replace(self.packet, size=mtu - self._around))

    @property
    def _around(self) -> int:
        return VXLAN_OVERHEAD[self.carrier.version] if self.carrier else 0
