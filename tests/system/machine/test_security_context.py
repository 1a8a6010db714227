"""What a container's security context makes of it, as the kernel shows it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from netlab.machine.replies import MachineError
from netlab.machine.security_context import SecurityContext
from tests.system.machine.lab import Lab

SETS = "grep -E 'Cap(Eff|Bnd)|Seccomp:|NoNew' /proc/self/status"
DEFAULT = "00000000a80425fb"


def _seen(lab: Lab, script: str, **context: Any) -> list[str]:
    name = f"c{len(lab.node.state().containers)}"
    lab.run(name, "sh", "-c", script, security_context=SecurityContext(**context))
    return lab.printed(name).split()


@pytest.mark.parametrize(
    ("context", "effective", "seccomp"),
    [
        ({"drop_capabilities": ["ALL"]}, "0000000000000000", "2"),
        ({"drop_capabilities": ["ALL"], "add_capabilities": ["NET_ADMIN"]}, "0000000000001000", "2"),
        ({"add_capabilities": ["SYS_PTRACE"]}, "00000000a80c25fb", "2"),
        ({"seccomp": "Unconfined"}, DEFAULT, "0"),
        ({"readonly_rootfs": True}, DEFAULT, "2"),
    ],
)
def test_powers(shared_lab: Lab, context: dict[str, Any], effective: str, seccomp: str) -> None:
    seen = _seen(shared_lab, SETS, **context)
    assert sorted(seen) == sorted(["CapEff:", effective, "CapBnd:", effective, "NoNewPrivs:", "1", "Seccomp:", seccomp])


def test_a_privileged_container_has_its_nodes_powers_and_not_the_hosts(shared_lab: Lab) -> None:
    script = (
        "mount -t tmpfs none /mnt && echo mounted; echo 7 > /proc/sys/net/ipv4/tcp_fin_timeout && echo set;"
        "(mount -o remount,rw,bind /lib && echo x > /lib/x-of-netlab && echo written) 2>/dev/null; ls /dev | grep sd"
    )
    shared_lab.node.create_sandbox("privileged")
    context = SecurityContext(privileged=True)
    shared_lab.run("privileged", "sh", "-c", script, sandbox="privileged", security_context=context)
    assert {"mounted", "set"} <= {*shared_lab.printed("privileged").split()}
    assert not Path("/lib/x-of-netlab").exists()


def test_a_root_file_system_that_is_only_read(shared_lab: Lab) -> None:
    script = "for f in /x /tmp/x /run/x /usr/x /dev/shm/x; do (echo > $f) 2>/dev/null && echo $f; done"
    assert _seen(shared_lab, script, readonly_rootfs=True) == ["/dev/shm/x"]
    assert "/x" in _seen(shared_lab, script, drop_capabilities=["KILL"])


def test_what_is_masked_of_proc(shared_lab: Lab) -> None:
    shared_lab.node.create_sandbox("masked")
    script = "echo 9 > /proc/sys/net/ipv4/tcp_fin_timeout && echo set; grep -c -E ' (/proc/(sys|kcore)) ' /proc/mounts"
    for name, unmasked in (("masked", False), ("unmasked", True)):
        context = SecurityContext(unmasked=unmasked, add_capabilities=["NET_ADMIN"])
        shared_lab.run(name, "sh", "-c", script, sandbox="masked", security_context=context)
    assert "set" not in shared_lab.printed("masked")
    assert shared_lab.printed("unmasked") == "set\n0\n"


def test_a_container_is_ended_by_its_score_and_never_later_than_its_lab(shared_lab: Lab) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    for name, wanted, expected in (("first", 1000, 1000), ("later", 500, 500), ("last", -997, own)):
        shared_lab.node.run_container(shared_lab.spec(name, "sleep", "100", oom_score_adj=wanted))
        done = shared_lab.node.exec(name, ["cat", "/proc/self/oom_score_adj", "/proc/1/oom_score_adj"], 30)
        assert done.output.split() == [str(expected).encode()] * 2
        shared_lab.node.kill(name, 9)


def test_sysctls_are_the_sandboxs(shared_lab: Lab) -> None:
    shared_lab.node.create_sandbox("tuned")
    context = SecurityContext(sysctls={"net.ipv4.tcp_fin_timeout": "11"})
    command = ("cat", "/proc/sys/net/ipv4/tcp_fin_timeout")
    shared_lab.run("tuned", *command, sandbox="tuned", security_context=context)
    assert shared_lab.printed("tuned") == "11\n"
    assert shared_lab.on_node(*command) != "11\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's lab has root alone")
def test_users_and_groups(shared_lab: Lab) -> None:
    script = (
        "id -u; id -g; id -G; echo out > /dev/stdout; grep CapEff /proc/self/status; touch /x 2>/dev/null || echo no"
    )
    seen = _seen(shared_lab, script, run_as_user=1001, run_as_group=2002, supplemental_groups=[3, 4])
    assert seen == ["1001", "2002", "2002", "3", "4", "out", "CapEff:", "0" * 16, "no"]
    assert _seen(shared_lab, "id -u", run_as_user=65534, drop_capabilities=["ALL"], non_root=True) == ["65534"]


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"add_capabilities": ["FLY"]}, "capability 'FLY': unknown"),
        ({"non_root": True}, "container has runAsNonRoot and image will run as root"),
        ({"run_as_user": 1 << 20}, "whom this lab does not have"),
    ],
)
def test_what_no_container_gets(shared_lab: Lab, context: dict[str, Any], message: str) -> None:
    with pytest.raises(MachineError, match=message) as refused:
        shared_lab.node.run_container(shared_lab.spec("odd", "true", security_context=SecurityContext(**context)))
    assert refused.value.errno == errno.EINVAL
