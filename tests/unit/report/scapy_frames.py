"""Frames of a connection through a Service, as two pods see them."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from netlab.capture.ring import Frame
from tests.unit.report.frames import CLIENT, WEB


def handshake() -> list[Frame]:
    """SYN and SYN-ACK of a client (port 20000) with a pod behind 10.96.0.10:80."""
    asked = TCP(sport=20000, dport=80, flags="S", seq=1000)
    taken = TCP(sport=20000, dport=8080, flags="S", seq=1000)
    answered = TCP(sport=8080, dport=20000, flags="SA", seq=5000, ack=1001)
    returned = TCP(sport=80, dport=20000, flags="SA", seq=5000, ack=1001)
    packets = [
        (CLIENT, True, IP(src="10.244.1.2", dst="10.96.0.10", id=1) / asked),
        (WEB, False, IP(src="10.244.1.2", dst="10.244.2.3", id=1, ttl=62) / taken),
        (WEB, True, IP(src="10.244.2.3", dst="10.244.1.2", id=0) / answered),
        (CLIENT, False, IP(src="10.96.0.10", dst="10.244.1.2", id=0, ttl=62) / returned),
    ]
    frames = []
    for index, (tap, outgoing, packet) in enumerate(packets):
        data = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)
        frames.append(Frame(tap, 1_000_000_000 + index * 50_000, outgoing, data, len(data)))
    return frames
