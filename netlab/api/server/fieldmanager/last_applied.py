"""The way from client-side apply to kubectl's server-side apply: the annotation with what was applied last.

What it says that has not changed since may be taken over without a conflict, and it is kept in step, so that the way
back is open too (managedfields/internal/lastapplied*.go). Only kubectl's default manager goes this way.
"""

from __future__ import annotations

from typing import Any

import msgspec

from netlab.api.server.fieldmanager import comparing, fieldsets, managers
from netlab.api.server.fieldmanager.fieldsets import FieldSet
from netlab.api.server.fieldmanager.managers import Applied, ConflictsError, Managers, Request
from netlab.api.server.objects.schema import JSONObject

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"

MOST_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations of an object: TotalAnnotationSizeLimitB."""

_KUBECTL = "kubectl"


def apply(
    live: JSONObject, config: JSONObject, known: Managers, request: Request, name: str, *, force: bool
) -> Applied:
    """As `managers.apply`, with that annotation heeded."""
    if name != _KUBECTL:
        return managers.apply(live, config, known, request, name, force=force)
    try:
        applied = managers.apply(live, config, known, request, name, force=force)
    except ConflictsError as error:
        allowed = _unchanged(live, request)
        left = [each for each in error.conflicts if not fieldsets.has(allowed, each.path)]
        if left:
            raise ConflictsError(left) from None
        applied = managers.apply(live, config, known, request, name, force=True)
    annotations = _annotations(applied.obj)
    if not annotations.get(ANNOTATION):
        return applied
    meta = applied.obj["metadata"] | {"annotations": _annotated(annotations, config)}
    return Applied(applied.obj | {"metadata": meta}, applied.managers)


def _annotations(obj: JSONObject) -> JSONObject:
    found = (obj.get("metadata") or {}).get("annotations")
    return found if isinstance(found, dict) else {}


def _unchanged(live: JSONObject, request: Request) -> FieldSet:
    """What was applied last by the client's side, and is still so."""
    try:
        last: Any = msgspec.json.decode(_annotations(live).get(ANNOTATION) or "null")
    except (msgspec.DecodeError, TypeError):
        return {}
    if not isinstance(last, dict) or last.get("apiVersion") != request.api_version:
        return {}
    convert, structure = request.version.convert, request.version.structure
    change = comparing.compare(last, convert(live), structure)
    same = fieldsets.difference(comparing.applied(last, structure), change.written)
    return fieldsets.difference(same, change.removed)


def _annotated(annotations: JSONObject, config: JSONObject) -> JSONObject:
    """With what is applied now; without the annotation if that is too long."""
    others = {name: value for name, value in annotations.items() if name != ANNOTATION}
    sent = {name: value for name, value in _annotations(config).items() if name != ANNOTATION}
    meta = {name: value for name, value in config["metadata"].items() if name != "annotations"}
    plain = config | {"metadata": meta | ({"annotations": sent} if "annotations" in config["metadata"] else {})}
    text = msgspec.json.encode(plain, order="sorted").decode() + "\n"
    length = sum(len(name) + len(str(value)) for name, value in (others | {ANNOTATION: text}).items())
    return others | ({ANNOTATION: text} if length <= MOST_ANNOTATIONS else {})
