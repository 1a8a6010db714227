"""Bad luck: what is killed, interrupted, filled up or exhausted says so, and `netlab down` cleans everything."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netlab.api.server.storage.etcd_gateway import Gateway, encoded
from netlab.net import syscalls
from tests import etcd
from tests.e2e.conftest import Netlab, eventually
from tests.sandbox import enter, isolated

POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {nodeName: %s, containers: [{name: web, image: agnhost, args: [netexec]}]}
"""


_SAVED = "{apiVersion: v1, kind: Namespace, metadata: {name: saved}}"


def _ready(lab: Netlab, pod: str, *options: str) -> bool:
    done = lab.run("get", "pod", pod, *options, "-o", "json")
    return done.returncode == 0 and '"type": "Ready",\n        "status": "True"' in done.stdout


@pytest.fixture
def broken(netlab: Netlab) -> Iterator[Netlab]:
    """A lab that the test may break: it is taken down after each."""
    netlab.ok("up", "--nodes", "1")
    netlab.ok("apply", "-f", "-", stdin=POD % ("web", "node-1"))
    eventually(lambda: _ready(netlab, "web"))
    yield netlab
    netlab.ok("down")
    assert netlab.processes() == {}
    assert not (netlab.home / "default").exists()


def _container(lab: Netlab, pod: str) -> str:
    status = lab.json("get", "pod", pod)["status"]
    return f"{status['containerStatuses'][0]['containerID']} {status['containerStatuses'][0]['restartCount']}"


@pytest.mark.parametrize("module", ["netlab.lab.daemon", "netlab.api.server"])
def test_a_killed_component_is_started_again_and_pods_go_on(broken: Netlab, module: str) -> None:
    before = _container(broken, "web")
    os.kill(broken.pid_of(module), signal.SIGKILL)
    eventually(lambda: broken.run("get", "nodes").returncode == 0)
    broken.ok("apply", "-f", "-", stdin=POD % ("later", "node-1"))
    eventually(lambda: _ready(broken, "later"))
    assert _container(broken, "web") == before
    assert any(c["restarts"] for c in broken.json("status")["components"])


def test_a_lab_whose_monitor_was_killed_is_down_and_comes_back_with_its_objects(broken: Netlab) -> None:
    os.kill(broken.pid_of("netlab.lab.monitor"), signal.SIGKILL)
    broken.until_ended()
    assert "lab default is down" in broken.fails(6, "get", "pods")
    assert "lab default is down" in broken.fails(6, "status")
    assert "has other options" in broken.fails(4, "up", "--nodes", "3")
    broken.ok("up")
    eventually(lambda: _ready(broken, "web"))
    assert _container(broken, "web").endswith(" 1")


@pytest.mark.parametrize("milliseconds", [50, 150, 300, 500, 800])
def test_up_killed_at_any_moment_leaves_nothing_after_down(netlab: Netlab, milliseconds: int) -> None:
    process = subprocess.Popen(netlab.argv("up"), env=netlab.environment, stdout=subprocess.DEVNULL)
    time.sleep(milliseconds / 1000)
    process.kill()
    process.wait()
    netlab.ok("down")
    assert netlab.processes() == {}
    assert not (netlab.home / "default").exists()


@pytest.mark.parametrize("milliseconds", [100, 400, 700])
def test_up_interrupted_leaves_nothing(netlab: Netlab, milliseconds: int) -> None:
    process = subprocess.Popen(
        netlab.argv("up", "--nodes", "8"),
        env=netlab.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode != 0:  # it may have been faster than the interrupt
        if netlab.had_begun(errors):
            assert "Traceback" not in errors
        assert netlab.processes() == {}
        assert not (netlab.home / "default").exists()
    netlab.ok("down")


def test_an_exhausted_pod_subnet_says_which(netlab: Netlab, tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(
        "apiVersion: netlab/v1\nkind: Lab\n"
        "spec: {nodes: 1, network: routed, podCIDRs: [10.250.0.0/28], nodeCIDRMaskSizes: [29], dns: false}\n"
    )
    netlab.ok("up", "--name", "small", "-f", str(file))
    pods = "---".join(POD % (f"pod-{number}", "node-1") for number in range(7))
    netlab.ok("apply", "--name", "small", "-f", "-", stdin=pods)
    eventually(lambda: "10.250.0" in netlab.ok("get", "events", "--name", "small"))
    events = netlab.ok("get", "events", "--name", "small")
    assert "FailedCreatePodSandBox" in events
    # A pod that goes makes room for one that waits: nothing was leaked by the attempts that failed.
    running = [
        p["metadata"]["name"]
        for p in netlab.json("get", "pods", "--name", "small")["items"]
        if p["status"].get("podIP")
    ]
    assert len(running) == 5
    netlab.ok("delete", "--name", "small", "pod", running[0], "--grace-period", "0")
    eventually(
        lambda: sum(bool(p["status"].get("podIP")) for p in netlab.json("get", "pods", "--name", "small")["items"]) == 5
    )
    netlab.ok("down", "--name", "small")


def _in_small_home(use: Callable[[Netlab, Path], None]) -> None:
    home = Path(tempfile.mkdtemp(prefix="netlab-"))
    syscalls.mount("tmpfs", home, "tmpfs", data="size=4m")
    netlab = Netlab(home)
    try:
        use(netlab, home)
    finally:
        (home / "filler").unlink(missing_ok=True)
        netlab.ok("down", "--all")
        assert netlab.processes() == {}
        syscalls.umount(home)
        shutil.rmtree(home)


def _fill(home: Path) -> None:
    with (home / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.mark.parametrize("left", [0, 20 << 10, 200 << 10])
@isolated
def test_a_full_disk_refuses_up_in_one_line(left: int) -> None:
    def use(netlab: Netlab, home: Path) -> None:
        _fill(home)
        os.truncate(home / "filler", (home / "filler").stat().st_size - left)
        assert "no space" in netlab.fails(7, "up").lower()
        assert [p.name for p in home.iterdir()] == ["filler"]

    _in_small_home(use)


def _no_database(directory: Path) -> None:
    for path in directory.glob("cluster.db*"):
        path.unlink()
    (directory / "cluster.db").write_bytes(b"not a database" * 1000)


def _no_log(directory: Path) -> None:
    (directory / "logs/kubelet-node-1.log").unlink()
    (directory / "logs/kubelet-node-1.log").mkdir()


FAILED_STARTS: list[tuple[Callable[[Path], object], str]] = [
    (_no_database, "its apiserver failed: the cluster's database"),
    (_no_log, "its kubelet-node-1 failed"),
    (lambda directory: (directory / "apiserver.json").mkdir(), "apiserver.json"),
    (lambda directory: (directory / "lab.json").write_text("{"), "lab.json cannot be read"),
]


@pytest.mark.parametrize(("damage", "message"), FAILED_STARTS)
def test_what_fails_at_the_start_of_a_lab_that_was_down_is_named_and_it_is_down_again(
    broken: Netlab, damage: Callable[[Path], object], message: str
) -> None:
    os.kill(broken.pid_of("netlab.lab.monitor"), signal.SIGKILL)
    broken.until_ended()
    (broken.home / "default/apiserver.json").unlink()  # written anew at each start
    damage(broken.home / "default")
    assert message in broken.fails(1, "up")
    assert broken.processes() == {}


def test_a_damaged_lab_comes_back_from_its_snapshot(broken: Netlab, tmp_path: Path) -> None:
    assert "is up" in broken.fails(4, "snapshot", "restore")
    broken.ok("apply", "-f", "-", stdin=_SAVED)
    file = tmp_path / "objects"
    assert "objects saved" in broken.ok("snapshot", "save", str(file))
    os.kill(broken.pid_of("netlab.lab.monitor"), signal.SIGKILL)
    broken.until_ended()
    (broken.home / "default/cluster.db").write_bytes(b"")
    line = broken.fails(1, "up")
    assert "it is empty" in line
    assert "netlab snapshot restore --name default" in line
    broken.ok("snapshot", "restore", str(file))
    broken.ok("up")
    assert "namespace/saved" in broken.ok("get", "ns", "-o", "name")
    eventually(lambda: _ready(broken, "web"))


@pytest.mark.skipif(shutil.which("etcd") is None, reason="needs etcd (Debian: etcd-server)")
def test_a_lab_on_etcd(netlab: Netlab, tmp_path: Path) -> None:
    file = tmp_path / "objects"
    netlab.ok("up", "--nodes", "1", "--store", "etcd")
    netlab.ok("apply", "-f", "-", stdin=POD % ("web", "node-1"))
    eventually(lambda: _ready(netlab, "web"))
    before = _container(netlab, "web")
    (etcd,) = (pid for pid, line in netlab.processes().items() if "--name lab --data-dir" in line)
    for pid in (etcd, netlab.pid_of("netlab.api.server")):
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: netlab.run("apply", "-f", "-", stdin=_SAVED).returncode == 0)
        assert _container(netlab, "web") == before
    netlab.ok("snapshot", "save", str(file))
    netlab.ok("delete", "ns", "saved")
    os.kill(netlab.pid_of("netlab.lab.monitor"), signal.SIGKILL)
    eventually(lambda: netlab.processes() == {})
    netlab.ok("snapshot", "restore", str(file))
    netlab.ok("up")
    assert "namespace/saved" in netlab.ok("get", "ns", "-o", "name")
    eventually(lambda: _ready(netlab, "web"))
    netlab.ok("down")
    assert netlab.processes() == {}


def test_a_lab_on_an_etcd_that_is_there_and_its_objects_elsewhere(netlab: Netlab, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    options, file = ("--listen-client-urls", f"unix://client:0,{url}"), tmp_path / "objects"
    assert "does not answer (Connection refused)" in netlab.fails(6, "up", "--store", f"etcd={url}")
    assert list(netlab.home.iterdir()) == []

    def keys(server: etcd.EtcdServer) -> int:
        with contextlib.closing(Gateway(server.url)) as gateway:
            request = {"key": encoded(b"/netlab/"), "range_end": encoded(b"/netlab0"), "count_only": True}
            return int(gateway.call("kv/range", request).get("count", 0))

    with etcd.running(*options) as server:
        netlab.ok("up", "--nodes", "1", "--store", f"etcd={url}")
        server.end()
        assert "database does not answer" in netlab.fails(6, "apply", "-f", "-", stdin=_SAVED)
        server.start(*options)
        eventually(lambda: netlab.run("apply", "-f", "-", stdin=_SAVED).returncode == 0)
        netlab.ok("snapshot", "save", str(file))
        assert keys(server) > 10
        netlab.ok("down")
        assert (keys(server), list(netlab.home.iterdir())) == (0, [])
    # In a lab of the same addresses, of its own store and authority, which is made for it.
    damaged = tmp_path / "damaged"
    damaged.write_bytes(file.read_bytes()[:-100])
    assert "is damaged" in netlab.fails(1, "snapshot", "restore", "--name", "elsewhere", str(damaged))
    assert list(netlab.home.iterdir()) == []
    netlab.ok("snapshot", "restore", "--name", "elsewhere", str(file))
    netlab.ok("up", "--name", "elsewhere")
    assert "namespace/saved" in netlab.ok("get", "--name", "elsewhere", "ns", "-o", "name")
    authority = (netlab.home / "elsewhere/pki/ca.crt").read_text()
    eventually(lambda: authority in _root_of(netlab, "elsewhere", "saved"))


def _root_of(netlab: Netlab, lab: str, namespace: str) -> str:
    found: str = json.loads(netlab.ok("get", "--name", lab, "-n", namespace, "cm", "kube-root-ca.crt", "-o", "json"))[
        "data"
    ]["ca.crt"]
    return found


@isolated
def test_a_disk_that_fills_up_refuses_objects_and_recovers() -> None:
    def use(netlab: Netlab, home: Path) -> None:
        netlab.ok("up", "--nodes", "1", "--no-dns")
        _fill(home)
        services = "---".join(
            f"\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, annotations: {{fill: '{'x' * 60000}'}}}}\n"
            "spec: {ports: [{port: 80}]}\n"
            for n in range(20)
        )
        assert "space" in netlab.fails(7, "apply", "-f", "-", stdin=services)
        assert "No resources" in netlab.run("get", "svc", "-l", "!component").stderr
        (home / "filler").unlink()
        netlab.ok("apply", "-f", "-", stdin=POD % ("web", "node-1"))
        eventually(lambda: _ready(netlab, "web"))

    _in_small_home(use)


@isolated
def test_a_machine_that_allows_too_few_namespaces_is_said_in_one_line(tmp_path: Path) -> None:
    # The limit is that of a user namespace: this one's, not the host's.
    enter(user=True)
    Path("/proc/sys/user/max_net_namespaces").write_text("2")
    home = Path(tempfile.mkdtemp(prefix="netlab-"))
    netlab = Netlab(home)
    line = netlab.fails(5, "up", "--nodes", "3")
    assert "user.max_net_namespaces leaves 2" in line
    assert netlab.processes() == {}
    assert list(home.iterdir()) == []
    home.rmdir()
