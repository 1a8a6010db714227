"""The metrics of a kubelet: its pods' use of the node, and its own."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import ProcessCollector
from starlette.requests import Request
from starlette.responses import Response

from netlab import __version__
from netlab.api.core_types import Pod
from netlab.api.resources import KUBERNETES
from netlab.api.serving.kubelets import is_true
from netlab.errors import NetlabError
from netlab.node import logs
from netlab.node.podstate import PodState
from netlab.node.runtime.service import RuntimeService
from netlab.node.stats import metrics, summary
from netlab.node.stats.collector import Collector, NodeStats
from netlab.node.stats.exposition import CONTENT_TYPE, Families

if TYPE_CHECKING:
    from netlab.node.server.app import Pods

_BLOCK = 512
"""Bytes in which a file's place on the disk is counted (stat(2))."""


class Statistics:
    """The endpoints of a node's kubelet that tell numbers."""

    def __init__(self, pods: Pods, runtime: RuntimeService, node: str, log_dir: Path) -> None:
        self._pods = pods
        self._node = node
        self._log_dir = log_dir
        self._collector = Collector(runtime)

    def endpoints(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """They, by their paths."""
        return {
            "/metrics": self._own,
            "/metrics/cadvisor": self._containers,
            "/metrics/probes": self._probes,
            "/metrics/resource": self._resources,
            "/stats/summary": self._summary,
        }

    async def _collect(self) -> NodeStats:
        return await self._collector.collect(pod for pod, _ in self._pods.all())

    async def _resources(self, _: Request) -> Response:
        stats = None
        with contextlib.suppress(NetlabError):
            stats = await self._collect()
        return _text(metrics.of_resources(stats))

    async def _containers(self, _: Request) -> Response:
        return _text(metrics.of_containers(await self._collect(), os.cpu_count() or 1, _memory()))

    async def _summary(self, request: Request) -> Response:
        stats = await self._collect()
        short = is_true(request.query_params.get("only_cpu_and_memory"))
        told = summary.of_node(stats, self._facts(stats), cpu_and_memory=short)
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def _probes(self, _: Request) -> Response:
        families = Families()
        text = "Cumulative number of a liveness, readiness or startup probe for a container by result."
        for pod, state in self._pods.all():
            meta = pod.metadata
            for (container, kind, result), count in state.probed.items():
                labels = {"probe_type": kind, "result": result, "container": container, "pod": meta.name}
                labels |= {"namespace": meta.namespace, "pod_uid": meta.uid}
                families.add("prober_probe_total", text, count, labels)
        return _text(families.text())

    async def _own(self, _: Request) -> Response:
        pods = self._pods.all()
        families = Families()
        build = {"git_version": f"v{__version__}", "major": KUBERNETES[0], "minor": KUBERNETES[1]}
        build |= {"compiler": platform.python_implementation(), "platform": f"linux/{platform.machine()}"}
        families.add("kubernetes_build_info", "What runs here", 1, build)
        families.add("kubelet_node_name", "The node's name. The count is always 1.", 1, {"node": self._node})
        running = sum(state.sandbox is not None for _, state in pods)
        families.add("kubelet_running_pods", "Number of pods that have a running pod sandbox", running)
        for state, count in _containers(pods).items():
            text = "Number of containers currently running"
            families.add("kubelet_running_containers", text, count, {"container_state": state})
        return _text(families.text(ProcessCollector(registry=None)))

    def _facts(self, stats: NodeStats) -> summary.NodeFacts:
        disk = os.statvfs(self._log_dir)
        logged = {
            each.id: _size(logs.pod_dir(self._log_dir, pod.pod) / each.name)
            for pod in stats.pods
            for each in pod.containers
        }
        return summary.NodeFacts(
            name=self._node,
            started_at=_started(),
            memory=_memory(),
            processes=int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii")),
            file_system=summary.FileSystem(
                disk.f_frsize * disk.f_blocks, disk.f_frsize * disk.f_bavail, disk.f_files, disk.f_ffree
            ),
            logs=logged,
        )


def _containers(pods: Iterable[tuple[Pod, PodState]]) -> Counter[str]:
    states = Counter({"running": 0, "exited": 0, "created": 0})
    for _, state in pods:
        for run in state.runs.values():
            states["running" if run.running else "exited" if run.exit is not None else "created"] += 1
    return states


def _text(body: bytes) -> Response:
    return Response(body, media_type=CONTENT_TYPE)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _size(directory: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(each.stat().st_blocks * _BLOCK for each in directory.iterdir())
    return 0


def _started() -> float:
    """When the node's pid 1 began, in seconds since the epoch."""
    after_boot = int(Path("/proc/1/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - uptime + after_boot / os.sysconf("SC_CLK_TCK")
