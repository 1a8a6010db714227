"""What can be done with objects, and in which order."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from netlab.api.errors import ApiError
from netlab.api.resources import (
    ALL,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    by_name,
)
from netlab.api.server.objects import patch
from netlab.api.server.registry.deletions import DeleteOptions, Preconditions
from netlab.api.server.registry.generic import OBJECT_LIMIT, Registry
from netlab.api.server.registry.successions import patched_object
from netlab.api.server.storage.watch import Selection
from tests.unit.api.cluster import create, deployment, endpoint_slice, pod, refused, service, update


def _delete(registry: Registry, resource: Any, name: str, namespace: str = "default", **options: Any) -> bool:
    place = namespace if resource.namespaced else ""
    return registry.delete(resource, place, name, DeleteOptions(**options))[1]


def _get(registry: Registry, resource: Any, name: str, namespace: str = "default") -> Any:
    return registry.get(resource, namespace if resource.namespaced else "", name).decode()


def test_create_fills_in_what_the_server_knows(registry: Registry) -> None:
    made = create(registry, PODS, pod() | {"metadata": {"name": "p", "uid": "mine", "generation": 9}})
    assert list(made)[:3] == ["apiVersion", "kind", "metadata"]
    meta = made["metadata"]
    assert meta["namespace"] == "default"
    assert meta["uid"] != "mine"
    assert meta["generation"] == 1
    assert meta["creationTimestamp"].endswith("Z")
    assert int(meta["resourceVersion"]) == registry.store.revision
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_pod_defaults(registry: Registry) -> None:
    probe = {"httpGet": {"port": 80}, "timeoutSeconds": 0}
    containers = [{"name": "c", "image": "a/b:1", "ports": [{"containerPort": 80}], "readinessProbe": probe}]
    spec = create(registry, PODS, pod(containers=containers, hostNetwork=True))["spec"]
    assert [each.pop("key") for each in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert spec.pop("tolerations") == [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}] * 2
    assert spec == {
        "containers": [
            {
                "name": "c",
                "image": "a/b:1",
                "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "resources": {},
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "readinessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
            }
        ],
        "hostNetwork": True,
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
        "enableServiceLinks": True,
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [("a", "Always"), ("a:latest", "Always"), ("r:5000/a", "Always"), ("a:1", "IfNotPresent"), ("a@x", "IfNotPresent")],
)
def test_the_pull_policy_follows_the_tag(registry: Registry, image: str, policy: str) -> None:
    made = create(registry, PODS, pod(containers=[{"name": "c", "image": image}]))
    assert made["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_workload_defaults(registry: Registry) -> None:
    spec = create(registry, DEPLOYMENTS, deployment())["spec"]
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    rolling = {"maxUnavailable": "25%", "maxSurge": "25%"}
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    assert spec["template"]["spec"]["restartPolicy"] == "Always"
    assert create(registry, REPLICASETS, deployment("zero", replicas=0))["spec"]["replicas"] == 0


def test_a_name_is_made_up(registry: Registry) -> None:
    names = {
        create(registry, PODS, pod() | {"metadata": {"generateName": "web-" + "x" * 80}})["metadata"]["name"]
        for _ in range(5)
    }
    assert len(names) == 5
    assert all(len(name) == 63 and name.startswith("web-xxx") for name in names)


def test_where_an_object_may_be_created(registry: Registry) -> None:
    create(registry, PODS, pod())
    with refused(409, 'pods "p" already exists'):
        create(registry, PODS, pod())
    with refused(404, 'namespaces "absent" not found'):
        create(registry, PODS, pod(), "absent")
    with refused(400, "the namespace of the provided object (other) does not match"):
        create(registry, PODS, pod() | {"metadata": {"name": "q", "namespace": "other"}})
    with refused(400, "resourceVersion should not be set on objects to be created"):
        create(registry, PODS, pod() | {"metadata": {"name": "q", "resourceVersion": "1"}})
    with refused(400, "the kind in the data (Node) does not match the expected kind (Pod)"):
        create(registry, PODS, pod("q") | {"kind": "Node"})
    with refused(400, 'strict decoding error: unknown field "spec.containres" (did you mean "containers"?)'):
        create(registry, PODS, {"metadata": {"name": "q"}, "spec": {"containres": []}})


_NFS = {"server": "s", "path": "/"}


def test_ignored_fields_are_kept_and_warned_of(registry: Registry) -> None:
    outcome = registry.create(PODS, "default", pod(volumes=[{"name": "v", "nfs": _NFS}]))  # type: ignore[arg-type]
    assert outcome.warnings == ("spec.volumes[0].nfs: stored and returned, but nothing in netlab acts upon it",)
    assert _get(registry, PODS, "p")["spec"]["volumes"] == [{"name": "v", "nfs": _NFS}]


def test_dry_run_changes_nothing(registry: Registry) -> None:
    before = registry.store.revision
    outcome = registry.create(PODS, "default", pod(), dry_run=True)  # type: ignore[arg-type]
    assert msgspec.json.decode(outcome.raw)["spec"]["restartPolicy"] == "Always"
    assert registry.store.revision == before
    with refused(404):
        _get(registry, PODS, "p")


def test_a_second_writer_is_told(registry: Registry) -> None:
    first = create(registry, DEPLOYMENTS, deployment())
    second = msgspec.json.decode(msgspec.json.encode(first))
    first["spec"]["replicas"] = 2
    update(registry, DEPLOYMENTS, first)
    second["spec"]["replicas"] = 3
    with refused(409, 'Operation cannot be fulfilled on deployments.apps "d": the object has been modified'):
        update(registry, DEPLOYMENTS, second)
    second["metadata"]["resourceVersion"] = "0"
    assert update(registry, DEPLOYMENTS, second)["spec"]["replicas"] == 3
    second["metadata"].pop("resourceVersion")
    second["spec"]["replicas"] = 4
    assert update(registry, DEPLOYMENTS, second)["spec"]["replicas"] == 4
    second["metadata"]["uid"] = "another"
    with refused(409, "UID in precondition: another"):
        update(registry, DEPLOYMENTS, second)


def test_an_update_that_changes_nothing_is_no_change(registry: Registry) -> None:
    made = create(registry, DEPLOYMENTS, deployment())
    assert update(registry, DEPLOYMENTS, made) == made
    assert registry.store.revision == int(made["metadata"]["resourceVersion"])


def test_spec_and_status_each_have_their_door(registry: Registry) -> None:
    made = create(registry, DEPLOYMENTS, deployment() | {"status": {"replicas": 7}})
    assert "status" not in made
    made["status"], made["spec"]["replicas"] = {"replicas": 5}, 5
    through_status = update(registry, DEPLOYMENTS, made, "status")
    assert (through_status["status"], through_status["spec"]["replicas"]) == ({"replicas": 5}, 1)
    assert through_status["metadata"]["generation"] == 1
    through_status["status"], through_status["spec"]["replicas"] = {"replicas": 9}, 9
    through_spec = update(registry, DEPLOYMENTS, through_status)
    assert (through_spec["status"], through_spec["spec"]["replicas"]) == ({"replicas": 5}, 9)
    assert through_spec["metadata"]["generation"] == 2
    with refused(400, 'unknown field "status.replcias" (did you mean "replicas"?)'):
        update(registry, DEPLOYMENTS, through_spec | {"status": {"replcias": 1}}, "status")


@pytest.mark.parametrize(
    ("resource", "obj", "kept"),
    [
        (NODES, {"metadata": {"name": "x"}}, ()),
        (DEPLOYMENTS, deployment("x"), ("labels",)),
        (PODS, pod("x"), ("ownerReferences",)),
        (
            by_name("volumeattachments"),
            {
                "metadata": {"name": "x"},
                "spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
            },
            ("labels", "annotations", "ownerReferences", "finalizers"),
        ),
    ],
)
def test_metadata_may_change_with_the_status(
    registry: Registry, resource: Any, obj: Any, kept: tuple[str, ...]
) -> None:
    made = create(registry, resource, obj)
    changes = {
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "finalizers": ["e.example/f"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u"}],
    }
    made["metadata"] |= changes | {"generation": 7}
    changed = update(registry, resource, made, "status")["metadata"]
    assert {name for name in changes if name not in changed} == set(kept)
    assert changed.get("generation", 1) == 1
    made["metadata"] = changed | {"annotations": {"not a key": ""}}
    if not set(kept) & {"annotations"}:
        with refused(422, "metadata.annotations"):
            update(registry, resource, made, "status")


def test_labels_are_no_new_generation_but_endpoints_are(registry: Registry) -> None:
    made = create(registry, ENDPOINTSLICES, endpoint_slice())
    made["metadata"]["labels"] = {"a": "b"}
    made = update(registry, ENDPOINTSLICES, made)
    assert made["metadata"]["generation"] == 1
    made["endpoints"][0]["conditions"] = {"ready": False}
    assert update(registry, ENDPOINTSLICES, made)["metadata"]["generation"] == 2


_WITH_GENERATION = {
    *("cronjobs", "customresourcedefinitions", "daemonsets", "deployments", "endpointslices", "flowschemas"),
    *("ingressclasses", "ingresses", "jobs", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
    *("mutatingwebhookconfigurations", "networkpolicies", "poddisruptionbudgets", "pods", "podtemplates"),
    *("priorityclasses", "prioritylevelconfigurations", "replicasets", "replicationcontrollers", "statefulsets"),
    *("validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations"),
}
"""Those of which upstream's strategies number the changes (Generation = 1 in pkg/registry)."""


def test_the_kinds_whose_changes_are_numbered(registry: Registry) -> None:
    assert {each.plural for each in ALL if each.has_generation} == _WITH_GENERATION
    assert "generation" not in create(registry, NODES, {"metadata": {"name": "n", "generation": 3}})["metadata"]


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ([{"op": "test", "path": "/metadata/name", "value": "x"}], 422),
        ([{"op": "remove", "path": "/absent"}], 422),
        ([{"op": "turn", "path": "/absent"}], 422),
        ([{"op": "add"}], 422),
        ({"op": "add"}, 400),
        ([{"op": "test", "path": "/metadata/name", "value": "n"}] * 10_001, 413),
    ],
)
def test_a_json_patch_that_does_not_fit_the_object(registry: Registry, operations: Any, code: int) -> None:
    create(registry, NODES, {"metadata": {"name": "n"}})
    nodes: Any = NODES
    stored = registry.get(nodes, "", "n")
    with refused(code, ""):
        patched_object(nodes, stored, lambda obj: patch.json_patch(obj, operations))


def test_a_node_is_registered_with_its_status(registry: Registry) -> None:
    made = create(registry, NODES, {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": 2, "pods": "110"}}})
    assert made["status"]["capacity"] == {"cpu": 2, "pods": "110"}
    assert "namespace" not in made["metadata"]


def test_a_patch_goes_the_way_of_an_update(registry: Registry) -> None:
    create(registry, DEPLOYMENTS, deployment())
    resource: Any = DEPLOYMENTS

    def apply(change: Any) -> Any:
        present = registry.get(resource, "default", "d")
        patched = patched_object(resource, present, lambda obj: patch.json_merge(obj, change))
        return msgspec.json.decode(registry.update(resource, "default", "d", patched).raw)

    assert apply({"spec": {"replicas": 4}})["metadata"]["generation"] == 2
    assert apply({"metadata": {"uid": None, "generation": 77}})["metadata"]["generation"] == 2
    with refused(409, "the object has been modified"):
        apply({"metadata": {"resourceVersion": "1"}})
    with refused(422, "spec.replicas: Invalid value: -1"):
        apply({"spec": {"replicas": -1}})
    with refused(400, "may not make something else"):
        apply([])


def test_a_pod_without_a_node_goes_at_once(registry: Registry) -> None:
    create(registry, PODS, pod())
    assert _delete(registry, PODS, "p")
    with refused(404, 'pods "p" not found'):
        _delete(registry, PODS, "p")


def test_a_pod_on_a_node_waits_for_its_kubelet(registry: Registry) -> None:
    create(registry, PODS, pod(nodeName="node-1", terminationGracePeriodSeconds=7))
    assert not _delete(registry, PODS, "p")
    meta = _get(registry, PODS, "p")["metadata"]
    assert (meta["deletionGracePeriodSeconds"], meta["generation"]) == (7, 2)
    assert meta["deletionTimestamp"] > meta["creationTimestamp"]
    revision = registry.store.revision
    assert not _delete(registry, PODS, "p", gracePeriodSeconds=60), "a grace period is never made longer"
    assert registry.store.revision == revision
    assert not _delete(registry, PODS, "p", gracePeriodSeconds=2)
    assert _get(registry, PODS, "p")["metadata"]["deletionGracePeriodSeconds"] == 2
    assert _delete(registry, PODS, "p", gracePeriodSeconds=0)


def test_a_pod_that_ended_goes_at_once(registry: Registry) -> None:
    made = create(registry, PODS, pod(nodeName="node-1"))
    update(registry, PODS, made | {"status": {"phase": "Succeeded"}}, "status")
    assert _delete(registry, PODS, "p")


def test_what_is_to_become_of_dependents_is_noted_in_the_finalizers(registry: Registry) -> None:
    create(registry, DEPLOYMENTS, deployment())

    def finalizers() -> Any:
        return _get(registry, DEPLOYMENTS, "d")["metadata"].get("finalizers")

    for wrong in ({"propagationPolicy": "Orphans"}, {"propagationPolicy": "Orphan", "orphanDependents": True}):
        with refused(422, 'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy'):
            _delete(registry, DEPLOYMENTS, "d", **wrong)
    assert not _delete(registry, DEPLOYMENTS, "d", propagationPolicy="Foreground")
    assert finalizers() == ["foregroundDeletion"]
    assert not _delete(registry, DEPLOYMENTS, "d", orphanDependents=True)
    assert finalizers() == ["orphan"]
    assert not _delete(registry, DEPLOYMENTS, "d")
    assert finalizers() == ["orphan"]
    assert _delete(registry, DEPLOYMENTS, "d", propagationPolicy="Background")


def test_delete_only_the_one_that_was_meant(registry: Registry) -> None:
    made = create(registry, PODS, pod())
    with refused(409, "UID in precondition: another"):
        _delete(registry, PODS, "p", preconditions=Preconditions(uid="another"))
    with refused(409, "has been modified"):
        _delete(registry, PODS, "p", preconditions=Preconditions(resourceVersion="1"))
    assert _delete(registry, PODS, "p", preconditions=Preconditions(uid=made["metadata"]["uid"]))


def test_finalizers_hold_an_object_back(registry: Registry) -> None:
    create(registry, DEPLOYMENTS, deployment() | {"metadata": {"name": "d", "finalizers": ["a/b", "c/d"]}})
    assert not _delete(registry, DEPLOYMENTS, "d")
    dying = _get(registry, DEPLOYMENTS, "d")
    assert "deletionTimestamp" in dying["metadata"]
    with refused(422, "metadata.finalizers: Forbidden: no new finalizers"):
        dying["metadata"]["finalizers"] = ["e/f"]
        update(registry, DEPLOYMENTS, dying)
    dying["metadata"]["finalizers"] = ["c/d"]
    dying = update(registry, DEPLOYMENTS, dying)
    dying["metadata"]["finalizers"] = []
    update(registry, DEPLOYMENTS, dying)
    with refused(404):
        _get(registry, DEPLOYMENTS, "d")


def test_a_namespace_is_emptied_before_it_goes(registry: Registry) -> None:
    made = create(registry, NAMESPACES, {"metadata": {"name": "n"}})
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["status"] == {"phase": "Active"}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    create(registry, PODS, pod(), "n")
    assert not _delete(registry, NAMESPACES, "n")
    assert _get(registry, NAMESPACES, "n")["status"]["phase"] == "Terminating"
    with refused(403, 'pods "q" is forbidden: unable to create new content in namespace n because it is being term'):
        create(registry, PODS, pod("q"), "n")
    assert _delete(registry, PODS, "p", "n")
    dying = _get(registry, NAMESPACES, "n")
    dying["spec"] = {}
    update(registry, NAMESPACES, dying)
    assert _get(registry, NAMESPACES, "n")["spec"] == {"finalizers": ["kubernetes"]}, "only through finalize"
    dying["metadata"].pop("resourceVersion")
    update(registry, NAMESPACES, dying, "finalize")
    with refused(404, 'namespaces "n" not found'):
        _get(registry, NAMESPACES, "n")


def test_the_systems_own_namespaces_stay(registry: Registry) -> None:
    names = [stored.name for stored in registry.list(NAMESPACES, Selection())]  # type: ignore[arg-type]
    assert names == ["default", "kube-node-lease", "kube-system"]
    with refused(403, 'namespaces "default" is forbidden: this namespace may not be deleted'):
        _delete(registry, NAMESPACES, "default")


def test_binding(registry: Registry) -> None:
    create(registry, PODS, pod())
    registry.bind("default", "p", "node-1")
    bound = _get(registry, PODS, "p")
    assert bound["spec"]["nodeName"] == "node-1"
    assert [(item["type"], item["status"]) for item in bound["status"]["conditions"]] == [("PodScheduled", "True")]
    with refused(409, 'pod p is already assigned to node "node-1"'):
        registry.bind("default", "p", "node-2")
    _delete(registry, PODS, "p")
    with refused(404, 'pods "absent" not found'):
        registry.bind("default", "absent", "node-1")


@pytest.mark.parametrize("resource", ALL, ids=lambda resource: resource.plural)
def test_junk_is_refused_and_never_a_fault(registry: Registry, resource: Any) -> None:
    """Whatever JSON is sent, the answer is a refusal with a reason."""
    revision = registry.store.revision
    junk: list[Any] = [None, 1, "x", [], [1], {"a": 1}, {"name": 1}, {"containers": 1}, {"finalizers": [1]}]
    for value in junk:
        for field in ("metadata", "spec", "status", "endpoints", "involvedObject", "apiVersion", "kind"):
            with pytest.raises(ApiError):
                create(registry, resource, {"metadata": {}, field: value})
    assert registry.store.revision == revision


def test_a_draft_is_current_while_what_it_was_made_from_is_there(registry: Registry) -> None:
    resource: Any = PODS
    made = create(registry, PODS, pod())
    changed = registry.draft_of_changed(resource, registry.get(resource, "default", "p"), copy.deepcopy(made))
    assert registry.is_current(changed)
    update(registry, PODS, made | {"metadata": made["metadata"] | {"labels": {"a": "b"}}})
    assert not registry.is_current(changed)
    new = registry.draft_of_new(resource, "default", pod("q"))
    assert registry.is_current(new)
    create(registry, PODS, pod("q"))
    with refused(409, "already exists"):
        registry.commit(new)


def test_a_draft_of_a_service_whose_address_was_given_away_is_not_current(registry: Registry) -> None:
    resource: Any = SERVICES
    draft = registry.draft_of_new(resource, "default", service("a"))
    assert registry.is_current(draft)
    create(registry, SERVICES, service("b", clusterIP=draft.obj["spec"]["clusterIP"]))
    assert not registry.is_current(draft)


def test_an_object_has_a_largest_size(registry: Registry) -> None:
    """What is there can always be deleted."""
    containers = [pod()["spec"]["containers"][0] | {"args": ["x" * (OBJECT_LIMIT - 2000)]}]
    made = create(registry, PODS, pod(containers=containers) | {"metadata": {"name": "p", "finalizers": ["a/b"]}})
    with refused(413, "the object is too large"):
        update(registry, PODS, made | {"metadata": made["metadata"] | {"annotations": {"a": "x" * 2000}}})
    assert not _delete(registry, PODS, "p")
    with refused(413, "the object is too large"):
        create(registry, PODS, pod("q", containers=[containers[0] | {"args": containers[0]["args"] * 2}]))
