"""Workloads as the server takes them: defaults, what is refused, and what may change."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import (
    CONTROLLERREVISIONS,
    CRONJOBS,
    DAEMONSETS,
    JOBS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    Resource,
)
from netlab.api.server.registry import subresources
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, refused, update

_SELECTOR = {"matchLabels": {"app": "x"}}


def _workload(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "pause"}]}}
    return {"metadata": {"name": "x"}, "spec": {"selector": _SELECTOR, "template": template} | spec}


def _daemons(**rolling: Any) -> dict[str, Any]:
    return _workload(updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling})


def _job(restart: str = "Never", **spec: Any) -> dict[str, Any]:
    manifest = _workload(**{"completions": 1, "parallelism": 1} | spec)
    del manifest["spec"]["selector"]
    manifest["spec"]["template"]["spec"]["restartPolicy"] = restart
    return manifest


def _cron_job(**spec: Any) -> dict[str, Any]:
    template = {"spec": _job()["spec"]}
    return {"metadata": {"name": "x"}, "spec": {"schedule": "* * * * *", "jobTemplate": template} | spec}


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
    (JOBS, _job(restart="Always"), "spec.template.spec.restartPolicy: Unsupported value"),
    (JOBS, _job(completionMode="Indexed", completions=None, parallelism=1), "when completion mode is Indexed"),
    (JOBS, _job(backoffLimitPerIndex=1), "requires indexed completion mode"),
    (JOBS, _job(completionMode="Indexed", maxFailedIndexes=1), "when maxFailedIndexes is specified"),
    (JOBS, _job(parallelism=-1), "spec.parallelism"),
    (JOBS, _job(podReplacementPolicy="Some"), "spec.podReplacementPolicy: Unsupported value"),
    (JOBS, _job(podFailurePolicy={"rules": [{"action": "Ignore"}]}), "one of OnExitCodes and OnPodConditions"),
    (
        JOBS,
        _job(podFailurePolicy={"rules": [{"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}]}),
        "must not be 0 for the In operator",
    ),
    (JOBS, _job(manualSelector=True), "spec.selector: Required value"),
    (CRONJOBS, _cron_job(schedule="* * *"), "expected exactly 5 fields, found 3"),
    (CRONJOBS, _cron_job(schedule="TZ=UTC * * * * *"), "use timeZone field instead"),
    (CRONJOBS, _cron_job(timeZone="Nowhere"), "unknown time zone Nowhere"),
    (CRONJOBS, _cron_job(concurrencyPolicy="Some"), "spec.concurrencyPolicy: Unsupported value"),
    (CRONJOBS, _cron_job() | {"metadata": {"name": "x" * 53}}, "must be no more than 52 characters"),
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


def test_a_job_knows_its_pods_by_its_uid(registry: Registry) -> None:
    made = create(registry, JOBS, _job())
    uid, labels = made["metadata"]["uid"], made["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert labels["batch.kubernetes.io/job-name"] == labels["job-name"] == "x"
    assert labels["controller-uid"] == uid
    assert (made["spec"]["backoffLimit"], made["spec"]["completionMode"]) == (6, "NonIndexed")
    with refused(422, "spec.template", "field is immutable"):
        changed = made["spec"]["template"] | {"metadata": {"labels": labels | {"more": "x"}}}
        update(registry, JOBS, made | {"spec": made["spec"] | {"template": changed}})
    assert update(registry, JOBS, made | {"spec": made["spec"] | {"parallelism": 3}})["metadata"]["generation"] == 2


def test_a_cron_job_has_the_defaults_of_its_jobs(registry: Registry) -> None:
    spec = create(registry, CRONJOBS, _cron_job())["spec"]
    assert (spec["concurrencyPolicy"], spec["successfulJobsHistoryLimit"]) == ("Allow", 3)
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 6
    assert "selector" not in spec["jobTemplate"]["spec"]
