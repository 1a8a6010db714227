"""`netlab cni`: from the installation to the removal, on a host of the test's own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netlab.cni.installation.modules import BUNDLE
from netlab.cni.plugins.call import PLUGINS, SOCKET
from netlab.net import syscalls
from tests.e2e.conftest import Netlab
from tests.sandbox import isolated

PORT = '{"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}'


class Host(Netlab):
    """This test's namespaces as a host with plugins and a network installed: /run and /var/lib are its own."""

    def __init__(self, tmp_path: Path, *, network: bool = True) -> None:
        super().__init__(tmp_path)
        self.bin_dir, self.conf_dir = tmp_path / "bin", tmp_path / "net.d"
        for key in ("CNI_PATH", "NETCONFPATH"):
            self.environment.pop(key, None)
        self.environment |= {"NETCONFPATH": str(self.conf_dir), "CNI_PATH": str(self.bin_dir)}
        for folder in ("/run", "/var/lib"):
            syscalls.mount("tmpfs", folder, "tmpfs")
        if network:
            subnets = ("--subnet", "10.22.0.0/24", "--subnet", "fd00:22::/64")
            self.ok("cni", "install", *self.folders, *subnets)

    @property
    def folders(self) -> tuple[str, ...]:
        return "--bin-dir", str(self.bin_dir), "--conf-dir", str(self.conf_dir)

    def netns(self, *names: str) -> None:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)

    def changes(self, output: str) -> list[str]:
        """The lines of the difference, without the columns' spaces."""
        return [" ".join(line.split()) for line in output.splitlines() if line.startswith(("+ ", "- "))]


@isolated
def test_from_the_installation_to_the_removal(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.netns("demo")
    assert host.ok("cni", "status").splitlines()[1].split() == [
        *("netlab", "1.1.0", "netlab,netlab-portmap,netlab-bandwidth", "0", "ready")
    ]
    gained = host.changes(host.ok("cni", "add", "netlab", "demo", "--capability-args", PORT))
    for line in (
        "+ address eth0 inet 10.22.0.2/24 scope global eth0",
        "+ route default via 10.22.0.1 dev eth0 proto static",
        "+ reservation 10.22.0.2 of network netlab for run-netns-demo/eth0",
        "- sysctl net.ipv4.ip_forward = 0",
        "+ sysctl net.ipv4.ip_forward = 1",
    ):
        assert line in gained
    assert any("element" in line and "8080" in line for line in gained)
    assert "unchanged" in host.ok("cni", "check", "netlab", "demo")
    listed = host.json("cni", "ipam", "list", "netlab")
    assert [(one["address"], one["containerID"], one["ifname"]) for one in listed] == [
        ("10.22.0.2", "run-netns-demo", "eth0"),
        ("fd00:22::2", "run-netns-demo", "eth0"),
    ]
    subprocess.run(["ip", "-n", "demo", "address", "flush", "dev", "eth0", "scope", "global"], check=True)
    assert "10.22.0.2/24" in host.fails(9, "cni", "check", "netlab", "demo")
    lost = host.changes(host.ok("cni", "del", "netlab", "demo"))
    assert "- reservation 10.22.0.2 of network netlab for run-netns-demo/eth0" in lost
    assert host.changes(host.ok("cni", "del", "netlab", "demo")) == []
    assert "0 of the 253 addresses of 10.22.0.1-10.22.0.254 are reserved" in host.ok("cni", "ipam", "list")
    host.ok("cni", "uninstall", *host.folders)
    assert [*host.bin_dir.iterdir(), *host.conf_dir.iterdir()] == []


@isolated
def test_values_for_programs(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.netns("demo")
    options = ("--container-id", "c1", "--ifname", "net1", "--args", "IP=10.22.0.9", "--args", "IgnoreUnknown=1")
    added = host.json("cni", "add", "netlab", "/run/netns/demo", *options)
    assert added["result"]["ips"][0]["address"] == "10.22.0.9/24"
    assert {"change": "+", "kind": "reservation", "what": "10.22.0.9 of network netlab for c1/net1"} in added["node"]
    assert any(one["what"].startswith("net1") for one in added["container"] if one["kind"] == "link")
    assert "result" not in host.json("cni", "del", "netlab", "/run/netns/demo", *options[:4])
    (status,) = host.json("cni", "status", "netlab")
    assert (status["network"], status["status"]) == ("netlab", "ready")


REFUSED = [
    (3, ["add", "none", "demo"], "no network 'none'; there are: netlab; name another folder with --conf-dir"),
    (3, ["add", "netlab", "nowhere"], "network namespace /run/netns/nowhere does not exist"),
    (2, ["add", "netlab", "demo", "--ifname", "a/b"], "interface 'a/b'"),
    (2, ["add", "netlab", "demo", "--container-id", "-x"], "container '-x'"),
    (2, ["add", "netlab", "demo", "--args", "x"], "--args x: must be KEY=VALUE"),
    (2, ["add", "netlab", "demo", "--args", "X=1;Y=2"], "--args X=1;Y=2: must be KEY=VALUE"),
    (2, ["add", "netlab", "demo", "--capability-args", "["], "--capability-args [: not JSON"),
    (2, ["add", "netlab", "demo", "--capability-args", "[]"], "--capability-args []: must be an object"),
    (2, ["add", "netlab", "demo", "--args", "IP=nonsense"], "CNI plugin netlab: "),
    (2, ["add", "netlab", "demo", "--bin-dir", "/nonexistent"], "CNI plugin netlab: no executable of that name"),
    (2, ["status", "--conf-dir", "/nonexistent"], "/nonexistent: No such file or directory; no network is configured"),
    (3, ["check", "netlab", "demo"], "container run-netns-demo is not on network netlab as eth0"),
    (3, ["ipam", "list", "none"], "network 'none' has never given an address"),
    (2, ["install", "--subnet", "10.0.0.1/8"], "subnet 10.0.0.1/8"),
    (2, ["install", "--network", "a b"], "network 'a b'"),
    (2, ["install", "--mode", "vxlan"], "--device"),
    (3, ["uninstall", "--bin-dir", "/nonexistent"], "/nonexistent: netlab installed nothing there"),
]


@isolated
def test_what_is_wrong_is_named_and_changes_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.netns("demo")
    for status, arguments, said in REFUSED:
        assert said in host.fails(status, "cni", *arguments)
    assert not Path("/var/lib/cni/results").exists()
    assert not Path("/opt/cni/bin/netlab").exists()


@isolated
def test_an_add_that_fails_leaves_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.netns("one", "two")
    host.ok("cni", "add", "netlab", "one", "--capability-args", PORT)
    assert "add netlab one" not in host.fails(4, "cni", "add", "netlab", "one")
    done = host.run("cni", "add", "netlab", "two", "--capability-args", PORT)
    assert done.returncode != 0
    assert "8080" in done.stderr
    assert [line for line in host.changes(done.stderr) if "two" in line or "veth" in line] == []
    assert [one["containerID"] for one in host.json("cni", "ipam", "list")] == ["run-netns-one"] * 2
    host.ok("cni", "check", "netlab", "one")


@isolated
def test_garbage_is_what_has_no_namespace_any_more(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.netns("alive", "gone")
    for name in ("alive", "gone"):
        host.ok("cni", "add", "netlab", name)
    subprocess.run(["ip", "netns", "delete", "gone"], check=True)
    collected = host.json("cni", "gc", "netlab")
    assert (collected["kept"], collected["deleted"]) == (["run-netns-alive/eth0"], ["run-netns-gone/eth0"])
    assert any("for run-netns-gone/eth0" in change["what"] for change in collected["node"])
    assert "deleted: none" in host.ok("cni", "gc", "netlab", "--all", "--keep", "run-netns-alive")
    assert "deleted: run-netns-alive/eth0" in host.ok("cni", "gc", "netlab", "--all")
    assert host.json("cni", "ipam", "list") == []


@isolated
def test_an_exhausted_range_is_told_before_and_at_the_add(tmp_path: Path) -> None:
    host = Host(tmp_path, network=False)
    host.ok("cni", "install", *host.folders, "--subnet", "10.22.0.0/30", "--network", "tiny")
    host.netns("one", "two")
    host.ok("cni", "add", "tiny", "one")
    assert "run-netns-one" in host.fails(6, "cni", "status", "tiny")
    assert "10.22.0" in host.fails(7, "cni", "add", "tiny", "two")


@isolated
def test_the_resident_process_serves_until_it_is_ended(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.netns("demo")
    with subprocess.Popen(
        host.argv("cni", "serve"), env=host.environment, stderr=subprocess.PIPE, text=True
    ) as resident:
        deadline = time.monotonic() + 60
        while not Path(SOCKET).exists():
            assert time.monotonic() < deadline, "it does not serve"
            time.sleep(0.01)
        host.ok("cni", "add", "netlab", "demo")
        host.ok("cni", "check", "netlab", "demo")
        resident.send_signal(signal.SIGTERM)
        assert resident.wait(60) == 0
    assert not Path(SOCKET).exists()
    host.ok("cni", "del", "netlab", "demo")


@pytest.mark.parametrize(
    ("words", "offered"),
    [(["cni", ""], "check"), (["cni", "add", "n"], "netlab"), (["cni", "add", "netlab", "d"], "demo")],
)
@isolated
def test_names_are_completed(tmp_path: Path, words: list[str], offered: str) -> None:
    host = Host(tmp_path)
    host.netns("demo")
    environment = host.environment | {
        "_NETLAB_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["netlab", *words]),
        "COMP_CWORD": str(len(words)),
    }
    program = Path(sys.executable).with_name("netlab")
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert offered in [line.partition(",")[2] for line in done.stdout.splitlines()]


@isolated
def test_installing_twice_and_over_somebody_elses(tmp_path: Path) -> None:
    host = Host(tmp_path)
    done = host.run("cni", "install", "--no-compiled", "--bin-dir", str(host.bin_dir))
    assert (len(done.stdout.splitlines()), done.stderr) == (len([BUNDLE, *PLUGINS]), "")
    if shutil.which("cc"):
        done = host.run("cni", "install", "--bin-dir", str(host.bin_dir))
        assert len(done.stdout.splitlines()) == len([BUNDLE, *PLUGINS, *PLUGINS])
        assert "compiled executables" in done.stderr
    (host.bin_dir / "netlab-ipam").write_text("somebody else's")
    assert "netlab-ipam" in host.fails(4, "cni", "install", "--bin-dir", str(host.bin_dir))
    done = host.run("cni", "uninstall", *host.folders)
    assert f"kept {host.bin_dir / 'netlab-ipam'}" in done.stderr
    assert [path.name for path in host.bin_dir.iterdir()] == ["netlab-ipam"]
