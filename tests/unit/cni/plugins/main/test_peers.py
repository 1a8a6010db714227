"""The peers file, and what follows from it."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni.plugins.main import peers
from netlab.net.overlay import Overlay

ONE = {"node": "node-1", "publicIP": "192.0.2.1", "publicIPv6": "2001:db8::1", "subnets": ["10.244.1.0/24"]}
TWO = {
    "node": "node-2",
    "publicIP": "192.0.2.2",
    "publicIPv6": "2001:DB8:0::2",
    "vtepMAC": "0E:00:00:00:00:02",
    "subnets": ["10.244.2.0/24", "fd00:10:244:2:0::/64"],
}


def parse(*entries: Any) -> list[peers.Peer]:
    return peers.parse_peers(json.dumps(entries).encode())


@pytest.mark.parametrize(("local", "endpoint"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
def test_a_peer_is_a_forwarding_entry_and_a_neighbour_and_a_route_for_each_subnet(local: str, endpoint: str) -> None:
    mac = "0e:00:00:00:00:02"
    assert peers.plan(parse(ONE, TWO), local, 1) == Overlay(
        forwarding=frozenset({(mac, endpoint)}),
        neighbours=frozenset({("10.244.2.0", mac), ("fd00:10:244:2::", mac)}),
        routes=frozenset({("10.244.2.0/24", "10.244.2.0"), ("fd00:10:244:2::/64", "fd00:10:244:2::")}),
    )


def test_one_file_serves_every_node() -> None:
    both = parse(ONE, TWO)
    assert peers.own_mac(both, "192.0.2.2", 1) == "0e:00:00:00:00:02"
    derived = peers.own_mac(both, "192.0.2.1", 1)
    assert peers.plan(both, "192.0.2.2", 1).forwarding == {(derived, "192.0.2.1")}
    assert peers.own_mac([], "192.0.2.1", 1) == derived, "listed or not"
    assert peers.own_mac(both, "192.0.2.1", 2) != derived


def test_a_peers_file_that_is_written_is_read_as_it_was() -> None:
    listed = parse(ONE, TWO, {"publicIPv6": "2001:db8::3", "subnets": []})
    assert peers.parse_peers(peers.format_peers(listed)) == listed


def test_the_device_has_an_address_for_each_of_its_nodes_subnets() -> None:
    both = parse(ONE, TWO)
    assert peers.own_addresses(both, "192.0.2.2") == ["10.244.2.0/32", "fd00:10:244:2::/128"]
    assert peers.own_addresses(both, "2001:db8::1") == ["10.244.1.0/32"]
    assert peers.own_addresses(both, "192.0.2.9") == []


def test_a_peer_without_an_address_of_the_underlays_family_is_named() -> None:
    with pytest.raises(ValueError, match="node node-2: publicIPv6 is missing"):
        peers.plan(parse({**TWO, "publicIPv6": ""}), "2001:db8::1", 1)


MALFORMED: list[tuple[Any, str]] = [
    ({}, "must be a list"),
    ([1], r"\[0\]: 1 must be an object"),
    ([{**ONE, "publicIP": "192.0.2.300"}], r"\[0\]\.publicIP: '192.0.2.300' must be an IPv4 address"),
    ([{**ONE, "publicIPv6": "192.0.2.1"}], r"\[0\]\.publicIPv6: '192.0.2.1' must be an IPv6 address"),
    ([{**ONE, "publicIPv6": "fe80::1%eth0"}], r"\[0\]\.publicIPv6: 'fe80::1%eth0' must be"),
    ([{"subnets": []}], r"\[0\]: publicIP or publicIPv6 is needed"),
    ([ONE, {**TWO, "publicIP": 7}], r"\[1\]\.publicIP: 7 must be a string"),
    ([{**ONE, "node": []}], r"\[0\]\.node: \[\] must be a string"),
    ([{**ONE, "subnets": None}], r"\[0\]\.subnets: None must be a list"),
    ([{**ONE, "subnets": ["10.244.1.0/24", "10.244.1.5/24"]}], r"\[0\]\.subnets\[1\]: '10.244.1.5/24' must be"),
    ([{**ONE, "subnets": ["10.244.1.0"]}], r"\[0\]\.subnets\[0\]: '10.244.1.0' must be"),
    ([{**ONE, "subnets": [24]}], r"\[0\]\.subnets\[0\]: 24 must be"),
    *(
        ([{**ONE, "vtepMAC": mac}], r"\[0\]\.vtepMAC: '.*' must be the MAC address")
        for mac in ("x", "0e:00", "0f:00:00:00:00:01", "00:00:00:00:00:00", "0e:-1:00:00:00:00", "0e00:00:00:00:0000")
    ),
    ([ONE, {**TWO, "node": "node-1"}], "node: two peers have node-1"),
    ([ONE, {**TWO, "publicIP": "192.0.2.1"}], "publicIP: two peers have 192.0.2.1"),
    ([TWO, {**ONE, "vtepMAC": "0e:00:00:00:00:02"}], "vtepMAC: two peers have 0e:00:00:00:00:02"),
    ([ONE, {**TWO, "subnets": ["10.244.1.0/24"]}], "subnets: 10.244.1.0/24 is a duplicate"),
    ([ONE, {**TWO, "subnets": ["fd00::/64", "10.244.1.128/25"]}], "subnets: 10.244.1.128/25 is part of 10.244.1.0/24"),
]


@pytest.mark.parametrize(("document", "said"), MALFORMED)
def test_a_malformed_file_is_refused_with_the_fields_path(document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        peers.parse_peers(json.dumps(document).encode())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["10.0.0.0/8", "::1", "0e:00:00:00:00:01"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(TWO)), inner),
)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(TWO)), values)))
def test_any_file_is_read_or_refused_by_a_value_error(document: list[Any]) -> None:
    try:
        found = peers.parse_peers(json.dumps(document).encode())
    except ValueError:
        return
    assert len(found) == len(document)


@given(st.integers(1, 2**24 - 1), st.ip_addresses())
def test_a_derived_mac_address_is_locally_administered_and_of_one_device(vni: int, endpoint: Any) -> None:
    first = int(peers.vtep_mac(str(ipaddress.ip_address(endpoint)), vni)[:2], 16)
    assert first & 0b11 == 0b10
