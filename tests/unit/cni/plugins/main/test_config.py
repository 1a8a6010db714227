"""The configuration of the main plugin: what is refused, and that it is said by key and value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni.plugins.main import veth
from netlab.cni.plugins.main.config import Config
from netlab.cni.plugins.request import Request
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError


def read(config: dict[str, Any]) -> Config:
    return Config(Request("STATUS", {}, {"name": "net", "cniVersion": "1.1.0", **config}))


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"vlan": 5}, errors.UNSUPPORTED_FIELD, "vlan: 5"),
        ({"vlanTrunk": [{"id": 5}]}, errors.UNSUPPORTED_FIELD, "vlanTrunk: [{'id': 5}]"),
        ({"runtimeConfig": {"bandwidth": {"a": 1}}}, errors.UNSUPPORTED_FIELD, "runtimeConfig.bandwidth: {'a': 1}"),
        ({"runtimeConfig": {"portMappings": [1]}}, errors.UNSUPPORTED_FIELD, "runtimeConfig.portMappings: [1]"),
        ({"runtimeConfig": {"dns": []}}, errors.INVALID_CONFIG, "runtimeConfig.dns: []"),
        ({"runtimeConfig": {"dns": {"servers": "x"}}}, errors.INVALID_CONFIG, "runtimeConfig.dns.servers: 'x'"),
        ({"mtu": "1500"}, errors.INVALID_CONFIG, "mtu: '1500' must be a number"),
        ({"mtu": -1}, errors.INVALID_CONFIG, "mtu: -1"),
        ({"mtu": True}, errors.INVALID_CONFIG, "mtu: True"),
        (
            {"nonMasqueradeCIDRs": "10.0.0.0/8"},
            errors.INVALID_CONFIG,
            "nonMasqueradeCIDRs: '10.0.0.0/8' must be a list",
        ),
        (
            {"nonMasqueradeCIDRs": ["10.0.0.0"]},
            errors.INVALID_CONFIG,
            "nonMasqueradeCIDRs: '10.0.0.0' is not an address",
        ),
        ({"ipMasq": "yes"}, errors.INVALID_CONFIG, "ipMasq: 'yes'"),
        ({"ipMasqBackend": "ipvs"}, errors.INVALID_CONFIG, "ipMasqBackend: 'ipvs' must be iptables or nftables"),
        ({"bridge": ["x"]}, errors.INVALID_CONFIG, "bridge: ['x']"),
        ({"bridge": "a/b"}, errors.INVALID_CONFIG, "bridge: 'a/b'"),
        ({"hairpinMode": True, "promiscMode": True}, errors.INVALID_CONFIG, "hairpinMode"),
        (
            {"disableContainerInterface": True, "ipam": {"type": "netlab-ipam"}},
            errors.INVALID_CONFIG,
            "disableContainerInterface: true excludes ipam.type: 'netlab-ipam'",
        ),
        ({"ipam": {"type": 5}}, errors.INVALID_CONFIG, "ipam.type: 5"),
        ({"dns": "8.8.8.8"}, errors.INVALID_CONFIG, "dns: '8.8.8.8'"),
    ],
)
def test_wrong_configuration_is_refused_by_key_and_value(config: dict[str, Any], code: int, said: str) -> None:
    with pytest.raises(CniError) as caught:
        read(config)
    assert caught.value.code == code
    assert said in caught.value.msg


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"vlan": 0, "vlanTrunk": [], "preserveDefaultVlan": False, "whatever": {"a": 1}},
        {"ipMasqBackend": "iptables", "ipMasq": True, "mtu": None, "ipam": {}},
        {"runtimeConfig": {"portMappings": [], "ipRanges": [[{}]], "ips": ["10.0.0.1"]}},
        {"disableContainerInterface": True, "enabledad": True, "macspoofchk": True, "portIsolation": True},
    ],
)
def test_what_a_configuration_of_the_go_plugin_may_hold(config: dict[str, Any]) -> None:
    read(config)


LEAVES = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
KEYS = ["bridge", "isGateway", "ipMasq", "ipMasqBackend", "mtu", "vlan", "vlanTrunk", "ipam", "dns", "runtimeConfig"]


@given(st.dictionaries(st.sampled_from([*KEYS, "mode"]), JSON))
def test_whatever_it_holds_is_accepted_or_refused_with_a_code(config: dict[str, Any]) -> None:
    code = 0
    try:
        read(config)
    except CniError as error:
        code = error.code
    assert code in {0, errors.UNSUPPORTED_FIELD, errors.INVALID_CONFIG}


def test_the_runtimes_dns_comes_before_the_configurations() -> None:
    dns = {"nameservers": ["192.0.2.1"]}
    assert read({"dns": dns}).dns == dns
    given_at_runtime = {"servers": ["192.0.2.2"], "searches": ["a.example"]}
    assert read({"dns": dns, "runtimeConfig": {"dns": given_at_runtime}}).dns == {
        "nameservers": ["192.0.2.2"],
        "search": ["a.example"],
    }


def test_an_unknown_mode() -> None:
    with pytest.raises(CniError, match="mode: 'ipvlan' must be one of bridge, routed, vxlan") as caught:
        read({"mode": "ipvlan"})
    assert caught.value.code == errors.INVALID_CONFIG


IPAM = {"ipam": {"type": "netlab-ipam"}}


@pytest.mark.parametrize(
    ("config", "gateway", "default"),
    [
        ({}, False, False),
        ({"isGateway": True}, True, False),
        ({"isDefaultGateway": True}, True, True),
        ({"mode": "routed", **IPAM}, True, True),
        ({"mode": "routed", "isDefaultGateway": False, **IPAM}, False, False),
        ({"mode": "vxlan", "vxlan": {"device": "eth0"}, "isDefaultGateway": False, **IPAM}, True, False),
        ({"mode": "vxlan", "vxlan": {"device": "eth0"}, "isDefaultGateway": None, **IPAM}, True, True),
    ],
)
def test_gateways_depend_on_the_mode(config: dict[str, Any], gateway: bool, default: bool) -> None:
    found = read(config)
    assert (found.is_gateway, found.is_default_gateway) == (gateway, default)


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"mode": "routed"}, errors.INVALID_CONFIG, "ipam.type: mode 'routed' needs addresses"),
        ({"mode": "vxlan", "vxlan": {"device": "e"}}, errors.INVALID_CONFIG, "ipam.type: mode 'vxlan' needs addresses"),
        (
            {"mode": "routed", "promiscMode": True, **IPAM},
            errors.UNSUPPORTED_FIELD,
            "promiscMode: True is for a bridge",
        ),
        ({"mode": "vxlan", **IPAM}, errors.INVALID_CONFIG, "vxlan.device: name the link"),
        ({"mode": "vxlan", "vxlan": {"device": "e", "id": 0}, **IPAM}, errors.INVALID_CONFIG, "vxlan.id: 0 must be"),
        ({"ipam": {"type": "../x"}}, errors.INVALID_CONFIG, "ipam.type: '../x' must be the name of an executable"),
    ],
)
def test_what_a_mode_needs(config: dict[str, Any], code: int, said: str) -> None:
    with pytest.raises(CniError) as caught:
        read(config)
    assert caught.value.code == code
    assert caught.value.msg.startswith(said)


def test_names_of_host_ends_fit_and_differ() -> None:
    names = {
        veth.host_name(Request("ADD", {"CNI_CONTAINERID": c, "CNI_IFNAME": i}, {"name": n, "cniVersion": "1.0.0"}))
        for c in ("a" * 64, "b")
        for i in ("eth0", "eth1")
        for n in ("x", "y")
    }
    assert len(names) == 8
    assert all(len(name) < 16 for name in names)
