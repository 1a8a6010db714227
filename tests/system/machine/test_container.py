"""Containers: what they see, how they end, and what is said when they cannot start."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import stat
import sys
from pathlib import Path

import pytest

from netlab.machine.async_client import AsyncMachine
from netlab.machine.client import Machine
from netlab.machine.join import run_joined
from netlab.machine.protocol import OUTPUT_LIMIT, ContainerExit, Mount
from netlab.machine.replies import MachineError
from tests.system.machine.lab import Lab, environment, forked, wait_until, within


def test_a_container_sees_a_host_of_its_own(lab: Lab) -> None:
    lab.node.create_sandbox("web")
    script = "hostname; cat /etc/hosts /etc/resolv.conf /etc/hostname; ls /run /sys/class/net; echo $$; pwd; id -u"
    status = lab.run(
        "web",
        "sh",
        "-c",
        script,
        sandbox="web",
        hostname="web-0",
        hosts="10.244.0.2 web-0\n",
        resolv_conf="nameserver 10.96.0.10\n",
        cwd="/usr",
        labels={"pod": "web-0"},
    )
    assert lab.printed("web").split() == [
        *("web-0", "10.244.0.2", "web-0", "nameserver", "10.96.0.10", "web-0"),
        *("/run:", "/sys/class/net:", "lo", "1", "/usr", "0"),
    ]
    assert (status.exit_code, status.signal, status.pid, status.labels) == (0, None, 0, {"pod": "web-0"})
    assert status.finished_at is not None
    assert status.finished_at >= status.started_at
    assert stat.S_IMODE(lab.log("web").stat().st_mode) == 0o600


def test_a_container_cannot_reach_what_is_not_its_own(lab: Lab) -> None:
    """Not the sockets that command the machine, nor the host's files, nor the kernel's settings."""
    script = (
        f"ls -A {lab.directory} | wc -l; for f in {sys.prefix}/bin/x /proc/sys/kernel/hostname /sys/x; "
        "do (echo y > $f) 2>/dev/null && echo wrote $f; done; echo x > /tmp/y && echo tmp"
    )
    lab.run("probe", "sh", "-c", script)
    assert lab.printed("probe").splitlines()[-2:] == ["0", "tmp"]
    assert not Path("/tmp/y").exists()


WRITES = {
    "a file in the root": "echo x > /new && cat /new",
    "a file of the lab's": "echo x > /etc/passwd && cat /etc/passwd",
    "a file beside the host's programs": "echo x > /usr/bin/new && cat /bin/new",
    "a program less": "rm /usr/bin/ls && ! ls 2>&1 && echo x",
    "a folder that was removed": "rm -r /usr/local/games && mkdir /usr/local/games && ls -A /usr/local/games && echo x",
    "the image's file": "cd /usr/local/apache2/htdocs && mv -v index.html /tmp/ && ! cat index.html 2>&1 && echo x",
    "a place below the host's folders": "cat /usr/share/doc/netlab/deep/hosts | grep -c localhost | sed s/.*/x/",
}


def test_a_container_writes_to_its_own_root(shared_lab: Lab) -> None:
    """Each from its image: neither the host, nor the node, nor another container sees what it writes."""
    place = Mount(source="/etc/hosts", target="/usr/share/doc/netlab/deep/hosts")
    for number, (what, script) in enumerate(WRITES.items()):
        status = shared_lab.run(f"w{number}", "sh", "-c", script, image="httpd", mounts=[place])
        shared_lab.node.remove(f"w{number}")
        assert (what, status.exit_code, shared_lab.printed(f"w{number}").split()[-1:]) == (what, 0, ["x"])
    seen = "ls / /usr/bin /usr/share/doc | grep -e '^new$' -e '^netlab$'; grep -c ^x$ /etc/passwd"
    assert shared_lab.run("after", "sh", "-c", seen, image="httpd").exit_code == 1
    shared_lab.node.remove("after")
    assert shared_lab.printed("after").split() == ["0"]
    assert not Path("/usr/bin/new").exists()


@pytest.mark.parametrize("command", [["sh", "-c", "exec sleep 1000"], ["/pause"]])
def test_root_of_a_container_has_a_containers_powers(lab: Lab, command: list[str]) -> None:
    """The capabilities of containerd's default, and no disk of the host."""
    lab.node.run_container(lab.spec("c", *command))
    status = lab.on_node("cat", f"/proc/{lab.status('c').pid}/status")
    sets = {line.split()[0]: line.split()[1] for line in status.splitlines() if line.startswith("Cap")}
    assert (sets["CapEff:"], sets["CapPrm:"], sets["CapBnd:"]) == ("00000000a80425fb",) * 3
    script = "ls /dev; mount -o remount,rw / 2>/dev/null || echo no; : > /dev/null; : > /dev/shm/x && echo yes"
    assert lab.node.exec("c", ["sh", "-c", script], 30).output.decode().split() == [
        *("fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"),
        *("no", "yes"),
    ]


def test_the_environment_is_only_what_was_given(shared_lab: Lab) -> None:
    shared_lab.run("env", "env", hostname="e", env={"COLOUR": "blue"})
    assert environment(shared_lab.printed("env")) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/netlab-tools",
        "HOME": "/root",
        "HOSTNAME": "e",
        "COLOUR": "blue",
    }


@pytest.mark.skipif(shutil.which("bash") is None, reason="the host has no bash")
@pytest.mark.parametrize("shell", ["sh", "/bin/sh"])
def test_the_shell_of_a_busybox_image_knows_what_busyboxs_does(shared_lab: Lab, shell: str) -> None:
    name = f"shell-{shell.count('/')}"
    script = "[[ ab == a* ]] && env | grep data"
    shared_lab.node.run_container(
        shared_lab.spec(name, "sleep", "1000", image="docker.io/busybox:1.36", env={"data-1": "x"})
    )
    assert shared_lab.node.exec(name, [shell, "-c", script], 30).output == b"data-1=x\n"
    shared_lab.node.kill(name, signal.SIGKILL)
    shared_lab.ended(name)
    shared_lab.node.remove(name)


def test_containers_of_a_pod_share_its_network_alone(lab: Lab) -> None:
    lab.node.create_sandbox("a")
    lab.node.create_sandbox("b")
    for name, sandbox in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("host", None)):
        lab.node.run_container(lab.spec(name, image="pause", command=[], sandbox=sandbox))

    def namespaces(name: str) -> dict[str, str]:
        kinds = ("net", "ipc", "mnt", "uts", "pid")
        return within(lab.node.open(name), lambda: {kind: str(Path(f"/proc/1/ns/{kind}").readlink()) for kind in kinds})

    a1, a2, b1, host = (namespaces(name) for name in ("a1", "a2", "b1", "host"))
    node = within(lab.node.open(), lambda: str(Path("/proc/1/ns/net").readlink()))
    assert [a1[kind] == a2[kind] for kind in ("net", "ipc", "mnt", "uts", "pid")] == [True, True, False, False, False]
    assert not set(a1.values()) & set(b1.values())
    assert host["net"] == node


def test_only_standard_streams_are_open(shared_lab: Lab) -> None:
    shared_lab.run("fds", "sh", "-c", "ls -l /proc/self/fd")
    opened = [line.split()[8:] for line in shared_lab.printed("fds").splitlines() if "->" in line]
    assert [fd for fd, *_ in opened] == ["0", "1", "2", "3"]  # 3 is ls's own
    assert opened[0][2] == "/dev/null"


@pytest.mark.parametrize(
    ("command", "number", "exit_code", "ended_by"),
    [
        (["sh", "-c", "exit 3"], None, 3, None),
        (["true"], None, 0, None),
        (["sleep", "1000"], signal.SIGKILL, 137, 9),
        (["/agnhost", "pause"], signal.SIGTERM, 0, None),
        (["/pause"], signal.SIGTERM, 0, None),
        (["/agnhost", "netexec"], signal.SIGTERM, 0, None),
        (["/agnhost", "serve-hostname"], signal.SIGTERM, 0, None),
        (["/agnhost", "nonsense"], None, 1, None),
        (["/agnhost", "netexec", "--colour", "blue"], None, 1, None),
    ],
)
def test_exits(
    lab: Lab, command: list[str], number: signal.Signals | None, exit_code: int, ended_by: int | None
) -> None:
    lab.node.create_sandbox("s")
    lab.node.run_container(lab.spec("c", *command, sandbox="s"))
    if number is not None:
        lab.node.kill("c", number)  # at once: a built-in must not lose what comes before its handlers are there
    status = lab.ended("c")
    assert (status.exit_code, status.signal) == (exit_code, ended_by)
    lab.node.kill("c", signal.SIGTERM)  # no error
    lab.node.remove("c")
    lab.node.remove("c")  # no error
    assert lab.node.state().containers == []


def test_a_host_command_as_pid_1_ignores_sigterm(lab: Lab) -> None:
    """As in Kubernetes: without a handler only SIGKILL ends pid 1."""
    lab.node.run_container(lab.spec("c", "sleep", "1000"))
    lab.node.kill("c", signal.SIGTERM)
    assert lab.node.exec("c", ["true"], 10).exit_code == 0
    assert lab.status("c").running


@pytest.mark.parametrize(
    ("fields", "number", "message"),
    [
        (
            {"image": "docker.io/library/redis:1"},
            errno.ENOPKG,
            r"redis:1' is not present: .*netlab image pull docker.io/library/redis:1",
        ),
        ({"command": ["nope"]}, errno.ENOENT, r"exec 'nope': No such file"),
        ({"command": ["/etc/passwd"]}, errno.EACCES, r"exec '/etc/passwd': Permission denied"),
        ({"command": ["true"], "cwd": "/nonexistent"}, errno.ENOENT, r"/nonexistent: No such file"),
        ({"command": ["true"], "sandbox": "none"}, errno.ESRCH, r"sandbox none does not exist"),
        ({"command": ["true"], "hostname": "x" * 65}, errno.EINVAL, r"Invalid argument"),
        ({"command": ["true"], "log": "/etc/passwd/x.log"}, errno.ENOTDIR, r"/etc/passwd/x.log: Not a directory"),
        ({"command": ["true"], "log": "/etc/netlab.log"}, errno.EROFS, r"/etc/netlab.log: Read-only"),
    ],
)
def test_a_container_that_cannot_start_says_why(
    shared_lab: Lab, fields: dict[str, object], number: int, message: str
) -> None:
    with pytest.raises(MachineError, match=f"^container c: .*{message}") as caught:
        shared_lab.node.run_container(shared_lab.spec("c", **fields))
    assert caught.value.errno == number
    assert "\n" not in str(caught.value)
    assert shared_lab.run("c", "true").exit_code == 0
    shared_lab.node.remove("c")


def test_a_full_disk_stops_a_container_and_not_the_machine(lab: Lab) -> None:
    full = lab.directory / "full"
    full.mkdir()
    lab.on_node("mount", "-t", "tmpfs", "-o", "nr_inodes=1", "full", str(full))
    with pytest.raises(MachineError, match="No space left on device") as caught:
        lab.node.run_container(lab.spec("c", "true", log=str(full / "c.log")))
    assert caught.value.errno == errno.ENOSPC
    assert lab.run("d", "true").exit_code == 0


def test_sandboxes_are_listed_on_the_node_and_freed(lab: Lab) -> None:
    """A namespace goes with its sandbox, though containers of other pods were started while it was there."""
    assert lab.node.create_sandbox("a") == "/run/netns/cni-a"
    lab.node.create_sandbox("b")
    assert sorted(line.split()[0] for line in lab.on_node("ip", "netns", "list").splitlines()) == ["cni-a", "cni-b"]
    lab.node.run_container(lab.spec("other", image="pause", command=[], sandbox="b"))
    lab.on_node("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", "cni-a")
    lab.node.remove_sandbox("a")
    # The kernel removes the pair with the namespace of one end.
    wait_until(lambda: "v0" not in lab.on_node("ip", "-o", "link"), "the namespace is freed")
    lab.node.remove_sandbox("a")  # no error
    assert lab.node.state().sandboxes == ["b"]
    with pytest.raises(MachineError, match="sandbox b: container other runs in it") as caught:
        lab.node.remove_sandbox("b")
    assert caught.value.errno == errno.EBUSY
    with pytest.raises(MachineError, match="container other is running"):
        lab.node.remove("other")


@pytest.mark.parametrize(
    ("command", "seconds", "expected"),
    [
        (["sh", "-c", "echo out; echo err >&2; exit 4"], 30, (4, b"out\nerr\n", False)),
        (["sh", "-c", "cat /proc/1/comm; hostname; echo $COLOUR"], 30, (0, b"pause\nweb-0\nblue\n", False)),
        (["sh", "-c", "echo begun; sleep 1000 & sleep 1000"], 0.3, (137, b"begun\n", True)),
        (["head", "-c", "1000000", "/dev/zero"], 30, (0, bytes(OUTPUT_LIMIT), False)),
        (["/agnhost", "connect", "127.0.0.1:9"], 30, (1, b"REFUSED\n", False)),
    ],
)
def test_exec(shared_lab: Lab, command: list[str], seconds: float, expected: tuple[int, bytes, bool]) -> None:
    state = shared_lab.node.state()
    if "exec" not in state.sandboxes:
        shared_lab.node.create_sandbox("exec")
        spec = shared_lab.spec(
            "exec", image="pause", command=[], sandbox="exec", hostname="web-0", env={"COLOUR": "blue"}
        )
        shared_lab.node.run_container(spec)
    result = shared_lab.node.exec("exec", command, seconds)
    assert (result.exit_code, result.output, result.timed_out) == expected


def test_exec_refuses(lab: Lab) -> None:
    lab.node.run_container(lab.spec("c", image="pause", command=[]))
    with pytest.raises(MachineError, match="container c: exec 'nope': No such file") as caught:
        lab.node.exec("c", ["nope"], 5)
    assert caught.value.errno == errno.ENOENT
    lab.node.kill("c", signal.SIGKILL)
    lab.ended("c")
    with pytest.raises(MachineError, match="container c is not running"):
        lab.node.exec("c", ["true"], 5)
    with pytest.raises(MachineError, match="container d: no such container"):
        lab.node.exec("d", ["true"], 5)


def test_a_slow_exec_blocks_nobody(lab: Lab) -> None:
    async def check() -> None:
        async with AsyncMachine(lab.directory / "node-1.sock") as machine:
            await machine.run_container(lab.spec("c", image="pause", command=[]))
            slow = asyncio.create_task(machine.exec("c", ["sleep", "1000"], 1000))
            quick = await asyncio.gather(*(machine.exec("c", ["true"], 10) for _ in range(8)))
            assert [result.exit_code for result in quick] == [0] * 8
            assert not slow.done()
            await machine.kill("c", signal.SIGKILL)
            assert (await slow).exit_code == 137

    asyncio.run(check())


def test_events_miss_no_exit(lab: Lab) -> None:
    lab.run("before", "sh", "-c", "exit 7")

    async def watch() -> list[ContainerExit]:
        async with AsyncMachine(lab.directory / "node-1.sock") as machine:
            seen = []
            async for each in machine.events():
                seen.append(each)
                if len(seen) == 1:
                    await machine.run_container(lab.spec("after", "sleep", "1000"))
                    await machine.kill("after", signal.SIGKILL)
                else:
                    break
            return seen

    seen = asyncio.run(watch())
    assert [(each.id, each.exit_code, each.signal) for each in seen] == [("before", 7, None), ("after", 137, 9)]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 5"], 5),
        (["sh", "-c", "kill -9 $$"], 137),
        (["nope"], 127),
        (["/etc/passwd"], 126),
        (["sh", "-c", '[ "$(hostname) $COLOUR $(pwd)" = "web-0 blue /usr" ]'], 0),
    ],
)
def test_joining_a_container_gives_the_commands_status(lab: Lab, command: list[str], status: int) -> None:
    lab.node.run_container(
        lab.spec("c", image="pause", command=[], hostname="web-0", env={"COLOUR": "blue"}, cwd="/usr")
    )
    found = lab.node.surroundings("c")
    pidfd = lab.node.open("c")
    assert forked(lambda: run_joined(pidfd, command, env=found.env, cwd=found.cwd)) == status
    os.close(pidfd)


def test_many_at_once(lab: Lab) -> None:
    async def check() -> None:
        async with AsyncMachine(lab.directory / "node-1.sock") as machine:

            async def pod(name: str) -> None:
                await machine.create_sandbox(name)
                await machine.run_container(lab.spec(name, "sh", "-c", "exit 9", sandbox=name))

            await asyncio.gather(*(pod(f"p{i}") for i in range(30)))

    asyncio.run(check())
    wait_until(lambda: not any(each.running for each in lab.node.state().containers), "all end")
    assert [each.exit_code for each in lab.node.state().containers] == [9] * 30
    assert "defunct" not in lab.on_node("ps", "ax")


def test_a_second_machine_client_sees_the_same(lab: Lab) -> None:
    lab.node.create_sandbox("a")
    with Machine(lab.directory / "node-1.sock") as other:
        assert other.state().sandboxes == ["a"]
