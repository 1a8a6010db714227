"""Preemption, evictions and taints, with a real API server and controller manager."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.client import Client
from netlab.api.core_types import Node, Pod
from netlab.api.meta_types import Condition, ObjectMeta, now
from netlab.api.resources import EVENTS, NODES, PODS, PRIORITYCLASSES
from netlab.api.scheduling_types import PriorityClass
from netlab.controlplane import manager
from netlab.controlplane.cluster import condition_of
from netlab.controlplane.nodes.lifecycle import NodeLifecycle
from tests.system.controlplane.harness import Kubelets, add_node, control_plane


def drive(directory: Path, main: Callable[[Client], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        async with control_plane(directory) as (_, client):
            await main(client)

    asyncio.run(wrapped())


async def create(client: Client, name: str, **spec: Any) -> None:
    manifest = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "pause"}]} | spec,
    }
    await client.create(PODS, msgspec.convert(manifest, Pod))


async def told(client: Client, reason: str, name: str, message: str = "") -> None:
    """Wait for an event about a pod."""
    async with asyncio.timeout(30):
        while not any(
            (each.reason, each.involvedObject.name) == (reason, name) and message in each.message
            for each in (await client.list(EVENTS, "default"))[0]
        ):
            await asyncio.sleep(0.05)


def _at(pods: list[Pod]) -> dict[str, str]:
    return {pod.metadata.name: pod.spec.nodeName for pod in pods}


def _pod(pods: list[Pod], name: str) -> Pod:
    return next(pod for pod in pods if pod.metadata.name == name)


def test_an_important_pod_takes_the_place_of_another(tmp_path: Path) -> None:
    async def main(client: Client) -> None:
        await add_node(client, "node-1", pods=1)
        kubelets = Kubelets(client)
        for name, value in (("low", 1), ("middle", 50), ("high", 100)):
            await client.create(PRIORITYCLASSES, PriorityClass(metadata=ObjectMeta(name=name), value=value))
        await create(client, "low", priorityClassName="low")
        await kubelets.until(lambda pods: _at(pods) == {"low": "node-1"})
        kubelets.hold = True
        await create(client, "high", priorityClassName="high")
        pods = await kubelets.until(
            lambda pods: (
                _pod(pods, "high").status.nominatedNodeName == "node-1" and _pod(pods, "low").metadata.deletionTimestamp
            )
        )
        condition = condition_of(_pod(pods, "low").status.conditions, "DisruptionTarget")
        assert condition is not None
        assert (condition.status, condition.reason) == ("True", "PreemptionByScheduler")
        assert condition.message == "default-scheduler: preempting to accommodate a higher priority pod"
        await told(client, "Preempted", "low", f"Preempted by pod {_pod(pods, 'high').metadata.uid} on node node-1")
        waiting = condition_of(_pod(pods, "high").status.conditions, "PodScheduled")
        assert waiting is not None
        assert waiting.message == "0/1 nodes are available: 1 Too many pods."
        # The place is promised: one that is less important does not get it, though it is free first.
        await create(client, "middle", priorityClassName="middle")
        await told(client, "FailedScheduling", "middle")
        kubelets.hold = False
        pods = await kubelets.until(lambda pods: _at(pods) == {"high": "node-1", "middle": ""})
        assert not _pod(pods, "high").status.nominatedNodeName

    drive(tmp_path, main)


async def _taint(client: Client, *taints: dict[str, Any]) -> None:
    await client.patch(NODES, "node-1", None, {"spec": {"taints": list(taints)}})


def test_pods_leave_a_node_that_evicts_when_their_time_is_over(tmp_path: Path) -> None:
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    tolerated = {"key": "k", "operator": "Exists", "effect": "NoExecute"}

    async def main(client: Client) -> None:
        await add_node(client, "node-1")
        kubelets = Kubelets(client)
        await create(client, "never")
        await create(client, "short", tolerations=[tolerated | {"tolerationSeconds": 1}])
        await create(client, "long", tolerations=[tolerated | {"tolerationSeconds": 3600}])
        await create(client, "ever", tolerations=[tolerated])
        await kubelets.until(lambda pods: len(pods) == 4 and all(_at(pods).values()))
        kubelets.hold = True
        await _taint(client, taint)
        pods = await kubelets.until(lambda pods: _pod(pods, "never").metadata.deletionTimestamp)
        condition = condition_of(_pod(pods, "never").status.conditions, "DisruptionTarget")
        assert condition is not None
        assert (condition.reason, condition.message) == (
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        )
        await told(client, "TaintManagerEviction", "never", "Marking for deletion Pod default/never")
        kubelets.hold = False
        await kubelets.until(lambda pods: set(_at(pods)) == {"long", "ever"})
        await _taint(client)
        await told(client, "TaintManagerEviction", "long", "Cancelling deletion of Pod default/long")
        assert set(_at(await kubelets.step())) == {"long", "ever"}

    drive(tmp_path, main)


async def _until(client: Client, name: str, expected: Callable[[Node], object]) -> None:
    async with asyncio.timeout(30):
        while not expected(await client.get(NODES, name)):
            await asyncio.sleep(0.05)


def _taints(node: Node) -> set[tuple[str, str]]:
    return {(taint.key.removeprefix("node.kubernetes.io/"), taint.effect) for taint in node.spec.taints}


def test_a_nodes_state_is_written_as_taints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "NodeLifecycle", lambda cluster: NodeLifecycle(cluster, settling=0.0))

    async def become(client: Client, status: str) -> None:
        ready = Condition(type="Ready", status=status, lastHeartbeatTime=now(), lastTransitionTime=now())
        await client.patch(NODES, "node-1", None, {"status": {"conditions": [ready]}}, subresource="status")

    async def main(client: Client) -> None:
        await add_node(client, "node-1")
        await client.patch(NODES, "node-1", None, {"spec": {"unschedulable": True}})
        await _until(client, "node-1", lambda node: _taints(node) == {("unschedulable", "NoSchedule")})
        await client.patch(NODES, "node-1", None, {"spec": {"unschedulable": False}})
        await _until(client, "node-1", lambda node: not node.spec.taints)
        await become(client, "False")
        # No node is ready: nobody is evicted.
        await _until(client, "node-1", lambda node: _taints(node) == {("not-ready", "NoSchedule")})
        await add_node(client, "node-2")
        both = {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}
        await _until(client, "node-1", lambda node: _taints(node) == both)
        await become(client, "True")
        await _until(client, "node-1", lambda node: not node.spec.taints)

    drive(tmp_path, main)
