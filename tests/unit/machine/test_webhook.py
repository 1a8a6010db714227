"""What agnhost's webhooks answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from netlab.machine.images import flags, webhook
from netlab.machine.images.http import Request, Response
from netlab.machine.images.nettest import State

DATA = {"webhook-e2e-test": "webhook-disallow"}
KEPT = {"webhook-e2e-test": "webhook-nondeletable"}
SIDECAR = {"image": "i", "name": "webhook-added-sidecar", "resources": {}}
INIT: dict[str, Any] = {"image": "webhook-added-image", "name": "webhook-added-init-container", "resources": {}}


def posted(path: str, value: Any) -> Request:
    return Request("POST", path, path, {}, {}, "", 443, json.dumps(value).encode())


def admitted(path: str, request: dict[str, Any], version: str = "v1") -> Response:
    value = {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": request}
    return webhook.admission(posted(path, value), "i")


def pod(name: str = "p", containers: tuple[str, ...] = ("c",), init: tuple[str, ...] = (), **meta: Any) -> Any:
    spec = {"containers": [{"name": each} for each in containers], "initContainers": [{"name": each} for each in init]}
    return {"metadata": {"name": name, **meta}, "spec": spec}


@pytest.mark.parametrize(
    ("path", "request_of", "expected"),
    [
        ("/pods", {"object": pod()}, True),
        ("/pods", {"object": pod(labels=DATA)}, "the pod contains unwanted label;"),
        ("/pods", {"object": pod(containers=("webhook-disallow",))}, "the pod contains unwanted container name;"),
        ("/pods/attach", {"name": "p", "object": {"stdin": True, "container": "container1"}}, True),
        ("/pods/attach", {"name": "to-be-attached-pod", "object": {"stdin": True, "container": "c"}}, True),
        (
            "/pods/attach",
            {"name": "to-be-attached-pod", "object": {"stdin": True, "container": "container1"}},
            "attaching to pod 'to-be-attached-pod' is not allowed",
        ),
        ("/mutating-pods", {"object": pod()}, True),
        ("/mutating-pods", {"object": pod("webhook-to-be-mutated", init=(INIT["name"],))}, True),
        (
            "/mutating-pods",
            {"object": pod("webhook-to-be-mutated")},
            [{"op": "add", "path": "/spec/initContainers", "value": [INIT]}],
        ),
        ("/mutating-pods-sidecar", {"object": pod(containers=("c", "webhook-added-sidecar"))}, True),
        ("/mutating-pods-sidecar", {"object": pod()}, [{"op": "add", "path": "/spec/containers/-", "value": SIDECAR}]),
        ("/configmaps", {"operation": "CREATE", "object": {}}, True),
        ("/configmaps", {"operation": "DELETE", "oldObject": {"data": DATA}}, True),
        (
            "/configmaps",
            {"operation": "UPDATE", "object": {"data": DATA}},
            "the configmap contains unwanted key and value",
        ),
        (
            "/configmaps",
            {"operation": "DELETE", "oldObject": {"data": KEPT}},
            "the configmap cannot be deleted because it contains unwanted key and value",
        ),
        (
            "/custom-resource",
            {"operation": "CREATE", "object": {"data": DATA}},
            "the custom resource contains unwanted data",
        ),
        ("/mutating-configmaps", {"object": {"data": {}}}, True),
        (
            "/mutating-configmaps",
            {"object": {"data": {"mutation-start": "yes"}}},
            [{"op": "add", "path": "/data/mutation-stage-1", "value": "yes"}],
        ),
        (
            "/mutating-custom-resource",
            {"object": {"data": {"mutation-start": "yes", "mutation-stage-1": "yes"}}},
            [{"op": "add", "path": "/data/mutation-stage-2", "value": "yes"}],
        ),
        ("/crd", {"object": {"metadata": {"labels": DATA}}}, "the crd contains unwanted label"),
        ("/add-label", {"object": {}}, [{"op": "add", "path": "/metadata/labels", "value": {"added-label": "yes"}}]),
        ("/add-label", {"object": {"metadata": {"labels": {"added-label": "yes"}}}}, True),
        (
            "/add-label",
            {"object": {"metadata": {"labels": {"added-label": "no"}}}},
            [{"op": "replace", "path": "/metadata/labels/added-label", "value": "yes"}],
        ),
    ],
)
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_admission(path: str, request_of: dict[str, Any], expected: Any, version: str) -> None:
    answer = admitted(path, {"uid": "u", **request_of}, version)
    told = json.loads(answer.text)
    assert (told["kind"], told["apiVersion"]) == ("AdmissionReview", f"admission.k8s.io/{version}")
    response = told["response"]
    assert response["uid"] == "u"
    if isinstance(expected, str):
        assert response["allowed"] is False
        assert expected in response["status"].values()
    else:
        assert response["allowed"] is True
        patch = response.get("patch")
        assert (patch is None) == (expected is True)
        assert patch is None or json.loads(base64.b64decode(patch)) == expected


@pytest.mark.parametrize("value", [{}, [], {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}, "x"])
def test_what_is_no_review_is_refused(value: Any) -> None:
    assert webhook.admission(posted("/pods", value), "").status == 400
    assert webhook.conversion(posted("/crdconvert", value)).status == 400


V1, V2 = "stable.example.com/v1", "stable.example.com/v2"


@pytest.mark.parametrize(
    ("value", "version", "expected"),
    [
        ({"apiVersion": V1, "hostPort": "h:1"}, V2, {"apiVersion": V2, "host": "h", "port": "1"}),
        ({"apiVersion": V1}, V2, {"apiVersion": V2}),
        ({"apiVersion": V2, "host": "h"}, V1, {"apiVersion": V1, "hostPort": "h:"}),
        ({"apiVersion": V1}, V1, "conversion from a version to itself should not call the webhook: " + V1),
        ({"apiVersion": V1, "hostPort": "a:b:c"}, V2, "invalid hostPort value `a:b:c`"),
        ({"apiVersion": V1}, "other/v1", 'unexpected conversion version "other/v1"'),
        ({"apiVersion": "other/v1"}, V2, 'unexpected conversion version "other/v1"'),
    ],
)
def test_conversion(value: dict[str, Any], version: str, expected: Any) -> None:
    asked = {"uid": "u", "desiredAPIVersion": version, "objects": [value]}
    review = {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "request": asked}
    response = json.loads(webhook.conversion(posted("/crdconvert", review)).text)["response"]
    if isinstance(expected, str):
        assert response["result"] == {"status": "Failure", "message": expected}
        assert response["convertedObjects"] == []
    else:
        assert response == {"uid": "u", "convertedObjects": [expected], "result": {"status": "Success"}}


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--port=1", "--alsologtostderr", "-v=4"], ["--port=1"]),
        (["--v", "4", "x", "--logtostderr=true"], ["x"]),
        (["--vault", "-x"], ["--vault", "-x"]),
    ],
)
def test_flags_of_a_log_are_for_nobody(arguments: list[str], kept: list[str]) -> None:
    assert flags.without_logging(arguments) == kept


def test_servers_that_call_each_other_say_how_far_they_are() -> None:
    state = State("a")
    assert state.verdict(1) == "running"
    state.received(b'{"Source": "b", "Dest": "http://a"}')
    state.received(b'{"Dest": "http://a"}')
    state.received(b"nonsense")
    assert (state.Received, len(state.Errors)) == ({"b": 1}, 2)
    state.StillContactingPeers = False
    assert state.verdict(1) == "fail"
    state.Sent["b"] = 1
    assert state.verdict(1) == "pass"
