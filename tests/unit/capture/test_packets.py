"""Records of packets, from frames made by scapy."""

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Padding, Raw

from netlab.capture.packets import Packet, decode, select

V4 = {"src": "10.244.1.2", "dst": "10.244.2.3"}
V6 = {"src": "fd00:10:244:1::2", "dst": "fd00:10:244:2::3"}
ENDS_4 = {"source": V4["src"], "destination": V4["dst"]}
ENDS_6 = {"source": V6["src"], "destination": V6["dst"]}


def _decode(*frames: Any) -> list[Packet]:
    decoded = (decode(bytes(frame), time) for time, frame in enumerate(frames))
    return [packet for packet in decoded if packet is not None]


@pytest.mark.parametrize(
    ("packet", "fields", "text"),
    [
        (
            IP(**V4, ttl=62) / TCP(sport=20000, dport=80, flags="SA"),
            {**ENDS_4, "protocol": "TCP", "ttl": 62, "length": 40, "flags": "SA", "source_port": 20000},
            "10.244.1.2:20000 > 10.244.2.3:80 TCP [SA]",
        ),
        (
            IPv6(**V6, hlim=63) / UDP(sport=20000, dport=53) / b"hello",
            {**ENDS_6, "protocol": "UDP", "ttl": 63, "length": 53, "payload": b"hello", "destination_port": 53},
            "[fd00:10:244:1::2]:20000 > [fd00:10:244:2::3]:53 UDP",
        ),
        (
            IP(**V4) / ICMP(type=3, code=3) / IPerror(**V4) / UDPerror(sport=1, dport=2),
            {**ENDS_4, "protocol": "ICMP", "icmp_type": 3, "source_port": 0},
            "10.244.1.2 > 10.244.2.3 ICMP type 3",
        ),
        (
            IPv6(**V6) / ICMPv6DestUnreach(code=4),
            {**ENDS_6, "protocol": "ICMPv6", "icmp_type": 1},
            "fd00:10:244:1::2 > fd00:10:244:2::3 ICMPv6 type 1",
        ),
        (IP(**V4, flags="MF") / UDP(sport=1, dport=2) / b"x", {"fragment": True, "protocol": "UDP"}, None),
        (IP(**V4, frag=185, proto=17) / b"rest", {"fragment": True, "protocol": "17", "source_port": 0}, None),
        (
            IPv6(**V6) / IPv6ExtHdrFragment(nh=17, m=1) / UDP(sport=1, dport=2) / b"x",
            {"fragment": True, "protocol": "UDP"},
            None,
        ),
        (IP(**V4, proto=132) / b"sctp", {"protocol": "132", "fragment": False}, "10.244.1.2 > 10.244.2.3 132"),
    ],
)
def test_a_packet_becomes_a_record(packet: Any, fields: dict[str, object], text: str | None) -> None:
    (found,) = _decode(Ether() / packet)
    assert {name: getattr(found, name) for name in fields} == fields
    assert text is None or str(found) == text


@pytest.mark.parametrize("underlay", [IP(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")])
def test_a_vxlan_packet_carries_another(underlay: Any) -> None:
    inner = Ether() / IP(**V4) / TCP(sport=20000, dport=8080, flags="S")
    (found,) = _decode(Ether() / underlay / UDP(sport=54064, dport=4789) / VXLAN(vni=1, flags="Instance") / inner)
    assert (found.source, found.destination, found.destination_port) == (underlay.src, underlay.dst, 4789)
    assert found.vni == 1
    assert found.inner is not None
    assert str(found.inner) == "10.244.1.2:20000 > 10.244.2.3:8080 TCP [S]"
    assert str(found).endswith("UDP VXLAN 1 (10.244.1.2:20000 > 10.244.2.3:8080 TCP [S])")


def test_what_is_not_ip_is_left_out() -> None:
    arp = Ether() / ARP(pdst="10.244.1.1")
    inside = Ether() / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=4789) / VXLAN(vni=1) / arp
    (found,) = _decode(arp, inside)
    assert found.inner is None


def test_padding_to_the_shortest_frame_is_no_payload() -> None:
    answered, silent = _decode(
        Ether() / IP(**V4) / UDP(sport=1, dport=2) / Raw(b"far") / Padding(b"\0" * 15),
        Ether() / IP(**V4) / TCP(sport=1, dport=2, flags="A") / Padding(b"\0" * 6),
    )
    assert (answered.payload, silent.payload) == (b"far", b"")


def test_a_packet_has_the_time_of_its_frame() -> None:
    time = 1_800_000_000_123_456_789
    found = decode(bytes(Ether() / IP(**V4) / UDP()), time)
    assert found is not None
    assert found.time == time


def test_packets_are_chosen_by_their_fields() -> None:
    packets = _decode(
        Ether() / IP(**V4) / TCP(sport=1, dport=80, flags="S"),
        Ether() / IP(src=V4["dst"], dst=V4["src"]) / TCP(sport=80, dport=1, flags="SA"),
    )
    assert select(packets, source=V4["src"], flags="S") == packets[:1]
    assert select(packets, flags="R") == []


@pytest.mark.parametrize("length", [14, 20, 34, 40, 44])
def test_a_frame_that_was_cut_short_is_no_error(length: int) -> None:
    whole = bytes(Ether() / IP(**V4) / UDP(sport=1, dport=2) / b"hello")
    found = decode(whole[:length], 0)
    assert found is None or found.source == V4["src"]
