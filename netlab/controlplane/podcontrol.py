"""The pods of one kind's objects: created and deleted with expectations, adopted and released, and followed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from netlab.api.apps_types import PodTemplateSpec
from netlab.api.core_types import Pod
from netlab.api.errors import ApiError
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.informer import Informer
from netlab.api.meta_types import Object, ObjectMeta
from netlab.api.resources import PODS
from netlab.api.selectors import Selector
from netlab.controlplane import expectations
from netlab.controlplane.claims import settle, sort_claims
from netlab.controlplane.cluster import controller_of, controller_reference, is_active, is_finished, is_ready, orphans
from netlab.controlplane.controller import Controller
from netlab.controlplane.expectations import Expectations
from netlab.errors import NetlabError

BURST = 500
"""Pods created or deleted in one sync (upstream's burstReplicas)."""
BATCH_LIMIT = 64
"""Requests in flight at once; upstream's batches double without limit, but here each request costs a connection."""

Matters = Callable[[Pod, Pod], bool]


@dataclasses.dataclass(frozen=True)
class Wording:
    """What the events say of a pod that was created or deleted; `{pod}` and `{owner}` are names."""

    created: str = "Created pod: {pod}"
    deleted: str = "Deleted pod: {pod}"


class PodControl:
    """What a controller of pods has. Brings up the keys of objects that change, or whose pods do."""

    def __init__(
        self,
        controller: Controller,
        informer: Informer[Any],
        selector_of: Callable[[Any], Selector],
        matters: Matters | None = None,
        *,
        adopts: Callable[[Any, Pod], bool] = lambda _owner, _pod: True,
        wording: Wording | None = None,
    ) -> None:
        """`matters` says whether a change of a pod can affect what becomes of its owner, `adopts` whether an owner
        takes an orphan that it selects. Without `wording` there are no events but of failures."""
        self._controller = controller
        self._cluster = controller.cluster
        self._client = controller.client
        self._kind = controller.resource.kind
        self._informer = informer
        self._selector_of = selector_of
        self._matters = matters or is_other_replica
        self._adopts = adopts
        self._wording = wording
        self._expectations = Expectations()
        informer.on_change(self._owner_changed)
        self._cluster.pods.on_change(self._pod_changed)

    def settled(self, key: str) -> bool:
        """Whether all that was created and deleted has been seen; if not, the key comes again."""
        if self._expectations.satisfied(key):
            return True
        # The awaited event brings the key back; if it never comes, this does.
        self._controller.queue.add_after(key, expectations.TIMEOUT)
        return False

    async def claimed(self, owner: Object) -> list[Pod]:
        """The pods of an object, once it has adopted those that it selects and released the others."""
        adoptable = self._cluster.pods_by_controller.get(orphans(owner.metadata.namespace))
        claims = sort_claims(
            owner,
            self._selector_of(owner),
            self._cluster.pods_by_controller.get(owner.metadata.uid),
            [pod for pod in adoptable if is_active(pod) and self._adopts(owner, pod)],
        )
        return await settle(self._client, PODS, self._controller.resource, owner, claims)

    async def create(self, key: str, owner: Object, pods: list[Pod]) -> None:
        """Create pods in batches of 1, 2, 4, ...: so that a refused spec is not sent 500 times."""
        self._expectations.expect(key, creations=len(pods))
        waiting, size = list(pods), 1
        while waiting:
            size = min(size, len(waiting), BATCH_LIMIT)
            batch, waiting = waiting[:size], waiting[size:]
            results = await asyncio.gather(*(self._client.create(PODS, pod) for pod in batch), return_exceptions=True)
            failed = [result for result in results if isinstance(result, BaseException)]
            await self._tell_created(owner, [each for each in results if isinstance(each, Pod)])
            if failed:
                self._expectations.created(key, len(failed) + len(waiting))
                if isinstance(failed[0], NetlabError):
                    await self._record(owner, WARNING, "FailedCreate", f"Error creating: {failed[0]}")
                raise failed[0]
            size *= 2

    async def delete(self, key: str, owner: Object, pods: Iterable[Pod]) -> None:
        """Delete pods; those that are gone already are deleted."""
        doomed = [pod for pod in pods if pod.metadata.deletionTimestamp is None]
        self._expectations.expect(key, deletions={pod.metadata.uid for pod in doomed})
        errors: list[BaseException] = []
        for start in range(0, len(doomed), BATCH_LIMIT):
            batch = doomed[start : start + BATCH_LIMIT]
            results = await asyncio.gather(*(self._delete(key, pod) for pod in batch), return_exceptions=True)
            for pod, result in zip(batch, results, strict=True):
                if isinstance(result, BaseException):
                    self._expectations.deleted(key, pod.metadata.uid)
                    errors.append(result)
                elif self._wording is not None:
                    await self._tell(owner, "SuccessfulDelete", self._wording.deleted, pod)
        if errors:
            raise errors[0]

    async def _delete(self, key: str, pod: Pod) -> None:
        try:
            await self._client.delete(PODS, pod.metadata.name, pod.metadata.namespace, uid=pod.metadata.uid)
        except ApiError as error:
            # Gone, or replaced by another with the same name: the informer shows that, or has shown it already.
            if error.reason not in ("NotFound", "Conflict"):
                raise
            self._expectations.deleted(key, pod.metadata.uid)

    async def _tell_created(self, owner: Object, pods: Iterable[Pod]) -> None:
        if self._wording is not None:
            wording = self._wording.created
            await asyncio.gather(*(self._tell(owner, "SuccessfulCreate", wording, pod) for pod in pods))

    async def _tell(self, owner: Object, reason: str, wording: str, pod: Pod) -> None:
        message = wording.format(pod=pod.metadata.name, owner=owner.metadata.name)
        await self._record(owner, NORMAL, reason, message)

    async def _record(self, owner: Object, kind: str, reason: str, message: str) -> None:
        await record(self._client, owner, kind, reason, message, self._controller.name)

    # --- changes ---------------------------------------------------------------------------------------------------

    def _owner_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._expectations.forget(old.key)
        if new is not None and (old is None or old.metadata != new.metadata):
            self._controller.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        before, after = self._owner_key(old), self._owner_key(new)
        if old is not None and before:
            is_other = new is None or new.metadata.uid != old.metadata.uid
            if is_other or (new is not None and new.metadata.deletionTimestamp is not None):
                self._expectations.deleted(before, old.metadata.uid)
            if new is None or is_other or self._matters(old, new):
                self._controller.queue.add(before)
        if new is None:
            return
        if after:
            if old is None or old.metadata.uid != new.metadata.uid:
                self._expectations.created(after)
            if after != before or old is None or old.metadata.uid != new.metadata.uid:
                self._controller.queue.add(after)
        elif controller_of(new) is None and (
            old is None or old.metadata.labels != new.metadata.labels or controller_of(old) is not None
        ):
            self._bring_up_adopters(new)

    def _owner_key(self, pod: Pod | None) -> str:
        owner = controller_of(pod) if pod is not None else None
        if pod is None or owner is None or owner.kind != self._kind:
            return ""
        return f"{pod.metadata.namespace}/{owner.name}"

    def _bring_up_adopters(self, pod: Pod) -> None:
        for owner in self._informer.items.values():
            if owner.metadata.namespace == pod.metadata.namespace and self._selector_of(owner).matches(
                pod.metadata.labels
            ):
                self._controller.queue.add(owner.key)


def is_other_replica(old: Pod, new: Pod) -> bool:
    """Whether a change of a pod can affect how many replicas there are: most, such as its IP, cannot."""
    return (
        old.metadata.labels != new.metadata.labels
        or old.metadata.ownerReferences != new.metadata.ownerReferences
        or is_active(old) != is_active(new)
        or is_ready(old) != is_ready(new)
    )


def is_other_end(old: Pod, new: Pod) -> bool:
    """The same for an owner to which it matters how its pods end, and on which node they are."""
    return (
        is_other_replica(old, new)
        or is_finished(old) != is_finished(new)
        or old.metadata.deletionTimestamp != new.metadata.deletionTimestamp
        or old.metadata.finalizers != new.metadata.finalizers
        or old.status.phase != new.status.phase
        or old.spec.nodeName != new.spec.nodeName
    )


def pod_of(owner: Object, template: PodTemplateSpec, name: str = "", labels: Mapping[str, str] | None = None) -> Pod:
    """A pod of a template; without a name the server makes one up."""
    meta = template.metadata
    return Pod(
        metadata=ObjectMeta(
            name=name,
            generateName="" if name else f"{owner.metadata.name}-",
            namespace=owner.metadata.namespace,
            labels={**meta.labels, **(labels or {})},
            annotations=dict(meta.annotations),
            finalizers=list(meta.finalizers),
            ownerReferences=[controller_reference(owner)],
        ),
        spec=template.spec,
    )
