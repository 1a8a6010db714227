"""Containers that share a pid namespace: with their pod, with another container, with their node."""

from __future__ import annotations

import contextlib
import errno
import signal
from pathlib import Path

import pytest

from netlab.machine import protocol
from netlab.machine.replies import MachineError
from netlab.machine.security_context import NamespaceOption, SecurityContext
from tests.system.machine.lab import Lab, wait_until, within


def _shares(pid: str, target: str | None = None, ipc: str = "POD") -> SecurityContext:
    return SecurityContext(namespace_options=NamespaceOption(pid=pid, ipc=ipc, target_id=target))


def _commands(lab: Lab, name: str) -> str:
    script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done"
    return lab.node.exec(name, ["sh", "-c", script], 30).output.decode()


def _processes(lab: Lab, command: str) -> int:
    """How many of the node run it."""
    found = lab.on_node("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    return found.count(command)


def test_a_container_is_in_the_pid_namespace_that_it_asks_for(lab: Lab) -> None:
    # The socket's own client knows nothing of pid namespaces.
    lab.node._call(protocol.SANDBOX_CREATE, {"id": "s", "shared_pids": True})
    lab.node.run_container(lab.spec("own", "sleep", "1001", sandbox="s"))
    lab.node.run_container(lab.spec("a", "sleep", "1002", sandbox="s", security_context=_shares("POD")))
    lab.node.run_container(lab.spec("b", "sleep", "1003", sandbox="s", security_context=_shares("POD")))
    lab.node.run_container(lab.spec("c", "sleep", "1004", sandbox="s", security_context=_shares("TARGET", "own")))
    lab.node.run_container(lab.spec("node", "sleep", "1005", security_context=_shares("NODE", ipc="NODE")))
    seen = {
        name: {n for n in range(1001, 1006) if f"sleep {n} " in _commands(lab, name)} for name in ("own", "b", "node")
    }
    assert seen == {"own": {1001, 1004}, "b": {1002, 1003}, "node": {1001, 1002, 1003, 1004, 1005}}

    def ipc(pidfd: int) -> str:
        return within(pidfd, lambda: str(Path("/proc/self/ns/ipc").readlink()))

    assert ipc(lab.node.open("node")) == ipc(lab.node.open()) != ipc(lab.node.open("a"))
    # Its target's end is its own.
    lab.node.kill("own", signal.SIGKILL)
    assert lab.ended("c").signal == signal.SIGKILL
    for name in ("a", "b", "node"):
        lab.node.kill(name, signal.SIGKILL)
        lab.ended(name)
    lab.node.remove_sandbox("s")
    wait_until(lambda: _processes(lab, "/pause") == 0, "the pod's pid namespace goes with its sandbox")


@pytest.mark.parametrize("mode", ["POD", "NODE"])
def test_what_a_container_leaves_running_ends_with_it(lab: Lab, mode: str) -> None:
    lab.node._call(protocol.SANDBOX_CREATE, {"id": "s", "shared_pids": True})
    script = "for n in 1 2 3; do setsid sleep 1234 & done; exit 3"
    lab.node.run_container(lab.spec("beside", "sleep", "4321", sandbox="s", security_context=_shares(mode)))
    status = lab.run("c", "sh", "-c", script, sandbox="s", security_context=_shares(mode))
    assert status.exit_code == 3
    wait_until(lambda: _processes(lab, "sleep 1234") == 0, "its processes end")
    assert _processes(lab, "sleep 4321") == 1


def test_a_pods_pid_namespace_that_is_ended_from_within_is_made_again(lab: Lab) -> None:
    lab.node._call(protocol.SANDBOX_CREATE, {"id": "s", "shared_pids": True})
    lab.node.run_container(lab.spec("a", "sleep", "1000", sandbox="s", security_context=_shares("POD")))
    lab.node.exec("a", ["sh", "-c", "kill -TERM 1"], 30)
    assert lab.ended("a").signal == signal.SIGKILL

    def started() -> bool:
        with contextlib.suppress(MachineError):
            lab.node.run_container(lab.spec("b", "sleep", "1000", sandbox="s", security_context=_shares("POD")))
            return True
        return False

    wait_until(started, "the pod has a pid namespace again")


def test_a_pid_namespace_that_is_not_there(lab: Lab) -> None:
    lab.node.create_sandbox("s")
    for options in (_shares("POD"), _shares("TARGET", "nobody")):
        with pytest.raises(MachineError) as refused:
            lab.node.run_container(lab.spec("c", "true", sandbox="s", security_context=options))
        assert refused.value.errno in (errno.ESRCH, errno.ENOENT)
