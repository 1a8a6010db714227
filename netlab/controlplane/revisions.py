"""The history of a workload's template as ControllerRevisions (upstream's pkg/controller/history).

A revision's data is the patch that brings its template back: `kubectl rollout undo` sends it as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from netlab.api.apps_types import ControllerRevision, PodTemplateSpec
from netlab.api.client import Client
from netlab.api.errors import ApiError, unless_gone
from netlab.api.informer import Informer
from netlab.api.meta_types import Object, ObjectMeta
from netlab.api.resources import CONTROLLERREVISIONS, Resource
from netlab.api.selectors import Selector
from netlab.controlplane.claims import settle, sort_claims
from netlab.controlplane.cluster import controller_reference
from netlab.controlplane.rollout.templates import safe_digits

HASH = "controller-revision-hash"
"""The label of a pod, and of a revision, with the hash of its template."""

DEFAULT_LIMIT = 10


@dataclasses.dataclass(frozen=True)
class History:
    """What became of the revisions when the present template was looked up."""

    current: ControllerRevision
    """Of the present template: the newest of all, perhaps not stored yet."""
    others: list[ControllerRevision]
    """By number."""
    collisions: int | None

    @property
    def hash(self) -> str:
        """The hash of the present template."""
        return hash_of(self.current)

    def find(self, name: str) -> ControllerRevision | None:
        """The revision of that name."""
        return next((each for each in (self.current, *self.others) if each.metadata.name == name), None)


def hash_of(revision: ControllerRevision) -> str:
    """The hash of a revision's template."""
    return revision.metadata.labels.get(HASH, "")


def data_of(template: PodTemplateSpec) -> Any:
    """The patch that makes a workload's template this one, its fields in the order in which Go writes a map: clients
    compare it byte by byte (controller/daemon, Match)."""
    return {"spec": {"template": {"$patch": "replace", **msgspec.to_builtins(template, order="sorted")}}}


def template_of(revision: ControllerRevision) -> PodTemplateSpec:
    """The template that a revision brings back."""
    found = dict(revision.data["spec"]["template"])
    found.pop("$patch", None)
    return msgspec.convert(found, PodTemplateSpec)


def revision_of(
    owner: Object, template: PodTemplateSpec, number: int, labels: dict[str, str], collisions: int
) -> ControllerRevision:
    """A new revision of an owner's template; its name has the hash of the template, varied by collisions."""
    data = data_of(template)
    digest = hashlib.blake2b(_canonical(data) + str(collisions or "").encode(), digest_size=4).digest()
    hashed = safe_digits(str(int.from_bytes(digest, "big")))
    return ControllerRevision(
        metadata=ObjectMeta(
            name=f"{owner.metadata.name[:223]}-{hashed}",
            namespace=owner.metadata.namespace,
            labels={**labels, HASH: hashed},
            annotations={
                key: value
                for key, value in owner.metadata.annotations.items()
                if key != "kubectl.kubernetes.io/last-applied-configuration"
            },
            ownerReferences=[controller_reference(owner)],
        ),
        data=data,
        revision=number,
    )


def same(one: ControllerRevision, other: ControllerRevision) -> bool:
    """Whether two revisions have one template."""
    return _canonical(one.data) == _canonical(other.data)


def outdated(
    others: Sequence[ControllerRevision], in_use: Iterable[str], limit: int | None
) -> list[ControllerRevision]:
    """Those to be removed, oldest first: of the hashes that no pod has, all beyond the limit."""
    used = set(in_use)
    idle = [each for each in others if hash_of(each) not in used]
    return idle[: max(0, len(idle) - (DEFAULT_LIMIT if limit is None else limit))]


def _canonical(data: Any) -> bytes:
    return msgspec.json.encode(data, order="sorted")


class Revisions:
    """The revisions of one kind's objects."""

    def __init__(self, client: Client, informer: Informer[ControllerRevision], resource: Resource[Any]) -> None:
        self._client = client
        self._informer = informer
        self._resource = resource

    async def history(
        self, owner: Object, selector: Selector, template: PodTemplateSpec, collisions: int | None
    ) -> History:
        """The revisions of an object, that of its present template among them, which is made the newest."""
        owned = await self._owned(owner, selector)
        newest = owned[-1].revision if owned else 0
        wanted = revision_of(owner, template, newest + 1, dict(template.metadata.labels), collisions or 0)
        present = next((each for each in reversed(owned) if same(each, wanted)), None)
        if present is None:
            return await self._create(owner, wanted, owned, template, collisions)
        others = [each for each in owned if each is not present]
        if present.revision < newest:
            change = {"revision": newest + 1}
            meta = present.metadata
            present = await self._client.patch(CONTROLLERREVISIONS, meta.name, meta.namespace, change)
        return History(present, others, collisions)

    async def _create(
        self,
        owner: Object,
        wanted: ControllerRevision,
        owned: list[ControllerRevision],
        template: PodTemplateSpec,
        collisions: int | None,
    ) -> History:
        while True:
            try:
                return History(await self._client.create(CONTROLLERREVISIONS, wanted), owned, collisions)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
            meta = wanted.metadata
            found = await self._client.get(CONTROLLERREVISIONS, meta.name, meta.namespace)
            if same(found, wanted) and found.metadata.ownerReferences == meta.ownerReferences:
                return History(found, owned, collisions)  # which the informer has not shown yet
            collisions = (collisions or 0) + 1
            wanted = revision_of(owner, template, wanted.revision, dict(template.metadata.labels), collisions)

    async def _owned(self, owner: Object, selector: Selector) -> list[ControllerRevision]:
        everyone = [
            each for each in self._informer.items.values() if each.metadata.namespace == owner.metadata.namespace
        ]
        mine = [
            each for each in everyone if any(ref.uid == owner.metadata.uid for ref in each.metadata.ownerReferences)
        ]
        free = [each for each in everyone if not any(ref.controller for ref in each.metadata.ownerReferences)]
        claims = sort_claims(owner, selector, mine, free)
        owned = await settle(self._client, CONTROLLERREVISIONS, self._resource, owner, claims)
        return sorted(
            owned, key=lambda each: (each.revision, each.metadata.creationTimestamp or "", each.metadata.name)
        )

    async def remove(self, revisions: Iterable[ControllerRevision]) -> None:
        """Delete revisions."""
        for each in revisions:
            await unless_gone(self._client.delete(CONTROLLERREVISIONS, each.metadata.name, each.metadata.namespace))
