"""Pods of a RuntimeClass."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import PODS, RUNTIMECLASSES
from netlab.api.server.admission.runtimeclass import merged
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, pod, refused, update

TOLERATION = {"key": "gpu", "operator": "Exists"}
ALL_OF_IT = {
    "overhead": {"podFixed": {"cpu": "10m"}},
    "scheduling": {"nodeSelector": {"gpu": "yes"}, "tolerations": [TOLERATION]},
}


def _class(registry: Registry, **fields: Any) -> None:
    create(registry, RUNTIMECLASSES, {"metadata": {"name": "fast"}, "handler": "runc"} | fields)


def test_a_pod_gets_what_its_class_needs(registry: Registry) -> None:
    _class(registry, **ALL_OF_IT)
    own = {"nodeSelector": {"zone": "a"}, "tolerations": [{"key": "gpu", "operator": "Equal", "value": "1"}]}
    spec = create(registry, PODS, pod("p", runtimeClassName="fast", **own))["spec"]
    assert spec["overhead"] == {"cpu": "10m"}
    assert spec["nodeSelector"] == {"zone": "a", "gpu": "yes"}
    said = [each for each in spec["tolerations"] if "tolerationSeconds" not in each]
    assert said == [TOLERATION], "what includes another toleration stands for it"


def test_a_class_without_wishes_changes_nothing(registry: Registry) -> None:
    _class(registry)
    plain, classed = (create(registry, PODS, pod(name, **spec))["spec"] for name, spec in _PAIR)
    assert classed == plain | {"runtimeClassName": "fast"}


_PAIR: list[tuple[str, dict[str, Any]]] = [("a", {}), ("b", {"runtimeClassName": "fast"})]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"runtimeClassName": "slow"}, 'pod rejected: RuntimeClass "slow" not found'),
        ({"overhead": {"cpu": "1"}}, "pod rejected: Pod Overhead set without corresponding RuntimeClass"),
        ({"runtimeClassName": "fast", "overhead": {"cpu": "1"}}, "pod rejected: Pod's Overhead doesn't match"),
        (
            {"runtimeClassName": "fast", "nodeSelector": {"gpu": "no"}},
            "conflict: runtimeClass.scheduling.nodeSelector[gpu] = yes; pod.spec.nodeSelector[gpu] = no",
        ),
    ],
)
def test_a_pod_is_rejected(registry: Registry, spec: dict[str, Any], why: str) -> None:
    _class(registry, **ALL_OF_IT)
    with refused(403, f'pods "p" is forbidden: {why}'):
        create(registry, PODS, pod("p", **spec))


def test_a_handler_stays(registry: Registry) -> None:
    with refused(422, "handler"):
        _class(registry, handler="Not a label")
    _class(registry)
    made = registry.get(RUNTIMECLASSES, "", "fast").decode()  # type: ignore[arg-type]
    with refused(422, "handler: Invalid value"):
        update(registry, RUNTIMECLASSES, made | {"handler": "kata"})


A, A_EXISTS, ANY = {"key": "a", "value": "1"}, {"key": "a", "operator": "Exists"}, {"operator": "Exists"}
LONG, SHORT = ({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": n} for n in (9, 3))


@pytest.mark.parametrize(
    ("tolerations", "kept"),
    [
        ([A, A], [A]),
        ([A, A_EXISTS], [A_EXISTS]),
        ([A_EXISTS, A], [A_EXISTS]),
        ([A, {"key": "b"}], [A, {"key": "b"}]),
        ([A, {**A, "value": "2"}], [A, {**A, "value": "2"}]),
        ([A_EXISTS, ANY], [ANY]),
        ([SHORT, LONG], [LONG]),
        ([{**A_EXISTS, "effect": "NoSchedule"}, A_EXISTS], [A_EXISTS]),
    ],
)
def test_tolerations_that_others_include(tolerations: list[Any], kept: list[Any]) -> None:
    assert merged(tolerations) == kept
