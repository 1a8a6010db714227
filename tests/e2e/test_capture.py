"""netlab capture: packets at every hop by the names of pods and nodes, whole files, clear words when it cannot be."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from netlab.capture import pcapng
from tests.e2e.conftest import Netlab, eventually

SHOP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: stall}
spec:
  replicas: 1
  selector: {matchLabels: {app: stall}}
  template:
    metadata: {labels: {app: stall}}
    spec:
      nodeName: node-2
      containers: [{name: web, image: agnhost, args: [netexec]}]
---
apiVersion: v1
kind: Service
metadata: {name: stall}
spec:
  type: NodePort
  clusterIP: 10.96.70.1
  selector: {app: stall}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30970}]
---
apiVersion: v1
kind: Pod
metadata: {name: buyer}
spec:
  nodeName: node-1
  containers: [{name: c, image: agnhost, args: [pause]}]
---
apiVersion: v1
kind: Pod
metadata: {name: stall}
spec:
  hostNetwork: true
  nodeName: node-1
  containers: [{name: c, image: agnhost, args: [pause]}]
"""
TSHARK = ["tshark", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment", "-r"]
OTHER = """
apiVersion: v1
kind: Namespace
metadata: {name: other}
"""
TWIN = """
apiVersion: v1
kind: Pod
metadata: {name: buyer, namespace: other}
spec:
  containers: [{name: c, image: agnhost, args: [pause]}]
"""


@pytest.fixture(scope="module")
def stall(lab: Netlab) -> Iterator[Netlab]:
    lab.ok("apply", "-f", "-", stdin=SHOP)
    lab.wait_available("stall", 1)
    wait_running(lab, "buyer")
    yield lab
    lab.ok("delete", "-f", "-", stdin=SHOP)


def wait_running(netlab: Netlab, pod: str, *options: str) -> None:
    eventually(lambda: netlab.json("get", "pod", pod, *options)["status"]["phase"] == "Running")


class Capture:
    """A `netlab capture` that runs meanwhile; what it printed afterwards."""

    def __init__(self, netlab: Netlab, *arguments: str) -> None:
        self._argv = netlab.argv("capture", *arguments)
        self._environment = netlab.environment
        self.out = self.err = ""
        self.status = -1

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._argv, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert line.startswith(b"watching "), line + self._process.stderr.read()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGINT)

    def stop(self, number: int) -> None:
        """End it by a signal to all of its processes, as a terminal and timeout(1) do it."""
        if self._process.returncode is None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
            self.wait()

    def wait(self) -> None:
        """Wait until it ends of its own accord."""
        out, err = self._process.communicate(timeout=60)
        self.out, self.err, self.status = out.decode(), err.decode(), self._process.returncode

    def kill(self) -> None:
        """End its first process alone, by SIGKILL."""
        self._process.kill()
        self.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def session(self) -> set[int]:
        """Its processes: those of the session that it is the first of."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self._process.pid and fields[0] != "Z":
                        found.add(int(entry.name))
        return found

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def owners(packet: dict[str, Any]) -> list[str]:
    """Whose taps a packet passed, in order."""
    found = [hop["owner"] for hop in packet["hops"]]
    return [each for number, each in enumerate(found) if number == 0 or found[number - 1] != each]


def test_a_packet_to_a_service_is_followed_by_name_and_its_changes_are_in_the_file(
    stall: Netlab, tmp_path: Path
) -> None:
    path = tmp_path / "packets.pcapng"
    with Capture(stall, "--service", "stall", "-w", str(path), "-o", "json") as capture:
        stall.ok("exec", "buyer", "--", "/agnhost", "connect", "10.96.70.1:80")
    assert capture.status == 0, capture.err
    pods = {pod["metadata"]["generateName"]: pod for pod in stall.json("get", "pods", "-l", "app=stall")["items"]}
    server = pods.popitem()[1]
    endpoint = f"{server['status']['podIP']}:8080"
    server_name = f"default/{server['metadata']['name']}"
    buyer = stall.json("get", "pod", "buyer")["status"]["podIP"]
    mine = [each for each in capture.lines if each["client"].startswith(f"{buyer}:")]
    there = next(each for each in mine if each["about"] == "[S]")
    back = next(each for each in mine if each["about"] == "[SA]")
    way = ["default/buyer", "node-1", "fabric", "node-2", server_name]
    assert (owners(there), owners(back)) == (way, way[::-1])
    for each in (there, back):
        assert (each["dialled"], each["source"], each["endpoint"]) == ("10.96.70.1:80", each["client"], endpoint)
    changed = [change for hop in there["hops"] for change in hop["changed"]]
    translated = {"kind": "DNAT", "from": "10.96.70.1:80", "to": endpoint, "service": "default/stall", "machine": ""}
    assert translated in changed
    assert ("into", "VXLAN 1 192.0.2.1 > 192.0.2.2") in [(each["kind"], each["to"]) for each in changed]
    assert there["hops"][0]["nanoseconds"] == 0 < there["hops"][-1]["nanoseconds"]

    recording = pcapng.read(path)
    assert sum(recording.drops.values()) == 0
    shark = subprocess.run(
        [*TSHARK, str(path), "-Y", "frame.comment contains DNAT"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"node-1 cni0\tDNAT 10.96.70.1:80 -> {endpoint} by Service default/stall" in shark.stdout
    assert f"0 lost; in {path}" in capture.err


def test_a_connection_is_one_line_that_names_what_nat_made_of_it(stall: Netlab) -> None:
    with (
        Capture(stall, "--service", "default/stall", "-f", "tcp") as capture,
        Capture(stall, "--service", "default/stall", "-f", "tcp", "-v") as packets,
    ):
        stall.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.1:30970")
    server = next(pod["metadata"]["name"] for pod in stall.json("get", "pods", "-l", "app=stall")["items"])
    ends = f"outside > node-1:30970 > {server}:8080 as node-1"
    (row,) = [line for line in capture.out.splitlines() if ends in line]
    there, back = map(int, row.split("TCP")[1].split()[0].split(">"))
    assert there > 2 < back + 1
    assert "TAP" not in capture.err
    lines = packets.out.splitlines()
    opened = next(number for number, line in enumerate(lines) if ends in line)
    assert "TCP [S]" in lines[opened]
    client, dialled, source, endpoint = lines[opened + 1].replace(", NAT ", " > ").strip().split(" > ")
    assert (client.partition(":")[0], dialled) == ("192.0.2.253", "192.0.2.1:30970")
    assert source.startswith("10.244.1.")
    assert endpoint.startswith("10.244.2.")
    assert lines[opened + 2].strip().startswith("outside eth0 > fabric outside node-1 > node-1 eth0 ")
    assert any(ends.replace(" > ", " < ") in line and "TCP [SA]" in line for line in lines)
    assert f"{server} eth0" in packets.err


def test_a_line_for_each_tap_and_only_the_packets_of_the_pod(stall: Netlab) -> None:
    with Capture(stall, "--pod", "buyer", "--follow", "-o", "json", "-n", "default") as capture:
        stall.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.2:30970")
        stall.ok("exec", "buyer", "--", "/agnhost", "connect", "10.96.70.1:80")
    buyer = stall.json("get", "pod", "buyer")["status"]["podIP"]
    taps = {(each["owner"], each["interface"]) for each in capture.lines if buyer in (each["src"], each["dst"])}
    assert {("default/buyer", "eth0"), ("node-1", "cni0"), ("node-1", "vxlan0"), ("node-2", "eth0")} <= taps
    with Capture(stall, "--pod", "buyer", "-o", "json") as capture:
        stall.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.1:30970")
        stall.ok("exec", "buyer", "--", "/agnhost", "connect", "10.96.70.1:80")
    assert capture.lines
    assert all("default/buyer" in owners(each) for each in capture.lines if each["protocol"] == "tcp")


def test_a_node_is_what_is_on_it(stall: Netlab) -> None:
    with Capture(stall, "--node", "node-1", "-o", "json") as capture:
        stall.ok("exec", "buyer", "--", "/agnhost", "connect", "10.96.70.1:80")
    machines = {hop["node"] for each in capture.lines for hop in each["hops"]}
    assert machines == {"node-1", "fabric"}
    ports = {hop["interface"] for each in capture.lines for hop in each["hops"] if hop["node"] == "fabric"}
    assert ports == {"node-1"}


def test_pods_that_come_are_tapped_and_pods_that_go_are_no_error(stall: Netlab, tmp_path: Path) -> None:
    path = tmp_path / "packets.pcapng"
    with Capture(stall, "--service", "stall", "-w", str(path), "-o", "json", "-v") as capture:
        before = {pod["metadata"]["name"] for pod in stall.json("get", "pods", "-l", "app=stall")["items"]}
        stall.ok("apply", "-f", "-", stdin=SHOP.replace("replicas: 1", "replicas: 2"))
        stall.wait_available("stall", 2)
        pods = {pod["metadata"]["name"] for pod in stall.json("get", "pods", "-l", "app=stall")["items"]}
        (new,) = pods - before
        stall.ok("delete", "pod", *before)
        eventually(lambda: not before & {p["metadata"]["name"] for p in stall.json("get", "pods")["items"]})
        stall.wait_available("stall", 2)
        for _ in range(8):
            stall.ok("exec", "buyer", "--", "/agnhost", "connect", "10.96.70.1:80")
    assert capture.status == 0, capture.err
    assert f"default/{new} eth0" in {tap.name for tap in pcapng.read(path).taps}
    assert any(f"default/{new}" in owners(each) for each in capture.lines if "default/buyer" in owners(each))
    assert " gone\n" in capture.err
    stall.ok("apply", "-f", "-", stdin=SHOP)
    stall.wait_available("stall", 1)


def test_the_deletion_of_the_pod_ends_its_capture_and_the_file_is_whole(stall: Netlab, tmp_path: Path) -> None:
    path = tmp_path / "packets.pcapng"
    stall.ok("apply", "-f", "-", stdin=SHOP.replace("name: buyer", "name: guest"))
    wait_running(stall, "guest")
    with Capture(stall, "--pod", "guest", "-w", str(path)) as capture:
        stall.ok("exec", "guest", "--", "/agnhost", "connect", "10.96.70.1:80")
        stall.ok("delete", "pod", "guest")
        capture.wait()
    assert capture.status == 3
    assert capture.err.endswith("netlab: pod default/guest has been deleted\n")
    assert "default/guest eth0" in {frame.tap.name for frame in pcapng.read(path).frames}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_the_file_is_whole(stall: Netlab, tmp_path: Path, number: int) -> None:
    path = tmp_path / "packets.pcapng"
    with Capture(stall, "-w", str(path), "-f", "tcp port 30970") as capture:
        stall.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.1:30970")
        capture.stop(number)
    assert capture.status == 0, capture.err
    assert {frame.tap.name for frame in pcapng.read(path).frames} >= {"outside eth0", "fabric node-1", "node-1 eth0"}
    subprocess.run([*TSHARK, str(path)], check=True, capture_output=True)


def test_after_a_kill_the_file_is_whole_but_for_the_last_packets_and_no_process_is_left(
    stall: Netlab, tmp_path: Path
) -> None:
    path = tmp_path / "packets.pcapng"
    with Capture(stall, "-w", str(path), "-f", "tcp port 30970") as capture:
        stall.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.1:30970")
        eventually(lambda: len(pcapng.read(path).frames) > 5)
        session = capture.session()
        capture.kill()
        eventually(lambda: not capture.session() & session)
    assert {frame.tap.name for frame in pcapng.read(path).frames} >= {"outside eth0", "node-1 eth0"}


def test_packets_go_to_standard_output_as_they_come_and_nothing_else_does(stall: Netlab) -> None:
    argv = stall.argv("capture", "-w", "-", "-f", "tcp port 30970")
    with subprocess.Popen(
        argv, env=stall.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"watching ")
        shark = subprocess.Popen(
            ["tshark", "-l", "-n", "-r", "-", "-T", "fields", "-e", "frame.interface_name"],
            stdin=process.stdout, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        with shark:
            process.stdout.close()
            stall.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.1:30970")
            assert shark.stdout is not None
            assert shark.stdout.readline() == "outside eth0\n"  # while it goes on
            shark.kill()
        stall.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.1:30970")
        assert process.wait(timeout=60) == 0  # nobody reads it any more
        assert process.stderr.read() == b""


FLOOD = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range(600):
        sender.sendto(bytes(60000), ("10.244.2.250", 9))
"""


def test_what_is_lost_is_counted_and_said_loudly(stall: Netlab, tmp_path: Path) -> None:
    path = tmp_path / "packets.pcapng"
    with Capture(stall, "--pod", "buyer", "-w", str(path)) as capture:
        children = capture.session() - {capture.pid}
        for pid in children:  # among them the one that empties the rings
            os.kill(pid, signal.SIGSTOP)
        try:
            stall.ok("exec", "buyer", "--", "python3", "-c", FLOOD)
        finally:
            for pid in children:
                os.kill(pid, signal.SIGCONT)
    assert capture.status == 1
    lost = sum(pcapng.read(path).drops.values())
    assert lost > 0
    assert f"Warning: {lost} FRAMES WERE LOST for lack of buffer space" in capture.err


def test_it_stops_after_so_many_lines_or_seconds(stall: Netlab) -> None:
    with Capture(stall, "--count", "2", "-o", "json", "-f", "tcp port 30970") as capture:
        stall.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.1:30970")
        capture.wait()
    assert (capture.status, len(capture.lines)) == (0, 2)
    assert "0 frames at" in stall.run("capture", "--duration", "0.2", "-f", "port 1").stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--pod", "byer"], 3, "there is no pod 'byer'; did you mean buyer"),
        (["--pod", "stal", "-n", "nowhere"], 3, "there is no pod 'stal' in namespace nowhere"),
        (["--service", "buyer"], 3, "a pod has that name: --pod"),
        (["--node", "node-3"], 3, "there is no node 'node-3'; did you mean node-"),
        (["--pod", "stall"], 2, "pod default/stall uses its node's network; use --node node-1"),
        (["--pod", "a", "--service", "b"], 2, "--pod and --service: use only one of them"),
        (["--all", "--node", "node-1"], 2, "--all is everything"),
        (["-n", "x", "--pod", "y/z"], 2, "leave out one of them"),
        (["-f", "tcp prot 80"], 2, "filter 'tcp prot 80': can't parse filter expression: syntax error"),
        (["-w", "-", "-o", "json"], 2, "leave one of them out"),
        (["-w", "/"], 2, "is a directory"),
        (["-w", "/nowhere/at/all"], 2, "no directory /nowhere/at"),
        (["-w", "/proc/packets"], 1, "packets cannot be written there"),
        (["--name", "none"], 3, "there is no lab 'none'"),
    ],
)
def test_bad_input_is_one_clear_line(stall: Netlab, arguments: list[str], status: int, words: str) -> None:
    assert words in stall.fails(status, "capture", "--duration", "5", *arguments)


def test_a_name_in_two_namespaces_must_be_told_apart(stall: Netlab) -> None:
    stall.ok("apply", "-f", "-", stdin=OTHER)
    stall.ok("apply", "-f", "-", stdin=TWIN)
    try:
        said = stall.fails(2, "capture", "--pod", "buyer")
        assert "pod 'buyer' could be default/buyer or other/buyer; choose a namespace with -n" in said
        wait_running(stall, "buyer", "-n", "other")
        for arguments in (["--pod", "other/buyer"], ["--pod", "buyer", "-n", "other"]):
            assert stall.run("capture", *arguments, "--duration", "0.2").returncode == 0
    finally:
        stall.ok("delete", "-f", "-", stdin=OTHER)


def test_a_lab_that_ends_meanwhile_and_one_that_is_down(netlab: Netlab, tmp_path: Path) -> None:
    path = tmp_path / "packets.pcapng"
    netlab.ok("up", "--name", "brief", "--nodes", "1")
    with Capture(netlab, "--name", "brief", "-w", str(path)) as capture:
        monitor = (netlab.home / "brief" / "monitor.pid").read_text().split()[0]
        os.kill(int(monitor), signal.SIGKILL)
        capture.wait()
    assert capture.status == 6, capture.err
    assert "lab brief is down" in capture.err
    assert pcapng.read(path).taps
    assert "lab brief is down" in netlab.fails(6, "capture", "--name", "brief")
    netlab.ok("down", "--name", "brief")
