"""What docs/security.md promises, tried in a lab that the command line brought up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.lab.lab import Lab
from netlab.lab.paths import LabPaths
from netlab.lab.places import resolve
from tests.e2e.conftest import Netlab
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
