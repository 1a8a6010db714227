"""The runtime's side: building a plugin's configuration, running a chain of small plugins, keeping what they say."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.chain import Runtime
from netlab.cni.runtime.configurations import NetworkList, parse_network
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError

A = Attachment("c1", "/proc/1/ns/net", args={"K8S_POD_NAME": "web", "IgnoreUnknown": "1"})

# It appends what it was called with to ./calls and answers with its own name, or as $FAKE_<NAME> has it.
FAKE = """#!/bin/sh
name=${0##*/}
cd "${0%/*}"
printf '{"name":"%s","command":"%s","args":"%s","path":"%s","stdin":' $name $CNI_COMMAND "$CNI_ARGS" "$CNI_PATH" >>calls
cat >>calls
echo '}' >>calls
[ -e $name.$CNI_COMMAND ] && . ./$name.$CNI_COMMAND
[ $CNI_COMMAND = VERSION ] && echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}'
[ $CNI_COMMAND = ADD ] && printf '{"cniVersion":"1.0.0","dns":{"domain":"%s"}}' $name
exit 0
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("first", "second"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def subject(plugins: Path, tmp_path: Path) -> Runtime:
    return Runtime([plugins], tmp_path / "cache", timeout=20)


NETWORK = NetworkList(
    "net", "1.0.0", ({"type": "first", "capabilities": {"portMappings": True}}, {"type": "second", "mtu": 9})
)


def calls(plugins: Path) -> list[dict[str, Any]]:
    text = (plugins / "calls").read_text() if (plugins / "calls").exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def names(plugins: Path) -> list[str]:
    return [f"{call['command']} {call['name']}" for call in calls(plugins)]


def test_a_chain_passes_results_on_and_deletes_in_reverse(subject: Runtime, plugins: Path, tmp_path: Path) -> None:
    ports = [{"hostPort": 80}]
    attachment = Attachment(A.container_id, A.netns, args=A.args, runtime_config={"portMappings": ports})
    result = subject.add(NETWORK, attachment)
    assert result["dns"] == {"domain": "second"}
    (cached,) = (tmp_path / "cache" / "results").iterdir()
    assert stat.S_IMODE(cached.stat().st_mode) == 0o600
    subject.check(NETWORK, attachment)
    subject.delete(NETWORK, attachment)
    assert not cached.exists()
    first, second, *_, last = calls(plugins)
    assert names(plugins) == ["ADD first", "ADD second", "CHECK first", "CHECK second", "DEL second", "DEL first"]
    assert first["args"] == "K8S_POD_NAME=web;IgnoreUnknown=1"
    assert first["path"] == str(plugins)
    assert first["stdin"] == {
        "type": "first",
        "name": "net",
        "cniVersion": "1.0.0",
        "runtimeConfig": {"portMappings": ports},
    }
    assert second["stdin"]["prevResult"]["dns"] == {"domain": "first"}
    assert "runtimeConfig" not in second["stdin"]
    assert last["stdin"]["prevResult"] == result


def test_a_failed_add_deletes_and_tells(subject: Runtime, plugins: Path) -> None:
    (plugins / "second.ADD").write_text("""echo '{"code":7,"msg":"mtu: 9 is low","details":"really"}'; exit 1""")
    with pytest.raises(CniError, match=r"CNI plugin second: mtu: 9 is low \(really\) \[code 7\]") as caught:
        subject.add(NETWORK, A)
    assert (caught.value.code, caught.value.plugin) == (errors.INVALID_CONFIG, "second")
    assert names(plugins) == ["ADD first", "ADD second", "DEL second", "DEL first"]


def test_an_attachment_is_not_added_twice_nor_hurt_by_the_attempt(subject: Runtime, plugins: Path) -> None:
    subject.add(NETWORK, A)
    with pytest.raises(CniError, match="already on network net as eth0; delete that first"):
        subject.add(NETWORK, A)
    assert names(plugins) == ["ADD first", "ADD second"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo oops >&2; exit 3", r"exit status 3 and no error object \(oops\)"),
        ("kill -9 $$", "killed by signal 9"),
        ("echo nonsense; exit 0", "not JSON"),
        ("echo 5; exit 0", "not an object"),
    ],
)
def test_plugins_that_misbehave(subject: Runtime, plugins: Path, script: str, said: str) -> None:
    (plugins / "first.ADD").write_text(script)
    with pytest.raises(CniError, match=f"CNI plugin first: .*{said}"):
        subject.add(NETWORK, A)


def test_a_hung_plugin_is_killed_with_its_children(plugins: Path, tmp_path: Path) -> None:
    (plugins / "first.ADD").write_text("sleep 3000 & echo $! >pid; wait")
    with pytest.raises(CniError, match=r"CNI plugin first: no answer within 0\.5 s; killed"):
        Runtime([plugins], tmp_path, timeout=0.5).add(NETWORK, A)
    pid = int((plugins / "pid").read_text())
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().split()[2] in "ZX"


def test_a_missing_plugin(subject: Runtime) -> None:
    with pytest.raises(CniError, match="CNI plugin none: no executable of that name in"):
        subject.add(NetworkList("net", "1.0.0", ({"type": "none"},)), A)


def test_check_came_with_version_0_4(subject: Runtime) -> None:
    with pytest.raises(CniError, match=r"0\.4\.0"):
        subject.check(NetworkList("net", "0.3.1", NETWORK.plugins), A)
    subject.check(NetworkList("net", "0.3.1", NETWORK.plugins, disable_check=True), A)


@pytest.mark.parametrize(
    "attachment", [Attachment("../c", "/n"), Attachment("c", "/n", "a/b"), Attachment("c", "/n", "")]
)
def test_names_that_lead_elsewhere(subject: Runtime, attachment: Attachment) -> None:
    for call in (subject.add, subject.delete, subject.check):
        with pytest.raises(CniError, match="not a valid"):
            call(NETWORK, attachment)


def test_what_is_not_there_is_not_checked(subject: Runtime, plugins: Path) -> None:
    with pytest.raises(CniError, match="c1 is not on network net as eth0") as caught:
        subject.check(NETWORK, A)
    assert caught.value.code == errors.UNKNOWN_CONTAINER
    assert calls(plugins) == []


def test_the_first_plugin_is_deleted_from_even_where_the_second_cannot_be_run(subject: Runtime, plugins: Path) -> None:
    network = NetworkList("net", "1.0.0", ({"type": "first"}, {"type": "none"}))
    with pytest.raises(CniError, match="CNI plugin none"):
        subject.add(network, A)
    assert names(plugins) == ["ADD first", "DEL first"]


def test_a_plugin_that_cannot_be_run(subject: Runtime, plugins: Path) -> None:
    (plugins / "broken").write_text("#!/nonexistent\n")
    (plugins / "broken").chmod(0o755)
    (plugins / "folder").mkdir()
    for kind, said in (("broken", "cannot be run: No such file"), ("folder", "no executable")):
        with pytest.raises(CniError, match=f"CNI plugin {kind}: .*{said}"):
            subject.add(NetworkList("net", "1.0.0", ({"type": kind},)), A)


def test_a_plugin_that_leaves_its_input_unread_or_a_daemon_behind(subject: Runtime, plugins: Path) -> None:
    (plugins / "lazy").write_text("#!/bin/sh\nsleep 300 & echo $! >${0%/*}/pid; echo '{}'\n")
    (plugins / "lazy").chmod(0o755)
    network = NetworkList("net", "1.0.0", ({"type": "lazy", "large": "x" * (1 << 20)},))
    try:
        assert subject.add(network, A) == {}
    finally:
        os.kill(int((plugins / "pid").read_text()), signal.SIGKILL)


def test_the_cache_is_libcnis(subject: Runtime, tmp_path: Path) -> None:
    text = b'{"name":"net","cniVersion":"1.0.0","plugins":[{"type":"first"}]}'
    network = parse_network(text, "test")
    attachment = Attachment("c1", "/n", "eth1", {"K": "v"}, {"ips": ["10.0.0.9"]})
    subject.add(network, attachment)
    entry = json.loads((tmp_path / "cache" / "results" / "net-c1-eth1").read_bytes())
    assert base64.b64decode(entry.pop("config")) == text
    assert entry == {
        "kind": "cniCacheV1",
        "containerId": "c1",
        "ifName": "eth1",
        "networkName": "net",
        "netns": "/n",
        "cniArgs": [["K", "v"]],
        "capabilityArgs": {"ips": ["10.0.0.9"]},
        "result": {"cniVersion": "1.0.0", "dns": {"domain": "first"}},
    }
    assert subject.attachments(network) == [attachment]


def test_the_namespace_of_an_older_libcnis_attachment_is_that_of_its_result(subject: Runtime, tmp_path: Path) -> None:
    subject.add(NETWORK, A)
    (cached,) = (tmp_path / "cache" / "results").iterdir()
    entry = json.loads(cached.read_bytes())
    del entry["netns"]
    entry["result"]["interfaces"] = [{"name": "veth0"}, {"name": "eth0", "sandbox": "/run/netns/theirs"}]
    cached.write_text(json.dumps(entry))
    assert [one.netns for one in subject.attachments(NETWORK)] == ["/run/netns/theirs"]


def test_a_result_that_cannot_be_read_does_not_keep_a_container(
    subject: Runtime, plugins: Path, tmp_path: Path
) -> None:
    subject.add(NETWORK, A)
    (cached,) = (tmp_path / "cache" / "results").iterdir()
    cached.write_text("{")
    with pytest.raises(CniError, match="remove the file"):
        subject.check(NETWORK, A)
    subject.delete(NETWORK, A)
    assert not cached.exists()
    assert "prevResult" not in calls(plugins)[-1]["stdin"]


@pytest.mark.parametrize("version", ["0.4.0", "1.1.0"])
def test_the_previous_result_is_of_the_version_that_the_network_has_now(
    subject: Runtime, plugins: Path, version: str
) -> None:
    (plugins / "first.ADD").write_text("""echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}'; exit""")
    subject.add(NetworkList("net", "1.0.0", ({"type": "first"},)), A)
    subject.delete(NetworkList("net", version, ({"type": "first"},)), A)
    prev_result = calls(plugins)[-1]["stdin"]["prevResult"]
    assert prev_result["cniVersion"] == version
    assert prev_result["ips"][0].get("version") == ("4" if version == "0.4.0" else None)


NEWEST = NetworkList("net", "1.1.0", NETWORK.plugins)
B = Attachment("c2", "/n2")


def test_garbage_is_deleted_and_the_plugins_are_told_what_is_valid(subject: Runtime, plugins: Path) -> None:
    for attachment in (A, B):
        subject.add(NEWEST, attachment)
    subject.add(NetworkList("net-c1", "1.1.0", NETWORK.plugins), Attachment("c9", "/n"))
    (plugins / "calls").unlink()
    assert subject.collect_garbage(NEWEST, {("c2", "eth0"), ("c3", "eth0")}) == [A]
    assert names(plugins) == ["DEL second", "DEL first", "GC first", "GC second"]
    valid = [{"containerID": "c2", "ifname": "eth0"}, {"containerID": "c3", "ifname": "eth0"}]
    for call in calls(plugins)[-2:]:
        assert call["stdin"]["cni.dev/valid-attachments"] == call["stdin"]["cni.dev/attachments"] == valid
    assert subject.attachments(NEWEST) == [B]


def test_garbage_collection_goes_past_errors_and_tells_them_all(subject: Runtime, plugins: Path) -> None:
    for attachment in (A, B):
        subject.add(NEWEST, attachment)
    (plugins / "second.DEL").write_text("""[ $CNI_CONTAINERID = c1 ] && { echo '{"code":5,"msg":"stuck"}'; exit 1; }""")
    (plugins / "first.GC").write_text("""echo '{"code":101,"msg":"refused"}'; exit 1""")
    with pytest.raises(CniError, match=r"CNI plugin second: stuck .*; CNI plugin first: refused") as caught:
        subject.collect_garbage(NEWEST, set())
    assert caught.value.code == errors.IO_FAILURE
    assert names(plugins)[-1] == "GC second"
    assert subject.attachments(NEWEST) == [A]


def test_where_no_garbage_is_collected(subject: Runtime, plugins: Path) -> None:
    subject.add(NETWORK, A)
    subject.collect_garbage(NetworkList("net", "1.1.0", NETWORK.plugins, disable_gc=True), set())
    assert names(plugins) == ["ADD first", "ADD second"]
    subject.collect_garbage(NETWORK, set())
    assert names(plugins)[2:] == ["DEL second", "DEL first"], "GC came with 1.1.0"


@pytest.mark.parametrize(
    ("network", "asked"),
    [(NETWORK, ["VERSION", "VERSION"]), (NEWEST, ["VERSION", "STATUS", "VERSION", "STATUS"])],
)
def test_status(subject: Runtime, plugins: Path, network: NetworkList, asked: list[str]) -> None:
    subject.status(network)
    assert [call["command"] for call in calls(plugins)] == asked
    (plugins / "second.STATUS").write_text("""echo '{"code":50,"msg":"no addresses"}'; exit 1""")
    if network is NEWEST:
        with pytest.raises(CniError, match=r"CNI plugin second: no addresses \[code 50\]"):
            subject.status(network)


def test_status_of_a_version_that_a_plugin_does_not_know(subject: Runtime) -> None:
    with pytest.raises(CniError, match=r"CNI plugin first: cniVersion: '0\.3\.1' is not among") as caught:
        subject.status(NetworkList("net", "0.3.1", NETWORK.plugins))
    assert caught.value.code == errors.INCOMPATIBLE_VERSION
