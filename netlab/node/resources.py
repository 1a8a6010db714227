"""What a container may use: its limits, in the units and the form in which the kernel takes them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from netlab.api import quantities
from netlab.api.core_types import Container, Pod, ResourceFieldSelector
from netlab.api.meta_types import Quantity
from netlab.errors import UsageError


def memory_limit(container: Container) -> int | None:
    """Bytes; None if there is no limit. Raises `UsageError`."""
    return _limit(container, "memory", 1)


def cpu_limit(container: Container) -> int | None:
    """Thousandths of a processor; None if there is no limit. Raises `UsageError`."""
    return _limit(container, "cpu", 1000)


def _limit(container: Container, name: str, unit: int) -> int | None:
    limits = container.resources.limits if container.resources else {}
    if name not in limits:
        return None
    amount = math.ceil(_parsed(limits[name], f"limits.{name}") * unit)
    # A limit of 0 is none, as a kubelet and a runtime have it.
    return amount if amount > 0 else None


_CRITICAL, _GUARANTEED_SCORE, _BEST_EFFORT_SCORE = 2_000_001_000, -997, 1000
"""The priority of node-critical pods (system-node-critical), and scores of proc(5), oom_score_adj."""


def oom_score_adj(pod: Pod, container: Container, capacity: int) -> int:
    """How soon a container is ended when memory runs out (pkg/kubelet/qos, GetContainerOOMScoreAdjust).

    `capacity` is the node's memory, in bytes. Raises `UsageError`.
    """
    if (pod.spec.priority or 0) >= _CRITICAL or pod.status.qosClass == "Guaranteed":
        return _GUARANTEED_SCORE
    if pod.status.qosClass != "Burstable":
        return _BEST_EFFORT_SCORE
    share = _unclaimed(pod) // max(1, len(pod.spec.containers) + len(pod.spec.initContainers))
    amount = _requested(container) + share
    if container.restartPolicy == "Always" and container in pod.spec.initContainers:
        # A sidecar is not ended before those that it serves.
        amount = max(amount, min(_requested(each) for each in pod.spec.containers) + share)
    score = 1000 - 1000 * amount // capacity
    return min(max(score, 1000 + _GUARANTEED_SCORE), _BEST_EFFORT_SCORE - 1)


def _requested(container: Container) -> int:
    requests = container.resources.requests if container.resources else {}
    return math.ceil(_parsed(requests.get("memory", "0"), "requests.memory"))


def _unclaimed(pod: Pod) -> int:
    """What a pod asks for as a whole, less what its containers do."""
    requests = pod.spec.resources.requests if pod.spec.resources else {}
    if "memory" not in requests:
        return 0
    claimed = sum(_requested(each) for each in (*pod.spec.containers, *pod.spec.initContainers))
    return max(0, math.ceil(_parsed(requests["memory"], "requests.memory")) - claimed)


_TOLD = ("cpu", "memory", "ephemeral-storage")


def field(pod: Pod, wanted: ResourceFieldSelector, own: str, allocatable: Mapping[str, Quantity]) -> str:
    """What the downward API tells of a container's resources, rounded up to whole divisors.

    `own` is the container that is meant if none is named. One without a limit may use all that is allocatable
    (pkg/api/v1/resource ExtractContainerResourceValue, MergeContainerResourceLimits). Raises `UsageError`.
    """
    name = wanted.containerName or own
    listed = [*pod.spec.initContainers, *pod.spec.containers]
    container = next((each for each in listed if each.name == name), None)
    if container is None:
        raise UsageError(f"container {name} not found")
    kind, _, resource = wanted.resource.partition(".")
    if kind not in ("limits", "requests") or resource not in _TOLD:
        known = ", ".join(f"{each}.{name}" for each in ("limits", "requests") for name in _TOLD)
        raise UsageError(f"unsupported container resource {wanted.resource!r}: use one of {known}")
    resources = container.resources
    limits, requests = (resources.limits, resources.requests) if resources else ({}, {})
    # A limit of 0 is none.
    amount = _parsed((limits if kind == "limits" else requests).get(resource, "0"), wanted.resource)
    if kind == "limits" and amount == 0:
        amount = _parsed(allocatable.get(resource, "0"), wanted.resource)
    divisor = _parsed(wanted.divisor or "0", "divisor") or Fraction(1)
    return str(math.ceil(amount / divisor))


def _parsed(text: Quantity, what: str) -> Fraction:
    try:
        return quantities.parse(str(text))
    except ValueError as error:
        raise UsageError(f"{what}: {text!r} {error}") from error
