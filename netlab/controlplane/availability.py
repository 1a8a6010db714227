"""When a pod counts as available: once it has been ready for minReadySeconds."""

from __future__ import annotations

import datetime

from netlab.api.core_types import Pod
from netlab.controlplane.cluster import condition_of, is_ready, parse_time


def available_in(pod: Pod, min_ready_seconds: int, moment: datetime.datetime) -> float | None:
    """Seconds until a pod is available, 0 if it is; None if it is not ready."""
    if not is_ready(pod):
        return None
    if not min_ready_seconds:
        return 0
    condition = condition_of(pod.status.conditions, "Ready")
    if condition is None or condition.lastTransitionTime is None:
        return None
    return max(0.0, min_ready_seconds - (moment - parse_time(condition.lastTransitionTime)).total_seconds())


def is_available(pod: Pod, min_ready_seconds: int, moment: datetime.datetime) -> bool:
    """Whether a pod is available."""
    return available_in(pod, min_ready_seconds, moment) == 0


def next_available(pods: list[Pod], min_ready_seconds: int, moment: datetime.datetime) -> float | None:
    """Seconds until the next ready pod is available; None if none waits for that."""
    waits = (available_in(pod, min_ready_seconds, moment) for pod in pods)
    return min((wait for wait in waits if wait), default=None)
