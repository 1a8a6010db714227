import itertools
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.e2e.conftest import Netlab

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: registry.k8s.io/e2e-test-images/agnhost:2.47
        args: [netexec, --http-port=8080, --udp-port=8081]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
"""

CHOICES = [
    (network, proxy, families)
    for network, (proxy, families) in zip(
        ("vxlan", "routed", "bridge"),
        itertools.cycle([("nftables", "--dual-stack"), ("iptables", "--ipv6"), ("nftables", None)]),
        strict=False,
    )
]


@pytest.mark.parametrize(("network", "proxy", "families"), CHOICES)
def test_a_lab_of_each_network_comes_up_answers_and_goes(
    netlab: Netlab, network: str, proxy: str, families: str | None
) -> None:
    name = ["--name", network]
    netlab.ok("up", *name, "--nodes", "2", "--network", network, "--proxy", proxy, *([families] if families else []))
    status = netlab.json("status", *name)
    assert (status["state"], status["network"], status["proxy"]) == ("up", network, proxy)
    assert [node["ready"] for node in status["nodes"]] == [True, True]
    assert status["mtu"] == {"vxlan": {None: 1450, "--dual-stack": 1450, "--ipv6": 1430}[families]}.get(network, 1500)
    netlab.ok("apply", *name, "-f", "-", stdin=WEB)
    netlab.wait_available("web", 3, *name)
    (service,) = [each for each in netlab.json("get", *name, "services")["items"] if each["metadata"]["name"] == "web"]
    assert f" {','.join(service['spec']['clusterIPs'])} " in netlab.ok("get", *name, "services")
    assert f" {','.join(status['nodes'][0]['addresses'])} " in netlab.ok("get", *name, "nodes", "-o", "wide")
    node = status["nodes"][0]["addresses"][0]
    address = f"[{node}]" if ":" in node else node
    answer = netlab.ok("exec", *name, "outside", "--", "/agnhost", "connect", "--timeout=20s", f"{address}:30080")
    assert answer == ""
    netlab.ok("down", *name)
    assert not (netlab.home / network).exists()
    # Another test's lab may be beside it.
    assert [line for line in netlab.processes().values() if str(netlab.home / network) in line] == []


def test_a_second_up_is_refused_and_harms_nothing(lab: Netlab) -> None:
    assert "lab default is up already" in lab.fails(4, "up")
    assert lab.json("status")["state"] == "up"


def test_two_labs_live_side_by_side(lab: Netlab) -> None:
    lab.ok("up", "--name", "other", "--nodes", "1")
    assert {("default", "up"), ("other", "up")} <= {(each["name"], each["state"]) for each in lab.json("list")}
    lab.ok("down", "--name", "other")
    assert lab.json("status")["state"] == "up"


def test_down_of_what_is_not_there_says_so(netlab: Netlab) -> None:
    assert "no such lab" in netlab.ok("down", "--name", "absent")


REFUSED = [
    (["up", "--name", "Big_Name"], 2, "not a DNS label"),
    (["up", "--name", "x", "--nodes", "0"], 2, "nodes: 0 is not between"),
    (["up", "--name", "x", "--nodes", "1000"], 2, "nodes: 1000 is not between"),
    (["up", "--name", "x", "-f", "/nonexistent.yaml"], 2, "No such file"),
    (["status", "--name", "absent"], 3, "there is no lab 'absent'"),
    (["get", "pods", "--name", "absent"], 3, "there is no lab 'absent'"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), REFUSED)
def test_what_cannot_be_is_refused_in_one_line(netlab: Netlab, arguments: list[str], status: int, message: str) -> None:
    assert message in netlab.fails(status, *arguments)
    assert not (netlab.home / "x").exists()


HOMES = [
    ("file", "is not a directory"),
    ("file/beneath", "is not a directory"),
    ("nowhere", "is not a directory"),
    ("x" * 200, "too long for a Unix socket"),
]


@pytest.mark.parametrize("command", ["up", "down", "status"])
@pytest.mark.parametrize(("home", "message"), HOMES)
def test_a_home_that_cannot_be_one_is_refused(tmp_path: Path, command: str, home: str, message: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to("absent")
    assert message in Netlab(tmp_path / home).fails(2, command)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere"]


def test_a_directory_that_is_no_lab_is_left_as_it_is() -> None:
    program = Netlab(Path(tempfile.mkdtemp(prefix="netlab-")))
    (program.home / "documents/logs").mkdir(parents=True)
    (program.home / "documents/thesis").write_text("mine")
    assert "is not a lab" in program.fails(2, "up", "--name", "documents")
    assert "is not a lab" in program.fails(2, "down", "--name", "documents")
    assert (program.home / "documents/thesis").read_text() == "mine"
    shutil.rmtree(program.home)


LAB_FILES = [
    ("spec: {nodes: three}", "spec.nodes"),
    ("spec: {nods: 3}", "nods"),
    ("spec: {network: geneve}", "spec.network"),
    ("spec: {podCIDRs: [10.244.0.0/33]}", "podCIDRs[0]"),
    ("spec: {podCIDRs: [10.96.0.0/16]}", "overlaps"),
    ("spec: {podCIDRs: [10.244.0.0/24], nodes: 3}", "too few"),
    ("spec: {families: [IPv4, IPv4]}", "families"),
    ("spek: {}", "spek"),
    ("spec: {nodes: 3, nodes: 4}", "stands twice"),
    ("spec: [", "spec"),
]


@pytest.mark.parametrize(("text", "named"), LAB_FILES)
def test_a_wrong_lab_file_is_refused_by_its_field(netlab: Netlab, tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(f"apiVersion: netlab/v1\nkind: Lab\n{text}\n")
    assert named in netlab.fails(2, "up", "--name", "x", "-f", str(file)) or named == "spec"
    assert not (netlab.home / "x").exists()


def test_a_lab_file_brings_its_manifests_with_it(netlab: Netlab, tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(f"apiVersion: netlab/v1\nkind: Lab\nspec: {{nodes: 1, network: routed}}\n---\n{WEB}")
    netlab.ok("up", "--name", "filed", "-f", str(file))
    assert netlab.json("get", "deployment", "web", "--name", "filed")["spec"]["replicas"] == 3
    netlab.ok("down", "--name", "filed")


def test_the_files_of_a_lab_are_its_owners_alone(lab: Netlab) -> None:
    directory = lab.home / "default"
    assert directory.stat().st_mode & 0o077 == 0
    open_to_others = [
        p for p in directory.rglob("*") if not p.is_symlink() and p.is_file() and p.stat().st_mode & 0o077
    ]
    sockets = [p for p in directory.rglob("*.sock") if p.stat().st_mode & 0o077]
    assert (open_to_others, sockets) == ([], [])
    assert (directory / "api.sock").stat().st_mode & 0o777 == 0o600


def test_the_names_of_commands_are_suggested(netlab: Netlab) -> None:
    done = netlab.run("sttaus")
    assert (done.returncode, "did you mean 'status'?" in done.stderr) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(netlab: Netlab, shell: str) -> None:
    assert "_NETLAB_COMPLETE" in netlab.ok("completion", shell)
