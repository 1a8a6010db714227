"""Reports of a pod's status to the API: few, and immediate if anything waits for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from netlab.api.client import Client
from netlab.api.core_types import Pod, PodStatus
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.media_types import STRATEGIC_MERGE_PATCH
from netlab.api.resources import PODS
from netlab.node.podstate import SYNC, PodState
from netlab.node.podstatus import pod_status

_SOON = 1.0
"""Seconds that an intermediate state (creating, started but not ready) may wait to be reported with the next one."""
_RETRY = 1.0
"""Seconds before a report is retried when the API server was unavailable."""

log = logging.getLogger(__name__)


class StatusReporter:
    """Keeps the status in the API in line with `state`. Call its methods in the event loop's thread."""

    def __init__(
        self, client: Client, node_ips: list[str], pod: Pod, state: PodState, failed: Callable[[Exception], None]
    ) -> None:
        """`failed` gets each error that stops a report, except that the server is unavailable or the pod is gone."""
        self._client = client
        self._node_ips = node_ips
        self._pod = pod
        self._state = state
        self._failed = failed
        self._backoff = SYNC
        self._reported: PodStatus | None = None
        self._reported_version = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    def update(self, pod: Pod) -> None:
        """The object has changed: what is wanted (KEP-5067), or what others write, readiness gates among it."""
        old, self._pod = self._pod, pod
        if self._contradicted():
            # For example, the node controller sets Ready=False on the pods of a node that was silent for a while.
            self._reported = None
            self.report()
        elif old.metadata.generation != pod.metadata.generation or (
            pod.spec.readinessGates and old.status.conditions != pod.status.conditions
        ):
            self.report()

    def report(self) -> None:
        """The state may have changed: report it at once, or (an intermediate state) together with the next."""
        status = self._status()
        if status != self._reported and not self._state.gone:
            self._report_in(_SOON if self._on_its_way(status) else 0.0)

    async def report_now(self) -> None:
        """Report the state unless it was reported. Raises `ApiError`, `ApiUnavailableError`."""
        async with self._lock:
            status = self._status()
            if status == self._reported or self._state.gone:
                return
            meta = self._pod.metadata
            patch = {"metadata": {"uid": meta.uid}, "status": status_patch(status)}
            answer = await self._client.patch(
                PODS, meta.name, meta.namespace, patch, subresource="status", patch_type=STRATEGIC_MERGE_PATCH
            )
            self._reported, self._reported_version = status, int(answer.metadata.resourceVersion)

    def close(self) -> None:
        """Report nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def _report_in(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + delay
        if self._timer is not None:
            if self._due_at <= at:
                return
            self._timer.cancel()
        self._timer, self._due_at = loop.call_at(at, self._due), at

    def _due(self) -> None:
        self._timer = None
        task = asyncio.create_task(self._report_and_retry())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report_and_retry(self) -> None:
        try:
            await self.report_now()
            self._backoff = SYNC
        except ApiUnavailableError as error:
            log.debug("pod %s: status: %s", self._pod.key, error)
            self._report_in(_RETRY)
        except Exception as error:
            # NotFound, Conflict: the pod is gone or replaced, and the informer is about to say so.
            if not isinstance(error, ApiError) or error.reason not in ("NotFound", "Conflict"):
                self._failed(error)
                self._backoff = self._backoff.failed()
                self._report_in(self._backoff.delay)

    def _on_its_way(self, status: PodStatus) -> bool:
        if self._state.sandbox_error or status.phase not in ("Pending", "Running"):
            return False
        before = {each.type: each.status for each in (self._reported or self._pod.status).conditions}
        was_ready = before.get("Ready", "False")
        if any(each.type == "Ready" and each.status != was_ready for each in status.conditions):
            return False
        if status.ephemeralContainerStatuses != (self._reported or self._pod.status).ephemeralContainerStatuses:
            return False  # a request waits for them
        return not any(run.exit or run.waiting for run in self._state.runs.values())

    def _contradicted(self) -> bool:
        """Whether one of the kubelet's conditions was overwritten since the last report."""
        if self._reported is None or int(self._pod.metadata.resourceVersion) <= self._reported_version:
            return False
        present = {each.type: each.status for each in self._pod.status.conditions}
        return any(present.get(each.type) != each.status for each in self._reported.conditions)

    def _status(self) -> PodStatus:
        status = pod_status(self._pod, self._state, self._node_ips, time.time())
        if self._reported is not None:
            # The informer's copy may be older than the last report: keep the times of that report.
            status.startTime = self._reported.startTime
            dated = {each.type: each for each in self._reported.conditions}
            for condition in status.conditions:
                if dated[condition.type].status == condition.status:
                    condition.lastTransitionTime = dated[condition.type].lastTransitionTime
        return status


_OWN_FIELDS = (
    "phase", "conditions", "reason", "message", "hostIP", "hostIPs", "podIP", "podIPs", "startTime",
    "initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses", "qosClass", "observedGeneration",
)  # fmt: skip


def status_patch(status: PodStatus) -> dict[str, Any]:
    """A strategic merge patch that sets the kubelet's part of a status to this one.

    Empty fields are removed explicitly: a patch that omits them would keep their old values. podIPs and hostIPs are
    replaced: merged by address, they would keep those of a sandbox that is gone.
    """
    patch: dict[str, Any] = {name: getattr(status, name) or None for name in _OWN_FIELDS}
    patch["conditions"] = [
        {**msgspec.to_builtins(each), "reason": each.reason or None, "message": each.message or None}
        for each in status.conditions
    ]
    for name in ("podIPs", "hostIPs"):
        patch[name] = [{"$patch": "replace"}, *getattr(status, name)]
    return patch
