"""Addresses as integers, against the ipaddress module."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni.spec.addresses import parse_address, parse_prefix


@given(st.ip_addresses(), st.integers(0, 128))
def test_prefixes_are_what_ipaddress_makes_of_them(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int
) -> None:
    length %= address.max_prefixlen + 1
    interface = ipaddress.ip_interface(f"{address}/{length}")
    prefix = parse_prefix(f"{address}/{length}")
    network = interface.network
    assert (prefix.first, prefix.last) == (int(network[0]), int(network[-1]))
    assert prefix.packed == address.packed
    assert ipaddress.ip_interface(str(prefix)) == interface
    assert int(address) in prefix


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0", "10.0.0/8", "10.0.0.0/33", "::/129", "::/-1", "::/²", "10.0.0.0/", "a/8"]
)
def test_malformed_prefix(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an"):
        parse_prefix(text)


@pytest.mark.parametrize("text", ["", "10.0.0.256", "10.1", ":", "fe80::1%eth0"])
def test_malformed_address(text: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        parse_address(text)
