"""From frames to a file with comments and to rows; bounded, and never silent about what was left out."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from netlab.capture import pcapng, rendering
from netlab.capture.changes import Change
from netlab.capture.correlate import Journey, Translation
from netlab.capture.headers import parse
from netlab.capture.ring import Frame
from netlab.capture.session import FOLLOWED, Session
from netlab.capture.taps import Tap
from netlab.net.addresses import packed

CLIENT = Tap("node-1", "default/a", "eth0", "pod", "node-1 veth1")
VETH = Tap("node-1", "node-1", "veth1", "veth", "default/a eth0")
SERVER = Tap("node-1", "default/b", "eth0", "pod")
MS = 1_000_000
A, VIP, B = "10.244.1.2", "10.96.0.10", "10.244.1.3"
NAT = Translation(
    "node-1",
    6,
    (packed(A), 4000, packed(VIP), 80),
    (packed(B), 8080, packed(A), 4000),
)


def frame(tap: Tap, time: int, packet: Any, *, outgoing: bool = False) -> Frame:
    data = bytes(Ether() / packet)
    return Frame(tap, time, outgoing, data, len(data))


def request(time: int) -> list[Frame]:
    dialled = IP(src=A, dst=VIP, id=7, ttl=64) / TCP(sport=4000, dport=80, flags="S", seq=5)
    reached = IP(src=A, dst=B, id=7, ttl=63) / TCP(sport=4000, dport=8080, flags="S", seq=5)
    return [
        frame(CLIENT, time, dialled, outgoing=True),
        frame(VETH, time + 1000, dialled),
        frame(SERVER, time + 90_000, reached),
    ]


def reply(time: int) -> list[Frame]:
    sent = IP(src=B, dst=A, id=0, ttl=64) / TCP(sport=8080, dport=4000, flags="SA", seq=1, ack=6)
    got = IP(src=VIP, dst=A, id=0, ttl=63) / TCP(sport=80, dport=4000, flags="SA", seq=1, ack=6)
    return [frame(SERVER, time, sent, outgoing=True), frame(CLIENT, time + 1000, got)]


def cause(before: object, after: object, change: Change) -> Change:
    return msgspec.structs.replace(change, service="ours") if "DNAT" in change.kind else change


def followed(frames: list[Frame], *translations: Translation) -> list[Journey]:
    session = Session(None, cause)
    session.learn(translations)
    return session.add(frames, crowded=False).journeys + session.finish()


def test_what_changed_and_by_what_is_in_the_file_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "packets.pcapng"
    with pcapng.Writer(path) as writer:
        session = Session(writer, cause)
        session.learn([NAT])
        frames = [*request(0), frame(VETH, 2 * MS, ARP()), *reply(3 * MS)]
        assert session.add(frames, crowded=False).journeys == []
        journeys = session.finish()
    recording = pcapng.read(path)
    assert [each.time for each in recording.frames] == [each.time for each in frames]
    assert recording.comments == {
        2: f"DNAT {VIP}:80 -> {B}:8080 by Service ours; TTL 64 -> 63",
        5: f"un-DNAT {B}:8080 -> {VIP}:80 by Service ours; TTL 64 -> 63",
    }
    assert [journey.reply for journey in journeys] == [False, True]
    assert session.frames == 6


def test_frames_are_written_when_it_is_known_what_became_of_them(tmp_path: Path) -> None:
    path = tmp_path / "packets.pcapng"
    with pcapng.Writer(path) as writer:
        session = Session(writer, cause)
        session.add(request(0), crowded=False)
        assert session.advance(100 * MS) == []
        writer.flush()
        assert pcapng.read(path).frames == []
        assert len(session.advance(600 * MS)) == 1
        writer.flush()
        assert len(pcapng.read(path).frames) == 3


def test_too_many_are_written_all_the_same_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "packets.pcapng"
    flood = [
        frame(CLIENT, number * 1000, IP(src=A, dst=B, id=number) / UDP(sport=1, dport=2) / Raw(b"x"))
        for number in range(FOLLOWED + 50)
    ]
    rare = frame(CLIENT, 10 * MS, IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=3, dport=4))
    with pcapng.Writer(path) as writer:
        session = Session(writer, cause)
        seen = session.add([*flood, rare], crowded=True)
        session.finish()
    assert len(seen.sightings) == FOLLOWED + 1
    assert session.unfollowed == 50
    assert len(pcapng.read(path).frames) == FOLLOWED + 51
    session = Session(None, cause)
    assert len(session.add(flood, crowded=False).sightings) == len(flood)


def test_frames_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netlab.capture.session._WAITING", 10)
    path = tmp_path / "packets.pcapng"
    with pcapng.Writer(path) as writer:
        session = Session(writer, cause)
        for number in range(30):
            packet = IP(src=A, dst=B, id=number) / UDP(sport=1, dport=2)
            session.add([frame(CLIENT, number, packet)], crowded=False)
        writer.flush()
        assert len(pcapng.read(path).frames) == 20


def test_the_four_addresses_are_the_same_both_ways() -> None:
    journeys = followed([*request(0), *reply(MS)], NAT)
    expected = rendering.Addresses(f"{A}:4000", f"{VIP}:80", f"{A}:4000", f"{B}:8080")
    assert [rendering.addresses(each) for each in journeys] == [expected, expected]
    assert rendering.way(journeys[0].sightings) == "default/a eth0 > node-1 veth1 > default/b eth0"


def test_an_icmp_error_is_of_the_connection_that_it_is_about() -> None:
    dialled = IP(src=A, dst=VIP, id=7) / UDP(sport=4000, dport=53)
    reached = IP(src=A, dst=B, id=7) / UDP(sport=4000, dport=5353)
    error = IP(src=B, dst=A, id=9) / ICMP(type=3, code=3) / reached
    translation = NAT._replace(
        protocol=17, original=(packed(A), 4000, packed(VIP), 53), reply=(packed(B), 5353, packed(A), 4000)
    )
    journeys = followed(
        [
            frame(CLIENT, 0, dialled, outgoing=True),
            frame(SERVER, 1000, reached),
            frame(SERVER, MS, error, outgoing=True),
        ],
        translation,
    )
    expected = rendering.Addresses(f"{A}:4000", f"{VIP}:53", f"{A}:4000", f"{B}:5353")
    assert [(rendering.addresses(each), each.reply) for each in journeys] == [(expected, False), (expected, True)]
    assert rendering.said(journeys[1].sightings[0].headers) == "port unreachable"


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (IP() / TCP(flags="PA") / Raw(b"12345"), "[PA] 5 B"),
        (IP() / TCP(flags="S"), "[S]"),
        (IP() / UDP(sport=1, dport=2) / Raw(b"12"), "2 B"),
        (IP() / UDP(sport=1, dport=2), ""),
        (IP() / ICMP(type=8), "echo request"),
        (IP() / ICMP(type=3, code=4, nexthopmtu=1450) / IP() / UDP(), "packet too big for MTU 1450"),
        (IP() / ICMP(type=3, code=9), "network administratively prohibited"),
        (IP() / ICMP(type=3, code=7), "destination unreachable (code 7)"),
        (IP() / ICMP(type=200), "type 200"),
        (IP(frag=10, proto=17) / Raw(b"1234"), "fragment at 80, 4 B"),
        (IP(proto=132) / Raw(struct.pack("!HH", 1, 2)), "4 B"),
    ],
)
def test_a_packet_in_a_few_words(packet: Any, words: str) -> None:
    headers = parse(bytes(Ether() / packet))
    assert headers is not None
    assert rendering.said(headers) == words


def test_values_for_programs() -> None:
    (journey,) = followed(request(0), NAT)
    session = Session(None, cause)
    value = rendering.values(journey, session.explained(journey))
    assert {key: value[key] for key in ("time", "protocol", "reply", "client", "endpoint", "about")} == {
        "time": 0,
        "protocol": "tcp",
        "reply": False,
        "client": f"{A}:4000",
        "endpoint": f"{B}:8080",
        "about": "[S]",
    }
    last = value["hops"][-1]
    assert (last["owner"], last["direction"], last["dst"], last["dport"]) == ("default/b", "in", B, 8080)
    assert last["changed"] == [
        {"kind": "DNAT", "from": f"{VIP}:80", "to": f"{B}:8080", "service": "ours", "machine": ""},
        {"kind": "TTL", "from": "64", "to": "63", "service": "", "machine": ""},
    ]
    assert last["nanoseconds"] == 90_000
