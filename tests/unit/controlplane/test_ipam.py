"""Which subnet a node gets."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.controlplane.ipam import SubnetPool
from netlab.errors import ExhaustedError, UsageError

MASKS = {4: 24, 6: 64}
V4 = SubnetPool.of("10.244.0.0/16", MASKS)


@pytest.mark.parametrize(
    ("pool", "node", "used", "expected"),
    [
        (V4, "node-1", [], "10.244.1.0/24"),
        (V4, "node-255", [], "10.244.255.0/24"),
        (V4, "node-256", [], "10.244.0.0/24"),
        (V4, "node-1", ["10.244.1.0/24"], "10.244.0.0/24"),
        (V4, "worker", ["10.244.0.0/24", "10.244.1.0/24", "10.244.3.0/24"], "10.244.2.0/24"),
        (V4, "node-3", ["10.244.3.128/25"], "10.244.0.0/24"),
        (V4, "node-3", ["10.244.0.0/22"], "10.244.4.0/24"),
        (V4, "node-3", ["10.244.0.0/22", "10.244.0.0/24"], "10.244.4.0/24"),
        (V4, "node-3", ["fd00::/64", "192.168.3.0/24", "nonsense"], "10.244.3.0/24"),
        (SubnetPool.of("fd00:10:244::/48", MASKS), "node-1", [], "fd00:10:244:1::/64"),
        (SubnetPool.of("fd00:10:244::/48", MASKS), "node-20", [], "fd00:10:244:14::/64"),
        (SubnetPool.of("10.0.0.0/24", MASKS), "node-1", [], "10.0.0.0/24"),
    ],
)
def test_choice(pool: SubnetPool, node: str, used: list[str], expected: str) -> None:
    assert pool.choose(node, used) == expected


def test_exhaustion_names_the_cidr_and_the_remedy() -> None:
    pool = SubnetPool.of("10.0.0.0/23", MASKS)
    with pytest.raises(ExhaustedError, match=r"10\.0\.0\.0/23 has no /24 left for node node-3: all 2 .* larger"):
        pool.choose("node-3", ["10.0.0.0/24", "10.0.1.0/24"])


@pytest.mark.parametrize(
    ("cidr", "says"), [("10.0.0.0/25", "no room for a node's /24"), ("10.0.0.1/8", "host bits"), ("x", "10.244")]
)
def test_a_cidr_that_cannot_serve_is_refused(cidr: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SubnetPool.of(cidr, MASKS)


@given(st.lists(st.one_of(st.integers(0, 40).map("node-{}".format), st.just("other")), max_size=40))
def test_subnets_never_overlap_and_all_are_used(names: list[str]) -> None:
    pool = SubnetPool.of("10.0.0.0/19", MASKS)
    given_out: list[str] = []
    for name in names:
        try:
            given_out.append(pool.choose(name, given_out))
        except ExhaustedError:
            assert len(given_out) == pool.size
    networks = [ipaddress.ip_network(cidr) for cidr in given_out]
    assert len(set(networks)) == len(networks)
    assert all(network.subnet_of(ipaddress.ip_network("10.0.0.0/19")) for network in networks)  # type: ignore[arg-type]
