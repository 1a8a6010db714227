"""What a webhook is asked, and how its answer is read: pure (admission/v1 and v1beta1.AdmissionReview)."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from netlab.api.meta_types import Status
from netlab.api.resources import Resource
from netlab.api.server.admission.attributes import Attributes
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.validation.webhooks import REVIEW_VERSIONS
from netlab.api.server.webhooks.hooks import Hook

GROUP, KIND = "admission.k8s.io", "AdmissionReview"
_JSON_PATCH = "JSONPatch"
_REFUSED = 400


class ReviewError(Exception):
    """A webhook's answer makes no sense."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a webhook says."""

    refusal: Status | None = None
    """None: the request is allowed."""
    patch: tuple[Any, ...] = ()
    """Operations of a JSON patch of the object."""
    warnings: tuple[str, ...] = ()


def request(
    attributes: Attributes,
    resource: Resource[Any],
    uid: str,
    user: Mapping[str, Any],
    obj: JSONObject | None,
    old: JSONObject | None,
) -> JSONObject:
    """admission/v1.AdmissionRequest: a request as it is seen in a version of its resource, with its objects in it."""
    own, part = attributes.requested, attributes.subresource
    return {
        "uid": uid,
        "kind": _kind(resource, part),
        "resource": _place(resource),
        "requestKind": _kind(own, part),
        "requestResource": _place(own),
        **({"subResource": part, "requestSubResource": part} if part else {}),
        "name": attributes.name,
        **({"namespace": attributes.namespace} if attributes.namespace else {}),
        "operation": attributes.operation.value,
        "userInfo": dict(user),
        "object": obj,
        "oldObject": old,
        "dryRun": attributes.dry_run,
        "options": None,
    }


def _kind(resource: Resource[Any], subresource: str) -> JSONObject:
    found = resource.subresource(subresource) if subresource else None
    if found is not None and found.kind is not None:
        return {"group": found.kind.group, "version": found.kind.version, "kind": found.kind.kind}
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _place(resource: Resource[Any]) -> JSONObject:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def review(hook: Hook, asked: JSONObject) -> JSONObject:
    """The AdmissionReview in the first version that a webhook reads of those that there are. Raises `ReviewError`."""
    version = next((each for each in hook.spec.admissionReviewVersions if each in REVIEW_VERSIONS), None)
    if version is None:
        raise ReviewError(f"webhook does not accept known AdmissionReview versions ({', '.join(REVIEW_VERSIONS)})")
    return {"kind": KIND, "apiVersion": f"{GROUP}/{version}", "request": asked}


def read(hook: Hook, sent: JSONObject, answer: Any) -> Verdict:
    """What an answer to a review says. Raises `ReviewError`."""
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise ReviewError("webhook response was absent")
    if sent["apiVersion"] == f"{GROUP}/{REVIEW_VERSIONS[0]}":
        _check(hook, sent, answer, response)
    try:
        result = msgspec.convert(response.get("result") or response.get("status") or {}, Status, strict=False)
        warnings = msgspec.convert(response.get("warnings") or (), tuple[str, ...])
        patch = _patch(response["patch"]) if hook.mutates and response.get("patch") else ()
    except (msgspec.MsgspecError, binascii.Error) as error:
        raise ReviewError(str(error)) from None
    return Verdict(None if response.get("allowed") is True else _refusal(hook, result), patch, warnings)


def _check(hook: Hook, sent: JSONObject, answer: JSONObject, response: JSONObject) -> None:
    """What the first version asks of an answer."""
    if response.get("uid") != sent["request"]["uid"]:
        raise ReviewError(f'expected response.uid="{sent["request"]["uid"]}", got "{response.get("uid", "")}"')
    found = f"{answer.get('apiVersion', '')}, Kind={answer.get('kind', '')}"
    if found != f"{sent['apiVersion']}, Kind={KIND}":
        raise ReviewError(f"expected webhook response of {sent['apiVersion']}, Kind={KIND}, got {found}")
    patch, kind = response.get("patch"), response.get("patchType")
    if not hook.mutates:
        if patch or kind:
            raise ReviewError(f"validating webhook may not return response.{'patch' if patch else 'patchType'}")
    elif bool(patch) != (kind is not None):
        has, lacks = ("patch", "patchType") if patch else ("patchType", "patch")
        raise ReviewError(f"webhook returned response.{has} but not response.{lacks}")
    elif kind not in (None, _JSON_PATCH):
        raise ReviewError(f'webhook returned invalid response.patchType of "{kind}"')


def _patch(encoded: str) -> tuple[Any, ...]:
    return msgspec.json.decode(base64.b64decode(encoded, validate=True), type=tuple[Any, ...])


def _refusal(hook: Hook, said: Status) -> Status:
    """As upstream words it (webhook/errors.ToStatusErr)."""
    by = f'admission webhook "{hook.name}" denied the request'
    why = said.message or said.reason
    said.code = max(said.code or 0, _REFUSED)
    said.status = "Failure"
    said.message = f"{by}: {why}" if why else f"{by} without explanation"
    return said
