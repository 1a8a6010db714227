"""scheduling.k8s.io/v1 PriorityClass, with the field names of the Kubernetes API (1.37)."""

from __future__ import annotations

from netlab.api.meta_types import Object

NEVER = "Never"
"""A preemptionPolicy: its pods wait for room, and take it from nobody."""
PREEMPT_LOWER_PRIORITY = "PreemptLowerPriority"


class PriorityClass(Object):
    """scheduling.k8s.io/v1.PriorityClass; preemptionPolicy is PreemptLowerPriority or Never."""

    value: int = 0
    globalDefault: bool = False
    description: str = ""
    preemptionPolicy: str | None = None
