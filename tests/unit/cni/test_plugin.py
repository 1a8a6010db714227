"""The plugin's side: requests, results, names and addressing."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.cni import bridge, errors, plugin
from netlab.cni.errors import CniError
from netlab.cni.plugin import Request


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (b"", errors.DECODING_FAILURE, "empty"),
        (b"[]", errors.DECODING_FAILURE, "not a JSON object"),
        (b'{"name":"a"}', errors.INCOMPATIBLE_VERSION, "cniVersion: '0.1.0'"),
        (b'{"name":"a","cniVersion":"9.0.0"}', errors.INCOMPATIBLE_VERSION, "cniVersion: '9.0.0'"),
        (b'{"name":"a","cniVersion":["1.0.0"]}', errors.INCOMPATIBLE_VERSION, "cniVersion"),
        (b'{"cniVersion":"1.0.0"}', errors.INVALID_CONFIG, "name: None"),
        (b'{"cniVersion":"1.0.0","name":"../x"}', errors.INVALID_CONFIG, "name: '../x'"),
    ],
)
def test_wrong_input(text: bytes, code: int, said: str) -> None:
    with pytest.raises(CniError) as caught:
        plugin.read_config(text)
    assert caught.value.code == code
    assert said in caught.value.msg


ENVIRONMENT = {"CNI_CONTAINERID": "c", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0", "CNI_PATH": "/p"}


@pytest.mark.parametrize(
    ("command", "change", "said"),
    [
        ("ADD", {"CNI_NETNS": ""}, "CNI_NETNS"),
        ("ADD", {"CNI_CONTAINERID": "", "CNI_IFNAME": ""}, "CNI_CONTAINERID, CNI_IFNAME"),
        ("DEL", {"CNI_PATH": ""}, "CNI_PATH"),
        ("ADD", {"CNI_CONTAINERID": "-c"}, "CNI_CONTAINERID"),
        ("ADD", {"CNI_CONTAINERID": "c/d"}, "CNI_CONTAINERID"),
        ("DEL", {"CNI_IFNAME": "a/b"}, "CNI_IFNAME"),
        ("DEL", {"CNI_IFNAME": ".."}, "CNI_IFNAME"),
        ("ADD", {"CNI_IFNAME": "sixteen-letters-"}, "CNI_IFNAME"),
        ("ADD", {"CNI_IFNAME": "a b"}, "CNI_IFNAME"),
    ],
)
def test_the_error_names_the_wrong_variables(command: str, change: dict[str, str], said: str) -> None:
    with pytest.raises(CniError, match=f"^{said}") as caught:
        plugin.check_environment(command, {**ENVIRONMENT, **change})
    assert caught.value.code == errors.INVALID_ENVIRONMENT


def test_a_delete_needs_no_namespace() -> None:
    plugin.check_environment("DEL", {**ENVIRONMENT, "CNI_NETNS": ""})


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"ipMasq": True}, errors.UNSUPPORTED_FIELD, "ipMasq: True"),
        ({"vlan": 5}, errors.UNSUPPORTED_FIELD, "vlan: 5"),
        ({"runtimeConfig": {"mac": "aa"}}, errors.UNSUPPORTED_FIELD, "runtimeConfig.mac: 'aa'"),
        ({"mtu": "1500"}, errors.INVALID_CONFIG, "mtu: '1500' must be a number"),
        ({"mtu": -1}, errors.INVALID_CONFIG, "mtu: -1"),
        ({"mtu": True}, errors.INVALID_CONFIG, "mtu: True"),
        ({"bridge": ["x"]}, errors.INVALID_CONFIG, "bridge: ['x']"),
        ({"bridge": "a/b"}, errors.INVALID_CONFIG, "bridge: 'a/b'"),
        ({"hairpinMode": True, "promiscMode": True}, errors.INVALID_CONFIG, "hairpinMode"),
    ],
)
def test_wrong_configuration_is_refused_by_key_and_value(config: dict[str, Any], code: int, said: str) -> None:
    with pytest.raises(CniError) as caught:
        bridge.Config(config)
    assert caught.value.code == code
    assert said in caught.value.msg


def test_addressing_follows_from_what_ipam_gave() -> None:
    config = bridge.Config({"isDefaultGateway": True})
    result = {
        "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"address": "fd00::5/64"}],
        "routes": [{"dst": "::/0", "gw": "fd00::9"}, {"dst": "192.0.2.0/24"}],
    }
    addressing = bridge.Addressing(config, result)
    assert addressing.mac.hex(":") == "0a:58:0a:00:00:05"
    assert addressing.ips == [
        {"address": "10.0.0.5/24", "interface": 2, "gateway": "10.0.0.1"},
        {"address": "fd00::5/64", "interface": 2, "gateway": "fd00::1"},
    ]
    assert addressing.result_routes() == [
        {"dst": "::/0", "gw": "fd00::9"},
        {"dst": "192.0.2.0/24", "gw": "10.0.0.1"},
        {"dst": "0.0.0.0/0", "gw": "10.0.0.1"},
    ]


def test_without_a_gateway_there_is_no_route_to_one() -> None:
    addressing = bridge.Addressing(bridge.Config({}), {"ips": [{"address": "fd00::5/64"}]})
    assert addressing.routes == []
    assert addressing.ips == [{"address": "fd00::5/64", "interface": 2}]
    assert addressing.mac[0] & 3 == 2, "locally administered and not multicast"


@pytest.mark.parametrize(
    "result", [{"ips": [{}]}, {"ips": [5]}, {"ips": [{"address": "x"}]}, {"routes": [{"dst": 1}]}, {"ips": 1}]
)
def test_an_ipam_result_that_makes_no_sense(result: dict[str, Any]) -> None:
    with pytest.raises(CniError, match="result of the IPAM plugin") as caught:
        bridge.Addressing(bridge.Config({}), result)
    assert caught.value.code == errors.DECODING_FAILURE


def test_names_of_host_ends_fit_and_differ() -> None:
    names = {
        bridge.host_name(Request("ADD", {"CNI_CONTAINERID": c, "CNI_IFNAME": i}, {"name": n, "cniVersion": "1.0.0"}))
        for c in ("a" * 64, "b")
        for i in ("eth0", "eth1")
        for n in ("x", "y")
    }
    assert len(names) == 8
    assert all(len(name) < 16 for name in names)
