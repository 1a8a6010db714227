"""What pods use, as kubelets tell it, beside what the kernel says in the containers themselves."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Netlab, eventually
from tests.e2e.kubectl import BINARIES, Kubectl, kubectl_in

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: busy, namespace: default}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
  - {name: loop, image: host, command: [sh, -c, 'while :; do :; done'], resources: {limits: {cpu: 200m}}}
  - {name: idle, image: agnhost, args: [pause]}
---
apiVersion: v1
kind: Pod
metadata: {name: big}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: host
    command: [python3, -c, 'x = bytearray(b"x" * 50_000_000); print("ready", flush=True); input()']
    stdin: true
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: agnhost
    args: [netexec]
    resources: {limits: {memory: 100Mi}}
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
"""


@pytest.fixture(scope="module")
def running(lab: Netlab) -> Netlab:
    lab.ok("apply", "-f", "-", "--wait", stdin=PODS)
    eventually(lambda: "ready" in lab.ok("logs", "big"))
    return lab


def raw(lab: Netlab, node: str, path: str) -> str:
    """What a node's kubelet answers, by way of the API server."""
    return lab.ok("kubectl", "get", "--raw", f"/api/v1/nodes/{node}/proxy{path}")


def samples(text: str) -> dict[tuple[str, str, str, str], float]:
    """Values by name, pod, container and interface."""
    return {
        (
            each.name,
            each.labels.get("pod", ""),
            each.labels.get("container", ""),
            each.labels.get("interface", ""),
        ): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def pod_in(summary: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (each for each in summary["pods"] if each["podRef"]["name"] == name)
    return dict(found)


def consumed(lab: Netlab, pod: str, container: str) -> float:
    """Seconds of processor time of a container's pid 1, as it sees them itself."""
    fields = lab.ok("exec", pod, "-c", container, "--", "cat", "/proc/1/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def test_processor_time_is_the_kernels(running: Netlab) -> None:
    before = consumed(running, "busy", "loop")
    told = samples(raw(running, "node-1", "/metrics/resource"))
    after = consumed(running, "busy", "loop")
    assert before - 0.02 <= told["container_cpu_usage_seconds_total", "busy", "loop", ""] <= after + 0.02
    assert told["container_cpu_usage_seconds_total", "busy", "idle", ""] < before
    assert told["pod_cpu_usage_seconds_total", "busy", "", ""] >= before - 0.02
    assert told["node_cpu_usage_seconds_total", "", "", ""] >= before
    assert told["resource_scrape_error", "", "", ""] == 0
    containers = {(pod, name) for kind, pod, name, _ in told if kind == "container_start_time_seconds"}
    assert containers >= {("busy", "loop"), ("busy", "idle"), ("big", "c")}


def test_memory_is_the_kernels(running: Netlab) -> None:
    text = running.ok("exec", "big", "--", "cat", "/proc/1/smaps_rollup")
    own = next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss_Anon:"))
    summary = json.loads(raw(running, "node-1", "/stats/summary"))
    (container,) = pod_in(summary, "big")["containers"]
    assert own >= 50_000_000
    assert abs(container["memory"]["rssBytes"] - own) < 5_000_000
    assert container["memory"]["workingSetBytes"] < 80_000_000
    assert summary["node"]["memory"]["workingSetBytes"] > container["memory"]["workingSetBytes"]
    assert container["logs"]["usedBytes"] > 0


def test_packets_are_counted_in_the_pods_own_network(running: Netlab) -> None:
    received = ("container_network_receive_bytes_total", "web", "", "eth0")
    before = samples(raw(running, "node-2", "/metrics/cadvisor"))[received]
    address = running.json("get", "pod", "web")["status"]["podIP"]
    running.ok("exec", "busy", "-c", "idle", "--", "curl", "-sf", "-d", "x" * 3000, f"http://{address}:8080/echo")
    told = samples(raw(running, "node-2", "/metrics/cadvisor"))
    assert told[received] >= before + 3000
    assert told["container_processes", "web", "c", ""] == 1
    assert told["container_sockets", "web", "c", ""] >= 1
    assert told["container_spec_memory_limit_bytes", "web", "c", ""] == 100 * 1024 * 1024


def test_probes_and_the_kubelet_itself(running: Netlab) -> None:
    eventually(
        lambda: samples(raw(running, "node-2", "/metrics/probes")).get(("prober_probe_total", "web", "c", ""), 0) > 0
    )
    told = samples(raw(running, "node-2", "/metrics"))
    assert told["kubelet_running_pods", "", "", ""] >= 1
    assert told["process_cpu_seconds_total", "", "", ""] > 0


@pytest.fixture(scope="module", params=BINARIES)
def kubectl(request: pytest.FixtureRequest, running: Netlab) -> Iterator[Kubectl]:
    with kubectl_in(running, request.param, f"top-{request.param}") as made:
        made.namespace = "default"
        yield made


def test_kubectl_top(kubectl: Kubectl) -> None:
    """At once, with nothing installed; the loop may use a fifth of a processor where cgroups limit it."""
    nodes = {line.split()[0]: line.split()[1:] for line in kubectl.ok("top", "nodes", "--no-headers").splitlines()}
    assert nodes.keys() == {"node-1", "node-2"}
    assert int(nodes["node-1"][0].removesuffix("m")) > 0
    lines = kubectl.ok("top", "pods", "--containers", "--no-headers").splitlines()
    used = {tuple(line.split()[:2]): line.split()[2:] for line in lines}
    assert used.keys() == {("busy", "loop"), ("busy", "idle"), ("big", "c"), ("web", "c")}
    assert int(used["busy", "loop"][0].removesuffix("m")) > int(used["busy", "idle"][0].removesuffix("m"))
    assert int(used["big", "c"][1].removesuffix("Mi")) >= 47
    by_memory = kubectl.ok("top", "pods", "--sort-by=memory", "--no-headers").split()
    assert by_memory[0] == "big"
    assert kubectl.ok("top", "pod", "web", "--no-headers").split()[0] == "web"
    assert "NotFound" in kubectl.fails("top", "pod", "none")


def test_who_may_read_metrics(running: Netlab) -> None:
    account = "system:serviceaccount:default:watcher"
    running.ok("kubectl", "create", "serviceaccount", "watcher")
    refused = running.run("kubectl", "top", "pods", f"--as={account}")
    assert 'cannot list resource "pods" in API group "metrics.k8s.io"' in refused.stderr
    running.ok("kubectl", "create", "rolebinding", "watcher", "--clusterrole=view", "--serviceaccount=default:watcher")
    assert "busy" in running.ok("kubectl", "top", "pods", f"--as={account}")
    path = "/api/v1/nodes/node-1/proxy/metrics/resource"
    assert "forbidden" in running.run("kubectl", "get", "--raw", path, f"--as={account}").stderr


def test_top_of_netlab(running: Netlab) -> None:
    lines = running.ok("top", "--sort-by", "memory").splitlines()
    assert lines[0].split() == ["NAMESPACE", "POD", "NODE", "CPU", "MEMORY", "RECEIVED/s", "SENT/s", "PROCESSES"]
    assert lines[1].split()[:3] == ["default", "big", "node-1"]
    nodes = json.loads(running.ok("top", "nodes", "-o", "json"))
    assert {each["names"][0] for each in nodes} == {"node-1", "node-2"}
    assert all(each["cpu"] is not None and each["processes"] > 0 for each in nodes)
    address = running.json("get", "pod", "web")["status"]["podIP"]
    running.ok("exec", "busy", "-c", "idle", "--", "curl", "-sf", f"http://{address}:8080/hostname")
    flows = json.loads(running.ok("top", "flows", "-o", "json"))
    assert ("busy", "web:8080") in {(each["client"], each["server"]) for each in flows}
    assert "choose one of cpu, memory" in running.fails(2, "top", "--sort-by", "colour")


def test_top_is_live_on_a_terminal_and_q_ends_it(running: Netlab) -> None:
    ours, theirs = pty.openpty()
    shown = b""
    process = subprocess.Popen(running.argv("top"), stdin=theirs, stdout=theirs, env=running.environment)
    os.close(theirs)
    for letter, awaited in ((b"n", b"pods by cpu"), (b"f", b"nodes by cpu"), (b"q", b"flows by bytes")):
        while awaited not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, letter)
    assert process.wait(60) == 0
    os.close(ours)
