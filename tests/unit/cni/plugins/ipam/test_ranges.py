"""Which addresses a configuration lets be given."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni.plugins.ipam.config import parse_ranges
from netlab.cni.plugins.ipam.ranges import Range, candidates, range_of
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix
from netlab.cni.spec.errors import CniError

WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "ipam.ranges: empty"),
    ({"ranges": [[]]}, "ipam.ranges[0]"),
    ({"ranges": ["10.0.0.0/24"]}, "ipam.ranges[0]"),
    ({"ranges": [["10.0.0.0/24"]]}, "ipam.ranges[0][0]: '10.0.0.0/24' must be an object"),
    ({"ranges": [[{}]]}, "ipam.ranges[0][0].subnet"),
    ({"ranges": [[{"subnet": 5}]]}, "ipam.ranges[0][0].subnet: 5 must be a string"),
    ({"subnet": ""}, "ipam.subnet: '' is not an IP address"),
    ({"subnet": "10.0.0.1/24"}, "ipam.subnet: '10.0.0.1/24' has host bits set; its network is 10.0.0.0"),
    ({"subnet": "10.0.0.0/31"}, "ipam.subnet: '10.0.0.0/31' is too small"),
    ({"subnet": "fd00::/127"}, "is too small; the smallest is /126"),
    ({"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}, "ipam.rangeStart: '10.0.1.1' is not in the subnet"),
    ({"subnet": "10.0.0.0/24", "gateway": "10.0.0"}, "ipam.gateway: '10.0.0' is not an IP address"),
    ({"subnet": "::ffff:10.0.0.0/120"}, "ipam.subnet: '::ffff:10.0.0.0/120' is an IPv4 subnet written as IPv6"),
    ({"subnet": "10.0.0.0/24", "rangeStart": "::ffff:10.0.1.1"}, "rangeStart: '::ffff:10.0.1.1' is not in the subnet"),
    ({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}, "is empty"),
    (
        {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.1", "rangeEnd": "10.0.0.1"},
        "ipam.subnet: 10.0.0.1-10.0.0.1 has no",
    ),
    (
        {"ranges": [[{"subnet": "10.0.0.0/29", "exclude": ["10.0.0.2-10.0.0.6"]}]]},
        "ipam.ranges[0]: 10.0.0.1-10.0.0.6 has",
    ),
    ({"subnet": "10.0.0.0/24", "exclude": "10.0.0.2"}, "ipam.exclude: '10.0.0.2' must be a list"),
    ({"subnet": "10.0.0.0/24", "exclude": [7]}, "ipam.exclude[0]: 7 must be an address"),
    ({"subnet": "10.0.0.0/24", "exclude": ["10.0.0.2", "10.0.1.0/24"]}, "ipam.exclude[1]: '10.0.1.0/24' is not in the"),
    ({"subnet": "10.0.0.0/24", "exclude": ["10.0.0.9-10.0.0.2"]}, "ipam.exclude[0]: '10.0.0.9-10.0.0.2' ends before"),
    ({"subnet": "10.0.0.0/24", "exclude": ["10.0.0.9-"]}, "ipam.exclude[0]: '' is not an IP address"),
    ({"subnet": "10.0.0.0/24", "exclude": ["fd00::/120"]}, "ipam.exclude[0]: 'fd00::/120' is not in the subnet"),
    ({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}, "each need a set of ranges"),
    ({"ranges": [[{"subnet": "10.0.0.0/8"}], [{"subnet": "10.1.0.0/16"}]]}, "overlap"),
]


@pytest.mark.parametrize(("config", "said"), WRONG)
def test_wrong_ranges_are_refused_by_the_path_of_the_field(config: dict[str, Any], said: str) -> None:
    with pytest.raises(CniError) as caught:
        parse_ranges(config, {})
    assert caught.value.code == errors.INVALID_CONFIG
    assert said in caught.value.msg


# The configurations of host-local's documentation: what each gives first and last, and how many.
HOST_LOCAL: list[tuple[dict[str, Any], list[list[tuple[str, int]]]]] = [
    (
        {
            "ranges": [
                [
                    {
                        "subnet": "10.10.0.0/16",
                        "rangeStart": "10.10.1.20",
                        "rangeEnd": "10.10.3.50",
                        "gateway": "10.10.0.254",
                    },
                    {"subnet": "172.16.5.0/24"},
                ],
                [{"subnet": "3ffe:ffff:0:01ff::/64", "rangeStart": "3ffe:ffff:0:01ff::0010"}],
            ]
        },
        [
            [("10.10.1.20-10.10.3.50", 543), ("172.16.5.1-172.16.5.254", 253)],
            [("3ffe:ffff:0:1ff::10-3ffe:ffff:0:1ff:ffff:ffff:ffff:ffff", 2**64 - 16)],
        ],
    ),
    ({"subnet": "192.0.2.0/30"}, [[("192.0.2.1-192.0.2.2", 1)]]),
    (
        {"subnet": "10.0.0.0/29", "ranges": [[{"subnet": "10.1.0.0/29"}]]},
        [[("10.0.0.1-10.0.0.6", 5)], [("10.1.0.1-10.1.0.6", 5)]],
    ),
    ({"subnet": "fd00::/126"}, [[("fd00::1-fd00::3", 2)]]),
    (
        {"ranges": [[{"subnet": "10.0.0.0/29", "rangeEnd": "10.0.0.1"}, {"subnet": "10.1.0.0/30"}]]},
        [[("10.0.0.1-10.0.0.1", 0), ("10.1.0.1-10.1.0.2", 1)]],
    ),
    ({"subnet": "10.0.0.0/29", "gateway": "169.254.1.1"}, [[("10.0.0.1-10.0.0.6", 6)]]),
    ({"subnet": "fd00::/126", "gateway": "fe80::1"}, [[("fd00::1-fd00::3", 3)]]),
    ({"subnet": "10.0.0.0/29", "rangeStart": "::ffff:10.0.0.3"}, [[("10.0.0.3-10.0.0.6", 4)]]),
]


@pytest.mark.parametrize(("config", "sets"), HOST_LOCAL)
def test_host_locals_configurations_mean_the_same(config: dict[str, Any], sets: list[list[tuple[str, int]]]) -> None:
    assert [[(str(item), item.size) for item in ranges] for ranges in parse_ranges(config, {})] == sets


def test_ranges_of_the_runtime_come_first() -> None:
    given = [[{"subnet": "10.9.0.0/24"}]]
    sets = parse_ranges({"subnet": "10.0.0.0/24"}, {"ipRanges": given})
    assert [str(ranges[0].subnet) for ranges in sets] == ["10.9.0.0/24", "10.0.0.0/24"]
    assert len(parse_ranges({}, {"ipRanges": given})) == 1
    with pytest.raises(CniError, match=r"runtimeConfig\.ipRanges\[0\]\[0\]\.subnet: 7 must be a string"):
        parse_ranges({}, {"ipRanges": [[{"subnet": 7}]]})


def test_excluded_addresses_and_the_gateway_are_never_given() -> None:
    config = {"subnet": "10.0.0.0/28", "exclude": ["10.0.0.3", "10.0.0.4/30", "10.0.0.6-10.0.0.9"]}
    ((item,),) = parse_ranges(config, {})
    given = [str(ipaddress.IPv4Address(address)) for address, _ in candidates([item], None)]
    assert given == [f"10.0.0.{number}" for number in (2, 10, 11, 12, 13, 14)]
    assert item.size == len(given)


@given(st.integers(1, 30), st.integers(1, 30), st.lists(st.tuples(st.integers(0, 31), st.integers(0, 6)), max_size=5))
def test_spans_are_the_range_without_its_holes(first: int, last: int, holes: list[tuple[int, int]]) -> None:
    excluded = [(low, min(low + length, 31)) for low, length in holes]
    item = Range(Prefix(0, 27, 32), first, last, Prefix(1, 32, 32), excluded)
    wanted = [n for n in range(first, last + 1) if n != 1 and not any(low <= n <= high for low, high in excluded)]
    assert [address for address, _ in candidates([item], None)] == wanted
    assert item.size == len(wanted)
    assert [n for n in range(32) if n in item] == wanted


@given(st.integers(0, 20) | st.none())
def test_candidates_go_once_round_through_all_ranges(last: int | None) -> None:
    subnet = Prefix(0, 24, 32)
    ranges = [Range(subnet, 2, 6, Prefix(1, 32, 32)), Range(subnet, 10, 14, Prefix(12, 32, 32))]
    pool = [2, 3, 4, 5, 6, 10, 11, 13, 14]
    start = pool.index(last) + 1 if last in pool else 0
    assert [address for address, _ in candidates(ranges, last)] == pool[start:] + pool[:start]


def test_families_are_kept_apart() -> None:
    ((six,),) = parse_ranges({"subnet": "::/96"}, {})
    assert range_of([six], "::a00:1") is six
    assert range_of([six], "10.0.0.1") is None
    assert range_of([six], "not an address") is None


words = st.sampled_from(
    ["10.0.0.0/24", "10.0.0.0/29", "10.0.0.7", "10.0.0.4/30", "10.0.0.2-10.0.0.5", "fd00::/64", "fd00::5", "-", "/", ""]
)
values = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | words
keys = dict.fromkeys(("rangeStart", "rangeEnd", "gateway"), values) | {"exclude": values | st.lists(values)}
ranges_of_any_kind = st.fixed_dictionaries({"subnet": words | values}, optional=keys)
sets_of_any_kind = st.lists(st.lists(ranges_of_any_kind | values, max_size=3) | values, max_size=3) | values


@given(ranges_of_any_kind, sets_of_any_kind, sets_of_any_kind)
def test_any_configuration_gives_ranges_or_one_line(single: dict[str, Any], sets: Any, of_runtime: Any) -> None:
    for ipam in ({**single, "ranges": sets}, {"ranges": sets}, single):
        try:
            parsed = parse_ranges(ipam, {"ipRanges": of_runtime})
        except CniError as error:
            assert (error.code, "\n" in error.msg) == (errors.INVALID_CONFIG, False)  # noqa: PT017 - it may not fail
            continue
        assert all(item.size > 0 and item.first <= item.last for ranges in parsed for item in ranges)
