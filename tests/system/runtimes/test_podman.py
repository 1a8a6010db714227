"""podman, from Debian's package, with its CNI back end and our plugins."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.runtimes import image, node
from tests.system.runtimes.machine import on_its_own_machine, run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("podman") or not shutil.which("runc") or not image.BUSYBOX.exists(),
    reason="it takes root, podman, runc and busybox-static",
)

_CONTAINERS = f"""
[network]
network_backend = "cni"
cni_plugin_dirs = ["{node.BIN_DIR}"]
network_config_dir = "{node.CONF_DIR}"
default_network = "{node.NETWORK}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
pids_limit = 0
"""
_STORAGE = """
[storage]
driver = "vfs"
graphroot = "/var/lib/netlab-podman"
runroot = "/run/netlab-podman"
"""


def podman(*argv: str) -> str:
    return run("podman", *argv).strip()


def prepare(tmp_path: Path) -> None:
    """The plugins, podman's configuration and the image."""
    node.install_plugins()
    for variable, text in (("CONTAINERS_CONF", _CONTAINERS), ("CONTAINERS_STORAGE_CONF", _STORAGE)):
        path = Path("/etc", f"netlab-{variable.lower()}.conf")
        path.write_text(text)
        os.environ[variable] = str(path)
    podman("load", "--input", str(image.write(tmp_path / "image.tar")))


@on_its_own_machine
def test_containers_reach_each_other_and_leave_nothing(tmp_path: Path) -> None:
    prepare(tmp_path)
    with node.outside() as world:
        one = podman("run", "--detach", "--name", "one", "--publish", "8080:80", image.NAME, *image.SERVE)
        two = podman("run", "--detach", "--name", "two", image.NAME, *image.SERVE)
        found = node.addresses()
        assert len(found[one]) == len(found[two]) == 2
        for source, target in (("one", two), ("two", one)):
            for address in found[target]:
                node.until_served(address)
                host = f"[{address}]" if ":" in address else address
                assert podman("exec", source, "wget", "-q", "-O-", f"http://{host}/") == image.PAGE.strip()
        for address in (node.NODE, node.NODE6):
            assert node.fetch(world, address, 8080) == image.PAGE
        assert node.fetch(None, "127.0.0.1", 8080) == image.PAGE
        assert node.busy()
        podman("rm", "--force", "--time", "0", "one", "two")
    assert node.clean(), node.remains()


@on_its_own_machine
def test_a_container_that_stops_and_starts_gives_its_port_back(tmp_path: Path) -> None:
    prepare(tmp_path)
    podman("run", "--detach", "--name", "one", "--publish", "8080:80", image.NAME, *image.SERVE)
    podman("stop", "--time", "0", "one")
    assert node.clean(), node.remains()
    podman("run", "--detach", "--name", "two", "--publish", "8080:80", image.NAME, *image.SERVE)
    (ips,) = node.addresses().values()
    node.until_served(ips[0])
    assert node.fetch(None, ips[0], 80) == image.PAGE
    podman("rm", "--force", "--time", "0", "one", "two")
    assert node.clean(), node.remains()


@on_its_own_machine
def test_a_container_gets_the_addresses_that_it_asks_for(tmp_path: Path) -> None:
    prepare(tmp_path)
    asked = ("--ip", "10.22.0.77", "--mac-address", "02:00:00:00:00:77")
    one = podman("run", "--detach", "--name", "one", *asked, image.NAME, *image.SERVE)
    assert node.addresses()[one][0] == "10.22.0.77"
    assert podman("exec", "one", "cat", "/sys/class/net/eth0/address") == "02:00:00:00:00:77"
    refused = subprocess.run(
        ["podman", "run", *asked[:2], image.NAME, "true"], capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "10.22.0.77" in refused.stderr
    podman("rm", "--force", "--time", "0", "--all")
    assert node.clean(), node.remains()
