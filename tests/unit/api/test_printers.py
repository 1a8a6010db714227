"""What is shown of objects: a table of objects and cells."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.printers import duration, selector
from netlab.api.resources import (
    ALL,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    Resource,
)

NOW = 1_700_000_000.0
CREATED = "2023-11-14T22:12:50Z"  # half a minute before
META = {"name": "x", "creationTimestamp": CREATED}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (305, "5m5s"),
        (600, "10m"),
        (179 * 60 + 59, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400 + 3600, "8d"),
        (729 * 86400, "729d"),
        (731 * 86400, "2y1d"),
        (9 * 365 * 86400 + 86400, "9y"),
    ],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "<none>"),
        ({}, "<none>"),
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        (
            {
                "matchLabels": {"c": "3"},
                "matchExpressions": [
                    {"key": "d", "operator": "In", "values": ["y", "x"]},
                    {"key": "a", "operator": "NotIn", "values": ["x"]},
                    {"key": "b", "operator": "DoesNotExist"},
                    {"key": "e", "operator": "Exists"},
                ],
            },
            "a notin (x),!b,c=3,d in (x,y),e",
        ),
    ],
)
def test_selectors(value: Any, text: str) -> None:
    assert selector(value) == text


# --- pods ------------------------------------------------------------------------------------------------------------

RUNNING: dict[str, Any] = {"state": {"running": {}}, "ready": True}
UNREADY: dict[str, Any] = {"state": {"running": {}}}
DONE: dict[str, Any] = {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
INITIALIZED = [{"type": "Initialized", "status": "True"}]
READY = [{"type": "Ready", "status": "True"}]


def _waiting(reason: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason}}}


def _ended(**terminated: Any) -> dict[str, Any]:
    return {"state": {"terminated": terminated}}


def _pod(
    phase: str,
    containers: list[dict[str, Any]],
    *,
    init: list[dict[str, Any]] | None = None,
    sidecars: tuple[int, ...] = (),
    deleted: bool = False,
    **status: Any,
) -> dict[str, Any]:
    def named(statuses: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
        return [{"name": f"{prefix}{index}"} | each for index, each in enumerate(statuses)]

    init_specs = [
        {"name": f"i{index}"} | ({"restartPolicy": "Always"} if index in sidecars else {})
        for index in range(len(init or []))
    ]
    return {
        "metadata": META | ({"deletionTimestamp": CREATED} if deleted else {}),
        "spec": {"containers": [{"name": f"c{n}"} for n in range(len(containers) or 1)], "initContainers": init_specs},
        "status": {
            "phase": phase,
            "containerStatuses": named(containers, "c"),
            "initContainerStatuses": named(init or [], "i"),
        }
        | status,
    }


_RESTARTED = {"restartCount": 3, "lastState": {"terminated": {"finishedAt": CREATED}}}


@pytest.mark.parametrize(
    ("pod", "cells"),
    [
        (_pod("Pending", []), ["0/1", "Pending", "0"]),
        (_pod("Pending", [_waiting("ContainerCreating")]), ["0/1", "ContainerCreating", "0"]),
        (_pod("Running", [RUNNING, RUNNING]), ["2/2", "Running", "0"]),
        (_pod("Running", [RUNNING, UNREADY]), ["1/2", "Running", "0"]),
        (_pod("Running", [RUNNING | _RESTARTED]), ["1/1", "Running", "3 (30s ago)"]),
        (_pod("Running", [RUNNING | {"restartCount": 3}]), ["1/1", "Running", "3"]),
        (
            _pod("Running", [_waiting("CrashLoopBackOff") | _RESTARTED, RUNNING]),
            ["1/2", "CrashLoopBackOff", "3 (30s ago)"],
        ),
        (_pod("Running", [_ended(exitCode=2)]), ["0/1", "ExitCode:2", "0"]),
        (_pod("Running", [_ended(exitCode=137, signal=9)]), ["0/1", "Signal:9", "0"]),
        (_pod("Running", [_ended(exitCode=1, reason="Error")]), ["0/1", "Error", "0"]),
        (_pod("Succeeded", [DONE]), ["0/1", "Completed", "0"]),
        (_pod("Running", [DONE, RUNNING], conditions=READY), ["1/2", "Running", "0"]),
        (_pod("Running", [DONE, RUNNING]), ["1/2", "NotReady", "0"]),
        (_pod("Running", [DONE, _ended(exitCode=1, reason="Error")]), ["0/2", "Error", "0"]),
        (_pod("Failed", [], reason="Evicted"), ["0/1", "Evicted", "0"]),
        (_pod("Running", [RUNNING], deleted=True), ["1/1", "Terminating", "0"]),
        (_pod("Succeeded", [DONE], deleted=True), ["0/1", "Completed", "0"]),
        (_pod("Running", [RUNNING], deleted=True, reason="NodeLost"), ["1/1", "Unknown", "0"]),
        (
            _pod("Pending", [], conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
            ["0/1", "SchedulingGated", "0"],
        ),
        (_pod("Pending", [], init=[UNREADY, UNREADY]), ["0/1", "Init:0/2", "0"]),
        (_pod("Pending", [], init=[DONE, _waiting("PodInitializing")]), ["0/1", "Init:1/2", "0"]),
        (
            _pod("Pending", [], init=[_waiting("CrashLoopBackOff") | _RESTARTED]),
            ["0/1", "Init:CrashLoopBackOff", "3 (30s ago)"],
        ),
        (_pod("Pending", [], init=[_ended(exitCode=1, reason="Error")]), ["0/1", "Init:Error", "0"]),
        (_pod("Pending", [], init=[_ended(exitCode=3)]), ["0/1", "Init:ExitCode:3", "0"]),
        (_pod("Pending", [], init=[_ended(exitCode=3, signal=15)]), ["0/1", "Init:Signal:15", "0"]),
        (_pod("Running", [RUNNING], init=[DONE | _RESTARTED]), ["1/1", "Running", "0"]),
        (
            _pod("Running", [RUNNING], init=[RUNNING | {"started": True} | _RESTARTED], sidecars=(0,)),
            ["2/2", "Running", "3 (30s ago)"],
        ),
        (_pod("Running", [RUNNING], init=[UNREADY | {"started": True}], sidecars=(0,)), ["1/2", "Running", "0"]),
        (_pod("Running", [RUNNING], init=[UNREADY], sidecars=(0,), conditions=INITIALIZED), ["1/2", "Init:0/1", "0"]),
    ],
)
def test_pods(pod: dict[str, Any], cells: list[str]) -> None:
    assert PODS.printer.cells(pod, NOW)[1:4] == cells


def test_wide_columns_of_a_pod() -> None:
    pod = _pod("Running", [RUNNING], podIPs=[{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], nominatedNodeName="n2")
    pod["spec"] |= {"nodeName": "n1", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]}
    pod["status"]["conditions"] = [{"type": "a", "status": "True"}, {"type": "b", "status": "False"}]
    assert PODS.printer.cells(pod, NOW)[4:] == ["30s", "10.0.0.1", "n1", "n2", "1/2"]
    assert PODS.printer.cells(_pod("Pending", []), NOW)[5:] == ["<none>"] * 4


@pytest.mark.parametrize(("phase", "reason"), [("Succeeded", "Succeeded"), ("Failed", "Failed"), ("Running", None)])
def test_a_pod_that_has_ended_is_completed(phase: str, reason: str | None) -> None:
    completed = PODS.printer.completed(_pod(phase, []))
    assert (completed and completed["reason"]) == reason


# --- the others ------------------------------------------------------------------------------------------------------

_SPEC = {
    "replicas": 3,
    "selector": {"matchLabels": {"app": "web"}},
    "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}},
}
_OF_TEMPLATE = ["a,b", "i:1,j", "app=web"]


def _service(kind: str, *, ingress: list[dict[str, str]] | None = None, **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]
    status = {"loadBalancer": {"ingress": ingress or []}}
    return {"metadata": META, "spec": {"type": kind, "ports": ports} | spec, "status": status}


@pytest.mark.parametrize(
    ("resource", "obj", "cells"),
    [
        (NAMESPACES, {"status": {"phase": "Active"}}, ["x", "Active", "30s"]),
        (
            NODES,
            {
                "metadata": META | {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "False"}],
                    "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                    "nodeInfo": {"kubeletVersion": "v1", "kernelVersion": "6.1", "architecture": "amd64"},
                },
            },
            [
                *("x", "NotReady,SchedulingDisabled", "edge,worker", "30s", "v1"),
                *("192.0.2.1", "<none>", "<unknown>", "6.1 (amd64)", "<unknown>"),
            ],
        ),
        (NODES, {"spec": {}}, ["x", "Unknown", "<none>", "30s", "", "<none>", "<none>", *["<unknown>"] * 3]),
        (
            SERVICES,
            _service("NodePort", clusterIPs=["10.96.0.9", "fd00::9"], selector={"b": "2", "a": "1"}),
            ["x", "NodePort", "10.96.0.9", "<none>", "80:30080/TCP,53/UDP", "30s", "a=1,b=2"],
        ),
        (SERVICES, _service("LoadBalancer"), ["x", "LoadBalancer", "<none>", "<pending>"]),
        (
            SERVICES,
            _service("LoadBalancer", ingress=[{"hostname": "h"}, {"ip": "9.9.9.9"}], externalIPs=["1.1.1.1"]),
            ["x", "LoadBalancer", "<none>", "9.9.9.9,h,1.1.1.1"],
        ),
        (
            SERVICES,
            _service("ExternalName", externalName="e.example", ports=[]),
            ["x", "ExternalName", "<none>", "e.example", "<none>"],
        ),
        (
            ENDPOINTSLICES,
            {
                "addressType": "IPv4",
                "ports": [{"port": 80}, {"name": "b"}, {}, {"port": 81}],
                "endpoints": [{"addresses": ["a", "b"]}, {"addresses": ["c", "d", "e"]}],
            },
            ["x", "IPv4", "80,b,* + 1 more...", "a,b,c + 2 more...", "30s"],
        ),
        (ENDPOINTSLICES, {"addressType": "IPv6", "endpoints": []}, ["x", "IPv6", "<unset>", "<unset>", "30s"]),
        (
            DEPLOYMENTS,
            {"spec": _SPEC, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}},
            ["x", "2/3", 3, 1, "30s", *_OF_TEMPLATE],
        ),
        (REPLICASETS, {"spec": _SPEC, "status": {"replicas": 2}}, ["x", 3, 2, 0, "30s", *_OF_TEMPLATE]),
        (LEASES, {"spec": {"holderIdentity": "n1"}}, ["x", "n1", "30s"]),
        (
            EVENTS,
            {
                "type": "Warning",
                "reason": "Failed",
                "message": " it failed\n",
                "count": 4,
                "firstTimestamp": "2023-11-14T22:08:15Z",
                "lastTimestamp": CREATED,
                "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
                "source": {"component": "kubelet", "host": "n1"},
            },
            ["30s", "Warning", "Failed", "pod/p", "spec", "kubelet, n1", "it failed", "5m5s", 4, "x"],
        ),
        (
            EVENTS,
            {"eventTime": "2023-11-14T22:12:50.500000Z", "involvedObject": {"kind": "Node"}, "reportingComponent": "c"},
            ["29s", "", "", "node", "", "c", "", "29s", 1, "x"],
        ),
        (
            EVENTS,
            {"firstTimestamp": "2023-11-14T22:08:15Z", "series": {"count": 7, "lastObservedTime": CREATED}},
            ["30s", "", "", "", "", "", "", "5m5s", 7, "x"],
        ),
    ],
)
def test_cells(resource: Resource[Any], obj: dict[str, Any], cells: list[Any]) -> None:
    found = list(resource.printer.cells({"metadata": META} | obj, NOW))
    assert found[: len(cells)] == cells
    assert len(found) == len(resource.printer.columns)


def test_of_every_kind_the_name_is_a_column() -> None:
    for resource in ALL:
        assert sum(column.format == "name" for column in resource.printer.columns) == 1
