"""A lab's API as any cluster's: kubeconfig, TLS on the host's loopback, and the real kubectl."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Netlab

with_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on the PATH")


def cluster_of(netlab: Netlab) -> dict[str, Any]:
    config = yaml.safe_load(netlab.ok("kubeconfig"))
    cluster: dict[str, Any] = config["clusters"][0]["cluster"]
    return cluster


def kubectl(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(config.parent), "KUBECONFIG": str(config)}
    return subprocess.run(
        ["kubectl", *arguments], check=False, env=environment, capture_output=True, text=True, timeout=120
    )


@with_kubectl
def test_kubectl_reaches_a_lab_through_the_kubeconfig_that_up_wrote(netlab: Netlab, tmp_path: Path) -> None:
    config = tmp_path / "config"
    netlab.ok("up", "--name", "written", "--nodes", "1", "--kubeconfig", str(config))
    done = kubectl(config, "get", "nodes", "-o", "name")
    assert (done.returncode, done.stdout) == (0, "node/node-1\n"), done.stderr
    assert oct(config.stat().st_mode & 0o777) == "0o600"

    server = yaml.safe_load(config.read_text())["clusters"][0]["cluster"]["server"]
    os.kill(netlab.pid_of("netlab.lab.monitor"), 9)
    assert "connection" in kubectl(config, "get", "nodes").stderr
    netlab.ok("up", "--name", "written")
    done = kubectl(config, "get", "nodes", "-o", "name")
    assert done.stdout == "node/node-1\n", f"another boot of the same lab is at {server}: {done.stderr}"

    netlab.ok("down", "--name", "written")
    assert list(tmp_path.glob("config*")) == []


@with_kubectl
def test_kubectl_of_netlab(lab: Netlab) -> None:
    assert lab.ok("kubectl", "get", "nodes", "-o", "name").split() == ["node/node-1", "node/node-2"]
    done = lab.run("kubectl", "get", "pod", "none")
    assert done.returncode == 1
    assert 'pods "none" not found' in done.stderr


def test_without_kubectl_there_is_one_line(lab: Netlab, tmp_path: Path) -> None:
    bare = Netlab(lab.home)
    bare.environment = lab.environment | {"PATH": str(tmp_path)}
    assert "there is no kubectl on the PATH" in bare.fails(5, "kubectl", "get", "nodes")


def test_without_credentials_only_the_version_is_told(lab: Netlab) -> None:
    """Anybody on this host can reach the port."""
    server = cluster_of(lab)["server"]
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(f"{server}/version", context=context, timeout=60) as response:
        assert response.status == 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server}/api/v1/secrets", context=context, timeout=60)
    assert refused.value.code == 401


def test_nothing_listens_beyond_the_loopback(lab: Netlab) -> None:
    port = int(cluster_of(lab)["server"].rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # sends nothing, and chooses an address of this host
        except OSError:
            pytest.skip("this host has no address besides its loopback")
        address = route.getsockname()[0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, port), 60)


def test_a_file_that_is_no_kubeconfig_is_left_alone(netlab: Netlab, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no: [kubeconfig")
    said = netlab.fails(2, "up", "--name", "refused", "--nodes", "1", "--kubeconfig", str(tmp_path / "config"))
    assert "is no kubeconfig" in said
    assert (tmp_path / "config").read_text() == "no: [kubeconfig"
    assert netlab.run("status", "--name", "refused").returncode == 3


def test_an_address_that_is_not_this_hosts_is_refused(netlab: Netlab) -> None:
    said = netlab.fails(1, "up", "--name", "elsewhere", "--nodes", "1", "--api-address", "203.0.113.7")
    assert "cannot listen on 203.0.113.7" in said
    said = netlab.fails(2, "up", "--name", "elsewhere", "--nodes", "1", "--api-address", "nowhere")
    assert "apiAddress" in said
    assert netlab.run("status", "--name", "elsewhere").returncode == 3


# --- service accounts and roles --------------------------------------------------------------------------------------

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_POD = """
apiVersion: v1
kind: Pod
metadata: {name: asking}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: agnhost
    command: [sleep, "100000"]
---
apiVersion: v1
kind: Pod
metadata: {name: tokenless}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
  - name: c
    image: agnhost
    command: [sleep, "100000"]
"""


@pytest.fixture(scope="module")
def pods(lab: Netlab) -> Netlab:
    lab.ok("apply", "-f", "-", stdin=_POD)
    lab.ok("wait", "--for=condition=Ready", "pod/asking", "pod/tokenless", "--timeout", "60s")
    return lab


def ask(netlab: Netlab, path: str, token: str | None = None) -> tuple[int, dict[str, Any]]:
    """What the API answers a pod, with its own token unless another is given."""
    shown = f"$(cat {_ACCOUNT}/token)" if token is None else token
    command = (
        f'curl -sS --cacert {_ACCOUNT}/ca.crt -w "\\n%{{http_code}}" -H "Authorization: Bearer {shown}" '
        f'"https://kubernetes.default.svc:$KUBERNETES_SERVICE_PORT{path}" '
        '--resolve "kubernetes.default.svc:$KUBERNETES_SERVICE_PORT:$KUBERNETES_SERVICE_HOST"'
    )
    body, _, code = netlab.ok("exec", "asking", "--", "sh", "-c", command).rpartition("\n")
    return int(code), json.loads(body)


def test_a_pod_reaches_the_api_with_its_token_and_may_only_look_around(pods: Netlab) -> None:
    assert ask(pods, "/api")[0] == 200
    code, answer = ask(pods, "/api/v1/namespaces/default/pods")
    assert (code, answer["message"]) == (
        403,
        'pods is forbidden: User "system:serviceaccount:default:default" cannot list resource "pods" in API group "" '
        'in the namespace "default"',
    )
    assert ask(pods, "/api", token="forged")[0] == 401


def test_a_role_lets_a_pod_do_more(pods: Netlab) -> None:
    pods.ok("kubectl", "create", "role", "reader", "--verb=list", "--resource=pods", "--validate=false")
    account = "--serviceaccount=default:default"
    pods.ok("kubectl", "create", "rolebinding", "readers", "--role=reader", account, "--validate=false")
    code, answer = ask(pods, "/api/v1/namespaces/default/pods")
    assert code == 200
    assert {"asking", "tokenless"} <= {item["metadata"]["name"] for item in answer["items"]}
    assert ask(pods, "/api/v1/namespaces/kube-system/pods")[0] == 403
    pods.ok("kubectl", "delete", "rolebinding", "readers")
    assert ask(pods, "/api/v1/namespaces/default/pods")[0] == 403


def test_a_pod_with_a_token_is_applied_again(pods: Netlab) -> None:
    assert pods.ok("apply", "-f", "-", stdin=_POD).splitlines() == ["pod/asking unchanged", "pod/tokenless unchanged"]
    pods.ok("kubectl", "apply", "--validate=false", "-f", "-", stdin=_POD)  # its note of what it applied differs
    assert "unchanged" in pods.ok("kubectl", "apply", "--validate=false", "-f", "-", stdin=_POD)


def test_a_pod_that_wants_no_token_has_none(pods: Netlab) -> None:
    assert pods.run("exec", "tokenless", "--", "ls", _ACCOUNT).returncode != 0
    assert pods.ok("exec", "asking", "--", "cat", f"{_ACCOUNT}/namespace") == "default"


def test_a_pod_cannot_write_to_its_token(pods: Netlab) -> None:
    done = pods.run("exec", "asking", "--", "sh", "-c", f"echo x > {_ACCOUNT}/token")
    assert "Read-only file system" in done.stderr


def test_the_token_of_a_deleted_pod_is_nobodys(pods: Netlab) -> None:
    pods.ok("apply", "-f", "-", stdin=_POD.partition("---")[0].replace("asking", "short-lived"))
    pods.ok("wait", "--for=condition=Ready", "pod/short-lived", "--timeout", "60s")
    token = pods.ok("exec", "short-lived", "--", "cat", f"{_ACCOUNT}/token")
    assert ask(pods, "/api", token)[0] == 200
    pods.ok("delete", "pod", "short-lived")
    assert ask(pods, "/api", token)[0] == 401


@with_kubectl
def test_kubectl_tells_who_one_is_and_what_one_may_do(pods: Netlab) -> None:
    account = "--as=system:serviceaccount:default:default"
    for arguments, answer in (
        (("delete", "nodes"), "yes"),
        (("delete", "nodes", account), "no"),
        (("create", "selfsubjectreviews.authentication.k8s.io", account), "yes"),
    ):
        done = pods.run("kubectl", "auth", "can-i", *arguments)
        assert done.stdout.strip() == answer, done.stderr
    assert "kubernetes-admin" in pods.ok("kubectl", "auth", "whoami")
    token = pods.ok("kubectl", "create", "token", "default").strip()
    assert ask(pods, "/api", token)[0] == 200
    listed = pods.ok("kubectl", "get", "clusterrole", "view", "-o", "jsonpath={.rules[*].resources}")
    assert "pods" in listed  # the rules of an aggregated role
