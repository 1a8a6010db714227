"""The quota controller: what is used of each ResourceQuota (pkg/controller/resourcequota).

The API server charges what is created. Here is counted what a new quota starts with, and what becomes free again. The
objects are listed after the quota was read, and the answer is written only if the quota is still the same: what was
charged meanwhile is never lost, however far behind the informers are.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from netlab.api import pod_resources, usage
from netlab.api.core_types import Pod, Service
from netlab.api.errors import ApiError
from netlab.api.informer import Informer
from netlab.api.meta_types import Object
from netlab.api.pod_resources import Amounts
from netlab.api.quantities import ZERO
from netlab.api.quota_types import ResourceQuota, ResourceQuotaStatus
from netlab.api.resources import ALL, EVENTS_V1, RESOURCEQUOTAS, Resource
from netlab.controlplane.cluster import Cluster, Index, is_finished
from netlab.controlplane.controller import Controller

_RESYNC = 300.0
"""Seconds after which every quota is counted again (--resource-quota-sync-period): a pod whose node is silent ends
without a word."""

_KINDS: tuple[Resource[Any], ...] = tuple(each for each in ALL if each.namespaced and each is not EVENTS_V1)

Objects = Mapping[Resource[Any], Sequence[Mapping[str, Any]]]
"""The objects of a namespace, as JSON, by their kind."""


class QuotaController(Controller):
    """ResourceQuotas to their statuses."""

    name = "resourcequota-controller"
    resource = RESOURCEQUOTAS
    min_interval = 0.1

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._by_namespace: Index[ResourceQuota] = Index(cluster.quotas, lambda quota: [quota.metadata.namespace])
        cluster.quotas.on_change(self._changed)
        for resource, informer in (cluster.informers | cluster.stored).items():
            if resource.namespaced:
                informer.on_change(functools.partial(self._freed, resource))
        cluster.custom.on_added(self._follow)

    def _follow(self, resource: Resource[Any], informer: Informer[Any]) -> None:
        """Count the objects of a kind that a definition adds."""
        if not resource.namespaced:
            return
        informer.on_change(functools.partial(self._freed, resource))
        for quota in self.cluster.quotas.items.values():
            if usage.counted(resource, quota.spec.hard):
                self.queue.add(quota.key)

    def keys(self) -> Iterable[str]:
        """Every quota."""
        return list(self.cluster.quotas.items)

    async def run(self) -> None:
        """Work until cancelled, and count all again now and then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run())
            while True:
                await asyncio.sleep(_RESYNC)
                for key in self.keys():
                    self.queue.add(key)

    async def reconcile(self, key: str) -> None:
        """Count what is used, and write it down."""
        namespace, _, name = key.partition("/")
        try:
            quota = await self.client.get(RESOURCEQUOTAS, name, namespace)
            added = (each for each in list(self.cluster.custom.informers) if each.namespaced)
            concerned = [each for each in (*_KINDS, *added) if usage.counted(each, quota.spec.hard)]
            objects = {each: await self.client.documents(each, namespace) for each in concerned}
            status = new_status(quota, objects, datetime.datetime.now(datetime.UTC))
            if status != quota.status:
                quota.status = status
                await self.client.update(RESOURCEQUOTAS, quota, subresource="status")
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    def _changed(self, old: ResourceQuota | None, new: ResourceQuota | None) -> None:
        if new is None:
            return
        is_settled = new.status.hard.keys() == new.status.used.keys() and _same(new.spec.hard, new.status.hard)
        if not is_settled or old is None or old.spec != new.spec:
            self.queue.add(new.key)

    def _freed(self, resource: Resource[Any], old: Object | None, new: Object | None) -> None:
        """Count again where something is gone, or uses up less than before."""
        if old is None or not self._by_namespace.get(old.metadata.namespace):
            return
        if new is None or uses_less(old, new):
            for quota in self._by_namespace.get(old.metadata.namespace):
                if usage.counted(resource, quota.spec.hard):
                    self.queue.add(quota.key)


def uses_less(old: Object, new: Object) -> bool:
    """Whether an object may use up less of some quota than before: a pod with a deadline leaves the scope of others."""
    if isinstance(old, Pod) and isinstance(new, Pod):
        deadlines = [pod.spec.activeDeadlineSeconds is None for pod in (old, new)]
        return deadlines[0] != deadlines[1] or (is_finished(new) and not is_finished(old))
    return isinstance(old, Service) and isinstance(new, Service) and old.spec != new.spec


def new_status(quota: ResourceQuota, objects: Objects, now: datetime.datetime) -> ResourceQuotaStatus:
    """The limits that are wanted, and what the objects use of them; what nothing here counts stays as it is."""
    hard = quota.spec.hard
    used = {name: amount for name, amount in pod_resources.amounts(quota.status.used).items() if name in hard}
    for resource, listed in objects.items():
        used |= _total(quota, resource, listed, now)
    return ResourceQuotaStatus(hard=dict(hard), used={name: str(amount) for name, amount in sorted(used.items())})


def _total(
    quota: ResourceQuota, resource: Resource[Any], objects: Iterable[Mapping[str, Any]], now: datetime.datetime
) -> Amounts:
    counted = usage.counted(resource, quota.spec.hard)
    total = dict.fromkeys(counted, ZERO)
    for obj in objects:
        if usage.is_in_scope(quota.spec, resource, obj):
            used = usage.of(resource, obj, now)
            for name in counted:
                total[name] += used.get(name, ZERO)
    return total


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return pod_resources.amounts(one) == pod_resources.amounts(other)
