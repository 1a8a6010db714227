"""The kinds that CustomResourceDefinitions add to netlab's table: an informer for each, while it is defined."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec

from netlab.api.client import Client
from netlab.api.informer import Informer
from netlab.api.meta_types import Condition, Object, Struct
from netlab.api.resources import CUSTOMRESOURCEDEFINITIONS, AddedResource, Resource

CustomInformer = Informer[Object]


class _Names(Struct):
    plural: str = ""
    kind: str = ""


class _Version(Struct):
    name: str
    served: bool = False
    storage: bool = False


class _Spec(Struct):
    group: str = ""
    scope: str = ""
    versions: list[_Version] = []


class _Status(Struct):
    conditions: list[Condition] = []
    acceptedNames: _Names = msgspec.field(default_factory=_Names)  # noqa: N815


class _Definition(Object):
    """apiextensions.k8s.io/v1.CustomResourceDefinition, as far as it says where its objects are."""

    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


_DEFINITIONS: Resource[_Definition] = dataclasses.replace(CUSTOMRESOURCEDEFINITIONS, type=_Definition)  # type: ignore[assignment]


class CustomKinds:
    """What definitions add, in the version that is stored, or one that is served; follows them as they change."""

    def __init__(self, client: Client) -> None:
        self.informers: dict[Resource[Object], CustomInformer] = {}
        self._client = client
        self._definitions = Informer(client, _DEFINITIONS)
        self._definitions.on_change(self._changed)
        self._known: dict[str, AddedResource[Object]] = {}
        self._added: list[Callable[[Resource[Object], CustomInformer], None]] = []
        self._removed: list[Callable[[Resource[Object]], None]] = []
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def on_added(self, handler: Callable[[Resource[Object], CustomInformer], None]) -> None:
        """Call `handler(resource, informer)` before the informer of a new kind runs."""
        self._added.append(handler)

    def on_removed(self, handler: Callable[[Resource[Object]], None]) -> None:
        """Call `handler(resource)` when a kind is gone, and its informer has told that all objects are."""
        self._removed.append(handler)

    def by_kind(self, api_version: str, kind: str) -> Resource[Object] | None:
        """The resource of a kind in any of its versions; None if no definition adds it."""
        group = api_version.rpartition("/")[0]
        return next((each for each in self._known.values() if (each.group, each.kind) == (group, kind)), None)

    async def run(self) -> None:
        """Follow the definitions until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._definitions.run()

    def _changed(self, old: _Definition | None, new: _Definition | None) -> None:
        name = next(each.metadata.name for each in (new, old) if each is not None)
        before, after = self._known.get(name), _resource_of(new)
        if before is not None and after is not None and _place(before) == _place(after):
            return
        if before is not None:
            self._remove(name, before)
        if after is not None:
            self._add(name, after)

    def _add(self, name: str, resource: AddedResource[Object]) -> None:
        informer = Informer[Object](self._client, resource)
        self._known[name] = resource
        self.informers[resource] = informer
        for added in self._added:
            added(resource, informer)
        assert self._group is not None
        self._tasks[name] = self._group.create_task(informer.run())

    def _remove(self, name: str, resource: AddedResource[Object]) -> None:
        self._tasks.pop(name).cancel()
        informer = self.informers.pop(resource)
        del self._known[name]
        informer.forget()
        for removed in self._removed:
            removed(resource)


def _resource_of(definition: _Definition | None) -> AddedResource[Object] | None:
    if definition is None or not _is_established(definition):
        return None
    spec, names = definition.spec, definition.status.acceptedNames
    served = sorted((each for each in spec.versions if each.served), key=lambda each: not each.storage)
    if not served:
        return None
    is_namespaced = spec.scope == "Namespaced"
    return AddedResource(spec.group, served[0].name, names.kind, names.plural, Object, namespaced=is_namespaced)


def _is_established(definition: _Definition) -> bool:
    return any(each.type == "Established" and each.status == "True" for each in definition.status.conditions)


def _place(resource: Resource[Any]) -> tuple[str, str, str]:
    return resource.version, resource.kind, resource.plural
