"""The Events of a node's pods, as kubelets record them: in order, and no more than an API server should keep."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import time

from netlab.api import events
from netlab.api.client import Client
from netlab.api.core_types import Container, Event, Pod
from netlab.api.errors import ApiUnavailableError
from netlab.errors import NetlabError

_WAITING = 1000
"""Events that wait to be sent; the next ones are lost (client-go tools/record, maxQueuedEvents)."""
_BURST, _REFILL = 25, 300.0
"""Events of one pod at once, and the seconds until it may have another (client-go, EventSourceObjectSpamFilter)."""
_REMEMBERED = 4096
"""Pods whose events are counted (client-go, maxLruCacheEntries)."""
_PAUSE = 1 / 50
"""Seconds between two events once there were many (kubelet's --event-qps)."""
_AT_ONCE = 100
"""Events without such a pause (kubelet's --event-burst)."""
_QUIET = 0.1
"""Seconds without another event after which those that wait are sent: while pods start, they have the processors."""
_LONGEST_WAIT = 15.0
"""Seconds after which they are sent though others keep coming."""
_RETRY = 1.0
"""Seconds before an event is sent again when the API server was unavailable."""

log = logging.getLogger(__name__)


class EventRecorder:
    """Records events without holding up those who report them."""

    def __init__(self, client: Client, node_name: str) -> None:
        self._client = client
        self._node_name = node_name
        self._waiting: collections.deque[Event] = collections.deque()
        self._more = asyncio.Event()
        self._allowance: collections.OrderedDict[str, Allowance] = collections.OrderedDict()
        """By the pod's uid, that with the oldest event first."""

    def record(self, pod: Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        """Record that something happened to a pod, or to one of its containers."""
        now = time.monotonic()
        allowance = self._allowance.setdefault(pod.metadata.uid, Allowance(_BURST, 1 / _REFILL, now))
        self._allowance.move_to_end(pod.metadata.uid)
        if len(self._allowance) > _REMEMBERED:
            self._allowance.popitem(last=False)
        if len(self._waiting) >= _WAITING or not allowance.take(now):
            return
        path = field_path(pod, container) if container else ""
        event = events.new_event(pod, kind, reason, message, component="kubelet", host=self._node_name, field_path=path)
        self._waiting.append(event)
        self._more.set()

    async def run(self) -> None:
        """Send what was recorded, until cancelled."""
        allowance = Allowance(_AT_ONCE, 1 / _PAUSE, time.monotonic())
        while True:
            await self._more.wait()
            await self._burst_is_over()
            for _ in range(len(self._waiting)):
                await asyncio.sleep(allowance.reserve(time.monotonic()))
                await self._send(self._waiting[0])
                self._waiting.popleft()

    async def _burst_is_over(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_WAIT):
                while True:
                    self._more.clear()
                    await asyncio.wait_for(self._more.wait(), _QUIET)

    async def _send(self, event: Event) -> None:
        while True:
            try:
                await events.send(self._client, event)
            except ApiUnavailableError:
                await asyncio.sleep(_RETRY)
                continue
            except Exception as error:
                # Such as a namespace that is being deleted. Reporting must not stop the work reported.
                fault = None if isinstance(error, NetlabError) else error
                log.debug("event %s of pod %s: %s", event.reason, event.involvedObject.name, error, exc_info=fault)
            return


class Allowance:
    """A token bucket: so many at once, and then so many a second."""

    def __init__(self, burst: int, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = float(burst)
        self._seen = now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._refill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def reserve(self, now: float) -> float:
        """Take the next one; the seconds until it is there."""
        self._refill(now)
        self._left -= 1
        return max(0.0, -self._left / self._rate)

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._seen) * self._rate)
        self._seen = now


def field_path(pod: Pod, container: str) -> str:
    """Where a pod has a container of that name (pkg/kubelet/container, fieldPath)."""
    kinds: tuple[tuple[str, list[Container]], ...] = (
        ("containers", pod.spec.containers),
        ("initContainers", pod.spec.initContainers),
        ("ephemeralContainers", [*pod.spec.ephemeralContainers]),
    )
    return next((f"spec.{kind}{{{container}}}" for kind, listed in kinds for c in listed if c.name == container), "")
