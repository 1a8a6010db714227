"""What a pod asks for of a node, and may use: of all its containers together (component-helpers/resource)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api import quantities
from netlab.api.quantities import Quantity

Amounts = dict[str, Quantity]
"""By the name of a resource: cpu, memory and so on."""

REQUESTS, LIMITS = "requests", "limits"

OF_A_POD = ("cpu", "memory")
"""What may be said of a pod as a whole (KEP-2837); besides, hugepages."""
HUGE_PAGES = "hugepages-"


def amounts(listed: Mapping[str, Any] | None) -> Amounts:
    """A ResourceList's quantities; what cannot be read is left out."""
    found: Amounts = {}
    for name, text in (listed or {}).items():
        try:
            found[name] = quantities.read(text)
        except ValueError:
            continue
    return found


def of_container(container: Mapping[str, Any], part: str) -> Amounts:
    """What a container asks for (REQUESTS), or may use (LIMITS)."""
    return amounts((container.get("resources") or {}).get(part))


def of_pod(spec: Mapping[str, Any], part: str, *, overhead: bool = True) -> Amounts:
    """The same of a pod, on the JSON of its spec: the sum of its containers', but at least what initialisation takes.

    An init container that goes on (KEP-753) counts with the containers, and with those that come after it.
    """
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, of_container(container, part))
    going_on: Amounts = {}
    most: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = of_container(container, part)
        if container.get("restartPolicy") == "Always":
            _add(total, own)
            _add(going_on, own)
            _raise(most, going_on)
        else:
            together = dict(own)
            _add(together, going_on)
            _raise(most, together)
    _raise(total, most)
    for name, amount in amounts((spec.get("resources") or {}).get(part)).items():
        if name in OF_A_POD or name.startswith(HUGE_PAGES):
            total[name] = amount
    if overhead:
        for name, amount in amounts(spec.get("overhead")).items():
            if part == REQUESTS or name in total:
                _add(total, {name: amount})
    return total


def is_said_of_the_whole(spec: Mapping[str, Any]) -> bool:
    """Whether a pod says itself what it asks for, and not its containers alone (IsPodLevelResourcesSet)."""
    resources = spec.get("resources") or {}
    named: Iterator[str] = (name for part in (REQUESTS, LIMITS) for name in resources.get(part) or ())
    return any(name in OF_A_POD or name.startswith(HUGE_PAGES) for name in named)


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total[name] + amount if name in total else amount


def _raise(total: Amounts, least: Amounts) -> None:
    for name, amount in least.items():
        if name not in total or total[name].amount < amount.amount:
            total[name] = amount
