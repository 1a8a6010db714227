"""What happens when CustomResourceDefinitions change: names are given, resources served, and objects cleaned up.

As the controllers of apiextensions-apiserver, which are part of Kubernetes' API server too.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

from netlab.api.errors import ApiError
from netlab.api.resources import CUSTOMRESOURCEDEFINITIONS, SERVED, STATUS, Resource
from netlab.api.server import refusals
from netlab.api.server.objects import definitions
from netlab.api.server.objects.conditions import set_condition
from netlab.api.server.objects.definitions import CustomResource, Names
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry.catalog import Catalog
from netlab.api.server.storage.store import Store

_DEFINITIONS: Resource[Any] = CUSTOMRESOURCEDEFINITIONS

MOST = 1000
"""Definitions of a cluster: each is a part of documents that every client reads."""

_AT_A_TIME = 100
"""Objects that are deleted between two other requests."""

_RETRY = 1.0
"""Seconds after a deletion that the database has refused."""

log = logging.getLogger(__name__)


class Definitions:
    """The definitions of a registry, by which its catalog is kept."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        replace: Callable[[Resource[Any], JSONObject], None],
        delete: Callable[[Resource[Any], str, str], Any],
    ) -> None:
        """`replace` and `delete` are the registry's, which tells of every change that comes of them."""
        self._store = store
        self._catalog = catalog
        self._replace = replace
        self._delete = delete
        self._accepted: dict[str, JSONObject] = {}
        self._terminating: set[str] = set()
        self._woken = asyncio.Event()
        self._woken.set()
        for stored in store.all(_DEFINITIONS):
            self._learn(stored.decode())

    def _learn(self, definition: JSONObject) -> bool:
        """Take note of a definition; whether something else is served now."""
        name = definition["metadata"]["name"]
        is_news = self._catalog.define(definition)
        self._accepted[name] = definition[STATUS]["acceptedNames"]
        if definitions.is_terminating(definition):
            self._terminating.add(name)
        return is_news

    def accept_names(self, definition: JSONObject) -> None:
        """Give a definition its names, before it is stored. Raises `ApiError` (403) for one too many."""
        name = definition["metadata"]["name"]
        if name not in self._accepted and len(self._accepted) >= MOST:
            raise refusals.forbidden(_DEFINITIONS, name, f"a cluster has at most {MOST} definitions: delete some first")
        if definition["spec"]["names"] == definition[STATUS]["acceptedNames"] and definitions.is_served(definition):
            return
        group = definition["spec"]["group"]
        used = Names()
        for resource in SERVED:
            if resource.group == group:
                used.resources |= {resource.plural, resource.singular, *resource.short_names}
                used.kinds |= {resource.kind, resource.list_kind}
        for other, accepted in self._accepted.items():
            if _group(other) == group and other != name:
                used.add(accepted)
        definitions.accept_names(definition, used)

    def changed(self, definition: JSONObject) -> None:
        """Serve what a definition that was stored says."""
        name = definition["metadata"]["name"]
        had = self._accepted.get(name)
        if self._learn(definition):
            # Their readers come back, and see the objects as they are now.
            self._store.hub.end(name)
        if name in self._terminating:
            self._woken.set()
        if had is not None and had != self._accepted[name]:
            self._settle_others(name)

    def removed(self, name: str) -> None:
        """Serve nothing of a definition that is gone."""
        self._catalog.forget(name)
        del self._accepted[name]
        self._terminating.discard(name)
        self._store.hub.end(name)
        self._settle_others(name)

    def instance_removed(self, resource: CustomResource) -> None:
        """An object is gone; perhaps its definition waits for that."""
        if resource.collection in self._terminating:
            self._woken.set()

    def _settle_others(self, name: str) -> None:
        """Others of the group may have names now that a definition gave up."""
        for stored in list(self._store.all(_DEFINITIONS)):
            if _group(stored.name) != _group(name) or stored.name == name:
                continue
            definition = stored.decode()
            self.accept_names(definition)
            if definition != stored.decode():
                self._replace(_DEFINITIONS, definition)

    # --- deletion --------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Delete the objects of definitions that are being deleted, and then these, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                while self.clean_up():  # noqa: ASYNC110 - between two steps others do theirs
                    await asyncio.sleep(0)
            except ApiError as error:
                log.warning("custom resources cannot be deleted: %s; retrying", error)
                await asyncio.sleep(_RETRY)
                self._woken.set()

    def clean_up(self) -> bool:
        """Take a step of what is to be deleted; whether there is more to do at once."""
        return any(self._clean_up(name) for name in sorted(self._terminating))

    def _clean_up(self, name: str) -> bool:
        stored = self._store.get(_DEFINITIONS, "", name)
        if stored is None:
            return False
        definition = stored.decode()
        if definitions.CLEANUP not in definition["metadata"].get("finalizers", ()):
            return False  # Another finalizer holds it.
        resource = definitions.storage_of(definition)
        if not self._store.count(resource):
            self._finish(definition)
            return True
        some = list(itertools.islice(self._undeleted(resource), _AT_A_TIME))
        for namespace, key in some:
            self._delete(resource, namespace, key)
        if not some:
            set_condition(
                definition,
                definitions.TERMINATING,
                holds=True,
                reason="InstanceDeletionInProgress",
                message="CustomResource deletion is in progress",
            )
            if definition != stored.decode():
                self._replace(_DEFINITIONS, definition)
        return bool(some)

    def _undeleted(self, resource: CustomResource) -> Iterator[tuple[str, str]]:
        for stored in list(self._store.all(resource)):
            if "deletionTimestamp" not in stored.decode()["metadata"]:
                yield stored.namespace, stored.name

    def _finish(self, definition: JSONObject) -> None:
        served = definitions.is_served(definition)
        set_condition(
            definition,
            definitions.TERMINATING,
            holds=False,
            reason="InstanceDeletionCompleted" if served else "NeverEstablished",
            message="removed all instances" if served else "resource was never established",
        )
        definition["metadata"]["finalizers"].remove(definitions.CLEANUP)
        self._replace(_DEFINITIONS, definition)


def _group(definition: str) -> str:
    """Of a definition, whose name is PLURAL.GROUP."""
    return definition.partition(".")[2]
