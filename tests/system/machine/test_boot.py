"""A machine is there when start returns, harms nothing, and leaves nothing."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from netlab.errors import NetlabError, UnavailableError, UnsupportedError
from netlab.machine import boot
from netlab.machine.client import Machine
from netlab.machine.replies import MachineError
from netlab.net import syscalls
from tests.system.machine.lab import Lab, forked, wait_until, within


@pytest.mark.parametrize("victim", ["monitor", "pid 1"])
def test_a_kill_ends_everything_beneath(victim: str) -> None:
    with Lab() as lab:
        lab.node.create_sandbox("web")
        lab.node.run_container(lab.spec("web", "sleep", "1000", sandbox="web"))
        lab.fabric.run_service("daemon", ["sleep", "1000"], log=lab.log("daemon"))
        processes = lab.descendants()
        mounts = Path("/proc/self/mountinfo").read_text()
        os.kill(lab.pid if victim == "pid 1" else lab.monitor.pid, signal.SIGKILL)
        if victim == "monitor":
            lab.monitor.wait()
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), "every process ends")
        else:
            # The lab's pid 1 stays a zombie until the monitor reaps it or ends.
            wait_until(
                lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes - {lab.pid}), "every process ends"
            )
        with pytest.raises(UnavailableError, match="is the lab up"):
            lab.fabric.state()
        assert Path("/proc/self/mountinfo").read_text() == mounts
        assert len(processes) == 4


def test_sockets_are_the_owners_alone(shared_lab: Lab) -> None:
    for name in ("fabric", "node-1"):
        assert stat.S_IMODE((shared_lab.directory / f"{name}.sock").stat().st_mode) == 0o600


def test_machines_are_hosts_of_their_own(shared_lab: Lab) -> None:
    assert shared_lab.on_node("hostname") == "node-1\n"
    assert shared_lab.on_node("cat", "/proc/1/comm") == "machine node-1\n"
    assert "127.0.0.1/8" in shared_lab.on_node("ip", "addr", "show", "lo")
    assert "::1/128" in shared_lab.on_node("ip", "addr", "show", "lo")
    assert shared_lab.on_node("ls", "/sys/class/net").split() == ["lo"]
    kinds = ("net", "mnt", "uts", "ipc", "pid")

    def namespaces() -> set[str]:
        return {str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in kinds}

    node = within(shared_lab.node.open(), namespaces)
    fabric = within(shared_lab.fabric.open(), namespaces)
    assert not node & fabric
    assert not (node | fabric) & namespaces()


def test_only_a_machines_own_files_and_the_labs_are_writable(shared_lab: Lab) -> None:
    def writable(path: str) -> bool:
        try:
            Path(path, "netlab-probe").write_text("")
        except OSError:
            return False
        return True

    paths = ["/", "/etc", "/usr", "/root", "/var/lib", "/run", "/tmp", "/dev/shm", str(shared_lab.directory)]
    assert within(shared_lab.node.open(), lambda: [path for path in paths if writable(path)]) == [
        "/run",
        "/tmp",
        "/dev/shm",
        str(shared_lab.directory),
    ]
    assert (shared_lab.directory / "netlab-probe").exists()
    assert not Path("/tmp/netlab-probe").exists()
    assert not Path("/run/netlab-probe").exists()


def test_a_terminal_can_be_had(shared_lab: Lab) -> None:
    def open_terminal() -> bool:
        leader, follower = os.openpty()
        return os.isatty(follower) and os.ttyname(leader) != ""

    assert within(shared_lab.node.open(), open_terminal)


def test_a_machine_has_one_name(shared_lab: Lab) -> None:
    with pytest.raises(MachineError, match="machine node-1 already exists"):
        shared_lab.fabric.spawn_machine("node-1", shared_lab.directory / "other.sock", "node-1")


def test_a_machine_that_cannot_start_says_why(shared_lab: Lab) -> None:
    with pytest.raises(MachineError, match="No such file or directory"):
        shared_lab.fabric.spawn_machine("node-9", "/nonexistent/node-9.sock", "node-9")
    assert set(shared_lab.fabric.state().machines) == {"node-1"}


@pytest.mark.parametrize(
    ("hostname", "socket", "reason"),
    [
        ("x" * 65, "m.sock", "Invalid argument"),
        ("fabric", "none/m.sock", "No such file"),
        ("fabric", "s" * 120, "long"),
    ],
)
def test_a_first_machine_that_cannot_start_says_why(hostname: str, socket: str, reason: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, socket)
        with pytest.raises(NetlabError, match=f"machine fabric: .*{reason}.*doctor"):
            forked(lambda: boot.start("fabric", path, hostname=hostname, lab_dir=directory))


def test_refused_user_namespaces_are_said_with_the_remedy() -> None:
    def start_where_refused() -> None:
        uid, gid = os.geteuid(), os.getegid()
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")
        Path("/proc/sys/user/max_user_namespaces").write_text("0")  # of this user namespace alone
        boot.start("fabric", "/tmp/never.sock", hostname="fabric", lab_dir="/tmp")

    with pytest.raises(UnsupportedError, match=r"sysctl user\.max_user_namespaces=15000.*run netlab as root"):
        forked(start_where_refused)


def test_a_dead_socket_is_replaced(shared_lab: Lab) -> None:
    stale = shared_lab.directory / "node-2.sock"
    shared_lab.on_fabric("touch", str(stale))
    shared_lab.fabric.spawn_machine("node-2", stale, "node-2")
    with Machine(stale) as machine:
        assert machine.state().name == "node-2"


def test_services_come_back_when_killed(lab: Lab) -> None:
    log = lab.log("daemon")
    pid = lab.fabric.run_service(
        "daemon", ["sh", "-c", "echo started $MARK; exec sleep 1000"], env={"MARK": "a"}, log=log
    )
    assert [(each.name, each.pid, each.restarts) for each in lab.fabric.services()] == [("daemon", pid, 0)]
    wait_until(lambda: log.exists() and log.read_text() == "started a\n", "the service writes its log")
    within(lab.fabric.open(), lambda: os.kill(pid, signal.SIGKILL))
    wait_until(lambda: log.read_text() == "started a\n" * 2, "the service starts again")
    service = lab.fabric.services()[0]
    assert (service.restarts, service.last_exit_code) == (1, 137)
    assert service.pid not in (None, pid)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_service_that_cannot_run_is_an_error(shared_lab: Lab) -> None:
    with pytest.raises(MachineError, match="service nope: exec 'nope': No such file or directory"):
        shared_lab.fabric.run_service("nope", ["nope"], log=shared_lab.log("nope"))
    assert shared_lab.fabric.services() == []


def test_the_boot_does_not_change_the_callers_view_of_files(shared_lab: Lab) -> None:
    host = subprocess.run(["findmnt", "-rn"], capture_output=True, text=True, check=False).stdout
    assert str(shared_lab.directory) not in host
