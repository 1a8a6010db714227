"""What an author sends, as an object in its place: which fields are its, and which only the server writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netlab.api.meta_types import Object
from netlab.api.resources import Resource
from netlab.api.server import refusals
from netlab.api.server.identity import User
from netlab.api.server.objects import patch, versions
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry import managed_fields
from netlab.api.server.storage.watch import Stored
from netlab.api.stored_kinds import STATUS

SYSTEM_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
"""What only the server writes."""


def patched_object(resource: Resource[Object], stored: Stored, apply: Callable[[JSONObject], Any]) -> JSONObject:
    """What a patch makes of a stored object. May run in a thread. Raises `ApiError` (400, 413, 422)."""
    try:
        patched = apply(versions.from_storage(resource, stored.decode()))
    except patch.TooMuchError as error:
        raise refusals.patch_too_large(error) from None
    except patch.InapplicableError as error:
        raise refusals.inapplicable(error) from None
    except patch.PatchError as error:
        raise refusals.bad_request(f"the patch cannot be applied to {resource.plural} {stored.name}: {error}") from None
    if not isinstance(patched, dict):
        raise refusals.bad_request("a patch may not make something else of an object")
    return patched


def check_name(obj: JSONObject, name: str) -> None:
    """Refuse an object that is sent to another one's path. Raises `ApiError` (400)."""
    if (named := obj["metadata"].setdefault("name", name)) != name:
        raise refusals.bad_request(f"the name of the object ({named}) does not match the name on the URL ({name})")


def put_in_place(resource: Resource[Object], namespace: str, meta: JSONObject) -> None:
    """Give an object the namespace of its path. Raises `ApiError` (400) if it says another one."""
    if not resource.namespaced:
        if meta.pop("namespace", ""):
            raise refusals.bad_request(f"namespace may not be set: {resource.plural} are not namespaced")
    elif (meta.get("namespace") or namespace) != namespace:
        raise refusals.bad_request(
            f"the namespace of the provided object ({meta['namespace']}) does not match the namespace sent on the "
            f"request ({namespace})"
        )
    else:
        meta["namespace"] = namespace


def ordered(resource: Resource[Object], sent: JSONObject) -> JSONObject:
    """As people write it: apiVersion, kind and metadata first."""
    meta = {name: sent["metadata"][name] for name in ("name", "namespace") if name in sent["metadata"]}
    first = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta | sent["metadata"]}
    return first | {name: value for name, value in sent.items() if name not in first}


def succeed(resource: Resource[Object], old: JSONObject, sent: JSONObject) -> JSONObject:
    """The object sent in the place of the old one: what only the server writes, and the status, stay."""
    new = ordered(resource, sent)
    new["metadata"] = _succeeding(old["metadata"], new["metadata"], SYSTEM_METADATA)
    if resource.has_status:
        new.pop(STATUS, None)
        if STATUS in old:
            new[STATUS] = old[STATUS]
    return new


def _succeeding(old: JSONObject, sent: JSONObject, kept: tuple[str, ...]) -> JSONObject:
    """The metadata sent, with what is kept of the old."""
    own = {name: value for name, value in sent.items() if name not in kept}
    return {name: old[name] for name in kept if name in old} | own


def metadata_with_status(resource: Resource[Object], old: JSONObject, sent: JSONObject) -> JSONObject:
    """The metadata after an update of the status: as of any update, but for what the kind keeps."""
    kept = (*SYSTEM_METADATA, managed_fields.FIELD, *managed_fields.KEPT_WITH_STATUS.get(resource.plural, ()))
    return _succeeding(old["metadata"], sent["metadata"], kept)


def signed_by(spec: JSONObject, user: User) -> JSONObject:
    """The spec of a request for a certificate, with who asks for it."""
    who = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
    }
    others = {field: value for field, value in spec.items() if field not in who}
    return others | {field: value for field, value in who.items() if value}


def desired(resource: Resource[Object], obj: JSONObject, typed: Object) -> Any:
    """What an object's generation numbers: all but metadata and status. Compared by type: an absent field is its
    zero."""
    passed_over: tuple[str, ...] = ("apiVersion", "kind", "metadata", "status")
    if isinstance(resource, CustomResource) and not resource.has_status:
        passed_over = passed_over[:-1]
    if resource.type is Object:
        return {name: value for name, value in obj.items() if name not in passed_over}
    return tuple(getattr(typed, name) for name in typed.__struct_fields__ if name not in passed_over)
