"""The network that is installed: what is asked for, and what cannot be."""

from __future__ import annotations

import re

import pytest

from netlab.cni.installation.network import network_list
from netlab.errors import UsageError


@pytest.mark.parametrize("mode", ["bridge", "routed", "vxlan"])
def test_one_address_of_each_family_is_given(mode: str) -> None:
    network = network_list("n", ["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"], mode, device="eth0")
    assert network["plugins"][0]["ipam"]["ranges"] == [
        [{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.1.0/24"}],
        [{"subnet": "fd00::/64"}],
    ]


def test_every_network_has_a_bridge_of_its_own_with_a_name_that_fits() -> None:
    names = [
        network_list(name, ["10.0.0.0/24"])["plugins"][0]["bridge"]
        for name in ("a", "elevenchars", "a-very-long-network-name-1", "a-very-long-network-name-2")
    ]
    assert len(set(names)) == 4
    assert max(map(len, names)) <= 15


@pytest.mark.parametrize(
    ("subnets", "said"),
    [
        (["10.0.0.1/24"], "subnet 10.0.0.1/24: 10.0.0.1/24 has host bits set"),
        (["x"], "subnet x: it has no prefix length"),
        (["10.22.0.0"], "subnet 10.22.0.0: it has no prefix length; give it like 10.22.0.0/16"),
        (["fd00::"], "subnet fd00::: it has no prefix length"),
        (["10.0.0.0/33"], "subnet 10.0.0.0/33: '10.0.0.0/33' does not appear to be"),
        (["10.0.0.0/31"], "subnet 10.0.0.0/31: too small for a gateway and a pod; /30 is the smallest"),
        (["fd00::/127"], "subnet fd00::/127: too small for a gateway and a pod; /126 is the smallest"),
        (["224.0.0.0/8"], "subnet 224.0.0.0/8: pods cannot have such addresses"),
        (["127.0.0.0/8"], "subnet 127.0.0.0/8: pods cannot have such addresses"),
        (["10.0.0.0/8", "10.1.0.0/16"], "subnet 10.1.0.0/16: overlaps 10.0.0.0/8"),
    ],
)
def test_a_wrong_subnet(subnets: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        network_list("n", subnets)


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="network "):
        network_list(name, ["10.0.0.0/24"])
