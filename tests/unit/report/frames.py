"""Frames and journeys made by hand."""

from __future__ import annotations

from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import ACK, SYN, TCP, Headers
from netlab.capture.taps import Kind, Tap
from netlab.net.addresses import packed

MILLISECOND = 1_000_000


def tap(owner: str, interface: str = "eth0", machine: str = "node-1", kind: Kind = "pod") -> Tap:
    return Tap(machine, owner, interface, kind)


def tcp(source: str, sport: int, destination: str, dport: int, flags: int = SYN, ttl: int = 64) -> Headers:
    version = 6 if ":" in source else 4
    return Headers(version, TCP, packed(source), sport, packed(destination), dport, ttl, 60, flags=flags)


def journey(*seen: tuple[Tap, Headers], begin: int = 0, reply: bool = False) -> Journey:
    """A packet that is at a tap after another each 10 microseconds; the first sends it."""
    sightings = tuple(
        Sighting(place, begin + index * 10_000, not index, headers) for index, (place, headers) in enumerate(seen)
    )
    return Journey(sightings, sightings[0].headers.flow, reply)


CLIENT, WEB = tap("lesson/client"), tap("lesson/web", machine="node-2")
NODE = tap("node-1", "cni0", kind="bridge")

TO_SERVICE, TO_POD = tcp("10.244.1.2", 20000, "10.96.0.10", 80), tcp("10.244.1.2", 20000, "10.244.2.3", 8080, ttl=62)
FROM_POD = tcp("10.244.2.3", 8080, "10.244.1.2", 20000, SYN | ACK)
FROM_SERVICE = tcp("10.96.0.10", 80, "10.244.1.2", 20000, SYN | ACK, ttl=62)
NAMES = {"10.96.0.10": "web (Service)", "192.0.2.253": "outside"}
