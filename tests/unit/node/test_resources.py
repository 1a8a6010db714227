"""A container's limits, in the kernel's units, and as the downward API tells of them."""

from __future__ import annotations

import msgspec
import pytest

from netlab.api.core_types import Container, Pod, ResourceFieldSelector, ResourceRequirements
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


_LIMITED = {"limits": {"cpu": "1250m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}}
_POD = msgspec.convert(
    {
        "metadata": {"name": "p"},
        "spec": {
            "initContainers": [{"name": "init", "resources": {"limits": {"cpu": "3"}}}],
            "containers": [{"name": "c", "resources": _LIMITED}, {"name": "free"}],
        },
    },
    Pod,
)


@pytest.mark.parametrize(
    ("wanted", "own", "told"),
    [
        ({"resource": "limits.cpu"}, "c", "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "c", "1250"),
        ({"resource": "limits.cpu", "divisor": "0"}, "c", "2"),
        ({"resource": "requests.cpu"}, "c", "1"),
        ({"resource": "limits.memory"}, "c", "67108864"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "c", "32"),
        ({"resource": "limits.cpu", "containerName": "init"}, "c", "3"),
        ({"resource": "limits.cpu"}, "free", "8"),
        ({"resource": "limits.memory", "divisor": "1Ki"}, "free", "1000"),
        ({"resource": "requests.memory"}, "free", "0"),
        ({"resource": "limits.ephemeral-storage"}, "c", "0"),
    ],
)
def test_what_a_container_is_told(wanted: dict[str, str], own: str, told: str) -> None:
    selector = msgspec.convert(wanted, ResourceFieldSelector)
    assert resources.field(_POD, selector, own, {"cpu": "8", "memory": "1000Ki"}) == told


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"resource": "limits.cpu", "containerName": "other"}, "container other not found"),
        ({"resource": "limits.gpu"}, "unsupported container resource 'limits.gpu': use one of limits.cpu"),
        ({"resource": "cpu"}, "unsupported container resource 'cpu'"),
        ({"resource": "limits.cpu", "divisor": "one"}, "divisor: 'one' is no quantity"),
    ],
)
def test_what_a_container_cannot_be_told(wanted: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        resources.field(_POD, msgspec.convert(wanted, ResourceFieldSelector), "c", {})


SIDECAR = {"name": "s", "restartPolicy": "Always"}


def _asking(memory: str) -> dict[str, object]:
    return {"resources": {"requests": {"memory": memory}}}


@pytest.mark.parametrize(
    ("spec", "qos", "expected"),
    [
        ({"containers": [{"name": "c"}]}, "BestEffort", 1000),
        ({"containers": [{"name": "c", **_asking("1Gi")}]}, "Guaranteed", -997),
        ({"containers": [{"name": "c"}], "priority": 2_000_001_000}, "BestEffort", -997),
        ({"containers": [{"name": "c", **_asking("1Gi")}]}, "Burstable", 900),
        ({"containers": [{"name": "c"}]}, "Burstable", 999),
        ({"containers": [{"name": "c", **_asking("100Gi")}]}, "Burstable", 3),
        ({"containers": [{"name": "c"}, {"name": "d"}], **_asking("2Gi")}, "Burstable", 900),
        # A sidecar stays as long as the container that it serves.
        ({"initContainers": [SIDECAR], "containers": [{"name": "c", **_asking("1Gi")}]}, "Burstable", 900),
    ],
)
def test_who_is_ended_first(spec: dict[str, object], qos: str, expected: int) -> None:
    pod = msgspec.convert({"spec": spec, "status": {"qosClass": qos}}, Pod)
    first = next(iter(pod.spec.all_containers()))
    assert resources.oom_score_adj(pod, first, 10 << 30) == expected
