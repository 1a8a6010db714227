"""Requests: what a call asks for, and who outranks whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from netlab.cni.plugins.request import Request, read_config
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError

ENVIRONMENT = {"CNI_CONTAINERID": "c", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0", "CNI_PATH": "/p"}


def a_request(config: Mapping[str, Any] = {}, args: str = "", command: str = "ADD") -> Request:
    environment = {**ENVIRONMENT, "CNI_ARGS": args}
    return Request(command, environment, {"cniVersion": "1.1.0", "name": "net", **config})


def test_capabilities_are_read_as_containerd_spells_them() -> None:
    theirs = {
        "portMappings": [{"HostPort": 80, "ContainerPort": 8080, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {"IngressRate": 8, "IngressBurst": 8, "EgressRate": 0, "EgressBurst": 0},
        "dns": {"Servers": ["10.0.0.53"], "Searches": None, "Options": None},
        "ipRanges": [[{"Subnet": "10.0.0.0/24", "RangeStart": "", "RangeEnd": "", "Gateway": ""}]],
        "io.kubernetes.cri.pod-annotations": {"Some/Annotation": "Kept"},
        "mac": "02:00:00:00:00:01",
    }
    config = {"cniVersion": "1.0.0", "name": "net", "runtimeConfig": theirs}
    ours = read_config(json.dumps(config).encode())["runtimeConfig"]
    assert ours == {
        "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": ""}],
        "bandwidth": {"ingressRate": 8, "ingressBurst": 8, "egressRate": 0, "egressBurst": 0},
        "dns": {"servers": ["10.0.0.53"], "searches": None, "options": None},
        "ipRanges": [[{"subnet": "10.0.0.0/24", "rangeStart": "", "rangeEnd": "", "gateway": ""}]],
        "io.kubernetes.cri.pod-annotations": {"Some/Annotation": "Kept"},
        "mac": "02:00:00:00:00:01",
    }


ASKED = ["10.0.0.5", "fd00::5/64"]


@pytest.mark.parametrize(
    ("config", "args", "ips"),
    [
        ({}, "", []),
        ({}, "IP=10.0.0.1", ["10.0.0.1"]),
        ({}, "IP=10.0.0.5,fd00::5/64", ASKED),
        ({"runtimeConfig": {"ips": ASKED}}, "IP=10.0.0.1", ASKED),
        ({"args": {"cni": {"ips": ASKED}}, "runtimeConfig": {"ips": ["10.0.0.9"]}}, "IP=10.0.0.1", ASKED),
        ({"args": {"cni": {"ips": []}}, "runtimeConfig": {"ips": ASKED}}, "", ASKED),
    ],
)
def test_addresses_asked_for_by_whom_outranks_whom(config: dict[str, Any], args: str, ips: list[str]) -> None:
    assert a_request(config, args).requested_ips == ips


MAC = "0a:58:0a:f4:01:02"


@pytest.mark.parametrize(
    ("config", "args", "mac"),
    [
        ({}, "", ""),
        ({}, f"MAC={MAC}", MAC),
        ({"args": {"cni": {"mac": "0A-58-0A-F4-01-02"}}}, "MAC=02:00:00:00:00:01", MAC),
        ({"runtimeConfig": {"mac": MAC}, "args": {"cni": {"mac": "02:00:00:00:00:01"}}}, "", MAC),
    ],
)
def test_hardware_addresses_asked_for_by_whom_outranks_whom(config: dict[str, Any], args: str, mac: str) -> None:
    assert a_request(config, args).requested_mac == bytes.fromhex(mac.replace(":", ""))


@pytest.mark.parametrize(
    ("config", "args", "code", "said"),
    [
        ({}, "IP=10.0.0", errors.INVALID_ENVIRONMENT, "CNI_ARGS: IP: '10.0.0' is not an IP address"),
        (
            {"runtimeConfig": {"ips": [7]}},
            "",
            errors.INVALID_CONFIG,
            "runtimeConfig.ips[0]: 7 must be a printable string",
        ),
        ({"args": {"cni": {"ips": "10.0.0.1"}}}, "", errors.INVALID_CONFIG, "args.cni.ips: '10.0.0.1' must be a list"),
        ({"args": 5}, "", errors.INVALID_CONFIG, "args: 5 must be an object"),
        ({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}, "", errors.INVALID_CONFIG, "runtimeConfig.mac: '01:00:5e"),
        ({"args": {"cni": {"mac": "00:00:00:00:00:00"}}}, "", errors.INVALID_CONFIG, "args.cni.mac"),
        ({}, "MAC=0a580af40102", errors.INVALID_ENVIRONMENT, "CNI_ARGS: MAC: '0a580af40102'"),
        ({}, "MAC=0a:58:0a:f4:01:0g", errors.INVALID_ENVIRONMENT, "CNI_ARGS: MAC"),
    ],
)
def test_what_cannot_be_asked_for(config: dict[str, Any], args: str, code: int, said: str) -> None:
    def ask() -> None:
        request = a_request(config, args)
        _ = request.requested_ips, request.requested_mac

    with pytest.raises(CniError) as caught:
        ask()
    assert caught.value.code == code
    assert said in caught.value.msg


ONE = {"containerID": "one", "ifname": "eth0"}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"cni.dev/valid-attachments": [ONE]}, {("one", "eth0")}),
        ({"cni.dev/attachments": [ONE]}, {("one", "eth0")}),
        ({"cni.dev/valid-attachments": [ONE], "cni.dev/attachments": []}, {("one", "eth0")}),
        ({"cni.dev/valid-attachments": None}, set()),
        ({"cni.dev/valid-attachments": []}, set()),
        ({}, "cni.dev/valid-attachments: GC needs the list"),
        ({"cni.dev/attachments": {}}, "cni.dev/attachments: {} must be a list"),
        ({"cni.dev/valid-attachments": [ONE, 5]}, "cni.dev/valid-attachments[1]: 5 must be an object"),
        ({"cni.dev/valid-attachments": [{"containerID": "one"}]}, "must have containerID and ifname"),
    ],
)
def test_what_a_gc_is_to_keep(config: dict[str, Any], found: set[tuple[str, str]] | str) -> None:
    request = a_request(config, command="GC")
    if isinstance(found, set):
        assert request.valid_attachments == found
        return
    with pytest.raises(CniError) as caught:
        _ = request.valid_attachments
    assert caught.value.code == errors.INVALID_CONFIG
    assert found in caught.value.msg


def test_a_malformed_previous_result_stops_all_but_a_delete() -> None:
    config = {"prevResult": {"ips": [{"address": "nonsense"}]}}
    assert a_request(config, command="DEL").prev_result is None
    for command in ("ADD", "CHECK"):
        with pytest.raises(CniError, match=r"prevResult\.ips\[0\]\.address: 'nonsense'"):
            _ = a_request(config, command=command).prev_result
    assert a_request({"prevResult": None}).prev_result is None
    assert a_request({"prevResult": {"cniVersion": "0.4.0", "ips": []}}).prev_result == {"ips": []}


def test_garbage_is_what_this_network_labelled_for_no_attachment_to_keep() -> None:
    is_garbage = a_request({"cni.dev/valid-attachments": [ONE]}, command="GC").is_garbage()
    labels = ("net/one/eth0", "net/one/eth1", "net/two/eth0", "network/two/eth0", "other/two/eth0", "")
    assert [label for label in labels if is_garbage(label)] == ["net/one/eth1", "net/two/eth0"]
