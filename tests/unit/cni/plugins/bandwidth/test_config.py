"""What a configuration asks for, and which ones are refused."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.cni.plugins.bandwidth.commands import HANDLERS
from netlab.cni.plugins.bandwidth.config import Config, device_name
from netlab.cni.plugins.request import Request
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError

BOTH = {"ingressRate": 8000, "ingressBurst": 80, "egressRate": 16_000, "egressBurst": 160}


def request(**config: Any) -> Request:
    environment = {"CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_NETNS": "/n", "CNI_PATH": "/p"}
    return Request(config.pop("command", "ADD"), environment, {"cniVersion": "1.1.0", "name": "net", **config})


def asked(**config: Any) -> list[tuple[int, int] | None]:
    found = Config(request(**config))
    return [(shape.rate, shape.burst) if shape else None for shape in (found.ingress, found.egress)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [None, None]),
        ({"ingressRate": 0, "ingressBurst": 0}, [None, None]),
        ({"ingressRate": 8000, "ingressBurst": 80}, [(1000, 10), None]),
        ({"egressRate": 16_000, "egressBurst": 160}, [None, (2000, 20)]),
        ({"egressRate": 7, "egressBurst": 7}, [None, (1, 1)]),
        (BOTH, [(1000, 10), (2000, 20)]),
        ({"runtimeConfig": {"bandwidth": BOTH}}, [(1000, 10), (2000, 20)]),
        ({"runtimeConfig": {"bandwidth": None}}, [None, None]),
        ({"ingressRate": 80, "ingressBurst": 8, "runtimeConfig": {"bandwidth": BOTH}}, [(10, 1), None]),
        ({"ingressRate": 0, "runtimeConfig": {"bandwidth": BOTH}}, [None, None]),
        ({"ingressRate": 1 << 63, "ingressBurst": 8 * 0xFFFFFFFF - 1}, [(1 << 60, 0xFFFFFFFE), None]),
    ],
)
def test_limits_are_those_of_the_network_or_else_of_the_runtime(
    config: dict[str, Any], expected: list[tuple[int, int] | None]
) -> None:
    assert asked(**config) == expected


def test_subnets_are_the_other_sides() -> None:
    found = Config(request(**BOTH, shapedSubnets=["10.0.0.0/8", "fd00::/8"]))
    ingress, egress = found.ingress, found.egress
    assert ingress is not None
    assert egress is not None
    assert (ingress.source, egress.source, ingress.only, egress.only) == (True, False, True, True)
    assert ingress.subnets == egress.subnets == ((bytes([10, 0, 0, 0]), 8), (bytes([0xFD]) + bytes(15), 8))
    spared = Config(request(**BOTH, unshapedSubnets=["10.0.0.0/8"])).ingress
    assert spared is not None
    assert (spared.only, len(spared.subnets)) == (False, 1)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"ingressRate": 8}, "ingressRate: 8 needs ingressBurst"),
        ({"egressBurst": 8}, "egressBurst: 8 needs egressRate"),
        ({"ingressRate": -1, "ingressBurst": 1}, "ingressRate: -1 must be between 0"),
        ({"ingressRate": True}, "ingressRate: True must be a number"),
        ({"ingressRate": "1M"}, "ingressRate: '1M' must be a number"),
        ({"ingressRate": 1 << 64, "ingressBurst": 1}, "ingressRate: 18446744073709551616 must be"),
        ({"ingressRate": 1, "ingressBurst": 8 * 0xFFFFFFFF}, "ingressBurst: 34359738360 must be"),
        ({"runtimeConfig": {"bandwidth": []}}, "runtimeConfig.bandwidth: [] must be an object"),
        ({"runtimeConfig": {"bandwidth": {"egressRate": 5}}}, "runtimeConfig.bandwidth.egressRate: 5 needs"),
        ({"unshapedSubnets": "10.0.0.0/8"}, "unshapedSubnets: '10.0.0.0/8' must be a list"),
        ({"unshapedSubnets": ["10.0.0.0/8", "hello"]}, "unshapedSubnets[1]: 'hello' is not"),
        ({"shapedSubnets": [10]}, "shapedSubnets[0]: 10 must be a printable string"),
        ({"shapedSubnets": ["fd00::/8"], "unshapedSubnets": ["fe80::/10"]}, "shapedSubnets: ['fd00::/8'] excludes"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(CniError) as caught:
        Config(request(**config))
    assert caught.value.code == errors.INVALID_CONFIG
    assert caught.value.msg.startswith(said)


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_result_to_follow_is_needed(command: str) -> None:
    with pytest.raises(CniError, match="prevResult: missing"):
        HANDLERS[command](request(command=command, **BOTH))


def test_without_limits_the_result_passes_as_it_is() -> None:
    result = {"interfaces": [{"name": "x"}], "ips": [{"address": "10.0.0.2/24", "interface": 0}], "unknown": 1}
    assert HANDLERS["ADD"](request(prevResult=result)) == result


def test_the_device_has_a_name_of_its_own_for_every_interface() -> None:
    one, same, other = request(), request(ingressRate=1), request()
    other.ifname = "eth1"
    assert device_name(one) == device_name(same) != device_name(other)
    assert len(device_name(one)) == 15
