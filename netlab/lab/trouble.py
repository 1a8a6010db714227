"""Why a pod is not ready, in the words of its status."""

from __future__ import annotations

from netlab.api.core_types import Pod


def is_ready(pod: Pod) -> bool:
    """Whether the pod's Ready condition is True."""
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def trouble(pod: Pod) -> str:
    """The pod's name and why it is not ready."""
    for status in pod.status.containerStatuses:
        waiting = status.state.waiting
        if waiting is not None and waiting.reason:
            why = waiting.message or _sandbox_trouble(pod)
            return f"{pod.metadata.name}: container {status.name}: {waiting.reason} {why}".strip()
    for condition in pod.status.conditions:
        if condition.status == "False" and condition.message:
            return f"{pod.metadata.name}: {condition.message}"
    return f"{pod.metadata.name}: {pod.status.phase or 'Pending'}"


def _sandbox_trouble(pod: Pod) -> str:
    """Why a pod has no network yet."""
    return next((c.message for c in pod.status.conditions if c.type == "PodReadyToStartContainers"), "")
