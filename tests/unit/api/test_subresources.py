"""Scale and Eviction: what is read of them and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import DEPLOYMENTS, PODS, Resource
from netlab.api.server.registry import generic as registry_module
from netlab.api.server.registry.generic import Registry
from netlab.api.server.registry.subresources import bound_node, eviction_options, scale_of, scaled
from tests.unit.api.cluster import create, deployment, pod, refused, update

_WORKLOAD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
    "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {}},
    "status": {"replicas": 2},
}


def test_a_scale_is_a_part_of_a_workload() -> None:
    assert scale_of(_WORKLOAD) == {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7"},
        "spec": {"replicas": 3},
        "status": {"replicas": 2, "selector": "app=web"},
    }


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, {"uid": "u", "resourceVersion": "7"}),
        ({"name": "web", "resourceVersion": "6"}, {"uid": "u", "resourceVersion": "6"}),
        ({"uid": "v"}, {"uid": "v", "resourceVersion": "7"}),
    ],
)
def test_a_scale_changes_the_replicas_alone(metadata: dict[str, str], expected: dict[str, str]) -> None:
    changed = scaled(_WORKLOAD, scale_of(_WORKLOAD) | {"metadata": metadata, "spec": {"replicas": 5}})
    assert changed["spec"] == _WORKLOAD["spec"] | {"replicas": 5}
    assert changed["metadata"] == _WORKLOAD["metadata"] | expected
    assert _WORKLOAD["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        ({"spec": {"replicas": -1}}, 422, 'Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1'),
        ({"spec": {"replicas": "x"}}, 400, "Scale: Expected `int`"),
        ({"kind": "Deployment"}, 400, "is not the expected one (Scale of autoscaling/v1)"),
        ({"apiVersion": "autoscaling/v9"}, 400, "is not the expected one"),
        ({"metadata": {"name": "other"}}, 400, "does not match the name on the URL"),
        ([], 400, "Scale: Expected `object`"),
    ],
)
def test_wrong_scales(sent: Any, code: int, message: str) -> None:
    with refused(code, message):
        scaled(_WORKLOAD, sent)


def test_evictions_of_both_versions() -> None:
    for version in ("policy/v1", "policy/v1beta1"):
        sent = {"kind": "Eviction", "apiVersion": version, "deleteOptions": {"gracePeriodSeconds": 5}}
        assert eviction_options(sent, "p").gracePeriodSeconds == 5
    with refused(400, "does not match"):
        eviction_options({"metadata": {"name": "q"}}, "p")


@pytest.mark.parametrize("sent", [{}, {"target": 1}, {"target": {"name": ""}}, {"target": {"name": 1}}])
def test_a_binding_needs_a_node(sent: dict[str, Any]) -> None:
    with refused(400, r"target.name"):
        bound_node(sent)


# --- names that the server makes up ---------------------------------------------------------------------------------


def _sequence(monkeypatch: pytest.MonkeyPatch, letters: str) -> None:
    remaining = iter(letters)
    monkeypatch.setattr(registry_module.secrets, "choice", lambda _: next(remaining))  # type: ignore[attr-defined]


def test_a_made_up_name_that_is_taken_is_made_up_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    create(registry, PODS, pod("p-aaaaa"))
    _sequence(monkeypatch, "aaaaa" * 7 + "bbbbb")
    made = create(registry, PODS, pod() | {"metadata": {"generateName": "p-"}})
    assert made["metadata"]["name"] == "p-bbbbb"
    _sequence(monkeypatch, "aaaaa" * 8)
    with refused(409, "the server was not able to generate a unique name"):
        create(registry, PODS, pod() | {"metadata": {"generateName": "p-"}})


def test_a_made_up_name_that_was_taken_meanwhile_is_not_current(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource: Resource[Any] = DEPLOYMENTS
    _sequence(monkeypatch, "aaaaa")
    draft = registry.draft_of_new(resource, "default", deployment() | {"metadata": {"generateName": "d-"}})
    assert registry.is_current(draft)
    create(registry, DEPLOYMENTS, deployment("d-aaaaa"))
    assert not registry.is_current(draft)


def _with(*containers: dict[str, Any]) -> dict[str, Any]:
    sent = pod(ephemeralContainers=list(containers))
    return sent | {"metadata": {"name": "p", "namespace": "default"}}


DEBUGGER = {"name": "debugger", "image": "busybox", "targetContainerName": "c", "stdin": True, "tty": True}


def test_containers_are_added_to_a_pod_that_is_there(registry: Registry) -> None:
    made = create(registry, PODS, pod())
    sent = pod(containers=[{"name": "other", "image": "x"}], ephemeralContainers=[DEBUGGER])
    sent["metadata"] = made["metadata"] | {"labels": {"a": "b"}}
    added = update(registry, PODS, sent, "ephemeralcontainers")
    (debugger,) = added["spec"].pop("ephemeralContainers")
    assert debugger.items() >= (DEBUGGER | {"imagePullPolicy": "Always", "terminationMessagePolicy": "File"}).items()
    assert added["spec"] == made["spec"]
    assert added["metadata"]["generation"] == 2
    assert "labels" not in added["metadata"]
    more = update(registry, PODS, _with(DEBUGGER, {"name": "second", "image": "agnhost"}), "ephemeralcontainers")
    assert [each["name"] for each in more["spec"]["ephemeralContainers"]] == ["debugger", "second"]


@pytest.mark.parametrize(
    ("containers", "message"),
    [
        ([], 'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debugger" may not be removed'),
        ([DEBUGGER | {"tty": False}], 'existing ephemeral containers "debugger" may not be changed'),
        ([DEBUGGER, {"name": "c", "image": "x"}], 'spec.ephemeralContainers[1].name: Duplicate value: "c"'),
        ([DEBUGGER, {"name": "d"}], "spec.ephemeralContainers[1].image: Required value"),
        (
            [DEBUGGER, {"name": "d", "image": "x", "targetContainerName": "debugger"}],
            'spec.ephemeralContainers[1].targetContainerName: Not found: "debugger"',
        ),
        (
            [DEBUGGER, {"name": "d", "image": "x", "ports": [{"containerPort": 80}]}],
            "spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            [DEBUGGER, {"name": "d", "image": "x", "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}],
            "spec.ephemeralContainers[1].lifecycle: Forbidden",
        ),
        (
            [DEBUGGER, {"name": "d", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}],
            "spec.ephemeralContainers[1].volumeMounts[0].subPath: Forbidden",
        ),
    ],
)
def test_what_is_added_to_a_pod_is_checked_and_stays(registry: Registry, containers: Any, message: str) -> None:
    create(registry, PODS, pod())
    update(registry, PODS, _with(DEBUGGER), "ephemeralcontainers")
    with refused(422, message):
        update(registry, PODS, _with(*containers), "ephemeralcontainers")


def test_nothing_else_adds_containers_to_a_pod(registry: Registry) -> None:
    with refused(422, "spec.ephemeralContainers: Forbidden: cannot be set on create"):
        create(registry, PODS, pod(ephemeralContainers=[DEBUGGER]))
    template = deployment()
    template["spec"]["template"]["spec"]["ephemeralContainers"] = [DEBUGGER]
    with refused(422, "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod"):
        create(registry, DEPLOYMENTS, template)
    made = create(registry, PODS, pod())
    made["spec"]["ephemeralContainers"] = [DEBUGGER]
    with refused(422, "pod updates may not change fields other than"):
        update(registry, PODS, made)
