"""Reading network configurations: versions, switches, plugins of a folder, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni.runtime.configurations import find_network, load_network, parse_network, read_networks
from netlab.errors import NotFoundError, UsageError

PLUGIN = {"type": "x"}


def write(folder: Path, file: str, config: Any) -> None:
    (folder / file).write_text(config if isinstance(config, str) else json.dumps(config))


def test_the_first_network_in_lexical_order_is_read(tmp_path: Path) -> None:
    write(tmp_path, "20-b.conflist", {"cniVersion": "1.0.0", "name": "b", "plugins": [PLUGIN]})
    write(tmp_path, "10-a.conf", {"cniVersion": "0.4.0", "name": "a", "type": "y"})
    write(tmp_path, "00-readme.txt", "?")
    network = load_network(tmp_path)
    assert (network.name, network.cni_version, network.plugins[0]["type"]) == ("a", "0.4.0", "y")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "must be an object"),
        ('{"name":"a b","plugins":[{"type":"x"}]}', "name: 'a b'"),
        ('{"name":"../a","plugins":[{"type":"x"}]}', "name: '../a'"),
        ('{"name":"a"}', "plugins: must be a list of at least one"),
        ('{"name":"a","plugins":[]}', "plugins: must be a list of at least one"),
        ('{"name":"a","plugins":{}}', "plugins: must be a list"),
        ('{"name":"a","loadOnlyInlinedPlugins":true}', "plugins: must be a list of at least one"),
        ('{"name":"a","plugins":[{}]}', r"plugins\[0\].type"),
        ('{"name":"a","plugins":[{"type":"../x"}]}', r"plugins\[0\].type: '../x'"),
        ('{"name":"a","plugins":[{"type":"x\\u0000"}]}', r"plugins\[0\].type: "),
        ('{"name":"a","plugins":[{"type":"x","capabilities":["ips"]}]}', r"plugins\[0\].capabilities"),
        ('{"name":"a","cniVersion":1,"plugins":[{"type":"x"}]}', "cniVersion: 1"),
        ('{"name":"a","cniVersions":"1.0.0","plugins":[{"type":"x"}]}', "cniVersions: must be a list"),
        ('{"name":"a","cniVersions":["1.0"],"plugins":[{"type":"x"}]}', r"cniVersions\[0\]: '1.0'"),
        ('{"name":"a","disableCheck":"maybe","plugins":[{"type":"x"}]}', "disableCheck: 'maybe'"),
        ('{"name":"a","disableGC":1,"plugins":[{"type":"x"}]}', "disableGC: 1"),
    ],
)
def test_a_wrong_network_is_refused_naming_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "net.conflist", text)
    with pytest.raises(UsageError, match=f"net.conflist: .*{said}"):
        load_network(tmp_path)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda item: st.lists(item, max_size=2)))
def test_any_value_in_any_field_is_taken_or_refused(value: Any) -> None:
    whole = {"name": "a", "cniVersion": "1.0.0", "plugins": [PLUGIN]}
    for key in ("name", "cniVersion", "cniVersions", "plugins", "disableCheck", "disableGC", "loadOnlyInlinedPlugins"):
        refused = ""
        try:
            parse_network(json.dumps(whole | {key: value}).encode(), "test")
        except UsageError as error:
            refused = str(error)
        assert not refused or refused.startswith(f"test: {key}"), "the field is named"


def test_a_folder_without_networks(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="no network is configured"):
            load_network(folder)


@pytest.mark.parametrize(
    ("config", "version"),
    [
        ({}, "0.1.0"),
        ({"cniVersion": "0.3.1"}, "0.3.1"),
        ({"cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.1.0", "1.0.0"]}, "1.1.0"),
        ({"cniVersion": "1.0.0", "cniVersions": ["0.4.0"]}, "1.0.0"),
        ({"cniVersions": ["0.10.0", "0.9.0"]}, "0.10.0"),
        ({"cniVersion": "1.0.0", "cniVersions": ["1.2.0", "9.0.0"]}, "1.0.0"),
        ({"cniVersion": "9.0.0"}, "9.0.0"),
    ],
)
def test_the_highest_version_that_is_known_is_selected(config: dict[str, Any], version: str) -> None:
    network = parse_network(json.dumps({"name": "a", "plugins": [PLUGIN], **config}).encode(), "test")
    assert network.cni_version == version


@pytest.mark.parametrize(("value", "meant"), [(True, True), (False, False), ("True", True), ("false", False)])
def test_switches_may_be_strings_as_libcni_has_it(value: bool | str, meant: bool) -> None:
    config = {"name": "a", "plugins": [PLUGIN], "disableCheck": value, "disableGC": value}
    network = parse_network(json.dumps(config).encode(), "test")
    assert (network.disable_check, network.disable_gc) == (meant, meant)


FOLDER = {"10-p.conf": {"type": "p"}, "20-q.conf": {"type": "q"}, "30-r.json": {"type": "r"}}


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({"plugins": [PLUGIN]}, ["x", "p", "q"]),
        ({}, ["p", "q"]),
        ({"plugins": [PLUGIN], "loadOnlyInlinedPlugins": True}, ["x"]),
        ({"type": "single"}, ["single"]),
    ],
)
def test_plugins_of_the_networks_folder_follow_the_inlined(
    tmp_path: Path, config: dict[str, Any], kinds: list[str]
) -> None:
    (tmp_path / "lan").mkdir()
    for file, plugin in FOLDER.items():
        write(tmp_path / "lan", file, plugin)
    write(tmp_path, "10.conflist", {"cniVersion": "1.1.0", "name": "lan", **config})
    assert [plugin["type"] for plugin in load_network(tmp_path).plugins] == kinds


def test_a_wrong_plugin_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "lan").mkdir()
    write(tmp_path / "lan", "p.conf", {"type": ""})
    write(tmp_path, "10.conflist", {"cniVersion": "1.1.0", "name": "lan", "plugins": [PLUGIN]})
    with pytest.raises(UsageError, match=r"lan/p\.conf\.type: ''"):
        load_network(tmp_path)


def test_a_network_is_found_by_name_beside_broken_ones(tmp_path: Path) -> None:
    write(tmp_path, "00-broken.conflist", "{")
    write(tmp_path, "10-a.conflist", {"name": "a", "plugins": [PLUGIN]})
    write(tmp_path, "20-b.json", {"name": "b", "type": "y"})
    assert find_network(tmp_path, "b").plugins[0]["type"] == "y"
    with pytest.raises(NotFoundError, match=r"no network 'c'; there are: a, b; not read: .*00-broken"):
        find_network(tmp_path, "c")
    networks, broken = read_networks(tmp_path)
    assert ([network.name for network in networks], len(broken)) == (["a", "b"], 1)
