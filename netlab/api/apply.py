"""Applying manifests as kubectl does (three-way merge), but all or none."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from netlab.api import resources
from netlab.api.blocking import BlockingClient
from netlab.api.discovered import Kinds, defined
from netlab.api.errors import ApiError
from netlab.api.media_types import MERGE_PATCH
from netlab.api.meta_types import Object
from netlab.api.resources import CUSTOMRESOURCEDEFINITIONS, NAMESPACES, Resource
from netlab.errors import UsageError

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The annotation with what was last applied (kubectl's own), so that a field dropped from a manifest is removed."""


_STRICT = {"fieldValidation": "Strict"}
_DRY_RUN = {"dryRun": "All"}


Find = Callable[[str, str], Resource[Object] | None]
"""The resource of an apiVersion and a kind."""


@dataclasses.dataclass(frozen=True)
class Applied:
    """The result for one object: `outcome` is created, configured or unchanged."""

    resource: Resource[Object]
    name: str
    namespace: str
    outcome: str


@dataclasses.dataclass(frozen=True)
class Target:
    """An object that a manifest describes."""

    resource: Resource[Object]
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        name: str = self.manifest["metadata"]["name"]
        return name

    @property
    def namespace(self) -> str:
        """Its namespace; empty for a cluster-scoped one."""
        namespace: str = self.manifest["metadata"].get("namespace", "")
        return namespace

    @property
    def path(self) -> str:
        """Its REST path."""
        return self.resource.object_path(self.namespace or None, self.name)

    def __str__(self) -> str:
        return f"{self.resource.singular}/{self.name}"


def apply(
    client: BlockingClient, documents: Sequence[Any], namespace: str, warn: Callable[[str], None]
) -> list[Applied]:
    """Create or change the objects in manifests; `namespace` is for objects that name none.

    Everything is tried first without being stored. If a later object is refused anyway, what was stored is rolled back.
    Raises `UsageError` for documents that are not objects, `ApiError` for what the server refuses.
    """
    known, added = Kinds(lambda: client), defined(documents)

    def find(api_version: str, kind: str) -> Resource[Object] | None:
        # What is about to be defined cannot be asked for, nor tried: the server knows an earlier form of it, or none.
        of_these = (each for each in added if (each.api_version, each.kind) == (api_version, kind))
        return next(of_these, None) or known.by_kind(api_version, kind)

    targets = sorted(targets_of(documents, namespace, find), key=_rank)
    namespaces = [target for target in targets if target.resource is NAMESPACES]
    new_namespaces = {target.name for target in namespaces if not _is_there(client, target)}
    names_others = any(target.resource in (resources.PRIORITYCLASSES, resources.SERVICEACCOUNTS) for target in targets)
    for target in targets:
        if target.resource not in added:
            _try(client, target, new_namespaces, may_be_early=names_others and target.resource is resources.PODS)
    client.warnings.clear()
    done: list[tuple[Target, Any, Any]] = []
    outcomes = []
    for target in targets:
        try:
            before, after = _store(client, target)
        except BaseException:
            _take_back(client, done)
            raise
        done.append((target, before, after))
        outcomes.append(Applied(target.resource, target.name, target.namespace, _outcome(before, after)))
    for text in client.warnings:
        warn(text)
    return outcomes


def _rank(target: Target) -> tuple[bool, bool, int]:
    """What others are in comes first, and what runs comes last: it may name any of the rest."""
    resource = target.resource
    place = resources.ALL.index(resource) if resource in resources.ALL else len(resources.ALL)
    is_first = resource in (NAMESPACES, CUSTOMRESOURCEDEFINITIONS)
    return not is_first, "all" in resource.categories, place


def targets_of(documents: Sequence[Any], namespace: str, find: Find = resources.by_kind) -> list[Target]:
    """What the manifests describe; `namespace` is for objects that name none, and `find` knows the kinds.

    Raises `UsageError`.
    """
    return [_target(index, document, namespace, find) for index, document in enumerate(documents, start=1)]


def _target(index: int, document: Any, namespace: str, find: Find) -> Target:
    where = f"document {index}"
    if not isinstance(document, dict):
        raise UsageError(f"{where}: expected an object, found {type(document).__name__}")
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        raise UsageError(f"{where}: apiVersion and kind are required")
    resource = find(version, kind)
    if resource is None:
        near = difflib.get_close_matches(kind, [r.kind for r in resources.ALL], n=1)
        served = ", ".join(f"{r.api_version} {r.kind}" for r in resources.ALL if not r.is_stored_only)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"{where}: kind: {kind!r} of {version!r} is unknown: {hint}netlab has {served}, and stores others"
        )
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise UsageError(f"{where}: {kind}: metadata.name: a name is required")
    if not isinstance(metadata.get("namespace") or "", str):
        raise UsageError(f"{where}: {kind}: metadata.namespace: is not a text")
    if resource.namespaced and not metadata.get("namespace"):
        document = document | {"metadata": metadata | {"namespace": namespace}}
    target = Target(resource, document)
    try:
        target.path  # noqa: B018 - can there be one?
    except UsageError as error:
        raise UsageError(f"{where}: {kind}: metadata: {error}") from None
    return target


def _try(client: BlockingClient, target: Target, new_namespaces: set[str], *, may_be_early: bool) -> None:
    """Let the server check an object without storing it.

    One that may be early names others that are to be created, without which the server forbids it.
    """
    try:
        if target.namespace in new_namespaces:
            _try_elsewhere(client, target)
        else:
            _store(client, target, dry_run=True)
    except ApiError as error:
        if not may_be_early or error.code != HTTPStatus.FORBIDDEN:
            raise _about(target, error) from None


def _try_elsewhere(client: BlockingClient, target: Target) -> None:
    """Check an object whose namespace does not exist yet, as if it were in one that exists."""
    metadata = target.manifest["metadata"] | {"namespace": "default"}
    manifest = _annotated(target.manifest | {"metadata": metadata})
    try:
        client.request("POST", target.resource.path("default"), manifest, params=_STRICT | _DRY_RUN)
    except ApiError as error:
        # An object with that name exists; nothing else is wrong.
        if error.code != HTTPStatus.CONFLICT:
            raise


def _is_there(client: BlockingClient, target: Target) -> bool:
    try:
        client.request("GET", target.path)
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True


def _store(client: BlockingClient, target: Target, *, dry_run: bool = False) -> tuple[Any, Any]:
    """Create or patch an object; returns it before (None: it did not exist) and after."""
    params = _STRICT | (_DRY_RUN if dry_run else {})
    manifest = _annotated(target.manifest)
    try:
        before = client.request("GET", target.path)
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        collection = target.resource.path(target.namespace or None)
        return None, client.request("POST", collection, manifest, params=params)
    last = _last_applied(before)
    patch = merge_patch(last, manifest, before)
    if not patch:
        return before, before
    return before, client.request("PATCH", target.path, patch, params=params, content_type=MERGE_PATCH)


def merge_patch(last: dict[str, Any], wanted: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that sets in `live` what `wanted` has, and removes what only `last` had."""
    patch: dict[str, Any] = {key: None for key in last if key not in wanted and key in live}
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            below = last.get(key)
            inner = merge_patch(below if isinstance(below, dict) else {}, value, live[key])
            if inner:
                patch[key] = inner
        elif value is None:
            # As absent; a null is not stored, and so never equal to what is.
            if key in live:
                patch[key] = None
        elif key not in live or live[key] != value:
            patch[key] = value
    return patch


def _annotated(manifest: dict[str, Any]) -> dict[str, Any]:
    text = msgspec.json.encode(manifest).decode()
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations")
    if annotations is not None and not isinstance(annotations, dict):
        return manifest  # the server reports what is wrong with it
    return manifest | {"metadata": metadata | {"annotations": {**(annotations or {}), LAST_APPLIED: text}}}


def _last_applied(live: dict[str, Any]) -> dict[str, Any]:
    try:
        last: dict[str, Any] = msgspec.json.decode(live["metadata"]["annotations"][LAST_APPLIED])
    except (KeyError, msgspec.MsgspecError):
        return {}
    return last


def _outcome(before: Any, after: Any) -> str:
    if before is None:
        return "created"
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return "unchanged" if same else "configured"


def _take_back(client: BlockingClient, done: list[tuple[Target, Any, Any]]) -> None:
    for target, before, after in reversed(done):
        with contextlib.suppress(ApiError):
            if before is None:
                client.request("DELETE", target.path, {"kind": "DeleteOptions", "apiVersion": "v1"})
            elif _outcome(before, after) == "configured":
                before["metadata"].pop("resourceVersion")
                client.request("PUT", target.path, before)


def _about(target: Target, error: ApiError) -> ApiError:
    if target.name not in error.status.message:
        error.status.message = f"{target}: {error.status.message}"
        return ApiError(error.status)
    return error
