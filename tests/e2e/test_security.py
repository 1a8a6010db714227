"""What docs/security.md promises, tried in a lab that the command line brought up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netlab.lab.lab import Lab
from netlab.lab.paths import LabPaths
from netlab.lab.places import resolve
from tests.e2e.conftest import Netlab, eventually
from tests.system.machine.test_containment import asks_from_within

POD = """
apiVersion: v1
kind: Pod
metadata: {name: attacker}
spec:
  nodeName: node-1
  containers: [{name: shell, image: any, command: [sleep, "1000"]}]
"""


@pytest.fixture(scope="module")
def attacker(lab: Netlab) -> Iterator[Netlab]:
    lab.ok("apply", "-f", "-", stdin=POD)
    lab.ok("wait", "--for", "condition=Ready", "pod/attacker")
    yield lab
    lab.ok("delete", "pod", "attacker", "--grace-period", "1")


@pytest.mark.parametrize(
    ("place", "status"), [("attacker", b"403 Forbidden"), ("node/node-1", b"200 OK"), ("fabric", b"200 OK")]
)
def test_the_api_serves_nobody_in_a_container(attacker: Netlab, place: str, status: bytes) -> None:
    lab = Lab(LabPaths(attacker.home / "default"))
    pidfd = resolve(lab, place, "default", None).open(lab)
    reply = asks_from_within(pidfd, lab.paths.api_socket, b"GET /healthz HTTP/1.1\r\nhost: api\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("place", ["attacker", "node/node-1", "outside"])
@pytest.mark.parametrize(
    "command",
    [
        "cat /etc/shadow",
        "ls /root/.ssh /home/*/.ssh",
        "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
        "mount -o remount,bind,rw /usr",
        "dmesg --clear",
    ],
)
def test_commands_in_a_lab_do_no_harm(attacker: Netlab, place: str, command: str) -> None:
    assert attacker.run("exec", place, "--", "sh", "-c", command).returncode != 0


HOGS = """
{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {restartPolicy: Never, containers: [
  {name: c, image: any, command: [python3, -c, "bytearray(1 << 30)"], resources: {limits: {%s}}}]}}
"""


def _end_of(lab: Netlab, pod: str) -> dict[str, Any]:
    """How the container of a pod that fails has ended."""
    eventually(lambda: lab.json("get", "pod", pod)["status"]["phase"] == "Failed")
    ended: dict[str, Any] = lab.json("get", "pod", pod)["status"]["containerStatuses"][0]["state"]["terminated"]
    return ended


def test_pods_that_eat_memory_end_and_the_api_goes_on(attacker: Netlab) -> None:
    """At their own limit, and at the lab's, which is lowered here to what it uses and a little more."""
    noted = LabPaths(attacker.home / "default").cgroups
    if not noted.exists():
        pytest.skip("this machine lets the lab have no cgroup: `netlab doctor` says why")
    names = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}
    limits = {Path(cgroup, name): Path(cgroup, names[name]) for cgroup in noted.read_text().split() for name in names}
    limit, usage = next((limit, usage) for limit, usage in limits.items() if limit.exists())
    before = limit.read_text()
    attacker.ok("apply", "-f", "-", stdin=HOGS % ("hog", "memory: 64Mi"))
    try:
        limit.write_text(str(int(usage.read_text()) + (256 << 20)))
        attacker.ok("apply", "-f", "-", stdin=HOGS % ("wild-hog", ""))
        for pod, reason in {"hog": "OOMKilled", "wild-hog": "Error"}.items():
            ended = _end_of(attacker, pod)
            assert (ended["exitCode"], ended["reason"]) == (137, reason)
        assert attacker.json("get", "pod", "attacker")["status"]["phase"] == "Running"
        assert all(each["restarts"] == 0 for each in attacker.json("status")["components"])
    finally:
        limit.write_text(before)
    attacker.ok("delete", "pod", "hog", "wild-hog", "--grace-period", "1")


@pytest.mark.skipif(os.geteuid() != 0, reason="root's labs")
def test_a_labs_ids_are_given_back(attacker: Netlab) -> None:
    attacker.ok("up", "--name", "other", "--nodes", "1")
    links = {entry.name: entry.readlink() for entry in Path("/run/netlab/ids").iterdir()}
    mine = [first for first, directory in links.items() if directory.parent == attacker.home]
    assert len(mine) == 2
    assert (attacker.home / "other").stat().st_uid in map(int, mine)
    attacker.ok("down", "--name", "other")
    assert sum(entry.readlink().parent == attacker.home for entry in Path("/run/netlab/ids").iterdir()) == 1


def test_a_privileged_lab_is_roots(netlab: Netlab) -> None:
    if os.geteuid() != 0:
        assert "is for root" in netlab.fails(2, "up", "--name", "bare", "--privileged")
        return
    netlab.ok("up", "--name", "bare", "--nodes", "1", "--privileged")
    assert netlab.ok("exec", "--name", "bare", "node/node-1", "--", "cat", "/proc/self/uid_map").split()[1] == "0"
    netlab.ok("down", "--name", "bare")
