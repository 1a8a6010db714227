"""Frames as the RFCs have them; pyroute2's and the kernel's views of them are in the system tests."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.net.addresses import packed
from netlab.net.bpf import Program
from netlab.speaker import frames
from netlab.speaker.frames import Question

MAC, PEER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
WHO_HAS = Question("192.0.2.128", PEER, packed("192.0.2.253"))
SOLICITED = Question("2001:db8::1:0", PEER, packed("2001:db8::fd"))


def arp(operation: int = 1, target: str = "192.0.2.128", hardware: int = 1) -> bytes:
    header = b"\xff" * 6 + PEER + struct.pack("!HHHBBH", 0x0806, hardware, 0x0800, 6, 4, operation)
    return header + PEER + packed("192.0.2.253") + bytes(6) + packed(target)


def solicitation(target: str = "2001:db8::1:0", hops: int = 255, kind: int = 135) -> bytes:
    address, group = packed("2001:db8::fd"), frames.solicited_node(target)
    body = struct.pack("!BBHI", kind, 0, 0, 0) + packed(target) + bytes((1, 1)) + PEER
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, hops) + address + group
    return b"\x33\x33" + group[-4:] + PEER + b"\x86\xdd" + header + body


def run(program: Program, frame: bytes) -> int:
    """What classic BPF's few instructions that are used here do."""
    accumulator, at = 0, 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        size = {0x20: 4, 0x28: 2, 0x30: 1}.get(code)
        if size is not None:
            if k + size > len(frame):
                return 0
            accumulator = int.from_bytes(frame[k : k + size])
        elif code == 0x54:
            accumulator &= k
        elif code == 0x15:
            at += jt if accumulator == k else jf
        else:
            return k


def test_questions() -> None:
    assert frames.arp_question(arp()) == WHO_HAS
    assert frames.neighbour_question(solicitation()) == SOLICITED


@pytest.mark.parametrize("frame", [arp(operation=2), arp(hardware=6), arp()[:41], b"", solicitation()])
def test_no_arp_question(frame: bytes) -> None:
    assert frames.arp_question(frame) is None


@pytest.mark.parametrize("frame", [solicitation(hops=254), solicitation(kind=136), solicitation()[:77], b"", arp()])
def test_no_solicitation(frame: bytes) -> None:
    assert frames.neighbour_question(frame) is None


def test_arp_answers_and_announcements() -> None:
    answer = frames.arp_answer(WHO_HAS, MAC)
    assert answer.hex(" ", 2) == (
        "0200 0000 0002 0200 0000 0001 0806 0001 0800 0604 0002 0200 0000 0001 c000 0280 0200 0000 0002 c000 02fd"
    )
    told = frames.arp_announcement("192.0.2.128", MAC)
    assert (told[:6], told[6:12], told[28:32], told[38:]) == (b"\xff" * 6, MAC, packed(WHO_HAS.target), told[28:32])


@pytest.mark.parametrize(
    ("frame", "to", "to_mac", "flags"),
    [
        (frames.neighbour_answer(SOLICITED, MAC, "2001:db8::1"), "2001:db8::fd", PEER, 0x60),
        (
            frames.neighbour_answer(SOLICITED._replace(address=bytes(16)), MAC, "2001:db8::1"),
            "ff02::1",
            bytes.fromhex("333300000001"),
            0x20,
        ),
        (
            frames.neighbour_announcement("2001:db8::1:0", MAC, "2001:db8::1"),
            "ff02::1",
            bytes.fromhex("333300000001"),
            0x20,
        ),
    ],
)
def test_advertisements(frame: bytes, to: str, to_mac: bytes, flags: int) -> None:
    assert (frame[:6], frame[6:12], frame[21]) == (to_mac, MAC, 255)
    assert (frame[22:38], frame[38:54]) == (packed("2001:db8::1"), packed(to))
    body = frame[54:]
    assert (body[0], body[4], body[8:24], body[24:26], body[26:]) == (
        136,
        flags,
        packed(SOLICITED.target),
        b"\2\1",
        MAC,
    )
    pseudo = frame[22:54] + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6) + body
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_solicited_node_group() -> None:
    assert frames.solicited_node("2001:db8::1:ff:abcd") == packed("ff02::1:ffff:abcd")


NETWORKS = ["192.0.2.128/26", "2001:db8::1:0/112", "192.0.2.7/32", "2001:db8:0:0:ffff::/80"]


@given(st.one_of(st.sampled_from(NETWORKS).flatmap(lambda text: st.ip_addresses(network=text)), st.ip_addresses()))
def test_filters_pass_questions_about_the_networks_alone(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    within = any(address in ipaddress.ip_network(each) for each in NETWORKS)
    if address.version == 4:
        assert bool(run(frames.arp_filter(NETWORKS), arp(target=str(address)))) is within
    else:
        assert bool(run(frames.neighbour_filter(NETWORKS), solicitation(str(address)))) is within


@pytest.mark.parametrize("frame", [arp(operation=2), b""])
def test_arp_filter_refuses(frame: bytes) -> None:
    assert run(frames.arp_filter(NETWORKS), frame) == 0


@pytest.mark.parametrize("frame", [solicitation(kind=136), solicitation()[:70], b""])
def test_neighbour_filter_refuses(frame: bytes) -> None:
    assert run(frames.neighbour_filter(NETWORKS), frame) == 0
