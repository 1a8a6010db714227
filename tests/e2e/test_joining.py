"""A node made here is a node of any cluster: of one whose API server, etcd and controllers are processes apart."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.e2e import apart
from tests.e2e.conftest import Netlab, eventually
from tests.sandbox import isolated

PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: agnhost, args: [netexec], readinessProbe: {httpGet: {path: /healthz, port: 8080}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


def _own_network() -> None:
    for argv in (["link", "set", "lo", "up"], ["address", "add", f"{apart.ADDRESS}/32", "dev", "lo"]):
        subprocess.run(["ip", *argv], check=True)


class Admin:
    """kubectl as the cluster's administrator."""

    def __init__(self, config: Path) -> None:
        self._config = config

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._config.parent), "KUBECONFIG": str(self._config)}
        return subprocess.run(
            ["kubectl", *arguments],
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def __call__(self, *arguments: str, text: str = "") -> str:
        done = self.run(*arguments, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on the PATH")
@isolated
def test_a_node_of_another_cluster() -> None:
    _own_network()
    home, directory = Path(tempfile.mkdtemp(prefix="netlab-")), Path(tempfile.mkdtemp(prefix="apart-"))
    netlab = Netlab(home)
    try:
        with apart.running(directory) as config:
            _join_and_leave(netlab, config, Admin(config))
    finally:
        netlab.run("down", "--all")
        shutil.rmtree(home)
        shutil.rmtree(directory)


def _refusals(netlab: Netlab, config: Path, admin: Admin, join: tuple[str, ...]) -> None:
    """What cannot join says why, in one line, and leaves nothing."""
    given = yaml.safe_load(config.read_text())
    eventually(lambda: "default" in admin("get", "serviceaccounts", "-o", "name"))
    token = admin("create", "token", "default").strip()

    def other(cluster: dict[str, str] | None = None, user: dict[str, str] | None = None) -> tuple[str, ...]:
        made = given | {"users": [{"name": "admin", "user": user or given["users"][0]["user"]}]}
        made["clusters"] = [{"name": "apart", "cluster": given["clusters"][0]["cluster"] | (cluster or {})}]
        path = config.parent / "other"
        path.write_text(yaml.safe_dump(made))
        return "node", "join", "--kubeconfig", str(path), "--name", "guest"

    certificate = base64.b64decode(given["users"][0]["user"]["client-certificate-data"])
    (config.parent / "other.crt").write_bytes(certificate)
    assert "Connection refused" in netlab.fails(6, *other({"server": f"https://{apart.ADDRESS}:1"}))
    wrong = netlab.fails(6, *join, "--server-ca", str(config.parent / "other.crt"))
    assert "its certificate is not accepted" in wrong
    assert "Unauthorized" in netlab.fails(1, *other(user={"token": "nonsense"}))
    assert "cannot create resource" in netlab.fails(1, *other(user={"token": token}))
    assert "is no address of this host" in netlab.fails(2, *join, "--node-ip", "198.51.100.7")
    assert not list(netlab.home.iterdir())


def _join_and_leave(netlab: Netlab, config: Path, admin: Admin) -> None:
    join = ("node", "join", "--kubeconfig", str(config), "--name", "guest")
    _refusals(netlab, config, admin, join)
    assert f"node guest has joined https://{apart.ADDRESS}:{apart.PORT}" in netlab.ok(*join)
    assert "guest" in netlab.fails(4, *join)
    assert (
        admin("get", "csr", "-o", "jsonpath={.items[*].spec.signerName}").split().count("kubernetes.io/kubelet-serving")
        == 1
    )
    assert admin("get", "lease", "-n", "kube-node-lease", "-o", "name") == "lease.coordination.k8s.io/guest\n"

    admin("apply", "-f", "-", text=PODS)
    admin("wait", "--for=condition=available", "deployment/web", "--timeout=60s")
    pod = admin("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    assert admin("exec", pod, "--", "hostname").strip() == pod
    assert admin("logs", pod) != ""
    service = admin("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    reached = {admin("exec", pod, "--", "curl", "-s", f"http://{service}/hostname") for _ in range(20)}
    assert len(reached) == 2
    # By the Service of the API, as any pod does.
    told = admin("exec", pod, "--", "curl", "-sk", "https://10.96.0.1/version")
    assert '"gitVersion"' in told
    told = admin("get", "--raw", "/api/v1/nodes/guest/proxy/metrics/resource")
    assert f'container_cpu_usage_seconds_total{{container="c",namespace="default",pod="{pod}"}}' in told

    # Its processes die in whatever way: the cluster notices, and the node is there again with its name.
    os.kill(netlab.pid_of("netlab.lab.monitor"), 9)
    eventually(lambda: "down" in netlab.ok("list"))
    netlab.ok("up", "--name", "guest")
    eventually(lambda: admin("get", "deployment", "web", "-o", "jsonpath={.status.availableReplicas}") == "2")

    assert "ask that" in netlab.fails(2, "get", "pods", "--name", "guest")
    assert netlab.ok("node", "leave", "--kubeconfig", str(config), "--name", "guest") == "node guest has left\n"
    assert admin("get", "nodes", "-o", "name") == ""
    assert not list(netlab.home.iterdir())
    assert netlab.processes() == {}
