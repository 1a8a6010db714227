"""A real API server process and a real controller manager, and what the kubelets would do to the API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from netlab.api.client import Client
from netlab.api.core_types import Node, NodeStatus, Pod
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.meta_types import Condition, ObjectMeta, now
from netlab.api.resources import NODES, PODS
from netlab.controlplane.manager import ControlPlaneConfig, Endpoints, run

CONFIG = ControlPlaneConfig(cluster_cidrs=["10.244.0.0/16", "fd00:10:244::/48"])


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition; the time limit only ends a test that hangs."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Control:
    """An API server and a controller manager on a directory; either can be stopped and started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = directory / "api.sock"
        self._server: subprocess.Popen[bytes] | None = None
        self._manager: asyncio.Task[None] | None = None

    async def start_server(self) -> None:
        config = self._directory / "api.json"
        config.write_text(json.dumps({"serviceCIDRs": ["10.96.0.0/16", "fd00:10:96::/112"]}))
        arguments = ["--socket", self.socket, "--database", self._directory / "cluster.db", "--config", config]
        self._server = subprocess.Popen([sys.executable, "-m", "netlab.api.server", *map(str, arguments)])
        async with asyncio.timeout(30), Client(self.socket) as client:
            while True:
                with contextlib.suppress(ApiUnavailableError):
                    await client.list(NODES)
                    return
                await asyncio.sleep(0.02)

    def kill_server(self) -> None:
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def start_manager(self) -> None:
        self._manager = asyncio.create_task(run(Endpoints(self.socket, self.socket), CONFIG))

    async def stop_manager(self) -> None:
        if self._manager is not None:
            self._manager.cancel()
            await asyncio.gather(self._manager, return_exceptions=True)


@contextlib.asynccontextmanager
async def control_plane(directory: Path) -> AsyncIterator[tuple[Control, Client]]:
    control = Control(directory)
    await control.start_server()
    control.start_manager()
    try:
        async with Client(control.socket) as client:
            yield control, client
    finally:
        await control.stop_manager()
        control.kill_server()


async def add_node(client: Client, name: str, pods: int = 110) -> None:
    """A node as its kubelet registers it: ready."""
    ready = Condition(type="Ready", status="True", lastHeartbeatTime=now(), lastTransitionTime=now())
    status = NodeStatus(allocatable={"pods": str(pods)}, capacity={"pods": str(pods)}, conditions=[ready])
    node = await client.create(NODES, Node(metadata=ObjectMeta(name=name)))
    await client.patch(NODES, node.metadata.name, None, {"status": status}, subresource="status")


class Kubelets:
    """What the kubelets of all nodes do to the API, without the pods: bound pods become ready, doomed ones go."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._address = 0
        self.hold = False
        """Whether doomed pods are kept for now."""

    async def step(self) -> list[Pod]:
        """Act on every pod once; the pods as they were before."""
        pods, _ = await self._client.list(PODS)
        for pod in pods:
            name, namespace = pod.metadata.name, pod.metadata.namespace
            with contextlib.suppress(ApiError):
                if pod.metadata.deletionTimestamp is not None and not self.hold:
                    await self._client.delete(PODS, name, namespace, grace_period_seconds=0)
                elif pod.spec.nodeName and not pod.status.podIP and pod.metadata.deletionTimestamp is None:
                    self._address += 1
                    v4 = f"10.244.{self._address // 250}.{self._address % 250 + 2}"
                    v6 = f"fd00:10:244::{self._address:x}"
                    condition = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
                    status = {
                        "phase": "Running",
                        "podIP": v4,
                        "podIPs": [{"ip": v4}, {"ip": v6}],
                        "conditions": [condition],
                    }
                    await self._client.patch(PODS, name, namespace, {"status": status}, subresource="status")
        return pods

    async def until(self, condition: Callable[[list[Pod]], object], seconds: float = 60) -> list[Pod]:
        """Go on until the pods are as wanted; the pods."""
        async with asyncio.timeout(seconds):
            while True:
                pods = await self.step()
                if condition(pods):
                    return pods
                await asyncio.sleep(0.05)
