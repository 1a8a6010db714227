"""metadata.managedFields of what is written to the registry: who set what, and what who applies does to an object."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any

from netlab.api.errors import ApiError
from netlab.api.kinds import table
from netlab.api.meta_types import Object, StatusCause
from netlab.api.resources import DEPLOYMENTS, EPHEMERAL_CONTAINERS, PODS, SCALE, SERVED, STATUS, Resource
from netlab.api.server import refusals
from netlab.api.server.fieldmanager import fieldsets, last_applied, managers, merging
from netlab.api.server.fieldmanager.managers import ConflictsError, Managers, Request, Version
from netlab.api.server.fieldmanager.structure import ANYTHING, Structure, UnkeyedError, of_message, of_schema
from netlab.api.server.objects import versions
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.stored_kinds import APPROVAL

SERVER = "kube-apiserver"
"""Who makes objects that no client asked for."""

FIELD = "managedFields"

_USER_METADATA = ("labels", "annotations", "ownerReferences", "finalizers")
"""What is its author's."""

KEPT_WITH_STATUS: dict[str, tuple[str, ...]] = {
    PODS.plural: ("ownerReferences",),
    DEPLOYMENTS.plural: ("labels",),
    **dict.fromkeys(("flowschemas", "prioritylevelconfigurations", "volumeattachments"), _USER_METADATA),
}
"""What an update of the status leaves of the metadata (each kind's strategy.go, PrepareForUpdate). The rest it
changes as any update does."""


def structure_of(resource: Resource[Any]) -> Structure:
    """How the objects of a resource are merged."""
    if isinstance(resource, CustomResource):
        return _structures.get(resource) or _structures.setdefault(resource, of_schema(resource.root))
    message = table.message_of(resource.api_version, resource.kind)
    return ANYTHING if message is None else of_message(message.name)


_structures: weakref.WeakKeyDictionary[CustomResource, Structure] = weakref.WeakKeyDictionary()


def request_of(resource: Resource[Any], subresource: str = "") -> Request:
    """A write to a resource, or to a part of its objects."""
    if isinstance(resource, CustomResource):
        served = {each.api_version: _version_of_custom(each, resource) for each in resource.family}
        return _request(resource, subresource, served)
    return _request_of_table(resource, subresource)


@functools.lru_cache(maxsize=1024)
def _request_of_table(resource: Resource[Any], subresource: str) -> Request:
    stored = versions.storage(resource)
    served = {each.api_version: _version(each) for each in (stored, *SERVED) if versions.storage(each) is stored}
    return _request(resource, subresource, served)


def _request(resource: Resource[Any], subresource: str, served: dict[str, Version]) -> Request:
    # Through a Scale, others' fields are seen in its version.
    shown = "autoscaling/v1" if subresource == SCALE else ""
    return Request(resource.api_version, served, _ignored(resource, subresource), subresource, shown)


def _version(resource: Resource[Any]) -> Version:
    convert: Callable[[JSONObject], JSONObject] = functools.partial(versions.from_storage, resource)
    restore: Callable[[JSONObject], JSONObject] = functools.partial(versions.to_change, resource)
    return Version(structure_of(resource), convert, restore)


def _version_of_custom(each: CustomResource, asked: CustomResource) -> Version:
    """One of the versions; objects are handed over in that which was asked for."""
    convert: Callable[[JSONObject], JSONObject] = functools.partial(versions.converted, resource=each)
    restore: Callable[[JSONObject], JSONObject] = functools.partial(versions.converted, resource=asked)
    return Version(structure_of(each), convert, restore)


def _ignored(resource: Resource[Any], subresource: str) -> fieldsets.FieldSet:
    """What such a write does not change, whatever is sent."""
    if subresource in (STATUS, APPROVAL):
        others = [(f"f:{name}",) for name in structure_of(resource).fields if name not in (STATUS, "metadata")]
        kept = KEPT_WITH_STATUS.get(resource.collection, ()) if subresource == STATUS else _USER_METADATA
        if isinstance(resource, CustomResource):
            return fieldsets.of(*others, ("f:metadata",))
        return fieldsets.of(*others, *(("f:metadata", f"f:{name}") for name in kept))
    if subresource == EPHEMERAL_CONTAINERS:
        pod = structure_of(resource).fields
        spec = pod["spec"].structure.fields
        changed = ((f"f:{name}",) for name in pod if name != "spec")
        return fieldsets.of(*changed, *(("f:spec", f"f:{name}") for name in spec if name != "ephemeralContainers"))
    return fieldsets.of((f"f:{STATUS}",)) if resource.has_status else {}


def taken(sent: JSONObject, old: JSONObject, *, trusted: bool) -> tuple[JSONObject, Any]:
    """What is sent in the place of an object, and its managedFields.

    They are taken out if there is nothing to check about them: because they are the server's own (`trusted`), or are as
    they were.
    """
    meta = sent.get("metadata")
    if not isinstance(meta, dict) or FIELD not in meta:
        return sent, None
    managed = meta[FIELD]
    if trusted or managed == old["metadata"].get(FIELD):
        sent = sent | {"metadata": noted(meta, None)}
    return sent, managed


def of_new(resource: Resource[Object], obj: JSONObject, name: str) -> list[JSONObject]:
    """Those of an object that a manager makes."""
    return managers.created(obj, request_of(resource), name)


def of_changed(
    resource: Resource[Object], old: JSONObject, new: JSONObject, subresource: str, name: str, sent: Any
) -> list[JSONObject]:
    """Those of an object that a manager changes; `sent` are the managedFields that it sent with it, if any.

    Both objects are as stored, those of a custom resource in the version of the write. Whatever managedFields are in
    them are passed over, besides those of the old one.
    """
    request = request_of(resource, subresource)
    kept: list[JSONObject] = old["metadata"].get(FIELD, [])
    before, after = _plain(old), _plain(new)
    if subresource or sent in (None, kept):
        if before == after:
            return kept
        known = managers.read(kept, trusted=True)
    else:
        # A client may take what it sees as its own, or forget it all.
        known = _sent(sent) or managers.read([] if managers.is_reset(sent) else kept, trusted=True)
    return managers.entries(managers.updated(before, after, known, request, name))


def is_only_later(old: JSONObject, new: JSONObject) -> bool:
    """Whether nothing has changed but times in managedFields (IgnoreManagedFieldsTimestampsTransformer).

    Such a write is none: what it wrote became what was there, by defaults or because the server keeps it.
    """
    before, after = old["metadata"].get(FIELD, []), new["metadata"].get(FIELD, [])
    return (
        len(before) == len(after)
        and all(one | {"time": ""} == other | {"time": ""} for one, other in zip(before, after, strict=True))
        and _plain(old) == _plain(new)
    )


def _plain(obj: JSONObject) -> JSONObject:
    return obj | {"metadata": noted(obj["metadata"], None)}


def noted(meta: JSONObject, managed: list[JSONObject] | None) -> JSONObject:
    """An object's metadata with these managedFields."""
    others = {name: value for name, value in meta.items() if name != FIELD}
    return others | {FIELD: managed} if managed else others


def _sent(entries: Any) -> Managers:
    """What a client says; nothing if it makes no sense."""
    try:
        return managers.read(entries)
    except ValueError:
        return {}


@dataclasses.dataclass(frozen=True)
class Apply:
    """Who applies, and what that may do."""

    manager: str
    force: bool = False
    """Whether fields of others are taken over."""
    uncreated: ApiError | None = None
    """Why an object that is not there is not made; None: it is."""


def check_applied(resource: Resource[Object], config: JSONObject) -> None:
    """Refuse what cannot be applied. Raises `ApiError` (400)."""
    if (config.get("apiVersion"), config.get("kind")) != (resource.api_version, resource.kind):
        kind = config.get("kind") or ""
        raise refusals.bad_request(f"invalid object type: {config.get('apiVersion') or ''}, Kind={kind}")
    meta = config.setdefault("metadata", {})
    if not isinstance(meta, dict):
        raise refusals.bad_request("metadata is not an object")
    if FIELD in meta:
        raise refusals.bad_request("metadata.managedFields must be nil")
    found = merging.problems(config, structure_of(resource))
    if found:
        place = f"{meta.get('namespace') or ''}/{meta.get('name') or ''}; {resource.api_version}, Kind={resource.kind}"
        listed = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {each}" for each in found)
        raise refusals.bad_request(f"failed to create typed patch object ({place}): {listed}")


def applied(
    resource: Resource[Object], live: JSONObject, config: JSONObject, subresource: str, apply: Apply
) -> JSONObject:
    """What an applied object makes of the stored one (empty: there is none), with its managedFields.

    `config` is in the version of the resource. Raises `ApiError` (400, 409).
    """
    request = request_of(resource, subresource)
    meta = live.get("metadata", {})
    present = live | {"metadata": noted(meta, None)} if live else {}
    try:
        known = managers.read(meta.get(FIELD, ()), trusted=True)
        found = last_applied.apply(present, config, known, request, apply.manager, force=apply.force)
    except ConflictsError as error:
        causes = [
            StatusCause(
                reason="FieldManagerConflict", message=f"conflict with {each.who}", field=fieldsets.text(each.path)
            )
            for each in error.conflicts
        ]
        raise refusals.apply_conflicts(str(error), causes) from None
    except UnkeyedError as error:
        raise refusals.bad_request(f"failed to create typed live object: {error}") from None
    return found.obj | {"metadata": noted(found.obj.get("metadata") or {}, managers.entries(found.managers))}
