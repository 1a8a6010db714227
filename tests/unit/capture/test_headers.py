"""Headers, from frames written by scapy and from any bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from netlab.capture.headers import Carrier, Headers, endpoint_text, parse, protocol_name, swapped
from netlab.net.addresses import address_text, packed

V4 = {"src": "10.244.1.2", "dst": "10.244.2.3"}
V6 = {"src": "fd00:10:244:1::2", "dst": "fd00:10:244:2::3"}
NODES = {"src": "192.0.2.1", "dst": "192.0.2.2"}
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
HELLO = 0x3610A686
"""crc32 of `hello`."""

TIMESTAMPS: list[Any] = [("NOP", None), ("NOP", None), ("Timestamp", (777, 5))]
HANDSHAKE: list[Any] = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (777, 0)), ("NOP", None), ("WScale", 7)]


def read(packet: Any) -> Headers | None:
    return parse(bytes(Ether(**MACS) / packet))


def shown(headers: Headers | None, *fields: str) -> tuple[Any, ...]:
    assert headers is not None
    return tuple(getattr(headers, field) for field in fields)


@pytest.mark.parametrize(
    ("packet", "fields", "text"),
    [
        (
            IP(**V4, ttl=62, id=9) / TCP(sport=20000, dport=80, flags="SA", seq=5, ack=6, options=HANDSHAKE),
            {"version": 4, "protocol": 6, "ttl": 62, "identification": 9, "length": 60, "seq": 5, "ack": 6}
            | {"timestamp": 777, "flag_letters": "SA", "answers": True, "payload": 0},
            "10.244.1.2:20000 > 10.244.2.3:80 TCP [SA]",
        ),
        (
            IPv6(**V6, hlim=63) / TCP(sport=20000, dport=80, flags="PA", options=TIMESTAMPS) / b"hello",
            {"version": 6, "ttl": 63, "length": 77, "timestamp": 777, "payload": 5, "digest": HELLO, "answers": False},
            "[fd00:10:244:1::2]:20000 > [fd00:10:244:2::3]:80 TCP [PA]",
        ),
        (
            IP(**V4, options=[Raw(b"\1\1\1\0")]) / UDP(sport=20000, dport=53) / b"hello" / b"",
            {"protocol": 17, "sport": 20000, "dport": 53, "payload": 5, "digest": HELLO},
            "10.244.1.2:20000 > 10.244.2.3:53 UDP",
        ),
        (
            Dot1Q(vlan=1) / Dot1Q(vlan=2) / IP(**V4) / UDP(sport=1, dport=2) / b"hello",
            {"payload": 5, "digest": HELLO},
            "10.244.1.2:1 > 10.244.2.3:2 UDP",
        ),
        (
            IPv6(**V6)
            / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(10))])
            / AH(icv=bytes(12))
            / IPv6ExtHdrDestOpt()
            / UDP(sport=1, dport=2)
            / b"hello",
            {"protocol": 17, "payload": 5, "digest": HELLO},
            "[fd00:10:244:1::2]:1 > [fd00:10:244:2::3]:2 UDP",
        ),
        (
            IPv6(**V6) / IPv6ExtHdrFragment(id=7, m=1) / UDP(sport=1, dport=2) / b"hello",
            {"identification": 7, "fragment": 0, "more": True, "sport": 1},
            "[fd00:10:244:1::2]:1 > [fd00:10:244:2::3]:2 UDP fragment at 0",
        ),
        (
            IPv6(**V6) / IPv6ExtHdrFragment(id=7, offset=181, nh=17) / Raw(b"hello"),
            {"protocol": 17, "identification": 7, "fragment": 1448, "more": False, "payload": 5, "digest": HELLO},
            "fd00:10:244:1::2 > fd00:10:244:2::3 UDP fragment at 1448",
        ),
        (
            IP(**V4) / ICMP(id=6, seq=7) / b"hello",
            {"protocol": 1, "icmp_type": 8, "icmp_id": 6, "icmp_seq": 7, "digest": HELLO, "answers": False},
            "10.244.1.2 > 10.244.2.3 ICMP type 8 code 0",
        ),
        (
            IPv6(**V6) / ICMPv6EchoRequest(id=6, seq=7, data=b"hello"),
            {"protocol": 58, "icmp_type": 128, "icmp_id": 6, "icmp_seq": 7, "digest": HELLO},
            "fd00:10:244:1::2 > fd00:10:244:2::3 ICMPv6 type 128 code 0",
        ),
        (
            IP(**V4)
            / ICMP(type=3, code=4, nexthopmtu=1450)
            / bytes(IP(**V4, id=4) / TCP(sport=1, dport=2, seq=3))[:28],
            {"mtu": 1450, "digest": 0},
            "10.244.1.2 > 10.244.2.3 ICMP type 3 code 4 about (10.244.1.2:1 > 10.244.2.3:2 TCP [])",
        ),
        (
            IPv6(**V6) / ICMPv6PacketTooBig(mtu=1430) / IPv6(**V6) / UDP(sport=1, dport=2) / b"hello",
            {"mtu": 1430, "icmp_type": 2},
            "fd00:10:244:1::2 > fd00:10:244:2::3 ICMPv6 type 2 code 0 "
            "about ([fd00:10:244:1::2]:1 > [fd00:10:244:2::3]:2 UDP)",
        ),
        (
            IP(**NODES) / UDP(dport=4789) / VXLAN(vni=7) / Ether() / IP(**V4, ttl=9) / UDP(sport=1, dport=2) / b"hello",
            {"ttl": 9, "digest": HELLO, "carrier": Carrier(7, packed("192.0.2.1"), packed("192.0.2.2"))},
            "10.244.1.2:1 > 10.244.2.3:2 UDP in VXLAN 7 192.0.2.1 > 192.0.2.2",
        ),
        (
            IP(**NODES) / UDP(sport=1, dport=4789) / b"hello",
            {"carrier": None, "digest": HELLO},
            "192.0.2.1:1 > 192.0.2.2:4789 UDP",
        ),
        (
            IP(**NODES) / UDP(sport=1, dport=8472) / VXLAN(vni=7) / Ether() / ARP(),
            {"carrier": None},
            "192.0.2.1:1 > 192.0.2.2:8472 UDP",
        ),
        (IP(**V4, proto=132) / b"hello", {"payload": 5, "digest": HELLO}, "10.244.1.2 > 10.244.2.3 SCTP"),
        (IP(**V4, proto=47) / b"hello", {"payload": 5}, "10.244.1.2 > 10.244.2.3 47"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_headers_of(packet: Any, fields: dict[str, Any], text: str) -> None:
    headers = read(packet)
    assert str(headers) == text
    assert shown(headers, *fields) == tuple(fields.values())


def test_the_middle_of_a_fragmented_packet_has_no_ports() -> None:
    first, *others = fragment(IP(**V4, id=5) / UDP(sport=1, dport=2) / bytes(4000), fragsize=1480)
    assert shown(read(first), "sport", "fragment", "more") == (1, 0, True)
    assert [shown(read(each), "sport", "identification", "fragment", "more") for each in others] == [
        (0, 5, 1480, True),
        (0, 5, 2960, False),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(13),
        bytes(Ether(**MACS) / ARP()),
        bytes(Ether(**MACS, type=0x8100)),
        bytes(Ether(**MACS, type=0x0800) / Raw(bytes(40))),  # version 0
        bytes(Ether(**MACS, type=0x86DD) / Raw(bytes(40))),
        bytes(Ether(**MACS) / IP(**V4, ihl=4)),
        bytes(Ether(**MACS) / IP(**V4, len=10) / UDP()),
        bytes(Ether(**MACS) / IP(**V4) / TCP(dataofs=4)),
        bytes(Ether(**MACS) / IP(**V4) / UDP())[:-5],
    ],
)
def test_what_is_no_ip_packet_has_no_headers(frame: bytes) -> None:
    assert parse(frame) is None


def test_padding_of_a_short_frame_is_no_payload() -> None:
    frame = bytes(Ether(**MACS) / IP(**V4) / UDP(sport=1, dport=2) / b"hello")
    assert parse(frame + bytes(60 - len(frame))) == parse(frame)


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_longer_than_its_length_field_can_say(version: int) -> None:
    header = IP(**V4, len=0) if version == 4 else IPv6(**V6, plen=0)
    headers = parse(bytes(Ether(**MACS) / header / TCP() / bytes(100_000)))
    assert shown(headers, "length", "payload") == (0, 100_000)


def test_a_capture_may_end_before_the_packet() -> None:
    whole = bytes(Ether(**MACS) / IP(**V4) / UDP(sport=1, dport=2) / bytes(2000))
    assert parse(whole[:600]) == parse(whole)


def test_what_a_nat_changes_leaves_the_rest_as_it_was() -> None:
    before = IP(**V4, id=3) / ICMP(type=3, code=3) / IP(src="10.0.0.1", dst="10.96.0.1", id=8) / UDP(sport=5, dport=6)
    after = IP(**V4, id=3) / ICMP(type=3, code=3) / IP(src="10.0.0.1", dst="10.244.1.9", id=8) / UDP(sport=5, dport=7)
    same = ("identification", "icmp_type", "icmp_code", "payload", "digest")
    assert shown(read(before), *same) == shown(read(after), *same)


VALID = [
    bytes(Ether(**MACS) / IP(**V4) / TCP(options=HANDSHAKE) / b"hello"),
    bytes(Ether(**MACS) / IP(**V4) / ICMP(type=11) / IP(**V4) / TCP()),
    bytes(Ether(**MACS) / IPv6(**V6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment() / UDP() / b"hello"),
    bytes(Ether(**MACS) / IPv6(**V6) / ICMPv6PacketTooBig() / IPv6(**V6) / ICMPv6EchoRequest()),
    bytes(Ether(**MACS) / IP(**NODES) / UDP(dport=4789) / VXLAN() / Ether() / IPv6(**V6) / TCP(options=TIMESTAMPS)),
]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    str(parse(data))


@given(st.sampled_from(VALID), st.data())
def test_any_damage_to_a_frame_is_read_or_refused(frame: bytes, data: st.DataObject) -> None:
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(12, len(frame) - 1))] = data.draw(st.integers(0, 255))
    headers = parse(bytes(damaged[: data.draw(st.integers(0, len(frame)))]))
    if headers is not None:
        assert len(headers.source) == (4 if headers.version == 4 else 16)
        assert swapped(swapped(headers.flow)) == headers.flow
        str(headers)


def test_tunnels_in_tunnels_are_opened_once() -> None:
    frame = bytes(Ether(**MACS) / IP(**V4) / UDP(dport=1) / b"hello")
    for _ in range(1000):
        frame = bytes(Ether(**MACS) / IP(**NODES, len=0) / UDP(dport=4789, len=0, chksum=0) / VXLAN() / Raw(frame))
    assert shown(parse(frame), "dport") == (4789,)


@pytest.mark.parametrize(
    ("address", "port", "text"),
    [("10.0.0.1", 80, "10.0.0.1:80"), ("fd00::1", 80, "[fd00::1]:80"), ("fd00::1", 0, "fd00::1")],
)
def test_text_of_an_end(address: str, port: int, text: str) -> None:
    assert address_text(packed(address)) == address
    assert endpoint_text(packed(address), port) == text


def test_names_of_protocols() -> None:
    assert [protocol_name(number) for number in (6, 17, 58, 200)] == ["TCP", "UDP", "ICMPv6", "200"]
