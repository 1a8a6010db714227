"""What follows from what IPAM gave."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.cni.plugins.main.addressing import bridged
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError


def test_gateways_and_routes_follow_from_the_addresses() -> None:
    result = {
        "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"address": "fd00::5/64"}],
        "routes": [{"dst": "::/0", "gw": "fd00::9"}, {"dst": "192.0.2.0/24", "mtu": 1400, "priority": 7}],
    }
    addressing = bridged(result, is_gateway=True, is_default_gateway=True)
    assert addressing.mac().hex(":") == "0a:58:0a:00:00:05"
    assert addressing.ips(2) == [
        {"address": "10.0.0.5/24", "interface": 2, "gateway": "10.0.0.1"},
        {"address": "fd00::5/64", "interface": 2, "gateway": "fd00::1"},
    ]
    assert [route.result() for route in addressing.routes] == [
        {"dst": "::/0", "gw": "fd00::9"},
        {"dst": "192.0.2.0/24", "gw": "10.0.0.1", "mtu": 1400, "priority": 7},
        {"dst": "0.0.0.0/0", "gw": "10.0.0.1"},
    ]


def test_without_a_gateway_there_is_no_route_to_one() -> None:
    addressing = bridged({"ips": [{"address": "fd00::5/64"}]}, is_gateway=False, is_default_gateway=False)
    assert addressing.routes == []
    assert addressing.ips(0) == [{"address": "fd00::5/64", "interface": 0}]
    assert addressing.mac()[0] & 3 == 2, "locally administered and not multicast"


def test_layer_2_only_has_nothing() -> None:
    addressing = bridged({}, is_gateway=True, is_default_gateway=True)
    assert (addressing.addresses, addressing.routes, addressing.mac()) == ([], [], b"")


@pytest.mark.parametrize(
    "result",
    [
        {"ips": [{}]},
        {"ips": [5]},
        {"ips": [{"address": "x"}]},
        {"ips": [{"address": "10.0.0.5/24", "gateway": "fd00::1"}]},
        {"routes": [{"dst": 1}]},
        {"routes": [{"dst": "::/0", "mtu": "x"}]},
        {"routes": [{"dst": "::/0", "gw": "10.0.0.1"}]},
        {"ips": 1},
    ],
)
def test_an_ipam_result_that_makes_no_sense(result: dict[str, Any]) -> None:
    with pytest.raises(CniError, match="result of the IPAM plugin") as caught:
        bridged(result, is_gateway=False, is_default_gateway=False)
    assert caught.value.code == errors.DECODING_FAILURE
