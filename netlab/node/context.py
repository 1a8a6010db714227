"""One pod on its node: what the parts of its worker share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from netlab.api import events
from netlab.api.client import Client
from netlab.api.core_types import Container, Pod, Service
from netlab.api.endpoint import Endpoint
from netlab.api.informer import Informer
from netlab.errors import NetlabError
from netlab.node import probes, volumes
from netlab.node.environment import of_services
from netlab.node.podfiles import ClusterDNS
from netlab.node.podstate import PodState
from netlab.node.podstatus import container_id
from netlab.node.recording import EventRecorder
from netlab.node.reporter import StatusReporter
from netlab.node.root_certificates import RootCertificates
from netlab.node.runtime.service import RuntimeService
from netlab.node.sandboxes import Sandboxes

log = logging.getLogger(__name__)

_API = "default/kubernetes"
"""The Service of the API."""


@dataclass(frozen=True)
class ServingConfig:
    """How a kubelet is reached that is not reached at its node's addresses: by what is carried to a Unix socket.

    `port` is the one that the Node tells; the certificate and its key (files, PEM) are the cluster's; without them the
    kubelet signs its own.
    """

    socket: Path
    port: int
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class KubeletConfig:
    """What a kubelet needs to know about its node.

    `node_ips` has the primary family's address first; `client_ca` is the certificate (PEM) of the authority whose
    clients the kubelet's server answers; without one there is no server. `boot_id` names this boot of the node.
    """

    node_name: str
    api: Endpoint
    machine_socket: Path
    node_ips: list[str]
    cni_conf_dir: Path
    cni_plugin_dirs: list[Path]
    cni_cache_dir: Path
    log_dir: Path
    client_ca: str | None = None
    boot_id: str = ""
    max_pods: int = 110
    memory: int | None = None
    """Bytes that pods may ask for together; None: all of the machine's."""
    pods_dir: Path = volumes.ROOT
    """Where the pods' volumes are."""
    docker_socket: Path | None = None
    """Where a Docker engine is asked for containers; None: they are the machine's own."""
    dns: ClusterDNS = field(default_factory=ClusterDNS)
    serving: ServingConfig | None = None
    pod_cidrs: tuple[str, ...] = ()
    """What the node asks for when it registers; empty: what the cluster gives it."""


@dataclass(frozen=True)
class NodeContext:
    """What all pods of a node share."""

    config: KubeletConfig
    client: Client
    runtime: RuntimeService
    http: aiohttp.ClientSession
    sandboxes: Sandboxes
    network_ready: asyncio.Event
    certificates: RootCertificates
    services: Informer[Service]
    events: EventRecorder

    async def service_variables(self, pod: Pod) -> dict[str, str]:
        """What tells a pod's containers where the API is and, unless `enableServiceLinks` is false, the Services of
        its namespace that are there now.
        """
        await self.services.synced.wait()
        known = self.services.items
        # A cluster need not have a Service for its API.
        wanted = [known[_API]] if _API in known else []
        if pod.spec.enableServiceLinks is not False:
            wanted += [each for each in known.values() if each.metadata.namespace == pod.metadata.namespace]
        return of_services(wanted)


class PodContext:
    """A pod's object and state, its reports to the API, and its running tasks."""

    def __init__(self, node: NodeContext, pod: Pod, state: PodState) -> None:
        self.node = node
        self.pod = pod
        self.state = state
        self.wake = asyncio.Event()
        """Set when there may be something to do for the pod."""
        self.reporter = StatusReporter(node.client, node.config.node_ips, pod, state, self.failed)
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Stop the running tasks, and report nothing more."""
        self.reporter.close()
        for task in self._tasks:
            task.cancel()

    def spec(self, name: str) -> Container:
        """The container of that name in the pod's spec."""
        return next(each for each in self.pod.spec.all_containers() if each.name == name)

    def container_id(self, name: str) -> str:
        """The runtime's name for a container's current run."""
        return container_id(self.pod.metadata.uid, name, self.state.run(name).attempt)

    def asker(self, spec: Container) -> probes.Asker:
        """The asker for a container's current run, for probes and hooks."""
        sandbox = self.state.sandbox
        assert sandbox is not None
        return probes.Asker(self.node.runtime, self.node.http, spec, self.container_id(spec.name), sandbox.ips[0])

    def event(self, reason: str, message: str, kind: str = events.WARNING, *, container: str = "") -> None:
        """Record an Event of the pod, or of one of its containers."""
        self.node.events.record(self.pod, kind, reason, message, container)

    def failed(self, error: Exception) -> None:
        """Report an unexpected failure; the pod's worker continues."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        fault = None if isinstance(error, NetlabError | OSError) else error
        log.warning("pod %s: %s", self.pod.key, error, exc_info=fault)
        self.event("FailedSync", f"error syncing pod: {events.explained(error)}")

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work in a task for which the worker does not wait."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.failed(error)
