"""A lab's API as any cluster's: kubeconfig, TLS on the host's loopback, and the real kubectl."""

from __future__ import annotations

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
