"""Packets for checks and people: decoded by scapy, as small values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from netlab.net.addresses import end_text


@dataclasses.dataclass(frozen=True)
class Packet:
    """An IP packet as it was seen at one interface.

    `time` is in nanoseconds since the epoch; ports are 0 if the protocol (TCP, UDP, ICMP, ICMPv6, or its number) has
    none; `flags` are those of TCP, a letter each (S, SA, F, R ...), and `icmp_type` is that of ICMP or ICMPv6. `ttl` is
    also IPv6's hop limit. `length` is that of the IP packet in bytes, including its header. `inner` is the packet that
    a VXLAN packet (RFC 7348) carries in the network `vni`.
    """

    time: int
    source: str
    destination: str
    protocol: str
    ttl: int
    length: int
    source_port: int = 0
    destination_port: int = 0
    flags: str = ""
    icmp_type: int | None = None
    fragment: bool = False
    payload: bytes = b""
    vni: int | None = None
    inner: Packet | None = None

    def __str__(self) -> str:
        source, destination = (
            end_text(self.source, self.source_port),
            end_text(self.destination, self.destination_port),
        )
        carried = "" if self.inner is None else f" VXLAN {self.vni} ({self.inner})"
        kind = f" type {self.icmp_type}" if self.icmp_type is not None else f" [{self.flags}]" if self.flags else ""
        return f"{source} > {destination} {self.protocol}{kind}{carried}"


def decode(frame: bytes, time: int) -> Packet | None:
    """The IP packet of an Ethernet frame that was captured at that time (in ns); None for others (ARP)."""
    from scapy.layers import inet, inet6, vxlan  # noqa: F401 - importing them registers their headers with scapy (and takes 0.2 s)
    from scapy.layers.l2 import Ether

    return _packet(Ether(frame), time)


def select(packets: Iterable[Packet], **fields: object) -> list[Packet]:
    """Those packets whose named fields have these values: `select(packets, destination="10.96.0.10", flags="S")`."""
    return [packet for packet in packets if all(getattr(packet, name) == value for name, value in fields.items())]


def _packet(frame: Any, time: int) -> Packet | None:
    """The outermost IP packet of a scapy packet."""
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
    from scapy.layers.l2 import Ether
    from scapy.layers.vxlan import VXLAN

    header = next((layer for layer in _layers(frame) if isinstance(layer, IP | IPv6)), None)
    if header is None:
        return None
    fields: dict[str, Any] = {"time": time, "source": header.src, "destination": header.dst}
    if isinstance(header, IP):
        fields |= {"ttl": header.ttl, "length": header.len, "protocol": str(header.proto)}
        fields["fragment"] = bool(header.flags.MF) or header.frag > 0
    else:
        fields |= {"ttl": header.hlim, "length": header.plen + _IPV6_HEADER, "protocol": str(header.nh)}
    for layer in _layers(header.payload):
        if isinstance(layer, IPv6ExtHdrFragment):
            fields |= {"fragment": True, "protocol": str(layer.nh)}
        elif isinstance(layer, TCP | UDP):
            fields |= {"source_port": layer.sport, "destination_port": layer.dport, "payload": _payload(layer)}
            fields["protocol"] = "TCP" if isinstance(layer, TCP) else "UDP"
            if isinstance(layer, TCP):
                fields["flags"] = str(layer.flags)
        elif isinstance(layer, ICMP) or type(layer).__name__.startswith("ICMPv6"):
            fields |= {"protocol": "ICMP" if isinstance(layer, ICMP) else "ICMPv6", "icmp_type": layer.type}
            break  # what follows is quoted from another packet
        elif isinstance(layer, VXLAN):
            fields |= {"vni": layer.vni, "inner": _packet(layer.payload, time)}
            break
        elif isinstance(layer, Ether):
            break
    return Packet(**fields)


_IPV6_HEADER = 40


def _layers(packet: Any) -> Iterable[Any]:
    """A packet's headers, the outermost first."""
    while packet:
        yield packet
        packet = packet.payload


def _payload(layer: Any) -> bytes:
    from scapy.packet import Padding

    content = layer.payload
    if isinstance(content, Padding):
        return b""
    whole = bytes(content)
    trailer = content.getlayer(Padding)
    return whole[: len(whole) - len(trailer.load)] if trailer is not None else whole
