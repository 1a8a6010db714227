"""A container's limits, in the kernel's units."""

from __future__ import annotations

import pytest

from netlab.api.core_types import Container, ResourceRequirements
from netlab.errors import UsageError
from netlab.node import resources


@pytest.mark.parametrize(
    ("limits", "memory", "cpu"),
    [
        (None, None, None),
        ({}, None, None),
        ({"memory": "64Mi", "cpu": "100m"}, 64 << 20, 100),
        ({"memory": 1000, "cpu": 2}, 1000, 2000),
        ({"memory": "1.5", "cpu": 0.5}, 2, 500),
        ({"cpu": "100u"}, None, 1),
        ({"memory": "0", "cpu": "0"}, None, None),
        ({"memory": "-1"}, None, None),
        ({"ephemeral-storage": "1Gi"}, None, None),
    ],
)
def test_limits_are_rounded_up(
    limits: dict[str, str | int | float] | None, memory: int | None, cpu: int | None
) -> None:
    container = Container(name="c", resources=None if limits is None else ResourceRequirements(limits=limits))
    assert (resources.memory_limit(container), resources.cpu_limit(container)) == (memory, cpu)


@pytest.mark.parametrize("written", ["much", "", "1 Gi", "1e999"])
def test_what_is_no_quantity_is_named(written: str) -> None:
    container = Container(name="c", resources=ResourceRequirements(limits={"memory": written}))
    with pytest.raises(UsageError, match=r"limits\.memory"):
        resources.memory_limit(container)
