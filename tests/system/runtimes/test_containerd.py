"""containerd, from Debian's package, by `ctr run --cni`, with our plugins."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.system.runtimes import image, node
from tests.system.runtimes.machine import on_its_own_machine, run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("containerd") or not shutil.which("runc") or not image.BUSYBOX.exists(),
    reason="it takes root, containerd, runc and busybox-static",
)

_SOCKET = "/run/netlab-containerd/containerd.sock"
_CONFIG = f"""
version = 2
root = "/var/lib/netlab-containerd"
state = "/run/netlab-containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{_SOCKET}"
[ttrpc]
address = "{_SOCKET}.ttrpc"
"""


_CTR = ("ctr", "--address", _SOCKET)
# No limits: the machine's control group may have no controllers to set them.
_RUN = ("--snapshotter", "native", "--cpu-shares", "0")


def ctr(*argv: str) -> str:
    return run(*_CTR, *argv)


def prepare(tmp_path: Path) -> None:
    """The plugins, containerd and the image."""
    node.install_plugins()
    config = Path("/etc/netlab-containerd.toml")
    config.write_text(_CONFIG)
    node.started("containerd", "--config", config)
    deadline = time.monotonic() + 60
    while not Path(_SOCKET).exists():
        assert time.monotonic() < deadline, "containerd does not serve"
        time.sleep(0.05)
    ctr("images", "import", "--snapshotter", "native", str(image.write(tmp_path / "image.tar")))


def started(name: str, *options: str) -> None:
    """Run a container that serves, detached."""
    ctr("run", "--detach", *_RUN, *options, image.NAME, name, *image.SERVE)


def end(name: str) -> None:
    """End a detached container, and remove all that containerd has of it."""
    ctr("tasks", "kill", "--signal", "SIGKILL", name)
    deadline = time.monotonic() + 30
    while "RUNNING" in next(line for line in ctr("tasks", "list").splitlines() if line.startswith(f"{name} ")):
        assert time.monotonic() < deadline, f"{name} does not end"
        time.sleep(0.05)
    ctr("containers", "delete", name)


def fetch_inside(name: str, address: str) -> str:
    """The page of another container, asked for from within one."""
    host = f"[{address}]" if ":" in address else address
    return ctr("tasks", "exec", "--exec-id", "fetch", name, "wget", "-q", "-O-", f"http://{host}/")


def reaches(name: str, addresses: list[str]) -> bool:
    """Whether a container reaches another at all of its addresses."""
    for address in addresses:
        node.until_served(address)
    return [fetch_inside(name, address) for address in addresses] == [image.PAGE] * len(node.SUBNETS)


def attached(number: int) -> dict[str, list[str]]:
    """The addresses of the containers on the network, by name, when there are so many."""
    deadline = time.monotonic() + 30
    while len(node.addresses()) < number:
        assert time.monotonic() < deadline, f"not {number} containers: {node.addresses()}"
        time.sleep(0.05)
    return {name.removeprefix("default-"): found for name, found in node.addresses().items()}


@on_its_own_machine
def test_containers_reach_each_other_and_leave_nothing(tmp_path: Path) -> None:
    """`ctr run --rm` ends with its container, and sends DEL with an empty CNI_NETNS."""
    prepare(tmp_path)
    calls = [node.started(*_CTR, "run", "--rm", "--cni", *_RUN, image.NAME, name, *image.SERVE) for name in ("a", "b")]
    found = attached(2)
    assert reaches("a", found["b"])
    assert reaches("b", found["a"])
    assert node.remains()["elements"]
    for name, call in zip(("a", "b"), calls, strict=True):
        ctr("tasks", "kill", "--signal", "SIGKILL", name)
        call.wait(60)
    assert node.clean(), node.remains()


@on_its_own_machine
def test_a_published_port(tmp_path: Path) -> None:
    """ctr knows no ports: its container joins a network namespace that was added to the network before."""
    prepare(tmp_path)
    ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    run("ip", "netns", "add", "web")
    node.netlab("cni", "add", node.NETWORK, "web", "--capability-args", json.dumps(ports))
    with node.outside() as world:
        started("web", "--with-ns", "network:/run/netns/web")
        (addresses,) = node.addresses().values()
        for address in addresses:
            node.until_served(address)
        for address in (node.NODE, node.NODE6):
            assert node.fetch(world, address, 8080) == image.PAGE
        end("web")
        assert node.busy()
        node.netlab("cni", "del", node.NETWORK, "web")
    assert node.clean(), node.remains()


@on_its_own_machine
def test_garbage_collection_frees_what_a_detached_run_leaks(tmp_path: Path) -> None:
    """After `ctr run --detach`, nobody ever sends DEL."""
    prepare(tmp_path)
    for name in ("a", "b"):
        started(name, "--cni")
    found = attached(2)
    end("a")
    remains = node.remains()
    assert len(remains["reservations"]) == 4, "it leaks"
    assert {owner.split("/")[1] for owner in remains["elements"]} == {"default-a", "default-b"}
    node.netlab("cni", "gc", node.NETWORK)
    remains = node.remains()
    assert sorted(remains["reservations"]) == sorted(found["b"])
    assert {owner.split("/")[1] for owner in remains["elements"]} == {"default-b"}
    for address in found["b"]:
        assert node.fetch(None, address, 80) == image.PAGE
    end("b")
    node.netlab("cni", "gc", node.NETWORK)
    assert node.clean(), node.remains()
