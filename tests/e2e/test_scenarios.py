"""Scenarios through the command line: those that come with netlab, a user's own, and their interruption."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from netlab.capture.pcapng import read
from tests.e2e.conftest import Netlab, eventually
from tests.e2e.machines import state

HEADER = "name: {name}\ntitle: A lesson of mine\ntraffic: pod-to-pod\nnodes: {nodes}\n"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: main, image: agnhost, args: [netexec], readinessProbe: {httpGet: {path: /healthz, port: 8080}}}
"""
MIXED = """
from netlab.scenario import Context, check

@check("It answers")
def answers(ctx: Context) -> None:
    ctx.expect("web", ctx.node("node-1").get(ctx.pod("web").url(8080, "/hostname")).text, "with netexec's words")

@check("It has another name")
def another_name(ctx: Context) -> None:
    ctx.expect(["a", "b"], {ctx.pod("web").name}, "the name")

@check("Not proven here")
def skipped(ctx: Context) -> None:
    ctx.skip("no reason")

@check("It knows a pod that is not there")
def unknown_pod(ctx: Context) -> None:
    ctx.pod("wbe")

@check("A mistake of the author's")
def mistaken(ctx: Context) -> None:
    {}["x"]

@check("It says nothing")
def silent(ctx: Context) -> None:
    pass
"""
SLOW = """
import time
from netlab.scenario import Context, check

@check("It is interrupted")
def interrupted(ctx: Context) -> None:
    pod = ctx.pod("web")
    with ctx.capture(pod, ctx.outside):
        pod.get(pod.url(8080))
        open({marker!r}, "a").close()
        time.sleep(300)
"""
OWNED = {"pods", "services", "namespaces", "deployments"}


def make(folder: Path, checks: str, manifest: str = POD, nodes: int = 1) -> Path:
    (folder / "manifests").mkdir(parents=True)
    (folder / "scenario.yaml").write_text(HEADER.format(name=folder.name, nodes=nodes))
    (folder / "manifests" / "web.yaml").write_text(manifest)
    (folder / "checks.py").write_text(checks)
    (folder / "README.md").write_text("# Mine\n")
    return folder


def ran(netlab: Netlab, status: int, *arguments: str, pcaps: Path) -> list[dict[str, Any]]:
    """Run scenarios; what the JSON on standard output says."""
    done = netlab.run("scenario", "run", *arguments, "--pcap-dir", str(pcaps), "-o", "json", timeout=400)
    assert done.returncode == status, done.stdout + done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def assert_passed(results: list[dict[str, Any]]) -> None:
    assert [check for result in results for check in result["checks"] if check["status"] != "passed"] == []
    assert {result["status"] for result in results} == {"passed"}


def left_of(netlab: Netlab) -> list[str]:
    """The processes whose environment names the netlab's home: forks and captures too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"NETLAB_HOME={netlab.home}\0".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


@pytest.fixture(scope="module")
def lab(netlab: Netlab) -> Netlab:
    """A lab of two nodes with all that lessons need: also cluster DNS."""
    netlab.ok("up", "--nodes", "2")
    return netlab


def objects(netlab: Netlab) -> list[str]:
    return sorted(line for kind in OWNED for line in netlab.ok("get", kind, "-A", "-o", "name").splitlines())


def test_all_scenarios_hold_in_a_lab_and_leave_it_as_it_was(lab: Netlab, tmp_path: Path) -> None:
    # The bridge that a node's first pod brings stays.
    assert_passed(ran(lab, 0, "02-pod-to-pod", pcaps=tmp_path))
    before = objects(lab), state(lab)
    results = ran(lab, 0, "all", pcaps=tmp_path)
    assert_passed(results)
    assert {result["traffic"] for result in results} == {
        "intra-pod",
        "pod-to-pod",
        "pod-to-service",
        "external-to-service",
    }
    assert {(r["network"], r["proxy"], r["family"]) for r in results} == {("vxlan", "nftables", "IPv4")}
    for result in results:
        assert result["pcaps"], result["name"]
        for path in map(Path, result["pcaps"]):
            assert path.is_relative_to(tmp_path)
            read(path)
    assert (objects(lab), state(lab)) == before


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_wireshark_opens_what_a_scenario_captured(lab: Netlab, tmp_path: Path) -> None:
    (result,) = ran(lab, 0, "02-pod-to-pod", pcaps=tmp_path)
    (path,) = (p for p in result["pcaps"] if p.endswith("seen-on-the-wire.pcapng"))
    # From standard input: root's tshark gives up its right to read a file that is another's.
    with Path(path).open("rb") as capture:
        shown = subprocess.run(["tshark", "-n", "-r", "-"], stdin=capture, capture_output=True, check=True)
    assert b"UDP" in shown.stdout
    assert b"Malformed" not in shown.stdout


def test_a_dual_stack_lab_of_their_own_comes_and_goes(netlab: Netlab, tmp_path: Path) -> None:
    done = netlab.run(
        "scenario", "run", "01-inside-a-pod", "06-outside-to-external-ip", "--dual-stack", "--network", "bridge",
        "--proxy", "iptables", "--pcap-dir", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("bridge, iptables, IPv4; lab scenario-") == 2
    assert done.stdout.count("bridge, iptables, IPv6; lab scenario-") == 2
    assert "✗" not in done.stdout
    assert "4 runs: 4 passed in " in done.stdout.splitlines()[-1]
    assert [lab["name"] for lab in netlab.json("list") if lab["name"].startswith("scenario-")] == []


def test_a_folder_of_ones_own_runs_the_same_way(lab: Netlab, tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", MIXED)
    before = objects(lab)
    (result,) = ran(lab, 9, str(folder), pcaps=tmp_path)
    assert (result["name"], result["status"]) == ("mine", "failed")
    told = {check.pop("name"): check for check in result["checks"]}
    fields = ("status", "expected", "observed", "error")
    assert {name: tuple(check[field] for field in fields) for name, check in told.items()} == {
        "It answers": ("passed", "with netexec's words: web", "with netexec's words: web", ""),
        "It has another name": ("failed", "the name: a, b", "the name: web", ""),
        "Not proven here": ("skipped", "Not proven here", "no reason", ""),
        "It knows a pod that is not there": (
            "error", "", "", f"the scenario has no pod 'wbe'; it has web ({folder}/checks.py:18)",
        ),
        "A mistake of the author's": ("error", "", "", f"KeyError: 'x' ({folder}/checks.py:22)"),
        "It says nothing": ("error", "", "", "the check states no expectation (ctx.expect)"),
    }  # fmt: skip
    assert objects(lab) == before


def test_a_new_scenario_passes_as_it_is(lab: Netlab, tmp_path: Path) -> None:
    folder = tmp_path / "my-lesson"
    made = lab.ok("scenario", "new", str(folder)).splitlines()
    assert made == [str(folder / name) for name in ("README.md", "checks.py", "manifests/pods.yaml", "scenario.yaml")]
    (result,) = ran(lab, 0, str(folder), pcaps=tmp_path)
    assert (result["name"], result["status"], len(result["checks"])) == ("my-lesson", "passed", 2)
    (folder / "checks.py").write_text("mine")
    assert "already exists" in lab.fails(4, "scenario", "new", str(folder))
    assert (folder / "checks.py").read_text() == "mine"


def test_where_nothing_can_be_written_is_said_before_anything_starts(netlab: Netlab, tmp_path: Path) -> None:
    (tmp_path / "02-pod-to-pod").write_text("")
    report = Path("/proc/report")
    for arguments, folder in (
        (("--pcap-dir", str(tmp_path)), tmp_path / "02-pod-to-pod"),
        (("--pcap-dir", str(tmp_path / "new"), "--report", str(report)), report),
    ):
        said = netlab.fails(2, "scenario", "run", "02-pod-to-pod", "--network", "routed", *arguments)
        assert said.startswith(f"netlab: {folder}: ")
        assert said.endswith(f"cannot write there; choose another folder with {arguments[-2]}")
    assert [path.name for path in tmp_path.iterdir()] == ["02-pod-to-pod"]


def test_a_scenario_that_needs_more_nodes_is_skipped(lab: Netlab, tmp_path: Path) -> None:
    (result,) = ran(lab, 0, str(make(tmp_path / "wide", MIXED, nodes=9)), pcaps=tmp_path)
    assert result["status"] == "skipped"
    assert {check["observed"] for check in result["checks"]} == {"it needs 9 nodes, not 2"}


def test_without_tcpdump_only_what_needs_it_is_skipped(lab: Netlab, tmp_path: Path) -> None:
    if shutil.which("tcpdump", path="/usr/sbin:/sbin"):
        pytest.skip("this tcpdump is found without PATH")
    environment = lab.environment | {"PATH": str(tmp_path)}
    argv = lab.argv("scenario", "run", "01-inside-a-pod", "-o", "json", "--pcap-dir", str(tmp_path))
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    (result,) = json.loads(done.stdout)
    skipped = [check["observed"] for check in result["checks"] if check["status"] == "skipped"]
    assert skipped == ["filters need tcpdump, which is not installed; install the package tcpdump"]
    assert result["status"] == "passed"


def test_what_is_kept_stays(lab: Netlab, tmp_path: Path) -> None:
    before = objects(lab)
    done = lab.run("scenario", "run", str(make(tmp_path / "kept", MIXED)), "--keep", "--pcap-dir", str(tmp_path))
    assert done.returncode == 9
    assert "kept: `netlab get all -A --name default`" in done.stderr
    (namespace,) = (line for line in objects(lab) if line not in before and line.startswith("namespace/kept-"))
    lab.ok("delete", *namespace.split("/"))
    assert objects(lab) == before


def test_a_refused_manifest_is_one_line_and_leaves_nothing(lab: Netlab, tmp_path: Path) -> None:
    before = objects(lab)
    folder = make(tmp_path / "wrong", MIXED, POD.replace("image: agnhost", "imagge: agnhost"))
    assert "imagge" in lab.fails(2, "scenario", "run", str(folder), "--pcap-dir", str(tmp_path))
    assert objects(lab) == before


@pytest.mark.parametrize(
    ("status", "arguments", "says"),
    [
        (3, ["run", "02-pod-to-pdo"], "did you mean 02-pod-to-pod"),
        (3, ["show", "nosuch"], "there is no scenario 'nosuch'"),
        (2, ["run", "./nosuch"], "nosuch: not a folder"),
        (3, ["run", "all", "--name", "nosuch"], "there is no lab 'nosuch'"),
        (2, ["run", "all", "--name", "default", "--ipv6"], "--name runs in an existing lab"),
        (2, ["run", "all", "--matrix", "--ipv6"], "--matrix makes its own labs"),
    ],
)
def test_a_wrong_call_is_one_line(netlab: Netlab, status: int, arguments: list[str], says: str) -> None:
    assert says in netlab.fails(status, "scenario", *arguments)


def test_scenarios_are_listed_and_shown(netlab: Netlab) -> None:
    listed = netlab.json("scenario", "list")
    assert [each["name"] for each in listed][:2] == ["01-inside-a-pod", "02-pod-to-pod"]
    shown = netlab.ok("scenario", "show", "02-pod-to-pod")
    assert shown.startswith("# Pod to pod")
    assert "- Across nodes, the server sees the client pod's own address\n" in shown


@pytest.mark.parametrize(
    ("number", "status", "says"), [(signal.SIGINT, 130, "netlab: interrupted"), (signal.SIGTERM, 143, "")]
)
@pytest.mark.parametrize("where", [[], ["--matrix"]])
def test_an_interruption_leaves_nothing(
    netlab: Netlab, tmp_path: Path, number: int, status: int, says: str, where: list[str]
) -> None:
    netlab.ok("down", "--all")
    marker = tmp_path / "marker"
    folder = make(tmp_path / "slow", SLOW.format(marker=str(marker)))
    argv = netlab.argv("scenario", "run", str(folder), "--pcap-dir", str(tmp_path / "out"), *where)
    running = subprocess.Popen(
        argv, env=netlab.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    eventually(marker.exists)
    os.killpg(running.pid, number)  # as the terminal does; and again, as an impatient person does
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said.strip()) == (status, says)
    eventually(lambda: left_of(netlab) == [])  # what has been killed may still be on its way out
    assert list(netlab.home.iterdir()) == []


@pytest.mark.parametrize("milliseconds", [300, 500, 700, 900, 1200])
def test_an_interruption_leaves_nothing_at_any_moment(netlab: Netlab, tmp_path: Path, milliseconds: int) -> None:
    netlab.ok("down", "--all")
    argv = netlab.argv("scenario", "run", "01-inside-a-pod", "--network", "routed", "--pcap-dir", str(tmp_path / "out"))
    running = subprocess.Popen(argv, env=netlab.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(milliseconds / 1000)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    # One that has not even loaded its command line is ended by the signal itself, and has nothing to say.
    if netlab.had_begun(said):
        assert (running.returncode, said.strip()) in [(130, "netlab: interrupted"), (-signal.SIGINT, "")]
    eventually(lambda: left_of(netlab) == [])  # what has been killed may still be on its way out
    assert list(netlab.home.iterdir()) == []


def test_an_interruption_leaves_a_lab_as_it_was(lab: Netlab, tmp_path: Path) -> None:
    lab.run("up", "--nodes", "2")  # a test before may have taken it down
    before, running_before = objects(lab), len(left_of(lab))
    marker = tmp_path / "marker"
    argv = lab.argv("scenario", "run", str(make(tmp_path / "slow", SLOW.format(marker=str(marker)))))
    running = subprocess.Popen(argv, env=lab.environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    eventually(marker.exists)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said.strip()) == (130, "netlab: interrupted")
    assert objects(lab) == before
    assert len(left_of(lab)) == running_before
    assert read(tmp_path / "netlab-out/slow/vxlan-nftables-IPv4/interrupted.pcapng").taps


def test_the_matrix_is_every_network_proxy_and_family(netlab: Netlab, tmp_path: Path) -> None:
    results = ran(netlab, 0, "01-inside-a-pod", "--matrix", pcaps=tmp_path)
    assert_passed(results)
    cells = [(result["network"], result["proxy"], result["family"]) for result in results]
    assert cells == [
        (network, proxy, family)
        for network in ("vxlan", "routed", "bridge")
        for proxy in ("nftables", "iptables")
        for family in ("IPv4", "IPv6")
    ]
    assert len({path for result in results for path in result["pcaps"]}) == 12
