"""The kinds that a server has besides those of netlab's table: what CustomResourceDefinitions have added to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from netlab.api import resources
from netlab.api.blocking import BlockingClient
from netlab.api.meta_types import Object
from netlab.api.resources import AddedResource, Resource

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Kinds:
    """The kinds of a server, of which it is asked when one is not in the table."""

    def __init__(self, client: Callable[[], BlockingClient]) -> None:
        self._client = client

    def by_name(self, name: str) -> Resource[Object] | None:
        """The resource that a user names: plural, singular, kind or short name, in any case, or PLURAL.GROUP.

        Raises `ApiUnavailableError` if that is to be asked of the server and it does not answer.
        """
        found = resources.by_name(name)
        return found if found is not None else next((each for each in self._added if _is_called(each, name)), None)

    def by_kind(self, api_version: str, kind: str) -> Resource[Object] | None:
        """The resource that a manifest names. Raises as `by_name`."""
        found = resources.by_kind(api_version, kind)
        if found is not None:
            return found
        return next((each for each in self._added if (each.api_version, each.kind) == (api_version, kind)), None)

    @functools.cached_property
    def _added(self) -> list[Resource[Object]]:
        document = self._client().request("GET", "/apis", accept=_AGGREGATED)
        return list(_resources(document))


def _is_called(resource: Resource[Object], name: str) -> bool:
    wanted = name.lower()
    names = (resource.plural, resource.singular, f"{resource.plural}.{resource.group}", *resource.short_names)
    return wanted in names


def _resources(document: dict[str, Any]) -> Iterator[Resource[Object]]:
    for group in document["items"]:
        name = group["metadata"]["name"]
        for version in group["versions"]:
            for entry in version["resources"]:
                yield AddedResource(
                    name,
                    version["version"],
                    entry["responseKind"]["kind"],
                    entry["resource"],
                    Object,
                    namespaced=entry["scope"] == "Namespaced",
                    short_names=tuple(entry.get("shortNames", ())),
                    categories=tuple(entry.get("categories", ())),
                )


def defined(documents: Iterable[Any]) -> list[Resource[Object]]:
    """The resources that CustomResourceDefinitions among some manifests define; of one that is wrong, nothing."""
    found = []
    for document in documents:
        try:
            if document["kind"] == resources.CUSTOMRESOURCEDEFINITIONS.kind:
                found += list(_defined(document["spec"]))
        except (KeyError, TypeError):
            continue
    return found


def _defined(spec: dict[str, Any]) -> Iterator[Resource[Object]]:
    names = spec["names"]
    for version in spec["versions"]:
        yield AddedResource(
            spec["group"],
            version["name"],
            names["kind"],
            names["plural"],
            Object,
            namespaced=spec["scope"] == "Namespaced",
            categories=tuple(names.get("categories") or ()),
        )
