"""The kubelet: registers its node, and runs the pods that are bound to it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Iterable

import aiohttp

from netlab.api import events
from netlab.api.client import Client
from netlab.api.core_types import Pod
from netlab.api.informer import Informer
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import PODS, SERVICES
from netlab.node import admission, recovery, volumes
from netlab.node.context import KubeletConfig, NodeContext
from netlab.node.podstate import TERMINAL, PodState
from netlab.node.recording import EventRecorder
from netlab.node.registration import Registration
from netlab.node.root_certificates import RootCertificates
from netlab.node.runtime.machines import MachineRuntime
from netlab.node.runtime.service import ContainerExit, ContainerStatus
from netlab.node.sandboxes import Sandboxes, pod_uid
from netlab.node.server import listener
from netlab.node.worker import PodWorker

_RETRY = 2.0
"""Seconds before retrying to remove an unused sandbox."""

_LOOK_AT_VOLUMES = 2.0
"""Seconds between two looks at how full volumes are; upstream's is 10, but a person is waiting for the lab."""

log = logging.getLogger(__name__)


async def run(config: KubeletConfig) -> None:
    """Run a node's kubelet, in a process that is in the node's namespaces, until cancelled.

    Pods keep running after it ends; the next kubelet takes them over. Raises `UnavailableError` when the machine's
    pid 1 does not answer: nothing else can run pods.
    """
    config.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with (
        Client(config.api, user_agent=f"kubelet/{config.node_name}") as client,
        _runtime(config) as runtime,
        # Each probe opens a new connection: a kept one can still work when the server accepts no new ones.
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as http,
    ):
        sandboxes = Sandboxes(
            runtime,
            config.cni_conf_dir,
            config.cni_plugin_dirs,
            config.cni_cache_dir,
            primary=ipaddress.ip_address(config.node_ips[0]).version,
        )
        ready, certificates, services = asyncio.Event(), RootCertificates(client), Informer(client, SERVICES)
        recorder = EventRecorder(client, config.node_name)
        node = NodeContext(config, client, runtime, http, sandboxes, ready, certificates, services, recorder)
        try:
            await _Kubelet(node).run()
        finally:
            sandboxes.close()


def _runtime(config: KubeletConfig) -> MachineRuntime:
    if config.docker_socket is None:
        return MachineRuntime(config.machine_socket)
    from netlab.node.runtime.docker import DockerRuntime

    return DockerRuntime(config.docker_socket, config.machine_socket)


class _Kubelet:
    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._workers: dict[str, PodWorker] = {}
        """By the pod's uid."""
        self._pods = Informer(node.client, PODS, fields=f"spec.nodeName={node.config.node_name}")
        self._pods.on_change(self._changed)
        self._recovering = True
        self._tasks: asyncio.TaskGroup

    async def run(self) -> None:
        node, registration = self._node, Registration(self._node)
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._pods.run())
            self._tasks.create_task(node.services.run())
            self._tasks.create_task(node.events.run())
            await registration.register()
            self._tasks.create_task(registration.run())
            await self._pods.synced.wait()
            self._recover(await node.runtime.list_pod_sandbox(), await node.runtime.list_containers())
            self._tasks.create_task(self._follow_exits())
            self._tasks.create_task(self._watch_volumes())
            if node.config.client_ca is not None:
                self._tasks.create_task(listener.run(node, self, node.config.client_ca))

    def all(self) -> list[tuple[Pod, PodState]]:
        """The pods of this node, each with what is known about it here."""
        return [(worker.pod, worker.state) for worker in self._workers.values() if not worker.state.gone]

    def find(self, namespace: str, name: str) -> tuple[Pod, PodState] | None:
        """A pod of this node, and what is known about it here."""
        pod = self._pods.items.get(f"{namespace}/{name}")
        worker = None if pod is None else self._workers.get(pod.metadata.uid)
        return None if worker is None else (worker.pod, worker.state)

    async def _follow_exits(self) -> None:
        # The stream begins with the containers that have already exited, so none is missed after reading the state.
        async for event in self._node.runtime.container_events():
            self._exited(event)

    async def _watch_volumes(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AT_VOLUMES)
            for worker in self._workers.values():
                worker.evict()

    def _exited(self, event: ContainerExit) -> None:
        if (worker := self._workers.get(pod_uid(event.id))) is not None:
            worker.exited(event)

    def _recover(self, sandboxes: list[str], listed: list[ContainerStatus]) -> None:
        self._recovering = False
        noted = self._node.sandboxes.noted()
        containers = recovery.of_pods(listed)
        pods = {pod.metadata.uid: pod for pod in self._pods.items.values()}
        bound = frozenset(pods)
        volumes.remove_others(bound, self._node.config.pods_dir)
        for orphan in recovery.orphans(bound, {**dict.fromkeys(sandboxes), **noted}, containers):
            pods[orphan.metadata.uid] = orphan
        for uid, pod in pods.items():
            recovered = self._recovered(pod, {*sandboxes, *noted}, containers)
            recovered.state.gone = uid not in bound
            for identity in recovered.unused_sandboxes:
                self._tasks.create_task(self._discard(identity, pod.metadata))
            for identity in recovered.unused_containers:
                self._tasks.create_task(self._node.runtime.remove_container(identity))
            self._start(pod, recovered.state)

    def _recovered(self, pod: Pod, sandboxes: Iterable[str], containers: list[ContainerStatus]) -> recovery.Recovered:
        try:
            return recovery.recover(pod, sandboxes, containers, time.time())
        except Exception as error:
            # A bug that one pod triggers must not stop the kubelet for the others. Its worker says what is in its way.
            self._failed(pod, error)
            return recovery.Recovered(PodState(), [], [])

    def _failed(self, pod: Pod, error: Exception) -> None:
        log.error("pod %s: %s", pod.key, error, exc_info=error)
        why = f"error syncing pod: {events.explained(error)}"
        self._node.events.record(pod, events.WARNING, "FailedSync", why)

    async def _discard(self, identity: str, meta: ObjectMeta) -> None:
        while True:
            try:
                await self._node.sandboxes.remove(identity, meta)
                return
            except Exception as error:
                log.warning("sandbox %s of pod %s/%s: %s", identity, meta.namespace, meta.name, error)
                await asyncio.sleep(_RETRY)

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        if self._recovering:
            return
        replaced = old is not None and (new is None or new.metadata.uid != old.metadata.uid)
        if old is not None and replaced and (worker := self._workers.get(old.metadata.uid)) is not None:
            worker.gone()
            self._forget(old.metadata.uid)
        if new is None:
            return
        if (worker := self._workers.get(new.metadata.uid)) is not None:
            worker.update(new)
        else:
            self._start(new, self._admitted(new))

    def _admitted(self, pod: Pod) -> PodState:
        """The state in which a pod begins that is new here: failed, if it does not fit."""
        here = (worker.pod for worker in self._workers.values() if not worker.is_over)
        refused = admission.refusal(pod, here) if pod.status.phase not in TERMINAL else None
        if refused is None:
            return PodState()
        reason, message = refused
        self._node.events.record(pod, events.WARNING, reason, message)
        return PodState(failed=(reason, f"Pod was rejected: {message}"))

    def _start(self, pod: Pod, state: PodState) -> None:
        try:
            worker = PodWorker(self._node, pod, state)
        except Exception as error:
            # As above; the pod's next change is another try.
            self._failed(pod, error)
            return
        self._workers[pod.metadata.uid] = worker
        self._tasks.create_task(self._run(worker))

    async def _run(self, worker: PodWorker) -> None:
        await worker.run()
        self._forget(worker.pod.metadata.uid)

    def _forget(self, uid: str) -> None:
        # A worker that is done stays until its object is removed (finalizers may hold it), so that no second one is
        # started. A worker whose object is removed first continues until it is done.
        worker = self._workers[uid]
        present = self._pods.items.get(worker.pod.key)
        if worker.done and (present is None or present.metadata.uid != uid):
            del self._workers[uid]
