"""What a pod asks for of a node, as whole numbers: of cpu thousandths, of all else units.

As upstream does, a sum is exact, and then rounded up to what is counted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from netlab.api import pod_resources, quantities
from netlab.api.core_types import Container, PodSpec
from netlab.api.meta_types import Quantity
from netlab.api.pod_resources import REQUESTS

CPU, MEMORY, PODS = "cpu", "memory", "pods"

Amounts = dict[str, int]
"""Thousandths of cpu, bytes of memory and storage, pieces of all else, by the resource's name."""

_UNSAID: Mapping[str, Quantity] = {CPU: "100m", MEMORY: "200Mi"}
"""What a container that asks for nothing is taken to use when nodes are compared (scheduler/util pod_resources.go)."""


@functools.lru_cache(maxsize=4096)
def amount(resource: str, quantity: Quantity) -> int:
    """A quantity of a resource; what cannot be read is nothing."""
    try:
        exact = quantities.parse(str(quantity))
    except ValueError:
        return 0
    return math.ceil(exact * 1000 if resource == CPU else exact)


def amounts(listed: Mapping[str, Quantity]) -> Amounts:
    """The amounts of a list of quantities."""
    return {name: amount(name, quantity) for name, quantity in listed.items()}


def of_pod(spec: PodSpec) -> Amounts:
    """What a pod asks for."""
    return _together(spec, {})


def compared(spec: PodSpec) -> Amounts:
    """The cpu and memory that a pod is taken to use when nodes are compared (NodeResourcesFitArgs' default)."""
    asked = _together(spec, _UNSAID)
    return {name: asked.get(name, 0) for name in _UNSAID}


def _together(spec: PodSpec, unsaid: Mapping[str, Quantity]) -> Amounts:
    asked = {
        "containers": [_of_container(each, unsaid) for each in spec.containers],
        "initContainers": [_of_container(each, unsaid) for each in spec.initContainers],
        "resources": {REQUESTS: spec.resources.requests} if spec.resources is not None else None,
        "overhead": spec.overhead,
    }
    total = pod_resources.of_pod(asked, REQUESTS)
    return {name: math.ceil(found.amount * 1000 if name == CPU else found.amount) for name, found in total.items()}


def _of_container(container: Container, unsaid: Mapping[str, Quantity]) -> dict[str, Any]:
    asked = container.resources.requests if container.resources is not None else {}
    return {"resources": {REQUESTS: {**unsaid, **asked}}, "restartPolicy": container.restartPolicy}
