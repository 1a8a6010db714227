"""Results of every version, read and written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni.spec import errors, results
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.versions import VERSIONS

FULL: dict[str, Any] = {
    "interfaces": [
        {"name": "cni0", "mac": "0a:58:0a:f4:01:01", "mtu": 1450},
        {"name": "eth0", "mac": "0a:58:0a:f4:01:02", "sandbox": "/n", "socketPath": "/s", "pciID": "0000:00:1f.6"},
    ],
    "ips": [
        {"address": "10.244.1.2/24", "gateway": "10.244.1.1", "interface": 1},
        {"address": "fd00::2/64", "interface": 0},
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "10.244.1.1", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 7, "scope": 0},
        {"dst": "fd00::/8"},
    ],
    "dns": {"nameservers": ["10.0.0.1"], "domain": "a", "search": ["b"], "options": ["c"]},
}
OLD: dict[str, Any] = {
    **FULL,
    "interfaces": [
        {"name": "cni0", "mac": "0a:58:0a:f4:01:01"},
        {"name": "eth0", "mac": "0a:58:0a:f4:01:02", "sandbox": "/n"},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}, {"dst": "fd00::/8"}],
}
OLDEST = {**OLD, "ips": [{"version": v, **ip} for v, ip in zip("46", OLD["ips"], strict=True)]}
OF_VERSION = {"0.3.0": OLDEST, "0.3.1": OLDEST, "0.4.0": OLDEST, "1.0.0": OLD, "1.1.0": FULL}


@pytest.mark.parametrize("read", OF_VERSION)
@pytest.mark.parametrize("written", VERSIONS)
def test_every_version_becomes_every_other(read: str, written: str) -> None:
    result = results.read({"cniVersion": read, **OF_VERSION[read]}, "1.1.0")
    assert result == (FULL if read == "1.1.0" else OLD)
    expected = OF_VERSION[written] if read == "1.1.0" or written != "1.1.0" else OLD
    assert results.write(result, written) == expected


def test_reading_and_writing_change_nothing_that_they_are_given() -> None:
    before = json.dumps(OLDEST)
    result = results.read(OLDEST, "0.4.0")
    kept = json.dumps(result)
    results.write(result, "0.3.1")
    assert (json.dumps(OLDEST), json.dumps(result)) == (before, kept)


def test_a_result_without_a_version_is_of_the_configurations() -> None:
    assert results.read(OLDEST, "0.4.0") == OLD


def test_nulls_are_as_good_as_absent_and_unknown_fields_stay() -> None:
    given: Any = {
        "interfaces": None,
        "routes": None,
        "ips": [{"address": "fd00::2/64", "gateway": None, "x": 1}],
        "y": {},
    }
    assert results.read(given, "1.0.0") == {"ips": [{"address": "fd00::2/64", "x": 1}], "y": {}}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, "prevResult: 5 must be an object"),
        ({"ips": {}}, "prevResult.ips: {} must be a list"),
        ({"ips": [5]}, "prevResult.ips[0]: 5 must be an object"),
        ({"ips": [{}]}, "prevResult.ips[0].address: '' must be a string"),
        ({"ips": [{"address": "10.0.0.1"}]}, "prevResult.ips[0].address: '10.0.0.1' is not an address with a prefix"),
        ({"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]}, "prevResult.ips[0].gateway: 'x' is not an IP address"),
        ({"ips": [{"address": "10.0.0.1/8", "interface": -1}]}, "prevResult.ips[0].interface: -1"),
        (
            {"ips": [{"address": "10.0.0.1/8", "interface": 0}]},
            "prevResult.ips[0].interface: 0: there are 0 interfaces",
        ),
        ({"ips": [{"address": "10.0.0.1/8", "interface": True}]}, "prevResult.ips[0].interface: True"),
        ({"interfaces": [{"mac": "x"}]}, "prevResult.interfaces[0].name: ''"),
        ({"interfaces": [{"name": "a\0"}]}, "prevResult.interfaces[0].name: 'a\\x00'"),
        ({"interfaces": [{"name": "a", "mtu": "1"}]}, "prevResult.interfaces[0].mtu: '1' must be a number"),
        ({"routes": [{"dst": "10.0.0.0/33"}]}, "prevResult.routes[0].dst: '10.0.0.0/33'"),
        ({"routes": [{"dst": "::/0", "gw": 1}]}, "prevResult.routes[0].gw: 1"),
        ({"routes": [{"dst": "::/0", "table": 1 << 32}]}, "prevResult.routes[0].table: 4294967296"),
        ({"dns": []}, "prevResult.dns: [] must be an object"),
        ({"dns": {"nameservers": [1]}}, "prevResult.dns.nameservers[0]: 1 must be a string"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(value: object, said: str) -> None:
    with pytest.raises(CniError) as caught:
        results.read(value, "1.1.0")
    assert caught.value.code == errors.INVALID_CONFIG
    assert said in caught.value.msg


@pytest.mark.parametrize("version", ["0.2.0", "2.0.0", 1, ["1.0.0"]])
def test_versions_that_are_not_known(version: object) -> None:
    with pytest.raises(CniError, match=r"^prevResult\.cniVersion: ") as caught:
        results.read({"cniVersion": version}, "1.1.0")
    assert caught.value.code == errors.INCOMPATIBLE_VERSION


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("10.0.0.1/8"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
items = (
    st.dictionaries(
        st.sampled_from(
            ["name", "mac", "mtu", "sandbox", "address", "gateway", "interface", "dst", "gw", "scope", "version"]
        ),
        json_values,
    )
    | json_values
)
values = st.dictionaries(
    st.sampled_from(["cniVersion", "interfaces", "ips", "routes", "dns"]), st.lists(items, max_size=3) | items
)


@given(values | json_values)
def test_anything_is_read_or_refused(value: Any) -> None:
    try:
        result = results.read(value, "1.1.0")
    except CniError:
        return
    for version in VERSIONS:
        assert results.read(results.write(result, version), version).keys() == result.keys()
