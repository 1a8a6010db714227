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
    ("place", "socket", "status"),
    [
        ("attacker", "api.sock", b"403 Forbidden"),
        ("attacker", "shared/api.sock", b"403 Forbidden"),
        ("node/node-1", "api.sock", b"403 Forbidden"),
        ("node/node-1", "shared/api.sock", b"401 Unauthorized"),
        ("fabric", "api.sock", b"200 OK"),
    ],
)
def test_the_api_asks_machines_who_they_are_and_serves_no_container(
    attacker: Netlab, place: str, socket: str, status: bytes
) -> None:
    lab = Lab(LabPaths(attacker.home / "default"))
    pidfd = resolve(lab, place, "default", None).open(lab)
    path = lab.paths.directory / socket
    reply = asks_from_within(pidfd, path, b"GET /api/v1/secrets HTTP/1.1\r\nhost: api\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 " + status)


_ASK = """
import http.client, socket, sys

def status(path):
    connection = http.client.HTTPConnection("api")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(f"{sys.argv[1]}/shared/api.sock")
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    return connection.getresponse().status

for component in ("kubelet", "kube-proxy", "network"):
    token = open(f"{sys.argv[1]}/credentials/{sys.argv[2]}/{component}").read()
    print(component, *(status(path) for path in sys.argv[3:]))
"""
_SECRETS = "/api/v1/namespaces/default/secrets"


def test_root_of_a_node_gets_at_what_its_own_pods_need(attacker: Netlab) -> None:
    attacker.ok("apply", "-f", "-", stdin=_WITH_SECRETS)
    attacker.ok("wait", "--for", "condition=Ready", "pod/keeper")
    directory = str(attacker.home / "default")

    def asked(node: str) -> str:
        paths = (f"{_SECRETS}/kept", f"{_SECRETS}/nobodys", _SECRETS, "/api/v1/nodes", "/api/v1/nodes/node-1")
        return attacker.ok("exec", f"node/{node}", "--", "python3", "-c", _ASK, directory, node, *paths)

    assert (
        asked("node-1") == "kubelet 200 403 403 403 200\nkube-proxy 403 403 403 200 200\nnetwork 403 403 403 200 403\n"
    )
    assert asked("node-2").startswith("kubelet 403 403 403 403 403\n")
    attacker.ok("delete", "pod", "keeper", "--grace-period", "1")
    eventually(lambda: asked("node-1").startswith("kubelet 403 "))
    attacker.ok("delete", "secret", "kept", "nobodys")


_WITH_SECRETS = """
apiVersion: v1
kind: Secret
metadata: {name: kept}
stringData: {key: value}
---
apiVersion: v1
kind: Secret
metadata: {name: nobodys}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  nodeName: node-1
  containers:
  - {name: shell, image: any, command: [sleep, "1000"], envFrom: [{secretRef: {name: kept}}]}
"""


_VERIFIER = """
apiVersion: v1
kind: Pod
metadata: {name: verifier}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: agnhost:2.47
    args: [test-service-account-issuer-discovery, --token-path, /t/token, --audience, a]
    volumeMounts: [{name: t, mountPath: /t}]
  volumes:
  - {name: t, projected: {sources: [{serviceAccountToken: {path: token, audience: a}}]}}
"""


def test_a_pod_verifies_a_token_by_what_the_api_publishes(attacker: Netlab) -> None:
    attacker.ok("apply", "-f", "-", stdin=_VERIFIER)
    eventually(lambda: attacker.json("get", "pod", "verifier")["status"]["phase"] in ("Succeeded", "Failed"))
    assert "OK: Validated signature on JWT" in attacker.ok("logs", "verifier")
    attacker.ok("delete", "pod", "verifier", "--grace-period", "1")


def test_a_machine_sees_few_of_the_labs_files(attacker: Netlab) -> None:
    directory = attacker.home / "default"

    def files(place: str) -> list[str]:
        find = attacker.ok("exec", place, "--", "find", str(directory), "-not", "-type", "d", "-printf", "%P\\n")
        return sorted(path for path in find.split() if not path.startswith(("logs/pods/", "revisions/")))

    own = [f"credentials/node-1/{each}" for each in ("kube-proxy", "kubelet", "network", "speaker")]
    sockets = ["machines/node-1.sock", "monitor.sock", "shared/api.sock"]
    assert files("node/node-1") == sorted([*own, *sockets, "nodes/node-1/net.d/10-netlab.conflist"])
    assert files("outside") == ["machines/outside.sock", "monitor.sock"]
    # What is mounted over the directory hides nothing: the rest is not beneath it.
    hidden = f"umount -l {directory}; ls -A {directory}"
    assert attacker.ok("exec", "node/node-1", "--", "unshare", "-m", "sh", "-c", hidden) == ""
    for secret in ("cluster.db", "pki/ca.key", "credentials/node-2/kubelet", "apiserver.json"):
        assert (directory / secret).exists()


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
