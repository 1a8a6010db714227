"""The whole control plane against a real API server; only the kubelets are played."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.apps_types import Deployment
from netlab.api.client import Client
from netlab.api.core_types import Namespace, Node, Pod, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.events import WARNING, record
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import (
    ALL,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    Resource,
)
from netlab.controlplane import manager
from netlab.controlplane.cluster import Cluster, condition_of, is_ready
from netlab.controlplane.controller import Controller
from netlab.controlplane.nodes.lifecycle import NodeLifecycle
from netlab.controlplane.nodes.podgc import PodGarbageCollector
from netlab.node.lease import renew
from tests.system.controlplane import harness
from tests.system.controlplane.harness import Control, Kubelets, add_node, control_plane


def deployment(replicas: int, *, image: str = "netexec:1", strategy: str = "RollingUpdate") -> Deployment:
    return msgspec.convert(
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": strategy},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [
                            {"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}
                        ]
                    },
                },
            },
        },
        Deployment,
    )


async def renew_forever(client: Client, node: Node) -> None:
    while True:
        await renew(client, node)
        await asyncio.sleep(0.2)


def bare_pod(name: str, node: str = "") -> Pod:
    spec = {"containers": [{"name": "c", "image": "pause"}], "nodeName": node}
    return msgspec.convert({"metadata": {"name": name, "namespace": "default"}, "spec": spec}, Pod)


def service() -> Service:
    spec = {
        "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        "ipFamilyPolicy": "PreferDualStack",
    }
    return msgspec.convert({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}, Service)


def ready(pods: list[Pod], number: int, image: str = "") -> bool:
    return len(pods) == number and all(
        is_ready(pod) and (not image or pod.spec.containers[0].image == image) for pod in pods
    )


async def endpoints(client: Client) -> dict[str, list[str]]:
    slices, _ = await client.list(ENDPOINTSLICES)
    found: dict[str, list[str]] = {}
    for one in slices:
        found.setdefault(one.addressType, []).extend(a for e in one.endpoints for a in e.addresses)
    return found


async def until_endpoints(client: Client, number: int) -> list[EndpointSlice]:
    async with asyncio.timeout(60):
        while True:
            found = await endpoints(client)
            if {family: len(set(those)) for family, those in found.items()} == {"IPv4": number, "IPv6": number}:
                return (await client.list(ENDPOINTSLICES))[0]
            await asyncio.sleep(0.05)


def test_a_deployment_becomes_pods_endpoints_and_nothing_again(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        for number in (1, 2, 3):
            await add_node(client, f"node-{number}")
        kubelets = Kubelets(client)
        await client.create(SERVICES, service())
        await client.create(DEPLOYMENTS, deployment(9))
        pods = await kubelets.until(lambda pods: ready(pods, 9))
        assert Counter(pod.spec.nodeName for pod in pods) == {"node-1": 3, "node-2": 3, "node-3": 3}
        nodes, _ = await client.list(NODES)
        assert {node.metadata.name: node.spec.podCIDRs for node in nodes} == {
            f"node-{n}": [f"10.244.{n}.0/24", f"fd00:10:244:{n}::/64"] for n in (1, 2, 3)
        }
        slices = await until_endpoints(client, 9)
        assert {port.port for one in slices for port in one.ports} == {8080}

        await client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 2}})
        await kubelets.until(lambda pods: ready(pods, 2))
        await until_endpoints(client, 2)

        await client.delete(DEPLOYMENTS, "web", "default")
        await kubelets.until(lambda pods: not pods)
        await until_endpoints(client, 0)
        assert not (await client.list(REPLICASETS))[0]
        await client.delete(SERVICES, "web", "default")
        async with asyncio.timeout(30):
            while (await client.list(ENDPOINTSLICES))[0]:
                await asyncio.sleep(0.05)

    drive(tmp_path, main)


def test_what_a_deleted_object_owns_is_kept_or_goes_first_when_that_is_asked(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        await add_node(client, "node-1")
        kubelets = Kubelets(client)
        await client.create(DEPLOYMENTS, deployment(2))
        pods = await kubelets.until(lambda pods: ready(pods, 2))

        await client.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
        await until_gone(client, DEPLOYMENTS)
        ((kept,), _) = await client.list(REPLICASETS)
        assert kept.metadata.ownerReferences == []
        await client.delete(REPLICASETS, kept.metadata.name, "default", propagation="Orphan")
        await until_gone(client, REPLICASETS)
        left, _ = await client.list(PODS)
        assert {pod.metadata.uid for pod in left} == {pod.metadata.uid for pod in pods}
        assert [ref for pod in left for ref in pod.metadata.ownerReferences] == []

        # A Deployment of the same selector takes them up again; deleted in the foreground, it is the last to go.
        await client.create(DEPLOYMENTS, deployment(2))
        await kubelets.until(lambda pods: ready(pods, 2))
        async with asyncio.timeout(60):
            while not [rs for rs in (await client.list(REPLICASETS))[0] if rs.status.replicas == 2]:
                await asyncio.sleep(0.05)
        await client.delete(DEPLOYMENTS, "web", "default", propagation="Foreground")
        waiting = await client.get(DEPLOYMENTS, "web", "default")
        assert waiting.metadata.finalizers == ["foregroundDeletion"]
        await kubelets.until(lambda pods: not pods)
        await until_gone(client, REPLICASETS)
        await until_gone(client, DEPLOYMENTS)

    drive(tmp_path, main)


def _service(name: str, *owners: tuple[Service, bool], finalizers: list[str] | None = None) -> Service:
    """A Service with owners, each of which waits for it or not."""
    references = [
        {"apiVersion": "v1", "kind": "Service", "name": owner.metadata.name, "uid": owner.metadata.uid}
        | {"blockOwnerDeletion": blocks}
        for owner, blocks in owners
    ]
    meta = {"name": name, "namespace": "default", "ownerReferences": references, "finalizers": finalizers or []}
    return msgspec.convert({"metadata": meta, "spec": {"ports": [{"port": 80}]}}, Service)


def test_an_owner_waits_for_what_blocks_it_and_leaves_what_others_own(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        first, other = [await client.create(SERVICES, _service(name)) for name in ("first", "other")]
        kept = await client.create(SERVICES, _service("kept", (first, True), (other, True)))
        await client.create(SERVICES, _service("loose", (first, False), finalizers=["a.example/b"]))
        await client.delete(SERVICES, "first", "default", propagation="Foreground")
        async with asyncio.timeout(60):
            while "first" in (left := {each.metadata.name: each for each in (await client.list(SERVICES))[0]}):
                await asyncio.sleep(0.05)
        assert left["loose"].metadata.deletionTimestamp is not None, "it is deleted, and waited for by nobody"
        assert [ref.uid for ref in left["kept"].metadata.ownerReferences] == [other.metadata.uid]
        assert left["kept"].metadata.uid == kept.metadata.uid
        assert left["kept"].metadata.deletionTimestamp is None

        await client.create(SERVICES, _service("blocking", (other, True), finalizers=["a.example/b"]))
        await client.delete(SERVICES, "other", "default", propagation="Foreground")
        async with asyncio.timeout(60):
            while "kept" in {each.metadata.name for each in (await client.list(SERVICES))[0]}:
                await asyncio.sleep(0.05)
        assert (await client.get(SERVICES, "other", "default")).metadata.finalizers == ["foregroundDeletion"]
        await client.patch(SERVICES, "blocking", "default", {"metadata": {"finalizers": []}})
        async with asyncio.timeout(60):
            while "other" in {each.metadata.name for each in (await client.list(SERVICES))[0]}:
                await asyncio.sleep(0.05)

    drive(tmp_path, main)


def test_a_circle_of_owners_goes(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        made = {name: await client.create(SERVICES, _service(name)) for name in ("a", "b", "c")}
        for name, owner in (("a", "c"), ("b", "a"), ("c", "b")):
            references = _service(name, (made[owner], True)).metadata.ownerReferences
            change = {"metadata": {"ownerReferences": msgspec.to_builtins(references)}}
            await client.patch(SERVICES, name, "default", change)
        await client.delete(SERVICES, "a", "default", propagation="Foreground")
        await until_gone(client, SERVICES)

    drive(tmp_path, main)


async def until_gone(client: Client, resource: Resource[Any]) -> None:
    async with asyncio.timeout(60):
        while (await client.list(resource))[0]:
            await asyncio.sleep(0.05)


def test_a_rolling_update_keeps_to_its_bounds_and_can_be_rolled_back(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        await add_node(client, "node-1")
        kubelets = Kubelets(client)
        await client.create(DEPLOYMENTS, deployment(8))
        await kubelets.until(lambda pods: ready(pods, 8))
        for image in ("netexec:2", "netexec:1"):
            change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
            await client.patch(DEPLOYMENTS, "web", "default", change, patch_type="application/json-patch+json")
            seen: list[tuple[int, int]] = []

            def done(pods: list[Pod], image: str = image, seen: list[tuple[int, int]] = seen) -> bool:
                alive = [pod for pod in pods if pod.metadata.deletionTimestamp is None]
                seen.append((len(alive), sum(map(is_ready, alive))))
                return ready(pods, 8, image)

            await kubelets.until(done)
            assert max(total for total, _ in seen) <= 10
            assert min(available for _, available in seen) >= 6
        sets, _ = await client.list(REPLICASETS)
        assert len(sets) == 2
        async with asyncio.timeout(30):
            while True:
                progressing = condition_of(
                    (await client.get(DEPLOYMENTS, "web", "default")).status.conditions, "Progressing"
                )
                if progressing is not None and progressing.reason == "NewReplicaSetAvailable":
                    break
                await asyncio.sleep(0.05)
        final = await client.get(DEPLOYMENTS, "web", "default")
        assert final.metadata.annotations["deployment.kubernetes.io/revision"] == "3"

    drive(tmp_path, main)


def test_recreate_waits_for_the_last_old_pod(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        await add_node(client, "node-1")
        kubelets = Kubelets(client)
        await client.create(DEPLOYMENTS, deployment(3, strategy="Recreate"))
        await kubelets.until(lambda pods: ready(pods, 3))
        kubelets.hold = True
        change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "netexec:2"}]
        await client.patch(DEPLOYMENTS, "web", "default", change, patch_type="application/json-patch+json")
        pods = await kubelets.until(lambda pods: all(pod.metadata.deletionTimestamp for pod in pods))
        assert len(pods) == 3
        kubelets.hold = False
        await kubelets.until(lambda pods: ready(pods, 3, "netexec:2"))

    drive(tmp_path, main)


def test_a_pod_without_room_says_so_and_goes_when_there_is_some(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        await add_node(client, "node-1", pods=1)
        kubelets = Kubelets(client)
        await client.create(PODS, bare_pod("first"))
        await kubelets.until(lambda pods: ready(pods, 1))
        await client.create(PODS, bare_pod("second"))
        async with asyncio.timeout(30):
            while True:
                second = await client.get(PODS, "second", "default")
                condition = condition_of(second.status.conditions, "PodScheduled")
                if condition is not None:
                    break
                await asyncio.sleep(0.05)
        assert (condition.status, condition.reason) == ("False", "Unschedulable")
        assert condition.message == (
            "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims "
            "found for incoming pod."
        )
        async with asyncio.timeout(30):
            while not any(e.reason == "FailedScheduling" for e in (await client.list(EVENTS, "default"))[0]):
                await asyncio.sleep(0.05)
        await client.delete(PODS, "first", "default")
        await kubelets.until(lambda pods: ready(pods, 1) and pods[0].metadata.name == "second")

    drive(tmp_path, main)


def test_a_namespace_is_emptied_and_goes(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        await add_node(client, "node-1")
        kubelets = Kubelets(client)
        await client.create(NAMESPACES, Namespace(metadata=ObjectMeta(name="shop")))
        web, front = deployment(3), service()
        web.metadata.namespace = front.metadata.namespace = "shop"
        await client.create(DEPLOYMENTS, web)
        await client.create(SERVICES, front)
        held = (await kubelets.until(lambda pods: ready(pods, 3)))[0].metadata.name
        await client.patch(PODS, held, "shop", {"metadata": {"finalizers": ["a.example/b"]}})
        await client.delete(NAMESPACES, "shop")
        message = "Some content in the namespace has finalizers remaining: a.example/b in 1 resource instances"
        async with asyncio.timeout(30):
            while message not in {each.message for each in (await client.get(NAMESPACES, "shop")).status.conditions}:
                await kubelets.step()
        assert (await client.list(SERVICES, "shop"))[0], "nothing else goes before the pods"
        await client.patch(PODS, held, "shop", {"metadata": {"finalizers": []}})
        async with asyncio.timeout(30):
            while True:
                await kubelets.step()
                names = {namespace.metadata.name for namespace in (await client.list(NAMESPACES))[0]}
                if "shop" not in names:
                    break
        left = [await client.list(resource, "shop") for resource in ALL if resource.namespaced]
        assert not any(objects for objects, _ in left)

    drive(tmp_path, main)


def test_the_pods_of_a_silent_node_are_not_ready_and_of_a_deleted_node_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "NodeLifecycle", lambda cluster: NodeLifecycle(cluster, grace_period=5))
    monkeypatch.setattr(manager, "PodGarbageCollector", lambda cluster: PodGarbageCollector(cluster, quarantine=1))

    async def main(control: Control, client: Client) -> None:
        await add_node(client, "node-1")
        kubelets = Kubelets(client)
        await client.create(PODS, bare_pod("first"))
        await kubelets.until(lambda pods: pods[0].status.podIP)
        await add_node(client, "node-2")
        renewed = asyncio.create_task(renew_forever(client, await client.get(NODES, "node-2")))
        await kubelets.until(lambda pods: not is_ready(pods[0]))
        other = condition_of((await client.get(NODES, "node-2")).status.conditions, "Ready")
        assert other is not None
        assert other.status == "True"
        renewed.cancel()
        condition = condition_of((await client.get(NODES, "node-1")).status.conditions, "Ready")
        assert condition is not None
        assert (condition.status, condition.reason) == ("Unknown", "NodeStatusUnknown")
        await client.delete(NODES, "node-1")
        async with asyncio.timeout(30):
            while (await client.list(PODS))[0]:
                await asyncio.sleep(0.05)

    drive(tmp_path, main)


def test_killed_in_the_middle_it_goes_on_without_a_pod_too_many(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        for number in (1, 2):
            await add_node(client, f"node-{number}")
        kubelets = Kubelets(client)
        await client.create(DEPLOYMENTS, deployment(60))
        await kubelets.until(lambda pods: len(pods) >= 5)
        await control.stop_manager()
        control.kill_server()
        await control.start_server()
        control.start_manager()
        await kubelets.until(lambda pods: ready(pods, 60))
        control.kill_server()
        await control.start_server()
        await client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 20}})
        pods = await kubelets.until(lambda pods: ready(pods, 20))
        assert len(pods) == 20

    drive(tmp_path, main)


def test_a_node_without_subnet_is_told_and_served_when_one_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "CONFIG", manager.ControlPlaneConfig(["10.0.0.0/24"]))

    async def main(control: Control, client: Client) -> None:
        await add_node(client, "node-1")
        async with asyncio.timeout(30):
            while not (await client.get(NODES, "node-1")).spec.podCIDR:
                await asyncio.sleep(0.05)
            await add_node(client, "node-2")
            while not (events := [e for e in (await client.list(EVENTS))[0] if e.reason == "CIDRNotAvailable"]):
                await asyncio.sleep(0.05)
            assert "10.0.0.0/24 has no /24 left for node node-2" in events[0].message
            await client.delete(NODES, "node-1")
            while (await client.get(NODES, "node-2")).spec.podCIDRs != ["10.0.0.0/24"]:
                await asyncio.sleep(0.05)

    drive(tmp_path, main)


def test_a_repeated_event_is_counted(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        await add_node(client, "node-1")
        node = await client.get(NODES, "node-1")
        for _ in range(3):
            await record(client, node, WARNING, "Tested", "again", "test", "node-1")
        (event,) = [e for e in (await client.list(EVENTS, "default"))[0] if e.reason == "Tested"]
        assert event.count == 3

    drive(tmp_path, main)


def drive(directory: Path, main: Callable[[Control, Client], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        async with control_plane(directory) as (control, client):
            await main(control, client)

    asyncio.run(wrapped())


class _Failing(Controller):
    """Fails at one object of two."""

    name = "failing-controller"
    resource = PODS

    def keys(self) -> list[str]:
        return ["default/bad", "default/good"]

    async def reconcile(self, key: str) -> None:
        if key == "default/bad":
            raise OverflowError("too much")
        await self.client.patch(PODS, "good", "default", {"metadata": {"labels": {"seen": "yes"}}})


def test_a_controller_that_fails_on_one_object_says_so_and_goes_on_with_the_others(tmp_path: Path) -> None:
    async def main(control: Control, client: Client) -> None:
        await client.create(PODS, bare_pod("bad"))
        await client.create(PODS, bare_pod("good"))
        cluster = Cluster(client)
        async with asyncio.timeout(60):
            parts = [asyncio.create_task(informer.run()) for informer in cluster.informers.values()]
            parts.append(asyncio.create_task(_Failing(cluster).run()))
            while not (await client.get(PODS, "good", "default")).metadata.labels:
                await asyncio.sleep(0.02)
            while not (told := (await client.list(EVENTS, fields="reason=ReconcileError"))[0]):
                await asyncio.sleep(0.02)
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        (event,) = told
        assert (event.involvedObject.name, event.message) == ("bad", "OverflowError: too much")
        assert (event.source.component, event.type) == ("failing-controller", WARNING)

    drive(tmp_path, main)
