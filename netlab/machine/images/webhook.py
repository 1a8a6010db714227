"""agnhost webhook and crd-conversion-webhook: what Kubernetes' tests register as admission and conversion webhooks.

Paths, objects that are refused or changed, and messages are agnhost's (test/images/agnhost/webhook and
crd-conversion-webhook); a review is answered in the version in which it came.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from netlab.machine.images import netexec, tls
from netlab.machine.images.http import Request, Response

_DELAY = 5.0
_MARK = "webhook-e2e-test"
_JSON = {"Content-Type": "application/json"}

Reviewed = dict[str, Any]
"""The request of an AdmissionReview, or the response to it."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags."""

    port: int
    certificate: str
    key: str
    sidecar_image: str = ""


class CannotAnswerError(Exception):
    """The request is no review."""


def serve_admission(options: Options) -> int:
    """Answer AdmissionReviews until told to end; returns the exit status."""
    return _serve(options, lambda request: admission(request, options.sidecar_image))


def serve_conversion(options: Options) -> int:
    """Answer ConversionReviews until told to end; returns the exit status."""
    return _serve(options, conversion)


def _serve(options: Options, answer: Callable[[Request], Response]) -> int:
    try:
        secret = tls.context(options.certificate, options.key)
        listener = netexec.listen(socket.SOCK_STREAM, options.port)
    except OSError as error:
        netexec.log(f"listen: {error.strerror or error}")
        return 1
    tls.serve_http(listener, secret, answer)
    netexec.wait_for_end()
    return 0


def admission(request: Request, sidecar_image: str) -> Response:
    """The answer to a request of an API server."""
    if request.path == "/readyz":
        return Response("ok")
    if request.path == "/mutating-pods-sidecar":
        return _answered(request, lambda review: _add_sidecar(review, sidecar_image))
    review = _REVIEWS.get(request.path)
    return Response("404 page not found\n", 404) if review is None else _answered(request, review)


def _answered(request: Request, review: Callable[[Reviewed], Reviewed]) -> Response:
    try:
        asked = _read(request, "AdmissionReview", "admission.k8s.io")
        response = review(asked["request"]) | {"uid": asked["request"].get("uid", "")}
    except (CannotAnswerError, KeyError, TypeError, AttributeError) as error:
        return Response(f"Request could not be decoded: {error}\n", 400)
    told = {"kind": asked["kind"], "apiVersion": asked["apiVersion"], "response": response}
    return Response(json.dumps(told), headers=_JSON)


def _read(request: Request, kind: str, group: str) -> dict[str, Any]:
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise CannotAnswerError(str(error)) from None
    known = [f"{group}/{version}" for version in ("v1", "v1beta1")]
    if not isinstance(value, dict) or value.get("kind") != kind or value.get("apiVersion") not in known:
        raise CannotAnswerError(f"not a {kind} of {' or '.join(known)}")
    return value


def _allowed() -> Reviewed:
    return {"allowed": True}


def _refused(**status: Any) -> Reviewed:
    return {"allowed": False, "status": status}


def _patched(*operations: dict[str, Any]) -> Reviewed:
    patch = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": patch}


def _data(request: Reviewed) -> dict[str, str]:
    """What a ConfigMap or custom resource holds, or held that is deleted."""
    held = request["oldObject"] if request.get("operation") == "DELETE" else request["object"]
    return held.get("data") or {}


def _allow_later(request: Reviewed) -> Reviewed:
    time.sleep(_DELAY)
    return _allowed() | {"status": {"message": "this webhook allows all requests"}}


def _deny(request: Reviewed) -> Reviewed:
    return _refused(message="this webhook denies all requests")


def _add_label(request: Reviewed) -> Reviewed:
    labels = request["object"].get("metadata", {}).get("labels") or {}
    if not labels:
        return _patched({"op": "add", "path": "/metadata/labels", "value": {"added-label": "yes"}})
    if labels.get("added-label") == "yes":
        return _allowed()
    operation = "replace" if "added-label" in labels else "add"
    return _patched({"op": operation, "path": "/metadata/labels/added-label", "value": "yes"})


def _admit_pod(request: Reviewed) -> Reviewed:
    pod = request["object"]
    label = (pod.get("metadata", {}).get("labels") or {}).get(_MARK)
    if label == "wait-forever":
        threading.Event().wait()
    wrong = ["the pod contains unwanted label;"] if label == "webhook-disallow" else []
    names = [each["name"] for each in pod["spec"]["containers"]]
    wrong += ["the pod contains unwanted container name;" for name in names if "webhook-disallow" in name]
    return _refused(message=" ".join(wrong)) if wrong else _allowed()


def _deny_attachment(request: Reviewed) -> Reviewed:
    asked = request["object"]
    if request.get("name") != "to-be-attached-pod" or not asked.get("stdin") or asked.get("container") != "container1":
        return _allowed()
    return _refused(message="attaching to pod 'to-be-attached-pod' is not allowed")


def _add_init_container(request: Reviewed) -> Reviewed:
    pod, name = request["object"], "webhook-added-init-container"
    if pod.get("metadata", {}).get("name") != "webhook-to-be-mutated":
        return _allowed()
    if any(each["name"] == name for each in pod["spec"].get("initContainers") or ()):
        return _allowed()
    added = {"image": "webhook-added-image", "name": name, "resources": {}}
    return _patched({"op": "add", "path": "/spec/initContainers", "value": [added]})


def _add_sidecar(request: Reviewed, image: str) -> Reviewed:
    name = "webhook-added-sidecar"
    if not image:
        return _refused(status="Failure", message="No image specified by the sidecar-image parameter", code=500)
    if any(each["name"] == name for each in request["object"]["spec"]["containers"]):
        return _allowed()
    added = {"image": image, "name": name, "resources": {}}
    return _patched({"op": "add", "path": "/spec/containers/-", "value": added})


def _admit_data(request: Reviewed, what: str, contains: str) -> Reviewed:
    mark, deleted = _data(request).get(_MARK), request.get("operation") == "DELETE"
    if mark == "webhook-disallow" and request.get("operation") in ("CREATE", "UPDATE"):
        return _refused(reason=f"the {what} contains unwanted {contains}")
    if mark == "webhook-nondeletable" and deleted:
        return _refused(reason=f"the {what} cannot be deleted because it contains unwanted key and value")
    return _allowed()


def _mutate_data(request: Reviewed) -> Reviewed:
    data = request["object"].get("data") or {}
    for before, stage in (("mutation-stage-1", 2), ("mutation-start", 1)):
        if data.get(before) == "yes":
            return _patched({"op": "add", "path": f"/data/mutation-stage-{stage}", "value": "yes"})
    return _allowed()


def _admit_definition(request: Reviewed) -> Reviewed:
    labels = request["object"].get("metadata", {}).get("labels") or {}
    if labels.get(_MARK) == "webhook-disallow":
        return _refused(message="the crd contains unwanted label")
    return _allowed()


_REVIEWS: dict[str, Callable[[Reviewed], Reviewed]] = {
    "/always-allow-delay-5s": _allow_later,
    "/always-deny": _deny,
    "/add-label": _add_label,
    "/pods": _admit_pod,
    "/pods/attach": _deny_attachment,
    "/mutating-pods": _add_init_container,
    "/configmaps": lambda request: _admit_data(request, "configmap", "key and value"),
    "/mutating-configmaps": _mutate_data,
    "/custom-resource": lambda request: _admit_data(request, "custom resource", "data"),
    "/mutating-custom-resource": _mutate_data,
    "/crd": _admit_definition,
}


def conversion(request: Request) -> Response:
    """The answer to a request of an API server for objects of stable.example.com in another version."""
    if request.path == "/readyz":
        return Response("ok")
    if request.path != "/crdconvert":
        return Response("404 page not found\n", 404)
    try:
        review = _read(request, "ConversionReview", "apiextensions.k8s.io")
        asked = review["request"]
        uid, version, objects = asked.get("uid", ""), asked["desiredAPIVersion"], list(asked["objects"])
    except (CannotAnswerError, KeyError, TypeError, AttributeError) as error:
        return Response(f"failed to deserialize body: {error}\n", 400)
    response: dict[str, Any] = {"uid": uid, "convertedObjects": [], "result": {"status": "Success"}}
    try:
        response["convertedObjects"] = [converted(each, version) for each in objects]
    except CannotAnswerError as error:
        response["result"] = {"status": "Failure", "message": str(error)}
    told = {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response}
    return Response(json.dumps(told), headers=_JSON)


def converted(value: dict[str, Any], version: str) -> dict[str, Any]:
    """An object in another version: v1 has `hostPort`, v2 `host` and `port`. Raises `CannotAnswerError`."""
    made, before = dict(value), value.get("apiVersion", "")
    if version == before:
        raise CannotAnswerError(f"conversion from a version to itself should not call the webhook: {version}")
    match before, version:
        case "stable.example.com/v1", "stable.example.com/v2":
            if "hostPort" in made:
                host, colon, port = str(given := made.pop("hostPort")).partition(":")
                if not colon or ":" in port:
                    raise CannotAnswerError(f"invalid hostPort value `{given}`")
                made |= {"host": host, "port": port}
        case "stable.example.com/v2", "stable.example.com/v1":
            if made.keys() & {"host", "port"}:
                made["hostPort"] = f"{made.pop('host', '')}:{made.pop('port', '')}"
        case _:
            strange = version if before in ("stable.example.com/v1", "stable.example.com/v2") else before
            raise CannotAnswerError(f"unexpected conversion version {json.dumps(strange)}")
    return made | {"apiVersion": version}
