"""The messages of traffic control, as far as they can be understood without a kernel."""

from __future__ import annotations

import ipaddress
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.net.route import traffic_control
from netlab.net.route.traffic_control import Shape


def matches(keys: bytes, header: bytes) -> bool:
    """What u32_classify() in net/sched/cls_u32.c does with a selector's keys."""
    for at in range(0, len(keys), 16):
        mask, value = struct.unpack_from(">II", keys, at)
        (offset,) = struct.unpack_from("=i", keys, at + 8)
        (word,) = struct.unpack_from(">I", header, offset)
        if (word ^ value) & mask:
            return False
    return True


def header(source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address) -> bytes:
    return bytes(12 if source.version == 4 else 8) + source.packed + destination.packed


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[bytes, int], bytes, bytes]:
    """A subnet, and two addresses of its family that are often in it."""
    bits = draw(st.sampled_from([32, 128]))
    length = draw(st.integers(0, bits))
    base = draw(st.integers(0, (1 << bits) - 1))
    noise = (1 << draw(st.integers(0, bits))) - 1
    addresses = [base ^ (draw(st.integers(0, (1 << bits) - 1)) & noise) for _ in range(2)]
    packed, *others = (number.to_bytes(bits // 8, "big") for number in (base, *addresses))
    return (packed, length), others[0], others[1]


@given(cases())
def test_keys_match_exactly_the_addresses_of_the_subnet(case: tuple[tuple[bytes, int], bytes, bytes]) -> None:
    subnet, *packed = case
    source, destination = map(ipaddress.ip_address, packed)
    network = ipaddress.ip_network((ipaddress.ip_address(subnet[0]), subnet[1]), strict=False)
    packet = header(source, destination)
    assert matches(traffic_control.keys(subnet, source=True), packet) == (source in network)
    assert matches(traffic_control.keys(subnet, source=False), packet) == (destination in network)


@pytest.mark.parametrize(
    ("rate", "burst", "ticks"),
    [(125_000_000, 125_000, 15_625), (1, 1, 15_625_000), (1, 1000, 0xFFFFFFFF), (1 << 40, 1, 0)],
)
def test_a_burst_is_told_as_the_time_it_takes(rate: int, burst: int, ticks: int) -> None:
    assert Shape(rate, burst).ticks == ticks


def test_one_class_whatever_the_number_of_subnets() -> None:
    subnets = [(bytes([10, number, 0, 0]), 16) for number in range(5)]
    assert len(traffic_control.shaping("veth", 7, Shape(1, 1))) == 3
    assert len(traffic_control.shaping("veth", 7, Shape(1, 1, subnets))) == 3 + 5
