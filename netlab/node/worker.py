"""One pod on its node: a task that carries out the plan for its current state, and reports the result."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time

from netlab.api import events
from netlab.api.core_types import Pod
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.resources import PODS
from netlab.node import logs, podsandbox, podstate
from netlab.node.context import NodeContext, PodContext
from netlab.node.podcontainers import PodContainers
from netlab.node.podstate import SYNC, PodState
from netlab.node.runtime.service import ContainerExit

_RETRY = 1.0
"""Seconds before a retry when the API server was unavailable."""

_EVICTED = "Evicted"
_EVICTION_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for a pod that is evicted."""
_CRITICAL = 2_000_000_000
"""The priority from which on no pod is evicted (pkg/apis/scheduling, SystemCriticalPriority)."""

log = logging.getLogger(__name__)


class PodWorker:
    """Keeps one pod as its object says, until it is deleted. Call its methods in the event loop's thread."""

    def __init__(self, node: NodeContext, pod: Pod, state: PodState) -> None:
        self.done = False
        """Nothing of the pod is left here."""
        self._context = PodContext(node, pod, state)
        self._containers = PodContainers(self._context)
        self._backoff = SYNC

    @property
    def pod(self) -> Pod:
        """The pod's object."""
        return self._context.pod

    @property
    def is_over(self) -> bool:
        """Whether the pod has ended, and takes nothing of the node any more."""
        return self.done or podstate.terminal(self.pod, self._context.state)

    @property
    def state(self) -> PodState:
        """What is known about the pod here."""
        return self._context.state

    def update(self, pod: Pod) -> None:
        """The object has changed."""
        context = self._context
        self._containers.update(pod)
        old, context.pod = context.pod, pod
        if old.spec.ephemeralContainers != pod.spec.ephemeralContainers:
            # What was added may mount what no other container does.
            context.state.mounted = False
        # Most changes are this worker's own reports coming back.
        if _deadlines(old) != _deadlines(pod) or old.spec.ephemeralContainers != pod.spec.ephemeralContainers:
            context.wake.set()
        try:
            context.reporter.update(pod)
        except Exception as error:
            context.failed(error)

    def evict(self) -> None:
        """Have the pod end if a volume of it holds more than it may (pkg/kubelet/eviction, localStorageEviction)."""
        context = self._context
        if self.is_over or (context.pod.spec.priority or 0) >= _CRITICAL:
            return
        if (why := self._containers.over_limit()) is not None:
            context.state.failed, context.state.grace = (_EVICTED, why), _EVICTION_GRACE
            context.event(_EVICTED, why)
            context.wake.set()

    def gone(self) -> None:
        """The object is no longer there: stop, clean up, report nothing."""
        self._context.state.gone = True
        self._context.wake.set()

    def exited(self, event: ContainerExit) -> None:
        """A container of this pod has ended."""
        try:
            self._containers.exited(event)
        except Exception as error:
            self._context.failed(error)

    async def run(self) -> None:
        """Work until nothing of the pod is left, or until cancelled: then the pod keeps running."""
        try:
            while not self.done:
                await self._step()
        finally:
            self._context.close()

    async def _step(self) -> None:
        context = self._context
        context.wake.clear()
        try:
            plan = podstate.plan(context.pod, context.state, time.time())
            await self._carry_out(plan.actions)
        except ApiUnavailableError as error:
            log.debug("pod %s: %s", self.pod.key, error)
            await asyncio.sleep(_RETRY)
        except Exception as error:
            # A bug that one pod triggers must not stop the kubelet for the others.
            context.failed(error)
            self._backoff = self._backoff.failed()
            await self._sleep_until(time.time() + self._backoff.delay)
        else:
            self._backoff = SYNC
            if not plan.actions:
                await self._sleep_until(plan.wake_at)

    async def _carry_out(self, actions: list[podstate.Action]) -> None:
        for action in actions:
            await self._do(action)
        if not self.done:
            self._context.reporter.report()

    async def _sleep_until(self, moment: float | None) -> None:
        timeout = None if moment is None else max(0.0, moment - time.time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._context.wake.wait()

    async def _do(self, action: podstate.Action) -> None:
        match action:
            case podstate.SetUpVolumes():
                await self._containers.set_up_volumes()
            case podstate.MakeSandbox():
                await podsandbox.make(self._context)
            case podstate.Start(name):
                await self._containers.start(name)
            case podstate.StopContainer(name, grace):
                self._containers.stop(name, grace)
            case podstate.Kill(name):
                await self._containers.kill(name)
            case podstate.RemoveSandbox():
                await self._containers.remove_all()
                await podsandbox.remove(self._context)
            case podstate.ReplaceSandbox():
                await podsandbox.replace(self._context)
            case podstate.Fail(reason, message):
                self._context.state.failed = (reason, message)
                self._context.event(reason, message, events.NORMAL)
            case podstate.Finish():
                await self._finish()

    async def _finish(self) -> None:
        meta, node = self.pod.metadata, self._context.node
        if not self._context.state.gone:
            try:
                await self._context.reporter.report_now()
                await node.client.delete(PODS, meta.name, meta.namespace, grace_period_seconds=0, uid=meta.uid)
            except ApiError as error:
                # NotFound: another client got there first. Conflict: the name now belongs to another pod.
                if error.reason not in ("NotFound", "Conflict"):
                    raise
        shutil.rmtree(logs.pod_dir(node.config.log_dir, self.pod), ignore_errors=True)
        self.done = True


def _deadlines(pod: Pod) -> tuple[str | int | None, ...]:
    meta = pod.metadata
    started = pod.status.startTime if pod.spec.activeDeadlineSeconds is not None else None
    return meta.deletionTimestamp, meta.deletionGracePeriodSeconds, pod.spec.activeDeadlineSeconds, started
