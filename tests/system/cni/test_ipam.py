"""The address plugin's executable: beside host-local, among many processes, killed, and without room on its disk."""

from __future__ import annotations

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.plugins.ipam import store
from netlab.cni.runtime.attachments import Attachment
from netlab.cni.spec import errors
from netlab.net import syscalls
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import GO_PLUGINS, PLUGINS, network, runtime, sandboxes

MS_REMOUNT = 0x20

pytestmark = pytest.mark.usefixtures("way")

GO_VERSIONS = ["0.3.1", "0.4.0", "1.0.0"]
needs_go = pytest.mark.skipif(
    not (GO_PLUGINS / "host-local").exists(), reason="containernetworking-plugins not installed"
)


def configuration(data_dir: Path, *, version: str = "1.1.0", more: dict[str, Any] | None = None, **keys: Any) -> bytes:
    of_ipam = {"type": "netlab-ipam", "dataDir": str(data_dir), **(keys or {"subnet": "10.0.0.0/24"})}
    return json.dumps({"cniVersion": version, "name": "net", "ipam": of_ipam, **(more or {})}).encode()


def begin(command: str, container_id: str = "", plugin: Path = PLUGINS / "netlab-ipam", args: str = "") -> Any:
    environment = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": "/run/netns/none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(PLUGINS),
        "CNI_ARGS": args,
    }
    pipe = subprocess.PIPE
    return subprocess.Popen([plugin], stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def execute(command: str, container_id: str, config: bytes, **more: Any) -> tuple[int, Any]:
    """The exit status and what is said on standard output."""
    process = begin(command, container_id, **more)
    output, log = process.communicate(config)
    assert log == b""
    return process.returncode, json.loads(output) if output else None


def arrange(way: str) -> None:
    if way == "resident":
        pods.start_resident()


def addresses(result: dict[str, Any]) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in result["ips"]]


def holders(data_dir: Path) -> dict[str, str]:
    return {one.address: one.container_id for one in store.holders(str(data_dir), "net")}


@isolated
def test_200_adds_from_16_processes_give_no_address_twice(tmp_path: Path, way: str) -> None:
    arrange(way)
    config = configuration(tmp_path, ranges=[[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/120"}]])
    names = [f"c{number}" for number in range(200)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        added = list(pool.map(lambda name: execute("ADD", name, config), names))
        assert {status for status, _ in added} == {0}
        given = [address for _, result in added for address in addresses(result)]
        assert len(set(given)) == 400
        assert holders(tmp_path) == {
            address: name for name, (_, result) in zip(names, added, strict=True) for address in addresses(result)
        }
        removed = list(pool.map(lambda name: execute("DEL", name, config), names[:40]))
        assert removed == [(0, None)] * 40
        assert len(holders(tmp_path)) == 320
    keeping_none: dict[str, Any] = {"cni.dev/valid-attachments": []}
    assert execute("GC", "", configuration(tmp_path, more=keeping_none)) == (0, None)
    assert holders(tmp_path) == {}


# The configuration, what is beside it, and CNI_ARGS; "@" stands for a number, and for the test's folder.
SAME: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "subnet": ({"subnet": "10.0.0.0/24"}, {}, ""),
    "bounds": (
        {"subnet": "10.0.0.0/16", "rangeStart": "10.0.3.254", "rangeEnd": "10.0.4.9", "gateway": "10.0.4.0"},
        {},
        "",
    ),
    "the smallest": ({"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "fd00::/125"}]]}, {}, ""),
    "round two ranges": ({"ranges": [[{"subnet": "10.0.0.0/30"}, {"subnet": "10.0.1.0/29"}]]}, {}, ""),
    "both forms": ({"subnet": "10.0.0.0/24", "ranges": [[{"subnet": "fd00:1::/64"}]]}, {}, ""),
    "routes": (
        {"subnet": "10.0.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.0.0.9"}]},
        {},
        "",
    ),
    "resolvConf": ({"subnet": "10.0.0.0/24", "resolvConf": "@/resolv.conf"}, {}, ""),
    "ipRanges": (
        {"subnet": "10.0.0.0/24"},
        {"runtimeConfig": {"ipRanges": [[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.77"}]]}},
        "",
    ),
    "CNI_ARGS": ({"subnet": "10.0.0.0/24"}, {}, "IgnoreUnknown=1;IP=10.0.0.@"),
    "args.cni.ips": (
        {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]},
        {"args": {"cni": {"ips": ["fd00::@", "10.0.0.@"]}}},
        "",
    ),
    "runtimeConfig.ips": ({"subnet": "10.0.0.0/24"}, {"runtimeConfig": {"ips": ["10.0.0.@/24"]}}, ""),
}


@needs_go
@pytest.mark.parametrize("version", ["0.3.1", "1.0.0"])
@isolated
def test_a_configuration_of_host_local_gives_the_same(tmp_path: Path, way: str, version: str) -> None:
    arrange(way)
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.53\nsearch a b\noptions ndots:5\ndomain lab\n")
    for case, (keys, more, args) in SAME.items():
        for number in (50, 60, 51):

            def asked(plugin: str, case: str = case, number: int = number) -> tuple[int, Any]:
                keys, more, args = SAME[case]
                data_dir = tmp_path / case / plugin
                text = json.dumps(more).replace("@", str(number))
                of_ipam = json.loads(json.dumps(keys).replace("@", str(tmp_path)))
                config = configuration(data_dir, version=version, more=json.loads(text), **of_ipam)
                folder = PLUGINS if plugin == "netlab-ipam" else GO_PLUGINS
                return execute("ADD", f"c{number}", config, plugin=folder / plugin, args=args.replace("@", str(number)))

            status, result = asked("netlab-ipam")
            expected_status, expected = asked("host-local")
            assert (case, status) == (case, expected_status)
            if status == 0:
                result.setdefault("dns", {})  # Go's omitempty does not omit structures
                expected.setdefault("dns", {})
                assert (case, result) == (case, expected)


@needs_go
@pytest.mark.parametrize("version", GO_VERSIONS)
@pytest.mark.parametrize("family", pods.FAMILIES)
@isolated
def test_the_go_bridge_uses_it(tmp_path: Path, version: str, family: str) -> None:
    of_ipam = {"type": "netlab-ipam", "dataDir": str(tmp_path / "data"), "ranges": pods.FAMILIES[family]}
    net = network(tmp_path, version=version, type="bridge", ipam=of_ipam)
    subject = runtime(tmp_path)
    with sandboxes(2) as (one, two):
        first, second = Attachment("one", one), Attachment("two", two)
        result, other = subject.add(net, first), subject.add(net, second)
        for source, target in zip(addresses(result), addresses(other), strict=True):
            assert pods.reaches(one, two, target) == source
        assert holders(tmp_path / "data") == dict.fromkeys(addresses(result), "one") | dict.fromkeys(
            addresses(other), "two"
        )
        if version != "0.3.1":
            subject.check(net, first)
        for attachment in (first, second, second):
            subject.delete(net, attachment)
    assert holders(tmp_path / "data") == {}


@isolated
def test_every_command_by_the_executable(tmp_path: Path, way: str) -> None:
    arrange(way)
    config = configuration(tmp_path, subnet="10.0.0.0/29", sticky=True)
    assert execute("STATUS", "", config) == (0, None)
    results = {name: execute("ADD", name, config)[1] for name in "abcde"}
    assert execute("STATUS", "", config)[1]["code"] == errors.NOT_AVAILABLE
    status, said = execute("ADD", "f", config)
    assert (status, said["code"]) == (1, errors.ADDRESSES_EXHAUSTED)
    status, said = execute("ADD", "a", config)
    assert (status, said["code"]) == (1, errors.ALREADY_RESERVED)
    of_b = configuration(tmp_path, subnet="10.0.0.0/29", more={"prevResult": results["b"]})
    assert execute("CHECK", "b", of_b) == (0, None)
    valid = {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}
    assert execute("GC", "", configuration(tmp_path, subnet="10.0.0.0/29", more=valid)) == (0, None)
    assert holders(tmp_path) == {"10.0.0.2": "a"}
    status, said = execute("CHECK", "b", of_b)
    assert said["code"] == errors.CHECK_FAILED
    assert "10.0.0.3 is missing" in said["msg"]
    for _ in range(2):
        assert execute("DEL", "a", configuration(tmp_path, ranges="nonsense")) == (0, None)
    assert holders(tmp_path) == {}


@isolated
def test_killed_executables_leave_whole_reservations(tmp_path: Path) -> None:
    """The resident process is not killed here: it does the work of those that are, and takes it back."""
    chance = random.Random(5)
    config = configuration(tmp_path, ranges=[[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]])
    for number in range(30):
        process = begin("ADD", f"c{number}")
        process.stdin.write(config)
        process.stdin.close()
        time.sleep(chance.random() / 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
    for address, name in holders(tmp_path).items():
        assert address in (tmp_path / "net" / ".holders" / f"{name}:eth0").readlink().name.split()
    for number in range(30):
        assert execute("DEL", f"c{number}", config) == (0, None)
    assert holders(tmp_path) == {}
    assert execute("ADD", "after", config)[0] == 0


@pytest.mark.parametrize("limit", ["nr_inodes", "size"])
@isolated
def test_a_full_disk_is_one_clear_error_and_nothing_is_half_done(tmp_path: Path, way: str, limit: str) -> None:
    syscalls.mount("tmpfs", str(tmp_path), "tmpfs", 0, "nr_inodes=20" if limit == "nr_inodes" else "size=16k")
    arrange(way)
    config = configuration(tmp_path, ranges=[[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]])
    if limit == "size":
        (tmp_path / "filler").write_bytes(bytes(16384))
    failed = 0
    for number in range(12):
        before = holders(tmp_path)
        status, said = execute("ADD", f"c{number}", config)
        if status:
            failed += 1
            assert said["code"] == errors.IO_FAILURE
            assert said["msg"].startswith(f"ipam.dataDir: {tmp_path}/net")
            assert "No space left on device; free space or inodes there" in said["msg"]
            assert holders(tmp_path) == before
    assert failed >= 5
    for number in range(12):
        assert execute("DEL", f"c{number}", config) == (0, None)
    (tmp_path / "filler").unlink(missing_ok=True)
    assert execute("ADD", "after", config)[0] == 0


@isolated
def test_a_read_only_disk_is_one_clear_error(tmp_path: Path, way: str) -> None:
    syscalls.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=1m")
    config = configuration(tmp_path)
    assert execute("ADD", "before", config)[0] == 0
    syscalls.mount(None, str(tmp_path), None, MS_REMOUNT | syscalls.MS_RDONLY)
    arrange(way)
    for command, name, code in (
        ("ADD", "one", errors.IO_FAILURE),
        ("DEL", "before", errors.IO_FAILURE),
        ("STATUS", "", errors.NOT_AVAILABLE),
    ):
        status, said = execute(command, name, config)
        assert (status, said["code"]) == (1, code)
        assert said["msg"].endswith("Read-only file system; mount it writable, or set another ipam.dataDir")
    assert execute("STATUS", "", configuration(tmp_path / "elsewhere"))[1]["code"] == errors.NOT_AVAILABLE
