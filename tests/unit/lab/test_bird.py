"""The router's configuration accepts what nodes may announce, and nothing else."""

from __future__ import annotations

from netlab.lab.bird import configuration
from netlab.lab.spec import from_values


def test_configuration() -> None:
    spec = from_values({"families": ["IPv6", "IPv4"], "loadBalancerProtocol": "bgp"})
    found = configuration(spec)
    assert "neighbor range 2001:db8::/64 as 64512;" in found
    assert "local 2001:db8::fd as 64513;" in found
    assert "ipv4 { import where net ~ [ 203.0.113.0/24{32,32} ]; export none; };" in found
    assert "ipv6 { import where net ~ [ 2001:db8:fffe::/64{128,128} ]; export none; };" in found
    assert found.count("merge paths yes") == 2


def test_a_family_without_a_pool_is_closed() -> None:
    pools = ["203.0.113.8/29"]
    spec = from_values({"families": ["IPv4", "IPv6"], "loadBalancerProtocol": "bgp", "loadBalancerPools": pools})
    assert "ipv6 { import none; export none; };" in configuration(spec)
