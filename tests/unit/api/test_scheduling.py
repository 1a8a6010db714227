"""What the API does for the scheduling of pods: what it refuses, priorities, default tolerations, gates."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from netlab.api.printers import pods as printer
from netlab.api.resources import DEPLOYMENTS, PODS, PRIORITYCLASSES
from netlab.api.server.admission.priority import system_classes
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, deployment, pod, refused, update

_PODS: Any = PODS
_CLASSES: Any = PRIORITYCLASSES

NOT_READY = {
    "key": "node.kubernetes.io/not-ready",
    "operator": "Exists",
    "effect": "NoExecute",
    "tolerationSeconds": 300,
}
UNREACHABLE = NOT_READY | {"key": "node.kubernetes.io/unreachable"}


def _term(**expression: Any) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})


def _field(**expression: Any) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchFields": [expression]}]}
    return pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})


def _near(**term: Any) -> dict[str, Any]:
    return pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})


def _spread(**fields: Any) -> dict[str, Any]:
    usual = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    return pod(topologySpreadConstraints=[usual | fields])


def _resources(**resources: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", "image": "i", "resources": resources}])


TERM = "nodeSelectorTerms[0].matchExpressions[0]"
FIELD = "nodeSelectorTerms[0].matchFields[0]"
WEIGHTED = {
    "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {}}]},
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "podAffinityTerm": {"topologyKey": "z"}}]
    },
}
NO_TERMS: dict[str, Any] = {
    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
}


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (_term(key="a", operator="In"), f"{TERM}.values: Required value: must be specified when `operator` is 'In'"),
        (_term(key="a", operator="Exists", values=["b"]), f"{TERM}.values: Forbidden: may not be specified when"),
        (_term(key="a", operator="Gt", values=["1", "2"]), f"{TERM}.values: Required value: must be specified single"),
        (_term(key="a", operator="Lt", values=["x"]), f"{TERM}.values[0]: Invalid value: \"x\": for 'Gt', 'Lt' op"),
        (_term(key="a", operator="Is"), f'{TERM}.operator: Invalid value: "Is": not a valid selector operator'),
        (_term(key="a b", operator="Exists"), f'{TERM}.key: Invalid value: "a b"'),
        (_term(key="a", operator="In", values=["-"]), f'{TERM}.values[0]: Invalid value: "-"'),
        (_field(key="metadata.name", operator="Exists"), f'{FIELD}.operator: Invalid value: "Exists": not a valid sel'),
        (
            _field(key="metadata.name", operator="In", values=["a", "b"]),
            f"{FIELD}.values: Required value: must be only",
        ),
        (_field(key="spec.x", operator="In", values=["a"]), f'{FIELD}.key: Invalid value: "spec.x": not a valid field'),
        (_field(key="metadata.name", operator="In", values=["A"]), f'{FIELD}.values[0]: Invalid value: "A"'),
        (pod(affinity=NO_TERMS), "nodeSelectorTerms: Required value: must have at least one node selector term"),
        (pod(affinity=WEIGHTED), "[0].weight: Invalid value: 0: must be in the range 1-100"),
        (pod(affinity=WEIGHTED), "[0].weight: Invalid value: 101: must be in the range 1-100"),
        (_near(topologyKey=""), "[0].topologyKey: Required value: can not be empty"),
        (_near(topologyKey="z", namespaces=["A"]), '[0].namespaces: Invalid value: "A"'),
        (_near(topologyKey="z", matchLabelKeys=["a"]), "[0].matchLabelKeys: Forbidden: must not be specified when lab"),
        (
            _near(topologyKey="z", labelSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "[0].labelSelector: Invalid value",
        ),
        (_spread(maxSkew=0), "topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"),
        (_spread(topologyKey=""), "topologySpreadConstraints[0].topologyKey: Required value: can not be empty"),
        (
            _spread(whenUnsatisfiable="Maybe"),
            '[0].whenUnsatisfiable: Unsupported value: "Maybe": supported values: "Do',
        ),
        (_spread(minDomains=0), "[0].minDomains: Invalid value: 0: must be greater than zero"),
        (
            _spread(minDomains=2, whenUnsatisfiable="ScheduleAnyway"),
            "[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not Schedul",
        ),
        (_spread(nodeTaintsPolicy="Heed"), '[0].nodeTaintsPolicy: Unsupported value: "Heed": supported values: "Igno'),
        (
            pod(topologySpreadConstraints=_spread()["spec"]["topologySpreadConstraints"] * 2),
            "spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value",
        ),
        (pod(schedulingGates=[{"name": "a b"}]), 'spec.schedulingGates[0]: Invalid value: "a b"'),
        (pod(schedulingGates=[{"name": "a"}] * 2), 'spec.schedulingGates[1]: Duplicate value: "a"'),
        (
            pod(schedulingGates=[{"name": "a"}], nodeName="n"),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
        (_resources(requests={"cpu": "odd"}), 'resources.requests[cpu]: Invalid value: "odd": is no quantity'),
        (_resources(requests={"cpu": "-1"}), 'requests[cpu]: Invalid value: "-1": must be greater than or equal to 0'),
        (_resources(requests={"disk": "1"}), 'requests[disk]: Invalid value: "disk": must be a standard resource type'),
        (
            _resources(requests={"memory": "2Gi"}, limits={"memory": "1Gi"}),
            'resources.requests: Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi',
        ),
        (_resources(requests={"a.b/c": "1"}), "resources.limits: Required value: Limit must be set for non overcommit"),
        (_resources(limits={"a.b/c": "1.5"}), 'resources.limits[a.b/c]: Invalid value: "1.5": must be an integer'),
        (
            _resources(requests={"a.b/c": "1"}, limits={"a.b/c": "2"}),
            'resources.requests: Invalid value: "1": must be equal to a.b/c limit of 2',
        ),
        (pod(overhead={"cpu": "x"}), 'spec.overhead[cpu]: Invalid value: "x"'),
        (pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]), "tolerations[0].operator: Invalid value"),
        (
            pod(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]),
            "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when",
        ),
    ],
)
def test_what_cannot_be_scheduled_is_refused(registry: Registry, manifest: dict[str, Any], message: str) -> None:
    with refused(422, message):
        create(registry, PODS, manifest)
    template = deployment()
    template["spec"]["template"]["spec"] = manifest["spec"]
    with refused(422, message.removeprefix("spec.")):
        create(registry, DEPLOYMENTS, template)


def test_a_template_has_a_preemption_policy_that_there_is(registry: Registry) -> None:
    template = deployment()
    template["spec"]["template"]["spec"]["preemptionPolicy"] = "Always"
    with refused(422, 'spec.template.spec.preemptionPolicy: Unsupported value: "Always"'):
        create(registry, DEPLOYMENTS, template)


def test_what_may_be_used_is_asked_for(registry: Registry) -> None:
    manifest = _resources(limits={"cpu": 0.5, "memory": "1Gi"}, requests={"cpu": "100m"})
    made = create(registry, PODS, manifest)
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "100m", "memory": "1Gi"}


# --- priority --------------------------------------------------------------------------------------------------------


def _class(name: str, value: int = 7, **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "value": value} | fields


@pytest.mark.parametrize(
    ("manifest", "code", "message"),
    [
        (
            _class("high", 1_000_000_001),
            422,
            "value: Forbidden: maximum allowed value of a user defined priority is 10",
        ),
        (_class("system-x"), 422, "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved"),
        (_class("system-node-critical"), 422, "value of system-node-critical PriorityClass must be 2000001000"),
        (_class("p", preemptionPolicy="Always"), 422, 'preemptionPolicy: Unsupported value: "Always"'),
        (
            _class("p", globalDefault=True),
            403,
            "PriorityClass usual is already marked as default. Only one default can",
        ),
        (_class("p", value="7"), 400, '"value": expected an integer, got a string'),  # type: ignore[arg-type]
    ],
)
def test_priority_classes_that_are_refused(
    registry: Registry, manifest: dict[str, Any], code: int, message: str
) -> None:
    create(registry, PRIORITYCLASSES, _class("usual", globalDefault=True))
    with refused(code, message):
        create(registry, PRIORITYCLASSES, manifest)


def test_a_priority_class_keeps_its_value(registry: Registry) -> None:
    made = create(registry, PRIORITYCLASSES, _class("p", globalDefault=True))
    assert (made["preemptionPolicy"], list(PRIORITYCLASSES.printer.cells(made, 0))[:3]) == (
        "PreemptLowerPriority",
        ["p", 7, True],
    )
    made = update(registry, PRIORITYCLASSES, made | {"description": "d"})
    assert made["description"] == "d"
    for change, message in (
        ({"value": 8}, "value: Forbidden: may not be changed in an update."),
        ({"preemptionPolicy": "Never"}, "preemptionPolicy: Invalid value"),
    ):
        with refused(422, message):
            update(registry, PRIORITYCLASSES, made | change)


def test_every_cluster_has_classes_of_its_own(registry: Registry) -> None:
    assert [registry.get(_CLASSES, "", each["metadata"]["name"]) for each in system_classes()]
    with refused(403, "this is a system priority class and cannot be deleted"):
        registry.delete(_CLASSES, "", "system-cluster-critical", DeleteOptions())


@pytest.fixture
def admitting(registry: Registry) -> Registry:
    create(registry, PRIORITYCLASSES, _class("high", 1000, preemptionPolicy="Never"))
    return registry


@pytest.mark.parametrize(
    ("has_default", "spec", "expected"),
    [
        (False, {}, (None, 0, "PreemptLowerPriority")),
        (False, {"priorityClassName": "high", "priority": 1000}, ("high", 1000, "Never")),
        (True, {}, ("usual", 5, "PreemptLowerPriority")),
        (True, {"priorityClassName": "high"}, ("high", 1000, "Never")),
        (False, {"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        (False, {"priority": 3}, "the integer value of priority (3) must not be provided in pod spec; priority admiss"),
        (
            False,
            {"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"},
            "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec",
        ),
    ],
)
def test_a_pod_has_the_priority_of_its_class(
    admitting: Registry, has_default: bool, spec: dict[str, Any], expected: Any
) -> None:
    if has_default:
        create(admitting, PRIORITYCLASSES, _class("usual", 5, globalDefault=True))
    with refused(403, expected) if isinstance(expected, str) else contextlib.nullcontext():
        made = create(admitting, PODS, pod(**spec))["spec"]
        assert (made.get("priorityClassName"), made["priority"], made["preemptionPolicy"]) == expected


@pytest.mark.parametrize(
    ("tolerations", "added"),
    [
        ([], [NOT_READY, UNREACHABLE]),
        ([{"key": "a", "operator": "Exists"}], [NOT_READY, UNREACHABLE]),
        ([NOT_READY | {"tolerationSeconds": 1}], [UNREACHABLE]),
        ([{"operator": "Exists"}], []),
        ([{"operator": "Exists", "effect": "NoSchedule"}], [NOT_READY, UNREACHABLE]),
    ],
)
def test_a_pod_stays_for_a_while_on_a_node_that_fails(
    admitting: Registry, tolerations: list[dict[str, Any]], added: list[dict[str, Any]]
) -> None:
    made = create(admitting, PODS, pod(tolerations=list(tolerations)))
    assert made["spec"]["tolerations"] == [*tolerations, *added]
    # Its author has never seen them, and may say again what was said, and more.
    changed = update(
        admitting,
        PODS,
        pod(tolerations=[*tolerations, {"key": "b", "operator": "Exists"}])
        | {"metadata": {"name": "p", "namespace": "default"}},
    )
    assert len(changed["spec"]["tolerations"]) == len(tolerations) + 1 + len(added)
    assert changed["spec"]["priority"] == 0


def test_label_keys_become_a_part_of_the_selectors(admitting: Registry) -> None:
    near = {"topologyKey": "z", "labelSelector": {}, "matchLabelKeys": ["v", "absent"], "mismatchLabelKeys": ["w"]}
    manifest = _near(**near)
    manifest["metadata"]["labels"] = {"v": "1", "w": "2"}
    made = create(admitting, PODS, manifest)["spec"]["affinity"]["podAffinity"]
    (term,) = made["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchExpressions"] == [
        {"key": "v", "operator": "In", "values": ["1"]},
        {"key": "w", "operator": "NotIn", "values": ["2"]},
    ]


# --- scheduling gates ------------------------------------------------------------------------------------------------


def test_gates_only_go_and_meanwhile_the_choice_of_nodes_may_become_narrower(registry: Registry) -> None:
    made = create(registry, PODS, pod(schedulingGates=[{"name": "a"}, {"name": "b"}], nodeSelector={"x": "1"}))
    (condition,) = made["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "SchedulingGated")
    assert printer.POD.cells(made, 0)[2] == "SchedulingGated"
    for change, message in (
        ({"schedulingGates": [{"name": "c"}]}, "only deletion is allowed, but found new scheduling gate 'c'"),
        ({"nodeSelector": {"y": "1"}}, "spec.nodeSelector: Invalid value"),
        ({"hostname": "h"}, "pod updates may not change fields other than"),
    ):
        with refused(422, message):
            update(registry, PODS, made | {"spec": made["spec"] | change})
    narrower = {"schedulingGates": [{"name": "b"}], "nodeSelector": {"x": "1", "y": "1"}}
    made = update(registry, PODS, made | {"spec": made["spec"] | narrower})
    made = update(registry, PODS, made | {"spec": made["spec"] | {"schedulingGates": []}})
    with refused(422, "pod updates may not change fields other than"):
        update(registry, PODS, made | {"spec": made["spec"] | {"nodeSelector": {}}})


def test_who_has_a_node_has_no_promise_of_one(registry: Registry) -> None:
    made = create(registry, PODS, pod())
    update(registry, PODS, made | {"status": {"phase": "Pending", "nominatedNodeName": "n"}}, "status")
    registry.bind("default", "p", "n")
    status = registry.get(_PODS, "default", "p").decode()["status"]
    assert "nominatedNodeName" not in status
