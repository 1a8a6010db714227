"""Packets of a connection make one line: who, whom, how many each way, and how it ended."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether

from netlab.capture.conversations import Conversation, Conversations
from netlab.capture.correlate import Translation, journeys, sighting
from netlab.capture.taps import Tap
from netlab.net.addresses import packed

CLIENT = Tap("node-1", "default/a", "eth0", "pod", "node-1 veth1")
SERVER = Tap("node-1", "default/b", "eth0", "pod")
A, VIP, B = "10.244.1.2", "10.96.0.10", "10.244.1.3"
NAT = [
    Translation("node-1", 6, (packed(A), port, packed(VIP), 80), (packed(B), 8080, packed(A), port))
    for port in (4000, 4001, 4002)
]
MS = 1_000_000
SECOND = 1_000 * MS


def tcp(flags: str, *, reply: bool = False, time: int = 0, sport: int = 4000) -> list[Any]:
    """A segment between the client's end and the server's, as both taps see it."""
    there = [(CLIENT, True, A, VIP, sport, 80), (SERVER, False, A, B, sport, 8080)]
    back = [(SERVER, True, B, A, 8080, sport), (CLIENT, False, VIP, A, 80, sport)]
    return [
        sighting(
            tap,
            time + number,
            outgoing,
            bytes(Ether() / IP(src=src, dst=dst, id=1 + time % 60_000) / TCP(sport=one, dport=other, flags=flags)),
        )
        for number, (tap, outgoing, src, dst, one, other) in enumerate(back if reply else there)
    ]


def of(*packets: list[Any]) -> list[Conversation]:
    found = Conversations()
    found.add(journeys([each for packet in packets for each in packet], NAT))
    return found.flush()


def test_a_connection_is_one_line_with_its_translation() -> None:
    (one,) = of(
        tcp("S"),
        tcp("SA", reply=True, time=1 * MS),
        tcp("A", time=2 * MS),
        tcp("FA", time=3 * MS),
        tcp("FA", reply=True, time=4 * MS),
        tcp("A", time=5 * MS),
    )
    assert (one.requests, one.replies, one.end, one.over) == (4, 2, "", True)
    assert one.client == (packed(A), 4000, packed(VIP), 80)
    assert one.reached == (packed(A), 4000, packed(B), 8080)
    assert one.last - one.began == 5 * MS + 1


@pytest.mark.parametrize(
    ("packets", "end"),
    [
        ([tcp("S")], "no answer"),
        ([tcp("S"), tcp("SA", reply=True, time=MS)], "open"),
        ([tcp("S"), tcp("RA", reply=True, time=MS)], "refused"),
        ([tcp("S"), tcp("SA", reply=True, time=MS), tcp("RA", reply=True, time=2 * MS)], "reset"),
        ([tcp("S"), tcp("SA", reply=True, time=MS), tcp("R", time=2 * MS)], "reset"),
    ],
)
def test_it_says_how_it_ended(packets: list[list[Any]], end: str) -> None:
    (one,) = of(*packets)
    assert one.end == end


def test_an_icmp_error_ends_the_connection_that_it_is_about() -> None:
    asked = IP(src=A, dst=B, id=9) / UDP(sport=4000, dport=9)
    error = IP(src="10.244.1.1", dst=A, id=10) / ICMP(type=3, code=3) / asked
    seen = [sighting(CLIENT, 0, True, bytes(Ether() / asked)), sighting(CLIENT, MS, False, bytes(Ether() / error))]
    found = Conversations()
    found.add(journeys(each for each in seen if each))
    (one,) = found.flush()
    assert (one.protocol, one.requests, one.replies, one.end) == (17, 1, 1, "unreachable")


def test_it_is_handed_out_when_it_is_over_silent_or_long_and_not_before() -> None:
    packets = [
        *tcp("S"), *tcp("RA", reply=True, time=MS),
        *tcp("S", time=2 * MS, sport=4001),
        *(each for n in range(7) for each in tcp("A", time=3 * MS + n * 900 * MS, sport=4002)),
    ]  # fmt: skip
    found = Conversations()
    found.add(journeys(packets, NAT))

    def ports(time: int) -> list[int]:
        return [one.client[1] for one in found.ended(time)]

    assert ports(100 * MS) == []
    assert ports(300 * MS) == [4000]
    assert ports(SECOND) == []
    assert ports(SECOND + 10 * MS) == [4001]
    assert ports(5 * SECOND) == []
    assert ports(5 * SECOND + 10 * MS) == [4002]
    assert found.flush() == []


def test_a_second_connection_between_the_same_ports_is_another() -> None:
    first, second = of(
        tcp("S"), tcp("RA", reply=True, time=MS), tcp("S", time=2 * MS), tcp("SA", reply=True, time=3 * MS)
    )
    assert (first.end, second.end) == ("refused", "open")
