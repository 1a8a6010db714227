"""Objects as they are sent: of the right kind, with fields that it has, each with a value of its type."""

from __future__ import annotations

import functools

import msgspec

from netlab.api.kinds import table
from netlab.api.meta_types import Object, ObjectMeta, StatusCause
from netlab.api.resources import STATUS, Resource
from netlab.api.server import refusals
from netlab.api.server.objects import bodies, schema
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import Fields, FieldValidation, Findings, JSONObject, Mode
from netlab.api.server.objects.structural import shaping


def read(resource: Resource[Object], sent: JSONObject, validation: FieldValidation) -> tuple[str, ...]:
    """Check an object, and take out of it what the kind does not have; the warnings for its author.

    Raises `ApiError` (400, 422).
    """
    _check_kind(resource, sent)
    doubled = _duplicates(sent, validation)
    if isinstance(resource, CustomResource):
        return _judge(resource, sent, _shape(resource, sent), doubled, validation.mode)
    findings = schema.inspect(sent, fields_of_kind(resource))
    warnings = _judge(resource, sent, findings, doubled, validation.mode)
    sent.setdefault("metadata", {})
    kept = (path for path in findings.ignored if not path.endswith((".managedFields", ".selfLink")))
    return *warnings, *(f"{path}: stored and returned, but nothing in netlab acts upon it" for path in kept)


def read_status(resource: Resource[Object], sent: JSONObject, validation: FieldValidation) -> tuple[str, ...]:
    """Of an update of the status the rest is passed over, and so not looked at."""
    if isinstance(resource, CustomResource):
        return read(resource, sent, validation)
    _check_kind(resource, sent)
    doubled = _duplicates(sent, validation)
    metadata = schema.inspect(sent.setdefault("metadata", {}), _METADATA(), "metadata")
    status = fields_of_kind(resource).shapes[STATUS].fields
    assert status is not None
    found = schema.inspect(sent.get(STATUS, {}), status, STATUS)
    for part in ("unreadable", "unknown", "suggestions", "missing"):
        getattr(metadata, part).extend(getattr(found, part))
    return _judge(resource, sent, metadata, doubled, validation.mode)


def fields_of_kind(resource: Resource[Object]) -> Fields:
    """The fields of a resource's objects."""
    message = table.message_of(resource.api_version, resource.kind)
    assert message is not None
    if resource.is_stored_only or resource.type is Object:
        return schema.fields_as_listed(message.name)
    return schema.fields_of(message.name, resource.type)


_METADATA = functools.partial(schema.fields_of, "meta.v1.ObjectMeta", ObjectMeta)


def _shape(resource: CustomResource, sent: JSONObject) -> Findings:
    """Take out of an object of a custom resource what its definition does not have, and fill in what it does."""
    findings = schema.inspect(sent.setdefault("metadata", {}), _METADATA(), "metadata")

    def note(path: str) -> None:
        if len(findings.unknown) < schema.MOST_FINDINGS:
            cause = StatusCause(reason="FieldValueForbidden", message=f'unknown field "{path}"', field=path)
            findings.unknown.append(cause)

    shaping.prune(sent, resource.root, note)
    shaping.drop_nulls(sent, resource.root)
    shaping.fill(sent, resource.root)
    return findings


def _check_kind(resource: Resource[Object], sent: JSONObject) -> None:
    for field, expected in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        if (found := sent.get(field)) not in (None, "", expected):
            message = f"the {field} in the data ({found}) does not match the expected {field} ({expected})"
            raise refusals.bad_request(message)


def _duplicates(sent: JSONObject, validation: FieldValidation) -> list[StatusCause]:
    body = validation.body
    if not body or validation.mode is Mode.IGNORE:
        return []
    paths = bodies.duplicates(body, msgspec.json.decode(body) if validation.is_patch else sent)
    return [
        StatusCause(reason="FieldValueDuplicate", message=f'duplicate field "{path}"', field=path) for path in paths
    ]


def _judge(
    resource: Resource[Object], sent: JSONObject, findings: Findings, doubled: list[StatusCause], mode: Mode
) -> tuple[str, ...]:
    """Refuse what was found, or the warnings about it."""
    doubtful = [*findings.unknown, *doubled] if mode is not Mode.IGNORE else []
    if mode is Mode.STRICT and (doubtful or findings.unreadable):
        raise refusals.unreadable(resource, [*doubtful, *findings.unreadable], findings.suggest())
    if findings.unreadable:
        raise refusals.unreadable(resource, findings.unreadable)
    if findings.missing:
        raise refusals.invalid(resource, sent.get("metadata", {}).get("name", ""), findings.missing)
    return tuple(each.message for each in doubtful)
