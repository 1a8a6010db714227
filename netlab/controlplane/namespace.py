"""The namespace controller: it empties a namespace that is being deleted, and then releases it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from netlab.api.core_types import Namespace, NamespaceSpec, Pod
from netlab.api.errors import ApiError, unless_gone
from netlab.api.meta_types import Object, now
from netlab.api.resources import ALL, NAMESPACES, PODS, Resource
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.controlplane.namespace_conditions import Left, conditions

FINALIZER = "kubernetes"
RECHECK = 2.0
"""Seconds before looking again at a namespace that is not empty, if no pod deletion triggers it earlier."""
_AT_ONCE = 64

_PODS: Resource[Any] = PODS
_IN_ORDER = (_PODS, *(each for each in ALL if each.namespaced and each.stored_as is None and each is not _PODS))
"""What is in namespaces: pods go first (KEP-5080)."""


class NamespaceController(Controller):
    """Deletes what is in a terminating namespace, as often as it takes."""

    name = "namespace-controller"
    resource = NAMESPACES
    workers = 4
    min_interval = 0.1

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.namespaces.on_change(self._changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """Every namespace."""
        return list(self.cluster.namespaces.items)

    async def reconcile(self, key: str) -> None:
        """Delete everything in the namespace, pods first; once nothing is left, remove the finalizer."""
        namespace = self.cluster.namespaces.items.get(key)
        if namespace is None or namespace.metadata.deletionTimestamp is None:
            return
        left: dict[str, Sequence[Object]] = {}
        failures: list[str] = []
        added = (each for each in list(self.cluster.custom.informers) if each.namespaced)
        for resource in (*_IN_ORDER, *added):
            try:
                left[f"{resource.plural}.{resource.group}"] = await self._empty(resource, key)
            except ApiError as error:
                failures.append(str(error))
            if resource is _PODS and (failures or any(left.values())):
                break  # What else is there, a NetworkPolicy say, may be what protects them (KEP-5080).
        if failures or any(left.values()):
            await self._say(namespace, left, failures)
            self.queue.add_after(key, RECHECK)
            return
        finalizers = [finalizer for finalizer in namespace.spec.finalizers if finalizer != FINALIZER]
        finalized = msgspec.structs.replace(namespace, spec=NamespaceSpec(finalizers=finalizers))
        await unless_gone(self.client.update(NAMESPACES, finalized, subresource="finalize"))

    async def _empty(self, resource: Resource[Object], namespace: str) -> Sequence[Object]:
        """Delete all objects of a resource; returns those that wait for something."""
        # From the server and not the informer: objects created while this runs must not be missed.
        found, _ = await self.client.list(resource, namespace)
        if not found:
            return ()
        doomed = [obj for obj in found if obj.metadata.deletionTimestamp is None]
        for start in range(0, len(doomed), _AT_ONCE):
            await asyncio.gather(*(self._delete(resource, obj) for obj in doomed[start : start + _AT_ONCE]))
        return (await self.client.list(resource, namespace))[0]

    async def _say(self, namespace: Namespace, left: Left, failures: Sequence[str]) -> None:
        seen = namespace.status.conditions
        told = conditions(seen, left, failures, now())
        if told != seen:
            status = msgspec.structs.replace(namespace.status, conditions=told)
            change = {"status": msgspec.to_builtins(status)}
            await unless_gone(self.client.patch(NAMESPACES, namespace.key, None, change, subresource="status"))

    async def _delete(self, resource: Resource[Object], obj: Object) -> None:
        try:
            await self.client.delete(resource, obj.metadata.name, obj.metadata.namespace, uid=obj.metadata.uid)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    def _changed(self, _: Namespace | None, new: Namespace | None) -> None:
        if new is not None and new.metadata.deletionTimestamp is not None:
            self.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        # Pods are what takes time: their kubelets stop them first.
        if new is None and old is not None and self.cluster.is_terminating(old.metadata.namespace):
            self.queue.add(old.metadata.namespace)
