"""A filter takes a tagged frame, or not, wherever its tag is: the kernel's machine for filters, in Python, compares."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from netlab.capture.filters import in_tunnel_too, parse
from netlab.capture.tagged import beside, wherever
from netlab.net.bpf import Instruction

needs_tcpdump = pytest.mark.skipif(
    shutil.which("tcpdump", path="/usr/bin:/usr/sbin:/sbin") is None, reason="tcpdump is not installed"
)
ANCILLARY = 0xFFFF_F000


def run(program: tuple[Instruction, ...], frame: bytes, tag: tuple[int, int] | None = None) -> int:
    """What a program returns (Documentation/networking/filter.rst); `tag` is the protocol and the tag beside it."""
    known = {44: tag[1] if tag else 0, 48: int(tag is not None), 60: tag[0] if tag else 0}
    a = x = at = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = program[at]
        at += 1
        kind, size, mode = code & 7, {0: 4, 8: 2, 16: 1}.get(code & 0x18, 0), code & 0xE0
        if kind in (0, 1) and mode in (0x20, 0x40, 0xA0):
            if k >= ANCILLARY and mode == 0x20:
                a = known[k - ANCILLARY]
                continue
            begin = (k + (x if mode == 0x40 else 0)) & 0xFFFF_FFFF
            if begin + size > len(frame):
                return 0
            value = int.from_bytes(frame[begin : begin + size])
            a, x = (a, 4 * (value & 15)) if kind == 1 else (value, x)
        elif kind in (0, 1):
            value = {0x00: k, 0x60: memory[k % 16], 0x80: len(frame)}[mode]
            a, x = (a, value) if kind == 1 else (value, x)
        elif kind in (2, 3):
            memory[k] = a if kind == 2 else x
        elif kind == 4:
            with_ = x if code & 8 else k
            operations = {0x00: a + with_, 0x10: a - with_, 0x20: a * with_, 0x40: a | with_, 0x50: a & with_}
            operations |= {0x60: a << with_ % 32, 0x70: a >> with_ % 32}
            a = operations[code & 0xF0] & 0xFFFF_FFFF
        elif kind == 5:
            with_ = x if code & 8 else k
            tests = {0x00: True, 0x10: a == with_, 0x20: a > with_, 0x30: a >= with_, 0x40: bool(a & with_)}
            at += k if code & 0xF0 == 0 else jt if tests[code & 0xF0] else jf
        elif kind == 6:
            return k
        else:
            a, x = (a, a) if code == 0x07 else (x, x)


UDP_7777 = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5, dport=7777) / b"0123456789"
FRAMES = [
    Ether() / Dot1Q(vlan=7) / UDP_7777,
    Ether() / Dot1Q(vlan=8, prio=5) / UDP_7777,
    Ether() / Dot1Q(vlan=7) / IPv6(src="fd00::1", dst="fd00::2") / TCP(dport=80),
    Ether() / Dot1Q(vlan=7) / ARP(psrc="10.0.0.1", pdst="10.0.0.2"),
    Ether(type=0x88A8) / Dot1Q(vlan=5, type=0x8100) / Dot1Q(vlan=7) / UDP_7777,
    Ether() / Dot1Q(vlan=5) / Dot1Q(vlan=7) / UDP_7777,
]
EXPRESSIONS = [
    "vlan",
    "vlan 7",
    "vlan 7 and host 10.0.0.1",
    "vlan and udp port 7777",
    "vlan 5 and vlan 7 and udp port 7777",
    "vlan and vlan and host 10.0.0.2",
    "udp port 7777",
    "host 10.0.0.1",
    "not host 10.0.0.1",
    "not vlan",
    "tcp or vlan 8",
    "less 61",
    "greater 61",
    "ether[14:2] & 0xfff = 7",
    "ether[12:4] = 0x81000007",
    "ether[10:4] & 0xffff = 0x8100",
    "ether[13] = 0 and ether[14] = 0xa0",
    "ether[15:4] = 0x07080045",
    "ether[11:2] = 0x0081",
    "ether dst ff:ff:ff:ff:ff:ff or vlan 8",
    " or ".join(f"host 10.0.{n}.1" for n in range(40)),
    "vlan and (" + " or ".join(f"host 10.0.{n}.1" for n in range(40)) + ")",
]


def compiled(expression: str) -> tuple[Instruction, ...]:
    done = subprocess.run(
        ["tcpdump", "-ddd", "-y", "EN10MB", "--", expression],
        env={"PATH": "/usr/bin:/usr/sbin:/sbin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return parse(done.stdout)


@needs_tcpdump
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_it_takes_the_same_frames_in_both_forms(expression: str) -> None:
    given_ = compiled(expression)
    whole = wherever(in_tunnel_too(given_), given_)
    taken = 0
    for packet in FRAMES:
        wire = bytes(packet)
        tag = (int.from_bytes(wire[12:14]), int.from_bytes(wire[14:16]))
        on_wire, apart = run(whole, wire), run(whole, wire[:12] + wire[16:], tag)
        assert bool(on_wire) == bool(apart), packet.summary()
        assert bool(on_wire) == bool(run(given_, wire)), packet.summary()
        taken += bool(apart)
    assert taken == EXPECTED.get(expression, taken)
    untagged = bytes(Ether() / UDP_7777)
    assert bool(run(whole, untagged)) == bool(run(in_tunnel_too(given_), untagged))


EXPECTED = {
    "vlan": 6,
    "vlan 7": 3,
    "vlan 7 and host 10.0.0.1": 2,
    "vlan and udp port 7777": 2,
    "vlan 5 and vlan 7 and udp port 7777": 2,
    "udp port 7777": 0,
    "not vlan": 0,
}
"""Of the six frames; 802.1ad's outer tag is a tag as well."""


@needs_tcpdump
def test_what_is_for_untagged_frames_alone_is_not_there_twice() -> None:
    given_ = compiled(" or ".join(f"host 10.0.{n}.1" for n in range(40)))
    assert len(beside(given_)) < 10 < len(given_)


@given(st.integers(0, 30), st.sampled_from([0x20, 0x28, 0x30]), st.binary(min_size=60, max_size=60))
def test_every_load_is_of_the_same_bytes(offset: int, code: int, rest: bytes) -> None:
    wire = rest[:12] + b"\x81\x00" + rest[14:]
    loaded = [Instruction(code, 0, 0, offset), Instruction(0x02, 0, 0, 1), Instruction(0x60, 0, 0, 1)]
    for bit in range(32):
        test = (*loaded, Instruction(0x45, 0, 1, 1 << bit), Instruction(6, 0, 0, 1), Instruction(6, 0, 0, 0))
        tag = (0x8100, int.from_bytes(wire[14:16]))
        assert run(test, wire) == run(beside(test), wire[:12] + wire[16:], tag)


def test_a_jump_that_becomes_too_far_goes_by_others() -> None:
    load = Instruction(0x20, 0, 0, 13)  # a word that is of the tag in part: 27 instructions
    program = (
        Instruction(0x30, 0, 0, 20),
        Instruction(0x15, 21, 0, 1),
        *[load] * 20,
        Instruction(6, 0, 0, 2),
        Instruction(6, 0, 0, 1),
    )
    frame = bytes(12) + b"\x81\x00\x00\x07" + bytes(4) + b"\1" + bytes(40)
    for value, expected in ((1, 1), (0, 2)):
        wire = frame[:20] + bytes([value]) + frame[21:]
        assert run(program, wire) == expected
        assert run(beside(program), wire[:12] + wire[16:], (0x8100, 7)) == expected
