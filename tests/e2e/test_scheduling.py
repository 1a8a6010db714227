"""Pods that find no room, take it from others, or must leave: a lab's own kubelets, and real kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Netlab, eventually
from tests.e2e.kubectl import Kubectl, kubectl_in

GPU = "example.com/gpu"


@pytest.fixture(scope="module")
def kubectl(lab: Netlab) -> Iterator[Kubectl]:
    with kubectl_in(lab, "package", "scheduling") as made:
        yield made


def create(kubectl: Kubectl, name: str, **spec: Any) -> None:
    container = {"name": "c", "image": "pause"} | spec.pop("container", {})
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1} | spec,
    }
    kubectl.ok("create", "-f", "-", stdin=json.dumps(manifest))


def pods(kubectl: Kubectl) -> dict[str, tuple[str, str]]:
    """The node and the phase of each pod that is not being deleted."""
    items = kubectl.json("get", "pods")["items"]
    return {
        each["metadata"]["name"]: (each["spec"].get("nodeName", ""), each["status"]["phase"])
        for each in items
        if "deletionTimestamp" not in each["metadata"]
    }


def until(kubectl: Kubectl, **expected: str) -> None:
    """Wait until these pods run, each on its node, and there are no others."""
    wanted = {name: (node, "Running" if node else "Pending") for name, node in expected.items()}
    eventually(lambda: pods(kubectl) == wanted)


def why_pending(kubectl: Kubectl, name: str) -> str:
    found: list[str] = []

    def is_told() -> bool:
        conditions = kubectl.json("get", "pod", name)["status"].get("conditions", ())
        found[:] = [each["message"] for each in conditions if each["type"] == "PodScheduled"]
        return bool(found)

    eventually(is_told)
    return found[0]


def gpus(number: int) -> dict[str, Any]:
    return {"resources": {"limits": {GPU: str(number)}}}


def test_a_node_has_the_machine_and_what_is_announced_for_it(kubectl: Kubectl) -> None:
    there = kubectl.json("get", "node", "node-1")["status"]["allocatable"]
    assert set(there) == {"cpu", "memory", "ephemeral-storage", "pods"}
    for node in ("node-1", "node-2"):
        status = {"capacity": {GPU: "3"}, "allocatable": {GPU: "3"}}
        kubectl.ok("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    create(kubectl, "greedy", container=gpus(4))
    assert why_pending(kubectl, "greedy") == (
        "0/2 nodes are available: 2 Insufficient example.com/gpu. preemption: 0/2 nodes are available: 2 Preemption is "
        "not helpful for scheduling."
    )
    assert "FailedScheduling" in kubectl.ok("describe", "pod", "greedy")
    kubectl.ok("delete", "pod", "greedy")


def test_an_important_pod_takes_the_least_important_ones_place(kubectl: Kubectl) -> None:
    for name, value in (("low", "1"), ("middle", "100"), ("high", "1000")):
        kubectl.ok("create", "priorityclass", name, f"--value={value}")
    for name, priority, node in (("low", "low", "node-1"), ("middle", "middle", "node-2")):
        selector = {"kubernetes.io/hostname": node}
        create(kubectl, name, priorityClassName=priority, nodeSelector=selector, container=gpus(2))
    until(kubectl, low="node-1", middle="node-2")
    create(kubectl, "high", priorityClassName="high", container=gpus(2))
    until(kubectl, high="node-1", middle="node-2")
    assert "Preempted by pod" in kubectl.ok("get", "events", "--field-selector=reason=Preempted")
    kubectl.ok("delete", "pod", "high", "middle")
    kubectl.ok("delete", "priorityclass", "low", "middle", "high")


def test_one_port_of_a_node_is_one_pods(kubectl: Kubectl) -> None:
    port = {"containerPort": 8080, "hostPort": 54322}
    create(kubectl, "any", nodeName="node-1", container={"ports": [port]})
    selector = {"kubernetes.io/hostname": "node-1"}
    create(kubectl, "one", nodeSelector=selector, container={"ports": [port | {"hostIP": "192.0.2.1"}]})
    assert why_pending(kubectl, "one").startswith(
        "0/2 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, 1 node(s) didn't match "
        "Pod's node affinity/selector."
    )
    kubectl.ok("delete", "pod", "any")
    until(kubectl, one="node-1")
    kubectl.ok("delete", "pod", "one")


def test_pods_leave_a_node_that_evicts_and_keep_off_one_that_is_cordoned(kubectl: Kubectl) -> None:
    tolerated = [{"key": "k", "operator": "Exists", "effect": "NoExecute"}]
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    create(kubectl, "leaves", affinity=affinity)
    until(kubectl, leaves="node-1")
    create(kubectl, "stays", affinity=affinity, tolerations=tolerated)
    until(kubectl, leaves="node-1", stays="node-2")
    kubectl.ok("taint", "node", "node-1", "node-2", "k=v:NoExecute")
    until(kubectl, stays="node-2")
    assert "Marking for deletion Pod scheduling/leaves" in kubectl.ok("get", "events")
    kubectl.ok("taint", "node", "node-1", "node-2", "k-")
    kubectl.ok("cordon", "node-1")
    eventually(lambda: kubectl.json("get", "node", "node-1")["spec"].get("taints", []) != [])
    create(kubectl, "waits", affinity=affinity)
    assert why_pending(kubectl, "waits").startswith(
        "0/2 nodes are available: 1 node(s) didn't match pod anti-affinity rules, 1 node(s) were unschedulable."
    )
    kubectl.ok("uncordon", "node-1")
    until(kubectl, stays="node-2", waits="node-1")
