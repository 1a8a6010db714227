"""Reads what this node's pods use: once for each request, in a thread, and nothing in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from netlab.api.core_types import Container, Pod
from netlab.net.namespaces import entered
from netlab.node import recovery, resources
from netlab.node.runtime.service import ContainerStatus, RuntimeService, network_namespace
from netlab.node.stats import counters, processes
from netlab.node.stats.counters import Reading, Rising
from netlab.node.stats.processes import Process
from netlab.node.stats.usage import Interface, Usage

_NODE = "/"


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """A running container of a pod, and what it uses; `started_at` in seconds since the epoch."""

    name: str
    id: str
    image: str
    started_at: float
    spec: Container
    usage: Usage
    cpu: Reading


@dataclass(frozen=True, slots=True)
class PodStats:
    """A pod that runs here; `sandbox` is None on the node's own network, whose counters are not the pod's."""

    pod: Pod
    sandbox: str | None
    started_at: float
    containers: Sequence[ContainerStats]
    interfaces: Sequence[Interface]
    usage: Usage
    cpu: Reading


@dataclass(frozen=True, slots=True)
class NodeStats:
    """All of a node at one moment, in seconds since the epoch: its pods' containers, and its own processes."""

    moment: float
    usage: Usage
    cpu: Reading
    interfaces: Sequence[Interface]
    pods: Sequence[PodStats]


class Collector:
    """Collects on request; requests that arrive meanwhile get the same."""

    def __init__(self, runtime: RuntimeService) -> None:
        self._runtime = runtime
        self._rising = Rising()
        self._lock = asyncio.Lock()
        self._last: tuple[float, NodeStats] | None = None

    async def collect(self, pods: Iterable[Pod]) -> NodeStats:
        """What the node's pods use now. Raises `NetlabError` when its runtime does not answer."""
        asked = time.monotonic()
        async with self._lock:
            if self._last is not None and self._last[0] > asked:
                return self._last[1]
            began = time.monotonic()
            stats = await self._collect(list(pods))
            self._last = began, stats
            return stats

    async def _collect(self, pods: Sequence[Pod]) -> NodeStats:
        running = [each for each in recovery.of_pods(await self._runtime.list_containers()) if each.running]
        by_uid: dict[str, list[ContainerStatus]] = {}
        for each in running:
            by_uid.setdefault(each.labels[recovery.UID_LABEL], []).append(each)
        texts = await self._counted(pods, by_uid)
        first = {each.id: each.pid for each in running}
        sandboxes = {each.sandbox for each in running if each.sandbox is not None}
        moment, steady = time.time(), time.monotonic()
        usages, networks, own = await asyncio.to_thread(_look, first, sandboxes)
        found = [
            self._of_pod(pod, by_uid[pod.metadata.uid], usages, texts, networks, steady)
            for pod in pods
            if pod.metadata.uid in by_uid
        ]
        usage = sum((each.usage for each in found), usages[None])
        cpu = self._rising.read(_NODE, usage.cpu, steady)
        known = (each for one in found for each in (one.pod.metadata.uid, *(inner.id for inner in one.containers)))
        self._rising.keep({_NODE, *known})
        return NodeStats(moment, usage.with_cpu(cpu.total), cpu, own, found)

    async def _counted(
        self, pods: Sequence[Pod], by_uid: Mapping[str, Sequence[ContainerStatus]]
    ) -> dict[str, dict[str, str]]:
        """What cgroups tell: of a machine's containers only those with limits have one, of an engine's all."""
        asked = []
        for pod in pods:
            for each in by_uid.get(pod.metadata.uid, ()):
                spec = _spec(pod, each)
                if resources.memory_limit(spec) is not None or resources.cpu_limit(spec) is not None or not each.pid:
                    asked.append(each.id)
        return await self._runtime.list_container_stats(asked) if asked else {}

    def _of_pod(
        self,
        pod: Pod,
        running: Sequence[ContainerStatus],
        usages: Mapping[str | None, Usage],
        texts: Mapping[str, Mapping[str, str]],
        networks: Mapping[str, Sequence[Interface]],
        steady: float,
    ) -> PodStats:
        containers = []
        for each in sorted(running, key=lambda one: one.started_at):
            usage = counters.of_cgroup(texts.get(each.id, {}), usages[each.id])
            cpu = self._rising.read(each.id, usage.cpu, steady)
            name = each.labels[recovery.CONTAINER_LABEL]
            containers.append(
                ContainerStats(
                    name, each.id, each.image, each.started_at, _spec(pod, each), usage.with_cpu(cpu.total), cpu
                )
            )
        usage = sum((each.usage for each in containers), Usage())
        cpu = self._rising.read(pod.metadata.uid, usage.cpu, steady)
        sandbox = running[0].sandbox
        interfaces = networks.get(sandbox, ()) if sandbox is not None else ()
        return PodStats(pod, sandbox, containers[0].started_at, containers, interfaces, usage.with_cpu(cpu.total), cpu)


def _spec(pod: Pod, container: ContainerStatus) -> Container:
    name = container.labels[recovery.CONTAINER_LABEL]
    return next(
        (each for each in (*pod.spec.initContainers, *pod.spec.containers) if each.name == name), Container(name=name)
    )


def _look(
    first: Mapping[str, int], sandboxes: Iterable[str]
) -> tuple[dict[str | None, Usage], dict[str, list[Interface]], list[Interface]]:
    """What processes use, by container; the interfaces of sandboxes, and the node's own."""
    networks = {}
    for name in sandboxes:
        with contextlib.suppress(OSError):  # it has just been removed
            networks[name] = _interfaces_of(network_namespace(name))
    usages = processes.by_container(_processes(), first)
    return usages, networks, counters.interfaces(_text("/proc/thread-self/net/dev"))


def _interfaces_of(path: str) -> list[Interface]:
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with entered(namespace):
            return counters.interfaces(_text("/proc/thread-self/net/dev"))
    finally:
        os.close(namespace)


def _processes() -> dict[int, Process]:
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of names that are no paths yet
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError):  # it has just ended
                found[int(name)] = _process(int(name), ticks)
    return found


def _process(pid: int, ticks: int) -> Process:
    directory = f"/proc/{pid}"
    stat, mounts, smaps, opened = _text(f"{directory}/stat"), processes.UNKNOWN, "", []
    # A process that ends, or is another user's, still has its `stat`.
    with contextlib.suppress(OSError):
        mounts = os.stat(f"{directory}/ns/mnt").st_ino  # noqa: PTH116
        smaps = _text(f"{directory}/smaps_rollup")
        for each in os.listdir(f"{directory}/fd"):  # noqa: PTH208
            with contextlib.suppress(FileNotFoundError):
                opened.append(os.readlink(f"{directory}/fd/{each}"))  # noqa: PTH115
    return processes.read(pid, mounts, stat, smaps, opened, ticks)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return file.read()
