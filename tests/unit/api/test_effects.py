"""What an object asks for in vain, and the class of quality of service that its resources give it."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from netlab.api.resources import DEPLOYMENTS, NODES, PODS, SERVICES
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, deployment, pod, service

_PODS: Any = PODS
_DEPLOYMENTS: Any = DEPLOYMENTS

C = {"name": "c", "image": "agnhost:2.47"}

WITHOUT_EFFECT: list[tuple[Any, dict[str, Any], list[str]]] = [
    (PODS, pod(), []),
    (PODS, pod(containers=[C | {"ports": [{"containerPort": 80, "hostPort": 80}]}]), []),
    (PODS, pod(containers=[C | {"imagePullPolicy": "Always"}]), ["containers[0].imagePullPolicy"]),
    (PODS, pod(containers=[C | {"imagePullPolicy": "Never"}]), []),
    (PODS, pod(containers=[C | {"terminationMessagePath": "/x", "terminationMessagePolicy": "File"}]), []),
    (PODS, pod(tolerations=[{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}]), []),
    (NODES, {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}, []),
    (SERVICES, service(type="LoadBalancer", loadBalancerClass="a/b"), ["loadBalancerClass"]),
]


@pytest.mark.parametrize(("resource", "manifest", "fields"), WITHOUT_EFFECT)
def test_what_has_no_effect_is_warned_of_once(
    registry: Registry, resource: Any, manifest: dict[str, Any], fields: list[str]
) -> None:
    namespace = "default" if resource.namespaced else ""
    made = registry.create(resource, namespace, copy.deepcopy(manifest))
    assert [text.split(": ")[0] for text in made.warnings] == [f"spec.{field}" for field in fields]
    again = registry.update(resource, namespace, manifest["metadata"]["name"], msgspec.json.decode(made.raw))
    assert [text for text in again.warnings if "stored and returned" not in text] == []


def test_a_templates_fields_have_its_path(registry: Registry) -> None:
    template = deployment()
    template["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    (said,) = registry.create(_DEPLOYMENTS, "default", template).warnings
    assert said.startswith("spec.template.spec.containers[0].imagePullPolicy: ")


def _resources(requests: Any = None, limits: Any = None) -> dict[str, Any]:
    return {name: value for name, value in (("requests", requests), ("limits", limits)) if value is not None}


FULL = {"cpu": "500m", "memory": "1Gi"}

CLASSES = [
    ([{}], "BestEffort"),
    ([_resources(limits=FULL)], "Guaranteed"),
    ([_resources({"cpu": 0.5, "memory": 1 << 30}, FULL)], "Guaranteed"),
    ([_resources({"cpu": "400m"}, FULL)], "Burstable"),
    ([_resources({"cpu": "1"})], "Burstable"),
    ([_resources({"cpu": "0"})], "BestEffort"),
    ([_resources(limits={"cpu": "1"})], "Burstable"),
    ([_resources(limits=FULL), {}], "Burstable"),
    ([_resources({"nvidia.com/gpu": 1}, {"nvidia.com/gpu": 1})], "BestEffort"),
]


@pytest.mark.parametrize(("resources", "expected"), CLASSES)
def test_a_pod_has_its_class_of_quality_of_service(registry: Registry, resources: Any, expected: str) -> None:
    containers = [C | {"name": f"c{number}", "resources": each} for number, each in enumerate(resources)]
    assert create(registry, PODS, pod(containers=containers))["status"]["qosClass"] == expected
