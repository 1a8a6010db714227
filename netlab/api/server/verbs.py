"""What is done for each verb: on collections, on objects, and on those parts of objects that are objects themselves."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.responses import Response

from netlab.api import resources
from netlab.api.errors import ApiError
from netlab.api.kinds import table
from netlab.api.media_types import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from netlab.api.meta_types import Status, StatusDetails
from netlab.api.resources import Resource
from netlab.api.server import refusals
from netlab.api.server.access.reviews import Reviews
from netlab.api.server.admission.attributes import Attributes, Mutate, Operation
from netlab.api.server.objects import bodies, patch, versions
from netlab.api.server.objects.definitions import CustomResource, ScalePaths
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry import evictions, subresources
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import FINALIZE, Draft, Outcome, Registry
from netlab.api.server.registry.managed_fields import Apply
from netlab.api.server.registry.subresources import SCALE
from netlab.api.server.registry.successions import patched_object
from netlab.api.server.rest import applied_bodies, lists, responses
from netlab.api.server.rest.lists import is_true
from netlab.api.server.rest.requests import Call
from netlab.api.server.rest.views import AsStored, ListMeta
from netlab.api.server.storage.watch import Stored
from netlab.api.server.usage.measured import Measured
from netlab.api.server.webhooks.webhooks import Webhooks
from netlab.api.stored_kinds import APPROVAL, STATUS

AT_ONCE = 64 * 1024
"""Bytes, of a request's body and the object that it is about, of a write that is done between two other requests. A
larger one is prepared in a thread, and so is a list of as many that is to look different from what is stored."""

AT_A_TIME = 100
"""Deletions of a collection that are done between two other requests."""

ATTEMPTS = 5
"""How often a write is prepared anew because its object changed meanwhile, as upstream's patches."""

Handler = Callable[[Call], Awaitable[Response]]

Make = Callable[[Stored], JSONObject]
"""What is to be in the place of an object."""


class Verbs:
    """The handlers of all verbs, by the subresource (empty: none) and the verb."""

    def __init__(self, registry: Registry, reviews: Reviews, webhooks: Webhooks, measured: Measured) -> None:
        self._registry = registry
        self._webhooks = webhooks
        self._reviews = reviews
        self._measured = measured
        change: dict[str, Handler] = {"get": self._get, "update": self._update, "patch": self._patch}
        self._handlers: dict[str, dict[str, Handler]] = {
            "": change
            | {
                "list": self._list,
                "create": self._create,
                "delete": self._delete,
                "deletecollection": self._delete_collection,
            },
            STATUS: change,
            APPROVAL: change,
            resources.EPHEMERAL_CONTAINERS: change,
            FINALIZE: {"update": self._update},
            "scale": {"get": self._get_scale, "update": self._update_scale, "patch": self._patch_scale},
            "binding": {"create": self._bind},
            "eviction": {"create": self._evict},
        }

    async def answer(self, call: Call) -> Response:
        """Do what is asked for. Raises `ApiError`."""
        special = self._reviews.handler(call) or self._measured.handler(call)
        return await (special or self._handlers[call.target.subresource][call.verb])(call)

    # --- reading ---------------------------------------------------------------------------------------------------

    async def _get(self, call: Call) -> Response:
        target = call.target
        stored = self._registry.get(target.resource, target.namespace, target.name)
        if "resourceVersion" in call.params:
            lists.check_reached(self._registry.store, lists.number(call.params, "resourceVersion"))
        return _object(call, stored.raw)

    async def _list(self, call: Call) -> Response:
        target = call.target
        options = lists.read_options(target.resource, target.namespace, call.params, watch=False)
        items, meta = lists.page(self._registry.store, target.resource, options)
        return await _list(call, [stored.raw for stored in items], meta)

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _create(self, call: Call) -> Response:
        target, validation, user = call.target, call.field_validation, self._reviews.caller(call)
        manager = call.manager

        def draft(mutate: Mutate | None) -> Draft:
            place = (target.resource, target.namespace)
            return self._registry.draft_of_new(*place, call.object(), validation, user, manager, mutate)

        outcome = await self._write(call, draft, aside=len(call.body) > AT_ONCE)
        return _object(call, outcome.raw, 201, outcome.warnings)

    async def _update(self, call: Call) -> Response:
        outcome = await self._change(call, lambda _: call.object())
        return _object(call, outcome.raw, warnings=outcome.warnings)

    async def _patch(self, call: Call) -> Response:
        if call.content_type == APPLY_PATCH:
            outcome = await self._apply(call)
            return _object(call, outcome.raw, 201 if outcome.created else 200, outcome.warnings)
        resource = call.target.resource
        apply = patch_of(call, resource.api_version, resource.kind)

        def patched(present: Stored) -> JSONObject:
            return patched_object(resource, present, apply)

        # How long a JSON patch takes is not to be seen from its length.
        outcome = await self._change(call, patched, aside=call.content_type == JSON_PATCH)
        return _object(call, outcome.raw, warnings=outcome.warnings)

    async def _change(self, call: Call, make: Make, *, aside: bool = False) -> Outcome:
        """Update an object with what is made of the present one."""
        target = call.target
        place = (target.resource, target.namespace, target.name)
        validation, user, manager = call.field_validation, self._reviews.caller(call), call.manager

        def draft(mutate: Mutate | None) -> Draft:
            present = self._registry.get(*place)
            made = make(present)
            return self._registry.draft_of_changed(
                target.resource, present, made, target.subresource, validation, user, manager, mutate
            )

        aside = aside or len(call.body) + len(self._registry.get(*place).raw) > AT_ONCE
        return await self._write(call, draft, aside=aside)

    async def _apply(self, call: Call) -> Outcome:
        """Server-side apply: merge an object into what is there, or create it."""
        target, validation, user = call.target, call.field_validation, self._reviews.caller(call)
        place = (target.resource, target.namespace, target.name)
        apply = Apply(call.manager, is_true(call.params.get("force", "false")), self._reviews.refusal(call, "create"))
        config, doubled = applied_bodies.read(call.body, validation.mode)
        if target.subresource == resources.SCALE:
            config = subresources.applied_scale(target.resource, config)

        def draft(mutate: Mutate | None) -> Draft:
            return self._registry.draft_of_applied(*place, config, apply, target.subresource, validation, user, mutate)

        present = self._registry.store.get(versions.storage(target.resource), target.namespace, target.name)
        size = len(call.body) + (len(present.raw) if present is not None else 0)
        outcome = await self._write(call, draft, aside=size > AT_ONCE)
        return dataclasses.replace(outcome, warnings=(*doubled, *outcome.warnings))

    async def _write(self, call: Call, draft: Callable[[Mutate | None], Draft], *, aside: bool) -> Outcome:
        """Commit what `draft` prepares; `aside` from the event loop, so that others are served meanwhile.

        What webhooks are asked about is prepared so, too.
        """
        dry_run, target = call.dry_run, call.target
        asks = self._webhooks.concern(target.resource, target.subresource)
        if not aside and not asks:
            made = draft(None)
            self._reviews.check_grants(call, made)
            return self._registry.commit(made, dry_run=dry_run)
        for _ in range(ATTEMPTS):
            if asks:
                made = await self._webhooks.draft(draft, dry_run=dry_run)
                await self._webhooks.validate(made.attributes)
            else:
                made = await asyncio.to_thread(draft, None)
            self._reviews.check_grants(call, made)
            if self._registry.is_current(made):
                return self._registry.commit(made, dry_run=dry_run)
        raise refusals.modified(call.target.resource, call.target.name)

    # --- deleting --------------------------------------------------------------------------------------------------

    async def _delete(self, call: Call) -> Response:
        target = call.target
        outcome, gone = await self._delete_one(call, target.namespace, target.name, call.delete_options())
        if not gone or target.resource.returns_deleted:
            return _object(call, outcome.raw)
        uid = msgspec.json.decode(outcome.raw)["metadata"]["uid"]
        details = StatusDetails(name=target.name, group=target.resource.group, kind=target.resource.plural, uid=uid)
        return responses.status(Status(status="Success", details=details, code=200), call.answer.format)

    async def _delete_one(self, call: Call, namespace: str, name: str, options: DeleteOptions) -> tuple[Outcome, bool]:
        """Delete an object if webhooks let it; whether it is gone already."""
        resource, user = call.target.resource, self._reviews.caller(call)
        if not self._webhooks.concern(resource, ""):
            return self._registry.delete(resource, namespace, name, options, user)
        for _ in range(ATTEMPTS):
            present = self._registry.get(resource, namespace, name)
            old = versions.from_storage(resource, present.decode())
            about = Attributes(Operation.DELETE, resource, namespace, name, user, old=old, dry_run=bool(options.dryRun))
            await self._webhooks.admit(about)
            if self._registry.get(resource, namespace, name) is present:
                return self._registry.delete(resource, namespace, name, options, user)
        raise refusals.modified(resource, name)

    async def _delete_collection(self, call: Call) -> Response:
        target = call.target
        delete_options = call.delete_options()
        options = lists.read_options(target.resource, target.namespace, call.params, watch=False)
        items, meta = lists.page(self._registry.store, target.resource, options)
        deleted = []
        for number, item in enumerate(items, 1):
            try:
                outcome, _ = await self._delete_one(call, item.namespace, item.name, delete_options)
                deleted.append(outcome.raw)
            except ApiError as error:
                if error.code != 404:
                    raise
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
        return await _list(call, deleted, meta)

    # --- subresources ----------------------------------------------------------------------------------------------

    async def _get_scale(self, call: Call) -> Response:
        target = call.target
        stored = self._registry.get(target.resource, target.namespace, target.name)
        return _scale(call, stored.raw)

    async def _update_scale(self, call: Call) -> Response:
        resource = call.target.resource

        def scaled(present: Stored) -> JSONObject:
            obj = versions.from_storage(resource, present.decode())
            return subresources.scaled(obj, call.object(), _scale_paths(resource))

        return _scale(call, (await self._change(call, scaled)).raw)

    async def _patch_scale(self, call: Call) -> Response:
        if call.content_type == APPLY_PATCH:
            return _scale(call, (await self._apply(call)).raw)
        apply = patch_of(call, f"{SCALE.group}/{SCALE.version}", SCALE.kind)

        resource, paths = call.target.resource, _scale_paths(call.target.resource)

        def patched(present: Stored) -> JSONObject:
            scale = patched_object(resource, present, lambda obj: apply(subresources.scale_of(obj, paths)))
            return subresources.scaled(versions.from_storage(resource, present.decode()), scale, paths)

        return _scale(call, (await self._change(call, patched)).raw)

    async def _admit(self, call: Call, sent: JSONObject) -> None:
        """Ask the plugins of admission about what is no part of an object. Raises `ApiError`."""
        target, user = call.target, self._reviews.caller(call)
        attributes = Attributes(
            Operation.CREATE, target.resource, target.namespace, target.name, user, sent, subresource=target.subresource
        )
        attributes.dry_run = call.dry_run
        await self._webhooks.admit(attributes)
        self._registry.admission.validate(attributes)

    async def _bind(self, call: Call) -> Response:
        target, sent = call.target, call.object()
        await self._admit(call, sent)
        self._registry.bind(target.namespace, target.name, subresources.bound_node(sent))
        return responses.status(Status(status="Success", code=201), call.answer.format)

    async def _evict(self, call: Call) -> Response:
        """Delete a pod as a drain does, unless its disruption budget forbids it."""
        target, sent = call.target, call.object()
        options = subresources.eviction_options(sent, target.name)
        if call.dry_run:
            options.dryRun = ["All"]
        await self._admit(call, sent)
        evictions.evict(self._registry, target.namespace, target.name, options)
        return responses.status(Status(status="Success", code=201), call.answer.format)


def patch_of(call: Call, api_version: str, kind: str) -> Callable[[JSONObject], Any]:
    """What a patch does to an object of a kind. Raises `ApiError` (415)."""
    message = table.message_of(api_version, kind)
    ways: dict[str, Callable[[JSONObject, Any], Any]] = {MERGE_PATCH: patch.json_merge, JSON_PATCH: patch.json_patch}
    if message is not None:  # Lists of custom resources are not known to that patch.
        ways[STRATEGIC_MERGE_PATCH] = lambda present, change: patch.strategic_merge(present, change, message)
    apply = ways.get(call.content_type)
    if apply is None:
        raise refusals.unsupported_media_type(call.content_type, (*ways, APPLY_PATCH))
    return lambda obj: apply(obj, bodies.decode(call.body))


def _object(call: Call, raw: bytes, code: int = 200, warnings: tuple[str, ...] = ()) -> Response:
    return responses.document(call.view.object(raw), code, warnings, call.answer.format)


def _scale(call: Call, raw: bytes) -> Response:
    resource = call.target.resource
    obj = versions.from_storage(resource, msgspec.json.decode(raw))
    return _object(call, msgspec.json.encode(subresources.scale_of(obj, _scale_paths(resource))))


def _scale_paths(resource: Resource[Any]) -> ScalePaths | None:
    return resource.scale if isinstance(resource, CustomResource) else None


async def _list(call: Call, raws: list[bytes], meta: ListMeta) -> Response:
    def answer() -> Response:
        return responses.document(call.view.list(raws, meta), format=call.answer.format)

    # As they are stored, they are put one behind the other. Anything else looks into each.
    is_plain = isinstance(call.view, AsStored) and call.answer.format is responses.PLAIN
    if is_plain or sum(map(len, raws)) <= AT_ONCE:
        return answer()
    return await asyncio.to_thread(answer)
