"""The resources that a server has: those of the table, and those that CustomResourceDefinitions add; and which versions
of groups others have, to whom requests are passed on.

Everything in the server that asks what there is asks here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from netlab.api.meta_types import Object
from netlab.api.resources import SERVED, Resource
from netlab.api.server.objects import definitions
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import JSONObject

_Place = tuple[str, str, str]
"""Group, version and plural."""

_BUILT_IN: dict[_Place, Resource[Object]] = {(each.group, each.version, each.plural): each for each in SERVED}

_VERSIONS = {(each.group, each.version) for each in SERVED}


CUSTOM_PRIORITY = 1000, 100
"""Of the groups and versions that definitions add (crdregistration): the higher, the further in front."""


@dataclasses.dataclass(frozen=True)
class Delegation:
    """A version of a group that another server has, behind a Service (apiregistration/v1.APIService)."""

    group: str
    version: str
    group_priority: int
    version_priority: int
    available: bool = False
    resources: tuple[JSONObject, ...] = ()
    """What it says that it has, in the form of aggregated discovery (apidiscovery/v2.APIResourceDiscovery)."""
    document: str = ""
    """The hash of its document of OpenAPI 3; empty if it has none."""
    swagger: JSONObject | None = None
    """Its document of OpenAPI 2."""


class Catalog:
    """What is served, by its names."""

    def __init__(self) -> None:
        self.changes = 0
        """How often it has changed: what is made of it is made again when this is another number."""
        self.delegated: dict[tuple[str, str], Delegation] = {}
        """By group and version: what others have."""
        self._facts: dict[str, JSONObject] = {}
        self._custom: dict[str, list[CustomResource]] = {}
        self._places: dict[_Place, CustomResource] = {}

    def define(self, definition: JSONObject) -> bool:
        """Serve what a definition says now; whether its objects look different by that."""
        name = definition["metadata"]["name"]
        before, facts = self._facts.get(name), definitions.facts(definition)
        if before == facts:
            return False
        self._facts[name] = facts
        self._custom[name] = definitions.resources_of(definition)
        self._changed()
        return before is None or before | {"terminating": True} != facts | {"terminating": True}

    def forget(self, definition: str) -> None:
        """Serve nothing of a definition any more."""
        del self._facts[definition], self._custom[definition]
        self._changed()

    def delegate(self, delegation: Delegation) -> None:
        """Say that another server has a version."""
        place = delegation.group, delegation.version
        if self.delegated.get(place) != delegation:
            self.delegated[place] = delegation
            self.changes += 1

    def take_back(self, delegation: Delegation) -> None:
        """Say no longer that another server has a version."""
        if self.delegated.pop((delegation.group, delegation.version), None) is not None:
            self.changes += 1

    def _changed(self) -> None:
        self._places = {(each.group, each.version, each.plural): each for each in self.custom()}
        self.changes += 1

    def find(self, group: str, version: str, plural: str) -> Resource[Object] | None:
        """The resource at a path; None if there is none."""
        place = group, version, plural
        return _BUILT_IN.get(place) or self._places.get(place)

    def has_version(self, group: str, version: str) -> bool:
        """Whether there is anything of a group's version."""
        return (group, version) in _VERSIONS or any(place[:2] == (group, version) for place in self._places)

    def all(self) -> Iterator[Resource[Object]]:
        """Every resource: those of the table first."""
        yield from SERVED
        yield from self.custom()

    def custom(self) -> Iterator[CustomResource]:
        """Those that definitions add, ordered by their names."""
        for _, listed in sorted(self._custom.items()):
            yield from listed

    def versions_of(self, resource: Resource[Any]) -> list[Resource[Any]]:
        """A resource, and the others in whose form its objects are served too."""
        if isinstance(resource, CustomResource):
            same: Iterable[Resource[Any]] = (each for each in self.custom() if each.collection == resource.collection)
        else:
            stored = resource.stored_as or resource
            same = (each for each in SERVED if (each.stored_as or each) is stored)
        return [resource, *(each for each in same if each is not resource)]

    def groups(self) -> list[str]:
        """The names of all groups, but for the core one, which has none: those in front that are preferred."""
        names = dict.fromkeys(each.group for each in self.all() if each.group)
        others: dict[str, int] = {}
        for (group, _), delegation in sorted(self.delegated.items()):
            others[group] = max(others.get(group, 0), delegation.group_priority)
        built_in = {each.group for each in SERVED}
        added = [name for name in names | others if name not in built_in]
        added.sort(key=lambda name: -max(others.get(name, 0), CUSTOM_PRIORITY[0] if name in names else 0))
        return [*(name for name in names if name in built_in), *added]

    def versions(self, group: str) -> list[str]:
        """The versions of a group, the preferred one first."""
        built_in = _versions(each for each in SERVED if each.group == group)
        added = dict.fromkeys(_versions(each for each in self.custom() if each.group == group), CUSTOM_PRIORITY[1])
        added |= {
            version: delegation.version_priority
            for (name, version), delegation in self.delegated.items()
            if name == group
        }
        others = [version for version in added if version not in built_in]
        return [*built_in, *sorted(others, key=lambda version: (-added[version], definitions.priority(version)))]

    def resources(self, group: str, version: str) -> list[Resource[Object]]:
        """What there is of a group's version."""
        return [each for each in self.all() if (each.group, each.version) == (group, version)]


def _versions(resources: Iterable[Resource[Any]]) -> list[str]:
    return list(dict.fromkeys(each.version for each in resources))
