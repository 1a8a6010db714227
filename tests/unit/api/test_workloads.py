"""Workloads as the server takes them: defaults, what is refused, and what may change."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import (
    CONTROLLERREVISIONS,
    DAEMONSETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    Resource,
)
from netlab.api.server import subresources
from netlab.api.server.registry import Registry
from tests.unit.api.cluster import create, refused, update

_SELECTOR = {"matchLabels": {"app": "x"}}


def _workload(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "pause"}]}}
    return {"metadata": {"name": "x"}, "spec": {"selector": _SELECTOR, "template": template} | spec}


def _daemons(**rolling: Any) -> dict[str, Any]:
    return _workload(updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling})


REFUSED: list[tuple[Resource[Any], dict[str, Any], str]] = [
    (DAEMONSETS, _workload(selector={}), "empty selector is invalid"),
    (DAEMONSETS, _workload(selector={"matchLabels": {"app": "y"}}), "`selector` does not match template `labels`"),
    (DAEMONSETS, _workload(updateStrategy={"type": "Some"}), "spec.updateStrategy.type: Unsupported value"),
    (DAEMONSETS, _daemons(maxUnavailable=1, maxSurge=1), "may not be set when maxUnavailable is non-zero"),
    (DAEMONSETS, _daemons(maxUnavailable=0), "cannot be 0 when maxSurge is 0"),
    (DAEMONSETS, _daemons(maxUnavailable="x%"), "must be an integer or percentage"),
    (STATEFULSETS, _workload(podManagementPolicy="Some"), "spec.podManagementPolicy: Unsupported value"),
    (STATEFULSETS, _workload(ordinals={"start": -1}), "spec.ordinals.start"),
    (STATEFULSETS, _daemons(partition=-1), "spec.updateStrategy.rollingUpdate.partition"),
    (STATEFULSETS, _daemons(maxUnavailable=0), "cannot be 0"),
    (
        STATEFULSETS,
        _workload(updateStrategy={"type": "OnDelete", "rollingUpdate": {}}),
        "only allowed for updateStrategy 'RollingUpdate'",
    ),
    (REPLICATIONCONTROLLERS, {"metadata": {"name": "x"}, "spec": {"selector": {"a": "b"}}}, "spec.template: Required"),
    (REPLICATIONCONTROLLERS, _workload(selector={"app": "y"}), "`selector` does not match template `labels`"),
    (CONTROLLERREVISIONS, {"metadata": {"name": "x"}, "revision": 1}, "data is mandatory"),
]


@pytest.mark.parametrize(("resource", "manifest", "text"), REFUSED)
def test_what_is_refused(registry: Registry, resource: Resource[Any], manifest: dict[str, Any], text: str) -> None:
    with refused(422, text):
        create(registry, resource, manifest)


def test_defaults(registry: Registry) -> None:
    daemons = create(registry, DAEMONSETS, _workload())
    assert daemons["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
    }
    assert daemons["status"]["desiredNumberScheduled"] == 0
    state = create(registry, STATEFULSETS, _workload())["spec"]
    assert (state["replicas"], state["podManagementPolicy"]) == (1, "OrderedReady")
    assert state["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    manifest = _workload()
    del manifest["spec"]["selector"]
    controller = create(registry, REPLICATIONCONTROLLERS, manifest)
    assert controller["spec"]["selector"] == controller["metadata"]["labels"] == {"app": "x"}
    assert subresources.scale_of(controller)["status"]["selector"] == "app=x"


def test_what_never_changes(registry: Registry) -> None:
    made = create(registry, STATEFULSETS, _workload(serviceName="a"))
    changed = made | {"spec": made["spec"] | {"serviceName": "b"}}
    with refused(422, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template'"):
        update(registry, STATEFULSETS, changed)
    daemons = create(registry, DAEMONSETS, _workload())
    other = {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]}
    with refused(422, "spec.selector", "field is immutable"):
        update(registry, DAEMONSETS, daemons | {"spec": daemons["spec"] | {"selector": other}})
    revision = create(registry, CONTROLLERREVISIONS, {"metadata": {"name": "x"}, "data": {"a": 1}, "revision": 1})
    revision = update(registry, CONTROLLERREVISIONS, revision | {"revision": 2})
    assert revision["revision"] == 2
    with refused(422, "data", "field is immutable"):
        update(registry, CONTROLLERREVISIONS, revision | {"data": {"a": 2}})
