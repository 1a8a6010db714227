"""LimitRanges: what pods are given, and what is refused, in upstream's words."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import LIMITRANGES, PODS, STORED
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, pod, refused

_CLAIMS = next(each for each in STORED if each.plural == "persistentvolumeclaims")


def _limit(registry: Registry, kind: str = "Container", name: str = "l", **item: Any) -> Any:
    return create(registry, LIMITRANGES, {"metadata": {"name": name}, "spec": {"limits": [{"type": kind} | item]}})


def _container(**resources: Any) -> dict[str, Any]:
    return {"name": "c", "image": "pause", "resources": resources}


def _claim(storage: str) -> dict[str, Any]:
    asked = {"requests": {"storage": storage}}
    return {"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": asked}}


def test_the_defaults_of_a_limit_range_follow_from_each_other(registry: Registry) -> None:
    made = _limit(registry, max={"cpu": "2"}, min={"cpu": "1", "memory": "1Mi"}, default={"memory": "4Mi"})
    (item,) = made["spec"]["limits"]
    assert item["default"] == {"cpu": "2", "memory": "4Mi"}
    assert item["defaultRequest"] == {"cpu": "2", "memory": "4Mi"}


@pytest.mark.parametrize(
    ("said", "requests", "limits", "annotation"),
    [
        (
            {},
            {"cpu": "100m", "memory": "1Mi"},
            {"cpu": "500m"},
            "cpu, memory request for container c; cpu limit for container c",
        ),
        (
            {"requests": {"cpu": "1m"}, "limits": {"cpu": "2m"}},
            {"cpu": "1m", "memory": "1Mi"},
            {"cpu": "2m"},
            "memory request for container c",
        ),
        # A limit is asked for, too, before LimitRanges are looked at (SetDefaults_Pod).
        (
            {"limits": {"cpu": "2m", "memory": "3Mi"}},
            {"cpu": "2m", "memory": "3Mi"},
            {"cpu": "2m", "memory": "3Mi"},
            "",
        ),
    ],
)
def test_a_container_asks_for_the_default(
    registry: Registry, said: Any, requests: Any, limits: Any, annotation: str
) -> None:
    _limit(registry, default={"cpu": "500m"}, defaultRequest={"cpu": "100m", "memory": "1Mi"})
    made = create(registry, PODS, pod(containers=[_container(**said)]))
    assert made["spec"]["containers"][0]["resources"] == {"requests": requests, "limits": limits}
    said_so = made["metadata"].get("annotations", {}).get("kubernetes.io/limit-ranger", "")
    assert said_so == (f"LimitRanger plugin set: {annotation}" if annotation else "")
    assert made["status"]["qosClass"] == "Burstable" if annotation else "Guaranteed"


@pytest.mark.parametrize(
    ("item", "resources", "why"),
    [
        ({"min": {"cpu": "1"}, "defaultRequest": {}}, {"requests": {"cpu": "1"}}, ""),
        (
            {"min": {"memory": "6Mi"}},
            {"requests": {"memory": "5Mi"}},
            "minimum memory usage per Container is 6Mi, but request is 5Mi",
        ),
        (
            {"max": {"cpu": "500m"}},
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "600m"}},
            "maximum cpu usage per Container is 500m, but limit is 600m",
        ),
        (
            {"max": {"cpu": "500m"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}},
            "maximum cpu usage per Container is 500m, but limit is 1",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {},
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            {"min": {"memory": "6Mi"}, "max": {"cpu": "1"}},
            {"requests": {"memory": "5Mi"}, "limits": {"cpu": "2"}},
            "[minimum memory usage per Container is 6Mi, but request is 5Mi, maximum cpu usage per Container is 1, but "
            "limit is 2]",
        ),
    ],
)
def test_what_a_container_may_ask_for(registry: Registry, item: Any, resources: Any, why: str) -> None:
    _limit(registry, **item)
    if not why:
        create(registry, PODS, pod(containers=[_container(**resources)]))
        return
    with refused(403, f'pods "p" is forbidden: {why}'):
        create(registry, PODS, pod(containers=[_container(**resources)]))


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"max": {"cpu": "300m"}}, ""),
        ({"max": {"cpu": "250m"}}, "maximum cpu usage per Pod is 250m, but limit is 300m"),
        ({"max": {"memory": "1"}}, "maximum memory usage per Pod is 1.  No limit is specified"),
        ({"min": {"memory": "1"}}, "minimum memory usage per Pod is 1.  No request is specified"),
        ({"min": {"cpu": "301m"}}, "minimum cpu usage per Pod is 301m, but request is 300m"),
    ],
)
def test_what_a_pod_may_ask_for(registry: Registry, item: Any, why: str) -> None:
    _limit(registry, "Pod", **item)
    containers = [_container(limits={"cpu": "100m"}), _container(limits={"cpu": "200m"}) | {"name": "d"}]
    initial = [_container(limits={"cpu": "50m"}) | {"name": "i"}]
    asked = pod(containers=containers, initContainers=initial)
    if not why:
        create(registry, PODS, asked)
        return
    with refused(403, f'pods "p" is forbidden: {why}'):
        create(registry, PODS, asked)


@pytest.mark.parametrize(
    ("storage", "why"),
    [
        ("1Gi", ""),
        ("100Mi", "minimum storage usage per PersistentVolumeClaim is 512Mi, but request is 100Mi"),
        ("4Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 4Gi"),
    ],
)
def test_what_a_claim_may_ask_for(registry: Registry, storage: str, why: str) -> None:
    _limit(registry, "PersistentVolumeClaim", min={"storage": "512Mi"}, max={"storage": "2Gi"})
    if not why:
        create(registry, _CLAIMS, _claim(storage))
        return
    with refused(403, f'persistentvolumeclaims "v" is forbidden: {why}'):
        create(registry, _CLAIMS, _claim(storage))


def test_other_namespaces_and_present_pods_are_not_concerned(registry: Registry) -> None:
    made = create(registry, PODS, pod())
    _limit(registry, min={"cpu": "1"})
    made["metadata"]["labels"] = {"a": "b"}
    registry.update(PODS, "default", "p", made)  # type: ignore[arg-type]
    create(registry, PODS, pod(), "kube-system")


@pytest.mark.parametrize(
    ("limits", "texts"),
    [
        ([{"type": "Node"}], ["spec.limits[0].type", "must be a standard limit type or fully qualified"]),
        ([{"type": "Pod"}, {"type": "Pod"}], ["spec.limits[1].type: Duplicate value"]),
        ([{"type": "Pod", "default": {"cpu": "1"}}], ["may not be specified when `type` is 'Pod'"]),
        ([{"type": "PersistentVolumeClaim"}], ["either minimum or maximum storage value is required"]),
        (
            [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}],
            ["spec.limits[0].min[cpu]", "min value 2 is greater than max value 1"],
        ),
        ([{"type": "Container", "maxLimitRequestRatio": {"cpu": "800m"}}], ["ratio 800m is less than 1"]),
        (
            [{"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}],
            ["ratio 3 is greater than max/min = 2.000000"],
        ),
        ([{"type": "Container", "max": {"cpu": "much"}}], ["is no quantity"]),
    ],
)
def test_what_is_no_limit_range(registry: Registry, limits: Any, texts: list[str]) -> None:
    with refused(422, *texts):
        create(registry, LIMITRANGES, {"metadata": {"name": "l"}, "spec": {"limits": limits}})
