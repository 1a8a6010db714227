"""portMappings and the configuration: what is refused, and the elements that follow."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni.plugins.portmap import ruleset
from netlab.cni.plugins.portmap.config import Config
from netlab.cni.plugins.portmap.plan import (
    MAPS,
    Wanted,
    container_addresses,
    forwarded,
    wanted,
)
from netlab.cni.plugins.request import Request
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix, parse_prefix
from netlab.cni.spec.errors import CniError
from netlab.net.nftables.elements import jump

GOOD: dict[str, Any] = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
V4, V6 = parse_prefix("10.0.0.5/24"), parse_prefix("fd00::5/64")


def config(**keys: Any) -> Config:
    return Config(Request("ADD", {}, {"name": "net", "cniVersion": "1.1.0", **keys}))


def plan(*mappings: dict[str, Any], addresses: tuple[Prefix, ...] = (V4, V6), **keys: Any) -> list[Wanted]:
    return wanted(config(runtimeConfig={"portMappings": list(mappings)}, **keys), list(addresses), "net/c/eth0")


def refused(code: int, said: str, call: Any, *arguments: Any, **keys: Any) -> None:
    with pytest.raises(CniError) as caught:
        call(*arguments, **keys)
    assert caught.value.code == code
    assert said in caught.value.msg


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        ({"snat": "yes"}, errors.INVALID_CONFIG, "snat: 'yes' must be true or false"),
        ({"masqAll": 1}, errors.INVALID_CONFIG, "masqAll: 1"),
        ({"markMasqBit": 32}, errors.INVALID_CONFIG, "markMasqBit: 32 must be between 0 and 31"),
        ({"markMasqBit": -1}, errors.INVALID_CONFIG, "markMasqBit: -1"),
        ({"backend": "ebpf"}, errors.INVALID_CONFIG, "backend: 'ebpf' must be iptables or nftables"),
        (
            {"externalSetMarkChain": "KUBE-MARK-MASQ"},
            errors.UNSUPPORTED_FIELD,
            "externalSetMarkChain: 'KUBE-MARK-MASQ'",
        ),
        ({"conditionsV4": ["-d", "192.0.2.1"]}, errors.UNSUPPORTED_FIELD, "conditionsV4: ['-d', '192.0.2.1']"),
        ({"conditionsV6": ["x"]}, errors.UNSUPPORTED_FIELD, "conditionsV6: ['x']"),
    ],
)
def test_configuration_that_cannot_be_honoured(keys: dict[str, Any], code: int, said: str) -> None:
    refused(code, said, config, **keys)


def test_the_defaults_are_the_go_plugins() -> None:
    found = config(conditionsV4=[], conditionsV6=None, externalSetMarkChain="", unknown="key")
    assert (found.snat, found.masquerade_all, found.mark_bit) == (True, False, 13)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hostPort": 0}, "[0].hostPort: 0 must be a port"),
        ({"hostPort": 65536}, "[0].hostPort: 65536"),
        ({"hostPort": "80"}, "[0].hostPort: '80'"),
        ({"hostPort": True}, "[0].hostPort: True"),
        ({"containerPort": None}, "[0].containerPort: None"),
        ({"containerPort": -1}, "[0].containerPort: -1"),
        ({"protocol": "icmp"}, "[0].protocol: 'icmp' must be one of tcp, udp, sctp"),
        ({"protocol": None}, "[0].protocol: None"),
        ({"protocol": 6}, "[0].protocol: 6"),
        ({"hostIP": "192.0.2.1/24"}, "[0].hostIP: '192.0.2.1/24'"),
        ({"hostIP": "localhost"}, "[0].hostIP: 'localhost'"),
        ({"hostIP": 1}, "[0].hostIP: 1"),
    ],
)
def test_mappings_are_refused_by_path_and_value(change: dict[str, Any], said: str) -> None:
    refused(errors.INVALID_CONFIG, said, config, runtimeConfig={"portMappings": [{**GOOD, **change}]})


@pytest.mark.parametrize("value", [5, {}, "x", [5], [[]]])
def test_mappings_that_are_no_list_of_objects(value: Any) -> None:
    refused(errors.INVALID_CONFIG, "runtimeConfig.portMappings", config, runtimeConfig={"portMappings": value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
odd_mappings = st.fixed_dictionaries(
    {},
    optional={
        "hostPort": st.integers(1, 65535) | json_values,
        "containerPort": st.integers(1, 65535) | json_values,
        "protocol": st.sampled_from(["tcp", "UDP", "sctp"]) | json_values,
        "hostIP": st.ip_addresses().map(str) | json_values,
    },
)


@given(st.lists(odd_mappings, max_size=3) | json_values)
def test_any_mappings_make_elements_or_an_error_of_the_specification(value: Any) -> None:
    code, found = 0, []
    try:
        found = wanted(config(runtimeConfig={"portMappings": value}), [V4, V6], "net/c/eth0")
    except CniError as error:
        code = error.code
    assert code in {0, errors.INVALID_CONFIG}
    assert len({(item.where.name, item.element.key) for item in found}) == len(found)


def test_a_mapping_of_any_address() -> None:
    ports, subnet, loopback = plan(GOOD, addresses=(V4,))
    assert ports.subject == "runtimeConfig.portMappings[0]: host port 8080/tcp of any IPv4 address"
    assert (ports.where.name, ports.element.key.hex()) == ("ports4", "060000001f900000")
    assert ports.element.data == bytes.fromhex("0a00000500500000")
    assert subnet.where.name == loopback.where.name == "clients-of-ports4"
    assert [item.element.key.hex()[:8] for item in (subnet, loopback)] == ["0a000000", "7f000000"]
    assert [item.element.key_end.hex()[:8] for item in (subnet, loopback)] == ["0a0000ff", "7fffffff"]
    assert {item.element.data for item in (subnet, loopback)} == {jump("mark-13")}
    assert {item.element.comment for item in (ports, subnet, loopback)} == {"net/c/eth0"}


@pytest.mark.parametrize(
    ("host", "maps"),
    [
        ("", {"ports4", "ports6"}),
        ("0.0.0.0", {"ports4"}),
        ("::", {"ports6"}),
        ("192.0.2.1", {"addresses4"}),
        ("2001:db8::1", {"addresses6"}),
    ],
)
def test_a_host_address_limits(host: str, maps: set[str]) -> None:
    found = {item.where.name for item in plan({**GOOD, "hostIP": host}, snat=False)}
    assert found == maps


@pytest.mark.parametrize(
    ("keys", "sources"),
    [
        ({}, ["10.0.0.0-10.0.0.255", "127.0.0.0-127.255.255.255"]),
        ({"masqAll": True}, ["0.0.0.0-255.255.255.255"]),
        ({"snat": False, "masqAll": True}, []),
    ],
    ids=str,
)
def test_who_is_masqueraded(keys: dict[str, Any], sources: list[str]) -> None:
    clients = [item.element for item in plan(GOOD, addresses=(V4,), **keys) if item.where is MAPS[32].clients_of_ports]
    found = [f"{socket.inet_ntoa(item.key[:4])}-{socket.inet_ntoa(item.key_end[:4])}" for item in clients]
    assert found == sources


def test_the_same_mapping_twice_is_one_and_a_contradiction_is_refused() -> None:
    assert len(plan(GOOD, {**GOOD, "protocol": "TCP"})) == len(plan(GOOD))
    refused(
        errors.INVALID_CONFIG,
        "portMappings[1]: host port 8080/tcp of any IPv4 address is runtimeConfig.portMappings[0]'s too",
        plan,
        GOOD,
        {**GOOD, "containerPort": 81},
    )


RESULT: dict[str, Any] = {
    "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/n"}, {"name": "eth1", "sandbox": "/n"}],
    "ips": [
        {"address": "10.0.0.1/24", "interface": 0},
        {"address": "10.0.1.5/24", "interface": 2},
        {"address": "10.0.0.5/24", "interface": 1},
        {"address": "10.0.0.6/24", "interface": 1},
        {"address": "fd00::5/64"},
    ],
}


@pytest.mark.parametrize(
    ("ifname", "found"), [("eth0", ["10.0.0.5/24", "fd00::5/64"]), ("eth1", ["10.0.1.5/24", "fd00::5/64"])]
)
def test_the_containers_own_addresses_count(ifname: str, found: list[str]) -> None:
    assert [str(address) for address in container_addresses(RESULT, ifname)] == found


def test_a_container_without_an_address_is_refused() -> None:
    refused(errors.INVALID_CONFIG, "prevResult.ips: eth0 has no address", container_addresses, {}, "eth0")


def test_udp_ports_are_read_back_from_elements() -> None:
    mappings = [{**GOOD, "protocol": "udp"}, {**GOOD, "protocol": "udp", "hostIP": "2001:db8::1"}, GOOD]
    found = [port for item in plan(*mappings) for port in forwarded(item.where, item.element)]
    dialled = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    assert found == [(32, b"", 8080), (128, b"", 8080), (128, dialled, 8080)]


@pytest.mark.parametrize("bit", [0, 13, 31])
def test_the_table_has_the_chains_of_its_mark(bit: int) -> None:
    text = ruleset.text([bit])
    assert f"meta mark & {1 << bit:#x} == {1 << bit:#x} masquerade" in text
    assert text.count("{") == text.count("}")


def test_the_marks_of_a_table_are_read_from_its_chains() -> None:
    assert ruleset.bits_of(["guard", "mark-7", "masquerade-0", "masquerade-13", "masquerade-x", "masquerade-99"]) == {
        0,
        13,
    }
