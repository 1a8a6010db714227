"""The endpoints controller, and the one that mirrors Endpoints to EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from netlab.api.config_types import Endpoints
from netlab.api.core_types import Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.errors import ApiError, unless_gone
from netlab.api.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from netlab.controlplane import slices
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.controlplane.endpoints.planner import (
    CONTROLLER,
    MANAGED_BY,
    MIRRORED_BY,
    endpoints_of,
    is_mirrored,
    slices_of,
)
from netlab.controlplane.workqueue import WorkQueue


class EndpointsController(Controller):
    """The slices of Services with selectors to Endpoints.

    No packet depends on them: they are written at leisure, and nobody waits for them.
    """

    name = "endpoints-controller"
    resource = SERVICES
    min_interval = 1.0

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.queue = WorkQueue(self.name, min_interval=self.min_interval, failed=self._tell)
        cluster.services.on_change(self._service_changed)
        cluster.endpoint_slices.on_change(self._slice_changed)

    def keys(self) -> Iterable[str]:
        """Every Service, and every Endpoints that this controller may have left behind."""
        left = [key for key, found in self.cluster.endpoints.items.items() if _is_own(found)]
        return [*self.cluster.services.items, *left]

    async def reconcile(self, key: str) -> None:
        """Write the Endpoints if they differ; remove those of a Service that is gone."""
        service = self.cluster.services.items.get(key)
        present = self.cluster.endpoints.items.get(key)
        if service is None:
            if present is not None and _is_own(present):
                meta = present.metadata
                await unless_gone(self.client.delete(ENDPOINTS, meta.name, meta.namespace, uid=meta.uid))
            return
        if not service.spec.selector or service.spec.type == "ExternalName":
            return
        if service.metadata.deletionTimestamp is not None or self.cluster.is_terminating(service.metadata.namespace):
            return
        found = self.cluster.slices_by_service.get(key)
        own = [each for each in found if each.metadata.labels.get(slices.MANAGED_BY_LABEL) == slices.MANAGED_BY]
        wanted = endpoints_of(service, own)
        if present is None:
            await self._create(key, wanted)
        elif not _is_same(present, wanted):
            wanted.metadata.resourceVersion = present.metadata.resourceVersion
            await unless_gone(self.client.update(ENDPOINTS, wanted))

    async def _create(self, key: str, wanted: Endpoints) -> None:
        try:
            await self.client.create(ENDPOINTS, wanted)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            self.queue.add(key)  # which the informer has not shown yet

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        changed = new or old
        if changed is not None and (old is None or new is None or old.metadata != new.metadata):
            self.queue.add(changed.key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for found in (old, new):
            if found is not None and found.metadata.labels.get(slices.MANAGED_BY_LABEL) == slices.MANAGED_BY:
                for reference in found.metadata.ownerReferences:
                    self.queue.add(f"{found.metadata.namespace}/{reference.name}")


def _is_own(found: Endpoints) -> bool:
    return found.metadata.labels.get(MANAGED_BY) == CONTROLLER


def _is_same(present: Endpoints, wanted: Endpoints) -> bool:
    return (
        present.subsets == wanted.subsets
        and present.metadata.labels == wanted.metadata.labels
        and present.metadata.annotations == wanted.metadata.annotations
    )


class EndpointSliceMirroring(Controller):
    """Endpoints of Services without selectors to EndpointSlices."""

    name = "endpointslice-mirroring-controller"
    resource = ENDPOINTS
    min_interval = 0.1

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.endpoints.on_change(self._changed)
        cluster.services.on_change(self._service_changed)
        cluster.endpoint_slices.on_change(self._slice_changed)

    def keys(self) -> Iterable[str]:
        """Every Endpoints. The slices of those that are gone go with them by garbage collection."""
        return list(self.cluster.endpoints.items)

    async def reconcile(self, key: str) -> None:
        """Write the slices that differ."""
        endpoints = self.cluster.endpoints.items.get(key)
        if endpoints is None or self.cluster.is_terminating(endpoints.metadata.namespace):
            return
        is_wanted = is_mirrored(endpoints, self.cluster.services.items.get(key))
        wanted = {each.key: each for each in (slices_of(endpoints) if is_wanted else ())}
        present = {each.key: each for each in self.cluster.slices_by_service.get(key) if _is_mirror(each)}
        for name, made in wanted.items():
            before = present.get(name)
            if before is None:
                await self._create(key, made)
            elif not _has_same_endpoints(before, made):
                made.metadata.resourceVersion = before.metadata.resourceVersion
                await unless_gone(self.client.update(ENDPOINTSLICES, made))
        for name, dead in present.items():
            if name not in wanted:
                meta = dead.metadata
                await unless_gone(self.client.delete(ENDPOINTSLICES, meta.name, meta.namespace, uid=meta.uid))

    async def _create(self, key: str, made: EndpointSlice) -> None:
        try:
            await self.client.create(ENDPOINTSLICES, made)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            self.queue.add(key)  # which the informer has not shown yet

    def _changed(self, old: Endpoints | None, new: Endpoints | None) -> None:
        if new is not None:
            self.queue.add(new.key)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        changed = new or old
        if changed is not None and changed.key in self.cluster.endpoints.items:
            self.queue.add(changed.key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for found in (old, new):
            if found is not None and _is_mirror(found):
                for reference in found.metadata.ownerReferences:
                    self.queue.add(f"{found.metadata.namespace}/{reference.name}")


def _is_mirror(found: EndpointSlice) -> bool:
    return found.metadata.labels.get(slices.MANAGED_BY_LABEL) == MIRRORED_BY


def _has_same_endpoints(present: EndpointSlice, wanted: EndpointSlice) -> bool:
    def content(found: EndpointSlice) -> bytes:
        return msgspec.json.encode((found.endpoints, found.ports, found.metadata.labels, found.metadata.annotations))

    return content(present) == content(wanted)
