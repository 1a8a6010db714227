"""The load balancer's controller: gives Services their addresses, and takes them back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from netlab.api import load_balancers
from netlab.api.core_types import LoadBalancerStatus, Service
from netlab.api.errors import unless_gone
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.resources import SERVICES
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.controlplane.loadbalancer.planner import Claim, allocate, claim_of, status
from netlab.errors import ConflictError, ExhaustedError, UsageError

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
"""A Service goes when its load balancer has gone (cloud-provider, service/helpers)."""


class LoadBalancerController(Controller):
    """Writes status.loadBalancer. The Services are the only record of which address is whose."""

    name = "service-lb-controller"
    resource = SERVICES

    def __init__(self, cluster: Cluster, pools: Sequence[str]) -> None:
        """`pools` are networks whose addresses, all of them, may be given."""
        super().__init__(cluster)
        self._pools = tuple(pools)
        self._claims: dict[str, Claim] = {}
        """Of the Services that are ours."""
        self._given: dict[str, list[str]] = {}
        """Written, and perhaps not yet seen by the informer."""
        self._refused: dict[str, str] = {}
        """Services without the addresses that they want, and why: what others give back may help them."""
        cluster.services.on_change(self._changed)

    def keys(self) -> Iterable[str]:
        """Every Service."""
        return list(self.cluster.services.items)

    async def reconcile(self, key: str) -> None:
        """Give the Service its addresses, or take them back from one that is deleted or of another type."""
        service = self.cluster.services.items.get(key)
        if service is None:
            return
        if service.spec.type == "LoadBalancer" and not load_balancers.is_ours(service):
            return
        if service.spec.type != "LoadBalancer" or service.metadata.deletionTimestamp is not None:
            await self._give_back(service)
            return
        try:
            found = allocate(claim_of(service), load_balancers.addresses(service), self._holders(key), self._pools)
        except (UsageError, ConflictError, ExhaustedError) as error:
            await self._refuse(service, str(error))
        else:
            self._refused.pop(key, None)
            await self._give(service, found)

    async def _give(self, service: Service, addresses: list[str]) -> None:
        self._given[service.key] = addresses
        if FINALIZER not in service.metadata.finalizers:
            await self._write_finalizers(service, [*service.metadata.finalizers, FINALIZER])
        wanted = status(addresses, service)
        if wanted == service.status.loadBalancer:
            return
        await self._write_status(service, wanted)
        if addresses != load_balancers.addresses(service):
            said = f"Ensured load balancer: {', '.join(addresses)}"
            await record(self.client, service, NORMAL, "EnsuredLoadBalancer", said, self.name)

    async def _refuse(self, service: Service, why: str) -> None:
        """What it has is given back: it may be what another Service is the rightful owner of."""
        if service.status.loadBalancer.ingress:
            await self._write_status(service, LoadBalancerStatus())
        self._given.pop(service.key, None)
        if self._refused.get(service.key) != why:
            self._refused[service.key] = why
            said = f"Error syncing load balancer: {why}"
            await record(self.client, service, WARNING, "SyncLoadBalancerFailed", said, self.name)

    async def _give_back(self, service: Service) -> None:
        if FINALIZER in service.metadata.finalizers:
            await self._write_finalizers(service, [each for each in service.metadata.finalizers if each != FINALIZER])
            await record(self.client, service, NORMAL, "DeletedLoadBalancer", "Deleted load balancer", self.name)
        self._given.pop(service.key, None)

    async def _write_finalizers(self, service: Service, finalizers: list[str]) -> None:
        meta = service.metadata
        # With the version, as a finalizer that another has set meanwhile must not be lost.
        change = {
            "metadata": {"uid": meta.uid, "finalizers": finalizers or None, "resourceVersion": meta.resourceVersion}
        }
        await unless_gone(self.client.patch(SERVICES, meta.name, meta.namespace, change))

    async def _write_status(self, service: Service, wanted: LoadBalancerStatus) -> None:
        meta = service.metadata
        ingress = msgspec.to_builtins(wanted.ingress) or None
        change = {"metadata": {"uid": meta.uid}, "status": {"loadBalancer": {"ingress": ingress}}}
        await unless_gone(self.client.patch(SERVICES, meta.name, meta.namespace, change, subresource="status"))

    def _holders(self, key: str) -> dict[str, list[Claim]]:
        """The other Services that are ours, by their addresses: those in their status, and those just given."""
        found: dict[str, list[Claim]] = {}
        for other, claim in self._claims.items():
            if other != key:
                seen = load_balancers.addresses(self.cluster.services.items[other])
                for address in {*seen, *self._given.get(other, ())}:
                    found.setdefault(address, []).append(claim)
        return found

    def _changed(self, old: Service | None, new: Service | None) -> None:
        if new is None:
            assert old is not None
            for notes in (self._claims, self._given, self._refused):
                notes.pop(old.key, None)
        elif load_balancers.is_ours(new):
            self._claims[new.key] = claim_of(new)
            self.queue.add(new.key)
        else:
            self._claims.pop(new.key, None)
            if FINALIZER in new.metadata.finalizers:
                self.queue.add(new.key)
        if old is not None and load_balancers.is_ours(old):
            # Whatever it gave back, or now shares, may be what another one waits for.
            for key in self._refused:
                self.queue.add(key)
