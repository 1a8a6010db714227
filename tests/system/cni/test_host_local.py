"""netlab-ipam beside the Go plugin host-local: what one takes the other takes, and gives the same addresses for it."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.cni.plugins.answer import answer
from netlab.cni.plugins.ipam import commands
from tests.system.cni.pods import GO_PLUGINS

pytestmark = pytest.mark.skipif(
    not (GO_PLUGINS / "host-local").exists(), reason="the Go plugins are not installed (containernetworking-plugins)"
)

# Addresses in, at the ends of and beside the subnets, in odd spellings too.
_SUBNETS = {
    "10.1.2.0/24": ["10.1.2.1", "10.1.2.7", "10.1.2.9", "10.1.2.254", "::ffff:10.1.2.9", "10.1.3.1", "169.254.1.1"],
    "10.1.2.0/29": ["10.1.2.1", "10.1.2.3", "10.1.2.6", "::ffff:10.1.2.5", "10.1.2.9", "10.1.2", "10.1.2.05"],
    "10.9.0.0/30": ["10.9.0.1", "10.9.0.2", "fe80::1", "10.9.0.4"],
    "fd00:1::/64": ["fd00:1::1", "fd00:1::9", "FD00:1:0::A", "fd00:1::1.2.3.4", "fd00:2::1", "fe80::1", "10.1.2.3"],
    "fd00:1::8/125": ["fd00:1::9", "fd00:1::a", "fd00:1::e", "fd00:1::10"],
    "10.1.2.5/24": [],
    "10.1.2.0/31": ["10.1.2.1"],
    "10.1.2.0/33": [],
    "10.1.2.0": [],
    "10.01.2.0/24": [],
    "::ffff:10.1.2.0/120": ["10.1.2.9"],
    "fd00:1::/127": [],
    "fd00:1::1/64": [],
    "": [],
}


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, str]:
    subnet = draw(st.sampled_from(list(_SUBNETS)[:5] * 3 + list(_SUBNETS)[5:]))
    found = {"subnet": subnet}
    for key in draw(st.sets(st.sampled_from(["rangeStart", "rangeEnd", "gateway"]))):
        found[key] = draw(st.sampled_from([*_SUBNETS[subnet], ""]))
    return found


configurations = (
    st.fixed_dictionaries(
        {},
        optional={
            "ranges": st.lists(st.lists(ranges(), min_size=1, max_size=2), max_size=2),
            "routes": st.lists(
                st.sampled_from([{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.2.1"}]), max_size=2
            ),
        },
    )
    | ranges()
)


def _go(config: dict[str, Any], command: str, container: str) -> tuple[bool, dict[str, Any]]:
    environment = {**_environment(command, container), "CNI_PATH": str(GO_PLUGINS)}
    done = subprocess.run(
        [GO_PLUGINS / "host-local"],
        input=json.dumps(config).encode(),
        env=environment,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0, json.loads(done.stdout) if done.stdout else {}


def _ours(config: dict[str, Any], command: str, container: str) -> tuple[bool, dict[str, Any]]:
    text = json.dumps(config).encode()
    status, output = answer(commands.HANDLERS, _environment(command, container), lambda: text)
    return status == 0, json.loads(output) if output else {}


def _environment(command: str, container: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": "/nonexistent",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nonexistent",
    }


def _is_given(given: dict[str, Any]) -> object:
    routes = [(ipaddress.ip_interface(route["dst"]), route.get("gw")) for route in given.get("routes", [])]
    return given["ips"], routes


@settings(max_examples=300, database=None)
@given(configurations)
def test_both_take_the_same_configurations_and_give_the_same_addresses(given_ipam: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (
            {
                "cniVersion": "1.0.0",
                "name": "net",
                "ipam": {"type": "host-local", **given_ipam, "dataDir": f"{folder}/{who}"},
            }
            for who in ("ours", "theirs")
        )
        for container in ("a", "b", "c", "d"):
            here, there = _ours(ours, "ADD", container), _go(theirs, "ADD", container)
            assert here[0] == there[0], (here, there)
            if not here[0]:
                return
            assert _is_given(here[1]) == _is_given(there[1])
            if container == "b":
                assert _ours(ours, "DEL", "a")[0] == _go(theirs, "DEL", "a")[0] is True


EXAMPLES: list[dict[str, Any]] = [
    {
        "ranges": [
            [
                {
                    "subnet": "10.10.0.0/16",
                    "rangeStart": "10.10.1.20",
                    "rangeEnd": "10.10.3.50",
                    "gateway": "10.10.0.254",
                },
                {"subnet": "172.16.5.0/24"},
            ],
            [
                {
                    "subnet": "3ffe:ffff:0:01ff::/64",
                    "rangeStart": "3ffe:ffff:0:01ff::0010",
                    "rangeEnd": "3ffe:ffff:0:01ff::0020",
                }
            ],
        ],
        "routes": [
            {"dst": "0.0.0.0/0"},
            {"dst": "192.168.0.0/16", "gw": "10.10.5.1"},
            {"dst": "3ffe:ffff:0:01ff::1/64"},
        ],
    },
    {"subnet": "203.0.113.0/24"},
    {"ranges": [[{"subnet": "203.0.113.0/24"}], [{"subnet": "2001:db8:1::/64"}]], "routes": [{"dst": "::/0"}]},
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_its_documentation(tmp_path: Path, example: dict[str, Any]) -> None:
    config = {"cniVersion": "1.0.0", "name": "net"}
    ours = _ours({**config, "ipam": {"type": "netlab-ipam", **example, "dataDir": str(tmp_path / "ours")}}, "ADD", "a")
    theirs = _go({**config, "ipam": {"type": "host-local", **example, "dataDir": str(tmp_path / "theirs")}}, "ADD", "a")
    assert ours[0] is theirs[0] is True
    assert _is_given(ours[1]) == _is_given(theirs[1])
