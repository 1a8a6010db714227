"""Has webhooks admit requests: those that may change an object first, one after the other, and then all others."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from netlab.api.errors import ApiError
from netlab.api.resources import (
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    SCALE,
    VALIDATINGWEBHOOKCONFIGURATIONS,
    Resource,
)
from netlab.api.server import refusals
from netlab.api.server.access.reviews import user_info
from netlab.api.server.admission.attributes import Attributes, Mutate
from netlab.api.server.connect.reaching import Reach
from netlab.api.server.objects import patch, versions
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry import managed_fields, subresources
from netlab.api.server.registry.generic import Draft, Registry
from netlab.api.server.registry.successions import SYSTEM_METADATA
from netlab.api.server.storage.watch import Event
from netlab.api.server.webhooks import calls, conditions, hooks, reviews
from netlab.api.server.webhooks.calls import CallError
from netlab.api.server.webhooks.conditions import ConditionError
from netlab.api.server.webhooks.hooks import Hook
from netlab.api.server.webhooks.reviews import ReviewError, Verdict

_AT_ONCE = 64
"""Writes that wait for webhooks at the same time, each in a thread."""

_WITHOUT_EFFECT = ("None", "NoneOnDryRun")

_CONFIGURATIONS: tuple[tuple[Resource[Any], bool], ...] = (
    (MUTATINGWEBHOOKCONFIGURATIONS, True),
    (VALIDATINGWEBHOOKCONFIGURATIONS, False),
)
_NAMESPACES: Resource[Any] = NAMESPACES

log = logging.getLogger(__name__)


class Webhooks:
    """Those that the configurations of a registry name."""

    def __init__(self, registry: Registry, reach: Reach) -> None:
        self._registry = registry
        self._reach = reach
        self._known: dict[bool, list[Hook]] = {}
        self._threads = concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "webhooks")
        for resource, _ in _CONFIGURATIONS:
            registry.store.hub.observe(resource.collection, self._forget)

    def _forget(self, _: Event) -> None:
        self._known = {}

    def _hooks(self, resource: Resource[Any], *, mutate: bool) -> list[Hook]:
        """Those that may be about a resource; none may be about what names them, so that this can be undone."""
        if resource.group == MUTATINGWEBHOOKCONFIGURATIONS.group:
            return []
        if not self._known:
            self._known = {
                mutates: hooks.read(self._registry.store.all(configuration), mutate=mutates)
                for configuration, mutates in _CONFIGURATIONS
            }
        return self._known[mutate]

    def concern(self, resource: Resource[Any], subresource: str) -> bool:
        """Whether a rule of a webhook names a resource, or a part of it, in any version."""
        listed = [*self._hooks(resource, mutate=True), *self._hooks(resource, mutate=False)]
        if not listed:
            return False
        served = self._registry.catalog.versions_of(resource)
        return any(hook.is_about(each, subresource) for hook in listed for each in served)

    async def draft(self, make: Callable[[Mutate], Draft], *, dry_run: bool) -> Draft:
        """Make a draft, and have webhooks change its object: in a thread, which waits for them. Raises `ApiError`."""
        loop = asyncio.get_running_loop()

        def mutate(attributes: Attributes, complete: Callable[[JSONObject], None]) -> JSONObject | None:
            attributes.dry_run = dry_run
            return asyncio.run_coroutine_threadsafe(self._mutate(attributes, complete), loop).result()

        return await loop.run_in_executor(self._threads, make, mutate)

    async def admit(self, attributes: Attributes) -> None:
        """Ask about what stores no object: a deletion, a connection, what a subresource is sent. Raises `ApiError`."""
        if self.concern(attributes.resource, attributes.subresource):
            await self._mutate(attributes, None)
            await self.validate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        """Ask those that change nothing, all at once. Raises the `ApiError` of the first that refuses."""
        asked = [self._ask(hook, attributes) for hook in self._hooks(attributes.resource, mutate=False)]
        for said in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(said, BaseException):
                raise said

    async def _mutate(self, attributes: Attributes, complete: Callable[[JSONObject], None] | None) -> JSONObject | None:
        """What webhooks make of an object, in turn; those that want it are asked again after a later one's change."""
        before = attributes.obj
        asked: list[Hook] = []
        again: list[Hook] = []
        for hook in self._hooks(attributes.resource, mutate=True):
            verdict = await self._ask(hook, attributes)
            if verdict is not None and self._patched(hook, verdict, attributes, complete):
                again += [each for each in asked if each not in again]
            if verdict is not None and hook.spec.reinvocationPolicy == "IfNeeded":
                asked.append(hook)
        for hook in again:
            verdict = await self._ask(hook, attributes)
            if verdict is not None:
                self._patched(hook, verdict, attributes, complete)
        return attributes.obj if attributes.obj is not before else None

    def _patched(
        self, hook: Hook, verdict: Verdict, attributes: Attributes, complete: Callable[[JSONObject], None] | None
    ) -> bool:
        """Change the object as a webhook says; whether it is another one by that."""
        if not verdict.patch:
            return False
        if complete is None:
            why = "attempted to modify the object, which is not supported for this operation"
            raise refusals.broken(f'admission webhook "{hook.name}" {why}')
        seen = self._version(hook, attributes)
        assert seen is not None
        try:
            changed = patch.json_patch(self._seen(attributes.obj, seen, attributes), list(verdict.patch))
        except patch.PatchError as error:
            raise refusals.broken(f'the patch of webhook "{hook.name}": {error}') from None
        if not isinstance(changed, dict):
            raise refusals.broken(f'the patch of webhook "{hook.name}" leaves no object')
        new = self._unseen(changed, seen, attributes)
        new["metadata"] = _metadata(new.get("metadata"), attributes.obj["metadata"])
        complete(new)
        if new == attributes.obj:
            return False
        attributes.obj = new
        return True

    async def _ask(self, hook: Hook, attributes: Attributes) -> Verdict | None:
        """What a webhook says of a request; None if it is not asked, or cannot be and need not be.

        Raises `ApiError`: its refusal, or 500 if it has to be asked and cannot be.
        """
        seen = self._version(hook, attributes)
        if seen is None:
            return None
        obj = self._seen(attributes.obj, seen, attributes) if attributes.obj else None
        old = self._seen(attributes.old, seen, attributes) if attributes.old else None
        request = reviews.request(attributes, seen, str(uuid.uuid4()), user_info(attributes.user), obj, old)
        may_fail = hook.spec.failurePolicy == "Ignore"
        try:
            if not conditions.hold(hook.spec.matchConditions, request):
                return None
        except ConditionError as error:
            if may_fail:
                return None
            raise attributes.forbidden(str(error)) from None
        if attributes.dry_run and hook.spec.sideEffects not in _WITHOUT_EFFECT:
            raise refusals.bad_request(f'admission webhook "{hook.name}" does not support dry run')
        try:
            verdict = await self._answer(hook, request)
        except CallError as error:
            why = f'failed calling webhook "{hook.name}": {error}'
            if may_fail:
                log.warning("%s", why)
                return None
            raise refusals.broken(why) from None
        attributes.warnings += verdict.warnings
        if verdict.refusal is not None:
            raise ApiError(verdict.refusal)
        return verdict

    async def _answer(self, hook: Hook, request: JSONObject) -> Verdict:
        """Raises `CallError`."""
        try:
            sent = reviews.review(hook, request)
            answer = await calls.ask(self._reach, hook.spec.clientConfig, hook.spec.timeoutSeconds, sent)
            return reviews.read(hook, sent, answer)
        except CallError as error:
            raise CallError(f"failed to call webhook: {error}") from None
        except ReviewError as error:
            raise CallError(f"received invalid webhook response: {error}") from None

    # --- versions --------------------------------------------------------------------------------------------------

    def _version(self, hook: Hook, attributes: Attributes) -> Resource[Any] | None:
        served = self._registry.catalog.versions_of(attributes.requested)
        return hooks.version_for(hook, attributes, served, self._labels)

    def _labels(self, namespace: str) -> Mapping[str, str]:
        stored = self._registry.store.get(_NAMESPACES, "", namespace)
        return stored.labels if stored is not None else {}

    def _seen(self, obj: JSONObject, version: Resource[Any], attributes: Attributes) -> JSONObject:
        """An object as a webhook sees it."""
        if attributes.subresource == SCALE:
            return subresources.scale_of(obj, _scale_paths(attributes.resource))
        found = version.subresource(attributes.subresource) if attributes.subresource else None
        if found is not None and found.kind is not None:
            return obj  # what was sent to the subresource
        if isinstance(version, CustomResource):
            return versions.converted(obj, version)
        return versions.from_storage(version, copy.deepcopy(obj)) if version is not attributes.resource else obj

    def _unseen(self, changed: JSONObject, version: Resource[Any], attributes: Attributes) -> JSONObject:
        """The object, of what a webhook has made of what it saw."""
        resource = attributes.resource
        if attributes.subresource == SCALE:
            return subresources.scaled(copy.deepcopy(attributes.obj), changed, _scale_paths(resource))
        if isinstance(resource, CustomResource):
            return versions.converted(changed, resource)
        return versions.to_storage(version, changed) if version is not resource else changed


def _scale_paths(resource: Resource[Any]) -> Any:
    return resource.scale if isinstance(resource, CustomResource) else None


def _metadata(changed: Any, own: JSONObject) -> JSONObject:
    """Metadata that a webhook has changed, but for what the server alone writes."""
    kept = (*SYSTEM_METADATA, managed_fields.FIELD)
    theirs = changed if isinstance(changed, dict) else {}
    merged = {key: value for key, value in theirs.items() if key not in kept} | {
        key: own[key] for key in kept if key in own
    }
    return {key: merged.pop(key) for key in own if key in merged} | merged
