"""A lab whose containers a Docker engine runs: `netlab up --runtime docker`. Without an engine, these are skipped."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netlab.errors import UnsupportedError
from netlab.machine.docker import engine
from tests import images, registry
from tests.e2e.conftest import Netlab, eventually

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: web
      image: registry.k8s.io/e2e-test-images/agnhost:2.47
      args: [netexec]
      readinessProbe: {httpGet: {path: /hostname, port: 8080}}
      volumeMounts: [{name: shared, mountPath: /shared}]
    - name: shell
      image: busybox
      command: [sh, -c, "echo begun; echo wrong >&2; until [ -e /shared/end ]; do sleep 0.1; done; exit 7"]
      volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: on-node}
spec:
  hostNetwork: true
  nodeName: node-1
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: busybox, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: cannot}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: no-program, image: busybox, command: [/no/such]}
    - {name: no-image, image: "nowhere.example/none:1"}
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of the engine."""
    if os.geteuid() != 0:
        pytest.skip("the network namespaces of an engine's containers are root's")
    try:
        made = engine.connect(engine.address())
    except UnsupportedError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="module")
def lab(client: Any, netlab: Netlab) -> Netlab:
    netlab.ok("up", "--runtime", "docker", "--nodes", "1", "--no-dns", "--dual-stack")
    netlab.ok("apply", "-f", "-", stdin=PODS)
    netlab.ok("kubectl", "wait", "pod/web", "pod/on-node", "--for", "condition=Ready", "--timeout=100s")
    return netlab


def made_by(lab: Netlab, client: Any) -> set[str]:
    """The containers that are the lab's."""
    return {each["Id"] for each in engine.containers_of(client, str(lab.home / "default"))}


def test_the_containers_are_the_engines_and_the_network_is_the_labs(lab: Netlab, client: Any) -> None:
    assert len(made_by(lab, client)) >= 5
    addresses = [each["ip"] for each in lab.json("get", "pod", "web")["status"]["podIPs"]]
    assert len(addresses) == 2
    for address in addresses:
        url = f"http://[{address}]:8080/hostname" if ":" in address else f"http://{address}:8080/hostname"
        assert lab.ok("exec", "node/node-1", "--", "curl", "-gs", url) == "web"
        assert address in lab.ok("exec", "web", "--", "ip", "address", "show", "eth0")


def test_a_pod_on_its_nodes_network_sees_the_nodes_addresses(lab: Netlab) -> None:
    assert "192.0.2.1" in lab.ok("exec", "on-node", "--", "ip", "address")


def test_commands_have_streams_and_exit_statuses(lab: Netlab) -> None:
    script = ["sh", "-c", "cat; echo bad >&2; exit 3"]
    done = lab.run("kubectl", "exec", "-i", "web", "-c", "shell", "--", *script, stdin="in")
    assert (done.returncode, done.stdout) == (3, "in")
    assert done.stderr.startswith("bad\n")


def test_what_cannot_run_says_why(lab: Netlab) -> None:
    def states() -> dict[str, str]:
        listed = lab.json("get", "pod", "cannot")["status"]["containerStatuses"]
        return {each["name"]: json.dumps(each) for each in listed}

    eventually(lambda: "StartError" in states()["no-program"])
    assert "no such file" in states()["no-program"]
    eventually(lambda: "nowhere.example/none:1: the Docker engine: " in states()["no-image"])


@pytest.mark.skipif(registry.LACKING or not images.BUSYBOX.exists(), reason=f"{registry.REASON}, busybox-static")
def test_the_engine_pulls_images_by_their_policy(lab: Netlab, client: Any) -> None:
    """What is there stays for IfNotPresent, is brought again for Always, and Never brings nothing."""

    def pod(name: str, policy: str) -> str:
        container = {"name": "c", "image": image, "imagePullPolicy": policy}
        spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
        return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})

    def digest_of(name: str) -> str:
        lab.ok("wait", f"pod/{name}", "--for", "condition=Ready")
        (status,) = lab.json("get", "pod", name)["status"]["containerStatuses"]
        return str(status["imageID"])

    def said(name: str) -> str:
        return lab.ok("kubectl", "get", "events", "--field-selector", f"involvedObject.name={name}")

    with tempfile.TemporaryDirectory() as folder, registry.serving(Path(folder)) as address:
        image = f"{address}/app:1"
        lab.ok("apply", "-f", "-", stdin=pod("never", "Never"))
        eventually(lambda: "ErrImageNeverPull" in json.dumps(lab.json("get", "pod", "never")))
        found = []
        for version, policy in enumerate(("IfNotPresent", "IfNotPresent", "Always")):
            layers, flags = [images.busybox()], ("--dest-tls-verify=false",)
            registry.push(Path(folder), image, layers, flags=flags, Cmd=["sleep", "1000"], Env=[f"VERSION={version}"])
            lab.ok("apply", "-f", "-", stdin=pod(f"pulled-{version}", policy))
            found.append(digest_of(f"pulled-{version}"))
        first, again, new = found
        assert first.startswith(f"{address}/app@sha256:")
        assert (again, lab.ok("exec", "pulled-1", "--", "sh", "-c", "echo $VERSION")) == (first, "0\n")
        assert new != first
        assert lab.ok("exec", "pulled-2", "--", "sh", "-c", "echo $VERSION") == "2\n"
        eventually(lambda: f'Successfully pulled image "{image}"' in said("pulled-0"))
        assert "pulled image" not in said("pulled-1")
        lab.ok("delete", "pod", "never", "pulled-0", "pulled-1", "pulled-2")
        for each in (image, first):
            client.remove_image(each, force=True)


def test_a_pod_whose_sandbox_has_ended_gets_another(lab: Netlab, client: Any) -> None:
    before = lab.json("get", "pod", "web")
    uid = before["metadata"]["uid"]
    client.kill(engine.name_of(f"{uid}_0"))

    def again() -> bool:
        pod = lab.json("get", "pod", "web")
        restarts = [each["restartCount"] for each in pod["status"]["containerStatuses"]]
        ready = {each["type"]: each["status"] for each in pod["status"]["conditions"]}["Ready"]
        return restarts == [1, 1] and ready == "True"

    eventually(again)
    names = {each["Names"][0] for each in client.containers(filters={"label": f"{engine.SANDBOX}={uid}_1"})}
    assert f"/{engine.name_of(f'{uid}_1')}" in names
    addresses = [each["ip"] for each in lab.json("get", "pod", "web")["status"]["podIPs"]]
    for address in addresses:
        url = f"http://[{address}]:8080/hostname" if ":" in address else f"http://{address}:8080/hostname"
        assert lab.ok("exec", "node/node-1", "--", "curl", "-gs", url) == "web"
    assert "SandboxChanged" in lab.ok("kubectl", "get", "events", "--field-selector", "involvedObject.name=web")


def test_what_the_engine_counts_is_told_of_each_container(lab: Netlab) -> None:
    told = lab.ok("kubectl", "get", "--raw", "/api/v1/nodes/node-1/proxy/metrics/resource")
    used = [line for line in told.splitlines() if line.startswith("container_memory_working_set_bytes")]
    assert {line.split()[1] for line in used if 'pod="web"' in line} - {"0.0"}


def test_a_packet_is_traced_from_one_pod_to_another(lab: Netlab) -> None:
    """And a container's own resolv.conf is read, in which there is no server."""
    assert "as predicted" in lab.ok("trace", "web", "web:8080")
    assert "no name server in its /etc/resolv.conf" in lab.fails(6, "trace", "web", "dns/web:8080")


def test_who_speaks_for_the_engine_may_be_killed(lab: Netlab, client: Any) -> None:
    before, serving = made_by(lab, client), lab.pid_of("netlab.machine.docker.serve")
    os.kill(serving, signal.SIGKILL)
    eventually(lambda: lab.run("exec", "web", "-c", "shell", "--", "touch", "/shared/end").returncode == 0)
    eventually(lambda: lab.json("get", "pod", "web")["status"]["containerStatuses"][1]["restartCount"] == 2)
    assert "begun" in lab.ok("kubectl", "logs", "web", "-c", "shell", "--previous")
    assert len(before & made_by(lab, client)) >= len(before) - 2, "the others have gone on"


def test_down_removes_what_is_the_labs_alone(lab: Netlab, client: Any) -> None:
    image = client.containers(filters={"label": f"{engine.LAB}={lab.home / 'default'}"})[0]["ImageID"]
    stranger = client.create_container(image, ["sleep", "1000"], labels={engine.LAB: "/another/lab"})["Id"]
    try:
        lab.ok("down")
        assert made_by(lab, client) == set()
        assert client.inspect_container(stranger)["State"]["Status"] == "created"
    finally:
        client.remove_container(stranger)
