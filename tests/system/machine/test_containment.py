"""What docs/security.md promises of machines and containers: each attack is tried, from a container and from a node."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netlab.machine.client import Machine
from netlab.machine.container import _PROCESSES_LIMITED as LIMITED
from netlab.machine.join import join
from netlab.machine.replies import MachineError
from netlab.net import syscalls
from netlab.net.peers import GUARD
from tests.system.machine.lab import ROOT, Lab, forked

Attack = Callable[[str], str]
"""Runs a script of the shell somewhere in a lab; what it prints."""


@pytest.fixture(scope="module")
def two_labs() -> Iterator[tuple[Lab, Lab]]:
    """The lab that attacks, and its neighbour."""
    with Lab() as attacker, Lab() as neighbour:
        attacker.node.run_container(attacker.spec("pod", image="pause", command=[]))
        yield attacker, neighbour


@pytest.fixture(scope="module", params=["pod", "node", "fabric"])
def attack(request: pytest.FixtureRequest, two_labs: tuple[Lab, Lab]) -> Attack:
    """An attack from a container, from a node, or from the lab's first machine."""
    lab = two_labs[0]
    if request.param == "pod":
        return lambda script: lab.node.exec("pod", ["sh", "-c", script], 30).output.decode()
    on = lab.on_node if request.param == "node" else lab.on_fabric
    return lambda script: on("sh", "-c", f"{{ {script}; }} 2>&1; true")


def test_the_hosts_secrets_are_not_there(attack: Attack) -> None:
    checkout = [str(ROOT / name) for name in (".git", "pyproject.toml", "tests")]
    paths = ["/etc/shadow", "/etc/ssh", "/root/.*", "/home/*", f"{Path.home()}/*", "/boot/*", "/var/lib/*", *checkout]
    seen = attack(f"ls -d {' '.join(paths)} 2>/dev/null").split()
    own = [str(ROOT), sys.prefix, sys.base_prefix]  # the way to netlab's own code
    assert [path for path in seen if not any(f"{each}/".startswith(f"{path}/") for each in own)] in (
        [],
        ["/root/.", "/root/.."],
    )


def test_a_neighbours_directory_is_not_there(attack: Attack, two_labs: tuple[Lab, Lab]) -> None:
    attacker, neighbour = two_labs
    assert attack(f"ls -A {neighbour.directory}; find / -xdev -name '{neighbour.directory.name}*' 2>/dev/null") in (
        f"ls: cannot access '{neighbour.directory}': No such file or directory\n",
        f"ls: {neighbour.directory}: No such file or directory\n",
    )
    # Nor one that comes later.
    with Lab() as later:
        assert "No such file" in attack(f"ls -A {later.directory}")
    assert (attacker.directory / "fabric.sock").exists()


def test_a_container_does_not_see_its_own_labs_directory(two_labs: tuple[Lab, Lab]) -> None:
    lab = two_labs[0]
    assert lab.node.exec("pod", ["sh", "-c", f"ls -A {lab.directory}/*"], 30).exit_code != 0


def test_the_hosts_disks_and_terminals_are_not_there(attack: Attack) -> None:
    devices = set(attack("ls /dev /dev/pts").split())
    known = {"/dev:", "/dev/pts:", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    assert devices <= known | {"tty", "urandom", "zero", "net"}


def test_the_hosts_settings_and_files_cannot_be_changed(attack: Attack) -> None:
    """Not by root of a node either, whatever it mounts."""
    settings = (
        "/proc/sys/kernel/core_pattern /proc/sys/vm/overcommit_memory /proc/sysrq-trigger /proc/irq/*/smp_affinity"
    )
    script = f"for f in {settings} /sys/power/state; do (cat $f > $f) 2>/dev/null && echo wrote $f; done"
    assert attack(f"{script}; true") == ""
    for path in ("/usr", f"{sys.prefix}/bin", f"{ROOT}/netlab"):
        remounted = f"mount -o remount,bind,rw {path} 2>/dev/null; mount -o remount,rw {path} 2>/dev/null"
        written = attack(f"{remounted}; (: > {path}/netlab-probe) 2>/dev/null && echo wrote; true")
        assert path == "/usr" or written == ""  # a container has its own layer over /usr
        assert not Path(path, "netlab-probe").exists()


def test_root_of_a_lab_is_nobody_on_the_host(two_labs: tuple[Lab, Lab], attack: Attack) -> None:
    """Root's labs have ids of their own, which no two of them share; an ordinary user's have the user's alone."""
    maps = attack("cat /proc/self/uid_map").split()
    pids = [two_labs[0].pid, two_labs[1].pid]
    owners = [int(Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[0]) for pid in pids]
    if os.geteuid() == 0:
        assert maps[0] == "0"
        assert int(maps[2]) == 65536
        assert len({0, *owners}) == 3
    else:
        assert maps[::2] == ["0", "1"]
        assert set(owners) == {os.geteuid()}


def test_labs_in_a_folder_that_is_shown_are_hidden() -> None:
    """As a NETLAB_HOME within the interpreter's own folder would be."""
    home = Path(sys.prefix, "lib", f"labs-{os.getpid()}")
    if not os.access(home.parent, os.W_OK):
        pytest.skip(f"{home.parent} is not writable")
    home.mkdir()
    try:
        (home / "neighbour").mkdir()
        with Lab(home) as lab:
            lab.node.run_container(lab.spec("pod", image="pause", command=[]))
            assert lab.on_node("ls", str(home)).split() == [lab.directory.name]
            seen = lab.node.exec("pod", ["sh", "-c", f"ls -A {home}/*; ls {home.parent}"], 30).output.decode()
            assert "neighbour" not in seen
            assert "sock" not in seen
    finally:
        subprocess.run(["rm", "-r", str(home)], check=True)


def asks_from_within(pidfd: int, path: Path, line: bytes) -> bytes:
    """What a socket answers to a process of a container that has got out of everything but its pid namespace."""

    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(30)
            connection.connect(str(path))
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(line)
            return connection.recv(4096)

    def enter_and_ask() -> bytes:
        join(pidfd, syscalls.CLONE_NEWPID)
        return forked(ask)

    try:
        return forked(enter_and_ask)
    finally:
        os.close(pidfd)


@pytest.mark.parametrize(
    ("victim", "machine", "place", "refusal"),
    [
        (0, "node-1", "pod", b"the caller is in a container"),
        (0, "fabric", "pod", b"the caller is in a container"),
        (0, "fabric", "node", b"the caller is in a container"),
        (1, "node-1", "pod", b"the caller is not on the lab's host"),
        (1, "fabric", "pod", b"the caller is not on the lab's host"),
        (1, "fabric", "node", b"the caller is not on the lab's host"),
        (0, "node-1", "node", b""),
        (0, "fabric", "fabric", b""),
        (0, "node-1", "fabric", b""),
    ],
)
def test_sockets_ask_who_calls(
    two_labs: tuple[Lab, Lab], victim: int, machine: str, place: str, refusal: bytes
) -> None:
    lab = two_labs[0]
    pidfd = {"pod": lambda: lab.node.open("pod"), "node": lab.node.open, "fabric": lab.fabric.open}[place]()
    reply = asks_from_within(pidfd, two_labs[victim].directory / f"{machine}.sock", b'{"op": "state"}\n')
    if refusal:
        assert json.loads(reply) == {"error": f"refused: {refusal.decode()}", "errno": errno.EPERM}
    else:
        assert json.loads(reply)["ok"]["name"] == machine


def test_without_its_guard_a_machine_serves_nobody_from_outside() -> None:
    with Lab() as lab:
        (lab.directory / GUARD).unlink()
        with Machine(lab.directory / "node-1.sock") as late, pytest.raises(MachineError, match="not on the lab's host"):
            late.state()


REFUSED_TO_A_CONTAINER = [
    "unshare -r true",
    "unshare -n true",
    "mount -t tmpfs x /mnt",
    "mount -o remount,rw /",
    "umount /proc/sys",
    "hostname other",
    "ip link add v0 type veth",
    "nft list tables",
    "dmesg",
    "chroot /nonexistent true",
    "cat /proc/kcore",
    "cat /sys/firmware/*",
    "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "echo 1 > /proc/sys/kernel/pid_max",
    "echo b > /proc/sysrq-trigger",
    "mknod /tmp/disk b 8 0 && cat /tmp/disk",
]


@pytest.mark.parametrize("command", REFUSED_TO_A_CONTAINER)
def test_a_container_is_refused(two_labs: tuple[Lab, Lab], command: str) -> None:
    assert two_labs[0].node.exec("pod", ["sh", "-c", command], 30).exit_code != 0


def test_system_calls_of_a_container_are_filtered(two_labs: tuple[Lab, Lab]) -> None:
    """In what a container starts with, and in what is run in it later; programs with threads go on."""
    lab = two_labs[0]
    status = lab.on_node("cat", f"/proc/{lab.status('pod').pid}/status") + lab.node.exec(
        "pod", ["cat", "/proc/self/status"], 30
    ).output.decode("ascii")
    fields = [line.split() for line in status.splitlines()]
    assert [each[1] for each in fields if each[0] in ("NoNewPrivs:", "Seccomp:")] == ["1", "2"] * 2
    script = """
import ctypes, errno, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
def tried(*arguments):
    return errno.errorcode.get(ctypes.get_errno()) if libc.syscall(*arguments) < 0 else "done"
thread = threading.Thread(target=print, args=("thread",), kwargs={"flush": True}); thread.start(); thread.join()
subprocess.run(["echo", "child"])
print(tried(435, 0, 0), tried(425, 1, 0), tried(9999))
"""
    said = lab.node.exec("pod", [sys.executable, "-c", script], 30).output.decode().split()
    assert said[:5] == ["thread", "child", "ENOSYS", "EPERM", "ENOSYS"]


def test_a_fork_bomb_ends_with_its_container() -> None:
    """It fills its own pid namespace, or the lab's share of the host; the machine and other containers go on."""
    with Lab() as lab:
        lab.node.run_container(lab.spec("bomb", "bash", "-c", "f() { f | f & }; f; f; sleep 1000"))
        if LIMITED:
            lab.node.run_container(lab.spec("other", image="pause", command=[]))
            assert lab.node.exec("other", ["echo", "goes on"], 60).output == b"goes on\n"
            assert int(lab.on_node("sh", "-c", "ls /proc | grep -c '^[0-9]'")) < 1200
        lab.node.kill("bomb", 9)
        assert lab.ended("bomb").exit_code == 137


def test_what_a_container_writes_is_bounded(two_labs: tuple[Lab, Lab]) -> None:
    done = two_labs[0].node.exec("pod", ["sh", "-c", "head -c 100m /dev/zero > /tmp/x; s=$?; rm /tmp/x; exit $s"], 60)
    assert (done.exit_code, b"No space left" in done.output) == (1, True)
