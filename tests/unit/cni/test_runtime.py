"""The runtime's side: reading networks, building a plugin's configuration, running a chain of small plugins."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from netlab.cni import errors, runtime
from netlab.cni.errors import CniError
from netlab.cni.runtime import Attachment, NetworkList, Runtime
from netlab.errors import UsageError

A = Attachment("c1", "/proc/1/ns/net", args={"K8S_POD_NAME": "web", "IgnoreUnknown": "1"})

# It appends what it was called with to ./calls and answers with its own name, or as $FAKE_<NAME> has it.
FAKE = """#!/bin/sh
name=${0##*/}
cd "${0%/*}"
printf '{"name":"%s","command":"%s","args":"%s","path":"%s","stdin":' $name $CNI_COMMAND "$CNI_ARGS" "$CNI_PATH" >>calls
cat >>calls
echo '}' >>calls
[ -e $name.$CNI_COMMAND ] && . ./$name.$CNI_COMMAND
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


def test_the_first_network_in_lexical_order_is_read(tmp_path: Path) -> None:
    (tmp_path / "20-b.conflist").write_text('{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"x"}]}')
    (tmp_path / "10-a.conf").write_text('{"cniVersion":"0.4.0","name":"a","type":"y"}')
    (tmp_path / "00-readme.txt").write_text("?")
    network = runtime.load_network(tmp_path)
    assert (network.name, network.cni_version, network.plugins[0]["type"]) == ("a", "0.4.0", "y")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"name":"a b","plugins":[{"type":"x"}]}', "name: 'a b'"),
        ('{"name":"a","plugins":[]}', "plugins: must be a list"),
        ('{"name":"a","plugins":[{}]}', r"plugins\[0\].type"),
        ('{"name":"a","plugins":[{"type":"../x"}]}', r"plugins\[0\].type: '../x'"),
        ('{"name":"a","cniVersion":1,"plugins":[{"type":"x"}]}', "cniVersion: 1"),
    ],
)
def test_a_wrong_network_is_refused_naming_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "net.conflist").write_text(text)
    with pytest.raises(UsageError, match=f"net.conflist: .*{said}"):
        runtime.load_network(tmp_path)


def test_a_folder_without_networks(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="no network is configured"):
            runtime.load_network(folder)


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
    with pytest.raises(CniError, match="already; delete that first"):
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


@pytest.mark.parametrize("attachment", [Attachment("../c", "/n"), Attachment("c", "/n", "a/b")])
def test_names_that_lead_elsewhere(subject: Runtime, attachment: Attachment) -> None:
    with pytest.raises(CniError, match="not a valid"):
        subject.add(NETWORK, attachment)
