"""A cluster of one node for tests: a real API server, machine, kubelet and CNI plugin."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from netlab.api.client import Client
from netlab.api.core_types import Event, Node, Pod
from netlab.api.errors import ApiError, unless_gone
from netlab.api.resources import EVENTS, NODES, PODS
from netlab.lab.paths import cni_plugin_dir
from netlab.machine.protocol import ContainerStatus
from netlab.net.peers import GUARD
from tests.system.machine.lab import Lab, wait_until
from tests.system.node import serve

NODE_IPS = ["192.0.2.1", "2001:db8::1"]
PATIENCE = 20.0
"""Seconds after which what does not happen has failed."""

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.47"


Said = tuple[str, str, str, str]
"""Of an event: type, reason, message and fieldPath. A message that ends with `*` is the beginning of one."""


class Cluster:
    """An API server, and node-1 with a kubelet; tests make pods that are bound to it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.directory = lab.directory
        self.node = lab.node
        self.conf_dir = self.directory / "net.d"
        self.cni_dir = self.directory / "cni"
        self.log_dir = self.directory / "pods"

    async def __aenter__(self) -> Self:
        self.conf_dir.mkdir()
        (self.directory / "api.json").write_text('{"serviceCIDRs": ["10.96.0.0/16", "fd00:10:96::/112"]}')
        socket = self.directory / "api.sock"
        argv = [sys.executable, "-m", "netlab.api.server", "--socket", str(socket)]
        argv += ["--database", str(self.directory / "db"), "--config", str(self.directory / "api.json")]
        argv += ["--guard", str(self.directory / GUARD)]
        self.lab.fabric.run_service("api", argv, log=self.directory / "api.log")
        self.client = await Client(socket).__aenter__()
        await self.until(self._api_answers, "the API server answers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, tb)
        if error is not None:
            self.print_logs()

    def print_logs(self) -> None:
        for log in ("api.log", "kubelet.log"):
            path = self.directory / log
            print(f"--- {log}\n{path.read_text() if path.exists() else ''}")

    async def _api_answers(self) -> bool:
        try:
            await self.client.list(NODES)
        except Exception:
            return False
        return True

    def configure_network(self, *ranges: str) -> None:
        """What the agent of the pod network does: write the CNI configuration."""
        ipam = {
            "type": "netlab-ipam",
            "dataDir": str(self.cni_dir / "ipam"),
            "ranges": [[{"subnet": each}] for each in ranges or ("10.244.1.0/24", "fd00:10:244:1::/64")],
        }
        bridge = {"type": "netlab", "bridge": "cni0", "isDefaultGateway": True, "hairpinMode": True, "ipam": ipam}
        text = json.dumps({"cniVersion": "1.0.0", "name": "netlab", "plugins": [bridge]})
        fresh = self.conf_dir / "fresh"
        fresh.write_text(text)
        fresh.rename(self.conf_dir / "10-netlab.conflist")

    async def start_kubelet(self) -> None:
        """Start the kubelet; the machine starts it again whenever it ends."""
        config = {
            "node_name": "node-1",
            "api": str(self.directory / "api.sock"),
            "machine_socket": str(self.directory / "node-1.sock"),
            "node_ips": NODE_IPS,
            "cni_conf_dir": str(self.conf_dir),
            "cni_plugin_dirs": [str(cni_plugin_dir())],
            "cni_cache_dir": str(self.cni_dir / "cache"),
            "log_dir": str(self.log_dir),
        }
        path = self.directory / "kubelet.json"
        path.write_text(json.dumps(config))
        # A machine does not see the tests.
        program = self.directory / "serve.py"
        program.write_text(Path(serve.__file__).read_text())
        self.node.run_service("kubelet", [sys.executable, str(program), str(path)], log=self.directory / "kubelet.log")
        await self.until(self._registered, "the node registers")

    async def ready(self) -> None:
        """Start the network and the kubelet; returns once the node is Ready."""
        self.configure_network()
        await self.start_kubelet()
        await self.until(self._node_ready, "the node is ready")

    def kill_kubelet(self) -> None:
        """kill -9, from outside; the machine starts it again."""
        kubelet = next(each for each in self.node.services() if each.name == "kubelet")
        marker = str(self.directory / "kubelet.json").encode()
        assert kubelet.pid is not None
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and marker in _command_line(process):
                os.kill(int(process.name), signal.SIGKILL)

    def restart_machine(self) -> None:
        """A power failure of the node: all that ran on it is gone, its disk is not."""
        pidfd = self.node.open()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        self.node.close()
        wait_until(lambda: "node-1" not in self.lab.fabric.state().machines, "the machine ends")
        self.lab.fabric.spawn_machine("node-1", self.directory / "node-1.sock", "node-1")

    async def node_object(self) -> Node:
        return await self.client.get(NODES, "node-1")

    async def _registered(self) -> bool:
        return any(each.metadata.name == "node-1" for each in (await self.client.list(NODES))[0])

    async def _node_ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in (await self.node_object()).status.conditions)

    async def create(self, name: str, *containers: dict[str, Any], **spec: Any) -> Pod:
        """Create a pod on node-1."""
        listed = [{"name": f"c{i}", "image": AGNHOST, **each} for i, each in enumerate(containers)]
        body = {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "node-1", "containers": listed, **spec},
        }
        return await self.client.create(PODS, msgspec.convert(body, Pod))

    async def pod(self, name: str) -> Pod:
        return await self.client.get(PODS, name, "default")

    async def pod_until(self, name: str, condition: Callable[[Pod], bool], what: str) -> Pod:
        """Wait until the pod is as it should be."""
        seen: list[Pod] = []

        async def holds() -> bool:
            seen.append(await self.pod(name))
            return condition(seen[-1])

        try:
            await self.until(holds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {msgspec.json.encode(seen[-1].status).decode()}") from None
        return seen[-1]

    async def running(self, name: str) -> Pod:
        """Wait until the pod is ready."""
        return await self.pod_until(name, is_ready, f"pod {name} is ready")

    async def gone(self, name: str) -> None:
        """Wait until the pod is no longer there."""

        async def absent() -> bool:
            try:
                await self.pod(name)
            except ApiError as error:
                return error.reason == "NotFound"
            return False

        await self.until(absent, f"pod {name} goes")

    async def remove_all(self) -> None:
        """Have all pods go, by force."""
        for pod in (await self.client.list(PODS, "default"))[0]:
            await unless_gone(self.client.delete(PODS, pod.metadata.name, "default", grace_period_seconds=0))

    async def nothing_left(self) -> None:
        """Wait until no sandbox, container, reservation or log of a pod is left."""

        async def clean() -> bool:
            state = self.node.state()
            return not (state.sandboxes or state.containers or self.reservations() or list(self.log_dir.iterdir()))

        await self.until(clean, f"nothing is left: {self.node.state()}, {self.reservations()}")

    def reservations(self) -> list[str]:
        """The addresses that are taken."""
        store = self.cni_dir / "ipam" / "netlab"
        return sorted(
            p.name for p in store.glob("*") if p.name[0].isalnum() and (":" in p.name or p.name.count(".") == 3)
        )

    def containers(self) -> list[ContainerStatus]:
        return self.node.state().containers

    async def all_events(self) -> list[Event]:
        return (await self.client.list(EVENTS, "default"))[0]

    async def events(self, reason: str) -> list[Event]:
        return [each for each in await self.all_events() if each.reason == reason]

    async def said(self, pod: str, *wanted: Said) -> None:
        """Wait until there are such events of a pod."""
        found: set[Said] = set()

        async def all_said() -> bool:
            found.clear()
            for each in await self.all_events():
                subject = each.involvedObject
                if subject.name == pod:
                    found.add((each.type, each.reason, each.message, subject.fieldPath))
            return all(any(_matches(each, want) for each in found) for want in wanted)

        try:
            await self.until(all_said, f"events of {pod}")
        except AssertionError as error:
            missing = [want for want in wanted if not any(_matches(each, want) for each in found)]
            raise AssertionError(f"{error}: {missing} are not among {sorted(found)}") from None

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + PATIENCE
        while not await condition():
            assert time.monotonic() < deadline, f"did not happen: {what}"
            await asyncio.sleep(0.02)


def _matches(event: Said, wanted: Said) -> bool:
    begin = wanted[2].removesuffix("*")
    same = event[2].startswith(begin) if wanted[2].endswith("*") else event[2] == begin
    return same and (event[0], event[1], event[3]) == (wanted[0], wanted[1], wanted[3])


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def is_ready(pod: Pod) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions)
