"""One pod on its node: a task that carries out the plan for its current state, and reports the result."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shutil
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from netlab.api import events
from netlab.api.client import Client
from netlab.api.core_types import Container, Pod
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.resources import PODS
from netlab.errors import NetlabError, UsageError
from netlab.machine.async_client import AsyncMachine
from netlab.machine.protocol import ContainerExit, ContainerSpec
from netlab.machine.replies import MachineError
from netlab.node import capabilities, environment, logs, podfiles, podstate, probes, recovery
from netlab.node.backoff import SANDBOX, SYNC
from netlab.node.podstate import Exit, PodState, Run, Sandbox, Stop
from netlab.node.podstatus import container_id, terminated
from netlab.node.reporter import StatusReporter
from netlab.node.sandboxes import Sandboxes

_RETRY = 1.0
"""Seconds before a retry when the API server was unavailable."""
_KEPT_LOGS = 2
"""Runs of a container whose output is kept: the current one and, for `logs --previous`, the one before."""

_NOT_EXECUTABLE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.E2BIG
}  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeContext:
    """What all pods of a node share."""

    node_name: str
    node_ips: list[str]
    client: Client
    machine: AsyncMachine
    http: aiohttp.ClientSession
    sandboxes: Sandboxes
    network_ready: asyncio.Event
    dns: podfiles.ClusterDNS
    log_dir: Path


class PodWorker:
    """Keeps one pod as its object says, until it is deleted. Call its methods in the event loop's thread."""

    def __init__(self, node: NodeContext, pod: Pod, state: PodState) -> None:
        self.pod = pod
        self.done = False
        """Nothing of the pod is left here."""
        self._node = node
        self._state = state
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._reporter = StatusReporter(node.client, node.node_ips, pod, state, self._failed)
        self._backoff = SYNC
        for spec in [*pod.spec.initContainers, *pod.spec.containers]:
            if state.run(spec.name).running:
                self._probe(spec)

    def update(self, pod: Pod) -> None:
        """The object has changed."""
        old, self.pod = self.pod, pod
        # Most changes are this worker's own reports coming back.
        if _deadlines(old) != _deadlines(pod):
            self._wake.set()
        try:
            self._reporter.update(pod)
        except Exception as error:
            self._failed(error)

    def gone(self) -> None:
        """The object is no longer there: stop, clean up, report nothing."""
        self._state.gone = True
        self._wake.set()

    def exited(self, event: ContainerExit) -> None:
        """A container of this pod has ended."""
        for name, run in self._state.runs.items():
            if container_id(self.pod.metadata.uid, name, run.attempt) == event.id and run.exit is None:
                run.ended(Exit(event.exit_code, event.finished_at, event.signal or 0))
                self._stop_probing(name)
                self._wake.set()

    async def run(self) -> None:
        """Work until nothing of the pod is left, or until cancelled: then the pod keeps running."""
        try:
            while not self.done:
                await self._step()
        finally:
            self._reporter.close()
            for task in [*self._tasks, *self._probes.values()]:
                task.cancel()

    async def _step(self) -> None:
        self._wake.clear()
        try:
            plan = podstate.plan(self.pod, self._state, time.time())
            await self._carry_out(plan.actions)
        except ApiUnavailableError as error:
            log.debug("pod %s: %s", self.pod.key, error)
            await asyncio.sleep(_RETRY)
        except Exception as error:
            # A bug that one pod triggers must not stop the kubelet for the others.
            self._failed(error)
            self._backoff = self._backoff.next(time.time(), time.time())
            await self._sleep_until(time.time() + self._backoff.delay)
        else:
            if not plan.actions:
                await self._sleep_until(plan.wake_at)

    async def _carry_out(self, actions: list[podstate.Action]) -> None:
        for action in actions:
            if isinstance(action, podstate.Finish):
                await self._finish()
                self.done = True
                return
            await self._do(action)
        self._reporter.report()

    async def _sleep_until(self, moment: float | None) -> None:
        timeout = None if moment is None else max(0.0, moment - time.time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    async def _do(self, action: podstate.Action) -> None:
        match action:
            case podstate.MakeSandbox():
                await self._make_sandbox()
            case podstate.Start(name):
                await self._start(self._spec(name))
            case podstate.StopContainer(name, grace):
                run = self._state.run(name)
                run.stop = Stop(time.time(), grace)
                self._spawn(self._stop(self._spec(name), run))
            case podstate.Kill(name):
                await self._node.machine.kill(self._id(name), signal.SIGKILL)
                self._state.run(name).killed = True
            case podstate.RemoveSandbox():
                await self._remove_sandbox()
            case podstate.Fail(reason, message):
                self._state.failed = (reason, message)
                self._event(reason, message)

    # --- the sandbox -----------------------------------------------------------------------------------------------

    async def _make_sandbox(self) -> None:
        state, node = self._state, self._node
        if self.pod.spec.hostNetwork:
            state.sandbox, state.ips = Sandbox(None, node.node_ips), node.node_ips
            return
        if not node.network_ready.is_set():
            state.sandbox_error = f"network is not ready: {node.sandboxes.network_error()}"
            self._reporter.report()
            # A pod that is deleted in the meantime does not wait for a network.
            waits = [asyncio.create_task(each.wait()) for each in (node.network_ready, self._wake)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
            return
        attempt, state.sandbox_attempt = state.sandbox_attempt, state.sandbox_attempt + 1
        try:
            async with node.sandboxes.slots:
                # Not before its turn: in a burst every pod would report, and most are ready soon after they begin.
                self._reporter.report()
                asked = capabilities.runtime_config(self.pod)
                state.sandbox = await node.sandboxes.make(self.pod.metadata, attempt, asked)
        except NetlabError as error:
            state.sandbox_error = str(error)
            self._sandbox_failed("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            return
        state.ips = state.sandbox.ips
        state.sandbox_error, state.sandbox_backoff, state.sandbox_retry_at = "", SANDBOX, 0.0

    async def _remove_sandbox(self) -> None:
        state, node = self._state, self._node
        assert state.sandbox is not None
        for name in state.runs:
            await node.machine.remove(self._id(name))
        if state.sandbox.id is not None:
            try:
                await node.sandboxes.remove(state.sandbox.id, self.pod.metadata)
            except NetlabError as error:
                self._sandbox_failed("FailedKillPod", f"error killing pod: {error}")
                return
        state.sandbox = None

    def _sandbox_failed(self, reason: str, message: str) -> None:
        state, now = self._state, time.time()
        state.sandbox_backoff = state.sandbox_backoff.next(now, now)
        state.sandbox_retry_at = now + state.sandbox_backoff.delay
        log.warning("pod %s: %s", self.pod.key, message)
        self._event(reason, message)

    async def _finish(self) -> None:
        meta, node = self.pod.metadata, self._node
        if not self._state.gone:
            try:
                await self._reporter.report_now()
                await node.client.delete(PODS, meta.name, meta.namespace, grace_period_seconds=0, uid=meta.uid)
            except ApiError as error:
                # NotFound: another client got there first. Conflict: the name now belongs to another pod.
                if error.reason not in ("NotFound", "Conflict"):
                    raise
        shutil.rmtree(logs.pod_dir(node.log_dir, self.pod), ignore_errors=True)

    # --- containers ------------------------------------------------------------------------------------------------

    async def _start(self, spec: Container) -> None:
        state, now = self._state, time.time()
        run = state.run(spec.name)
        if run.exit is not None:
            done = self._id(spec.name)
            run.renew(terminated(self.pod, spec.name, run), now)
            await self._node.machine.remove(done)
        run.waiting = None
        try:
            container = self._container(spec, run)
            running = await self._node.machine.run_container(container)
        except UsageError as error:
            self._cannot_start(spec, run, "CreateContainerConfigError", str(error))
            return
        except (MachineError, OSError) as error:
            if isinstance(error, MachineError) and error.errno in _NOT_EXECUTABLE:
                run.ended(Exit(podstate.START_ERROR_EXIT_CODE, time.time(), 0, "StartError", str(error)))
                self._event("Failed", f"Error: failed to start container {spec.name}: {error}")
            else:
                missing = isinstance(error, MachineError) and error.errno == errno.ENOPKG
                self._cannot_start(spec, run, "ErrImageNeverPull" if missing else "CreateContainerError", str(error))
            return
        run.started_at = running.started_at
        await self._post_start(spec, run)
        if run.exit is None:
            run.started = spec.startupProbe is None
            run.ready = run.started and spec.readinessProbe is None
            self._probe(spec)

    def _cannot_start(self, spec: Container, run: Run, reason: str, message: str) -> None:
        now = time.time()
        run.waiting = (reason, message)
        run.backoff = run.backoff.next(now, now)
        run.retry_at = now + run.backoff.delay
        self._event("Failed", f"Error: {reason}: {message}")

    def _container(self, spec: Container, run: Run) -> ContainerSpec:
        pod, node, sandbox = self.pod, self._node, self._state.sandbox
        assert sandbox is not None
        env = environment.environment(pod, spec, sandbox.ips, node.node_ips)
        path = logs.log_path(node.log_dir, pod, spec.name, run.attempt)
        # Containers' output is private: other accounts may not read it.
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        old = logs.log_path(node.log_dir, pod, spec.name, run.attempt - _KEPT_LOGS)
        for each in (old, logs.earlier(old)):
            each.unlink(missing_ok=True)
        return ContainerSpec(
            id=self._id(spec.name),
            image=spec.image,
            log=str(path),
            sandbox=sandbox.id,
            command=[environment.expand(each, env) for each in spec.command],
            args=[environment.expand(each, env) for each in spec.args],
            env=env,
            cwd=spec.workingDir or None,
            hostname=podfiles.hostname(pod, node.dns.domain, node.node_name)[0],
            hosts=podfiles.hosts(pod, sandbox.ips, node.dns.domain, node.node_name),
            resolv_conf=podfiles.resolv_conf(pod, node.dns),
            labels=recovery.labels(pod, spec.name, run.attempt, sandbox.ips),
        )

    async def _post_start(self, spec: Container, run: Run) -> None:
        hook = spec.lifecycle.postStart if spec.lifecycle else None
        if hook is None:
            return
        if wrong := await self._asker(spec)(hook, podstate.grace_period(self.pod, self._state)):
            run.unhealthy = f"PostStartHookError: {wrong}"
            self._event("FailedPostStartHook", run.unhealthy)

    async def _stop(self, spec: Container, run: Run) -> None:
        assert run.stop is not None
        identity = self._id(spec.name)
        if run.unhealthy:
            self._event("Killing", f"Container {spec.name} is restarted: {run.unhealthy}", events.NORMAL)
        hook = spec.lifecycle.preStop if spec.lifecycle else None
        if hook is not None and (wrong := await self._asker(spec)(hook, run.stop.grace)):
            self._event("FailedPreStopHook", f"PreStopHook failed: {wrong}")
        with contextlib.suppress(NetlabError):
            # If it fails, the SIGKILL at the end of the grace period still comes.
            await self._node.machine.kill(identity, signal.SIGTERM)

    # --- probes ----------------------------------------------------------------------------------------------------

    def _asker(self, spec: Container) -> probes.Asker:
        sandbox = self._state.sandbox
        assert sandbox is not None
        return probes.Asker(self._node.machine, self._node.http, spec, self._id(spec.name), sandbox.ips[0])

    def _probe(self, spec: Container) -> None:
        if spec.startupProbe or spec.livenessProbe or spec.readinessProbe:
            self._probes[spec.name] = asyncio.create_task(self._keep_probing(spec, self._state.run(spec.name)))

    def _stop_probing(self, name: str) -> None:
        if (task := self._probes.pop(name, None)) is not None:
            task.cancel()

    async def _keep_probing(self, spec: Container, run: Run) -> None:
        backoff = SYNC
        while True:
            try:
                await self._probe_container(spec, run)
            except Exception as error:
                self._failed(error)
            backoff = backoff.next(time.time(), time.time())
            await asyncio.sleep(backoff.delay)

    async def _probe_container(self, spec: Container, run: Run) -> None:
        ask = self._asker(spec)
        if spec.startupProbe is not None and not run.started:

            def on_startup(ok: bool, wrong: str, changed: bool) -> None:
                if not ok:
                    self._unhealthy(spec, run, "Startup", wrong, changed)
                elif changed:
                    run.started = True
                    run.ready = spec.readinessProbe is None
                    self._reporter.report()
                    starting.cancel()

            starting = asyncio.create_task(probes.watch(spec.startupProbe, ask, on_startup, quick=True, initial=None))
            try:
                await asyncio.wait([starting])
            finally:
                starting.cancel()
            if not starting.cancelled():
                starting.result()

        def on_liveness(ok: bool, wrong: str, changed: bool) -> None:
            if not ok:
                self._unhealthy(spec, run, "Liveness", wrong, changed)

        def on_readiness(ok: bool, wrong: str, changed: bool) -> None:
            if not ok:
                self._event("Unhealthy", f"Readiness probe failed: {wrong}")
            if changed:
                run.ready = ok
                self._reporter.report()

        async with asyncio.TaskGroup() as watches:
            if spec.livenessProbe is not None:
                watches.create_task(probes.watch(spec.livenessProbe, ask, on_liveness, quick=False, initial=True))
            if spec.readinessProbe is not None:
                watch = partial(probes.watch, spec.readinessProbe, ask, on_readiness)
                watches.create_task(watch(quick=not run.ready, initial=run.ready))

    def _unhealthy(self, spec: Container, run: Run, kind: str, wrong: str, changed: bool) -> None:
        self._event("Unhealthy", f"{kind} probe failed: {wrong}")
        if changed:
            run.unhealthy = f"{kind} probe failed: {wrong}"
            self._wake.set()

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _id(self, name: str) -> str:
        return container_id(self.pod.metadata.uid, name, self._state.run(name).attempt)

    def _spec(self, name: str) -> Container:
        return next(each for each in [*self.pod.spec.initContainers, *self.pod.spec.containers] if each.name == name)

    def _event(self, reason: str, message: str, kind: str = events.WARNING) -> None:
        node = self._node
        self._spawn(events.record(node.client, self.pod, kind, reason, message, "kubelet", node.node_name))

    def _failed(self, error: Exception) -> None:
        """Say what failed unexpectedly; the worker goes on."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        fault = None if isinstance(error, NetlabError | OSError) else error
        log.warning("pod %s: %s", self.pod.key, error, exc_info=fault)
        self._event("FailedSync", f"error syncing pod: {events.explained(error)}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._failed(error)


def _deadlines(pod: Pod) -> tuple[str | int | None, ...]:
    meta = pod.metadata
    started = pod.status.startTime if pod.spec.activeDeadlineSeconds is not None else None
    return meta.deletionTimestamp, meta.deletionGracePeriodSeconds, pod.spec.activeDeadlineSeconds, started
