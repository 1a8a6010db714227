"""What a container may use: its limits, in the units in which the kernel enforces them. Pure."""

from __future__ import annotations

import math

from netlab.api import quantities
from netlab.api.core_types import Container
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
    try:
        amount = math.ceil(quantities.parse(str(limits[name])) * unit)
    except ValueError as error:
        raise UsageError(f"limits.{name}: {limits[name]!r} {error}") from error
    # A limit of 0 is none, as a kubelet and a runtime have it.
    return amount if amount > 0 else None
