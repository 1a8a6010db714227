"""Which objects a controller manages: adoption of orphans and release of strays (upstream's ControllerRefManager)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from netlab.api.client import Client
from netlab.api.errors import ApiError
from netlab.api.meta_types import Object
from netlab.api.resources import Resource
from netlab.api.selectors import Selector
from netlab.controlplane.cluster import controller_of, controller_reference

T = TypeVar("T", bound=Object)
O = TypeVar("O", bound=Object)  # noqa: E741


@dataclasses.dataclass
class Claims(Generic[T]):
    """What the owner has, what it should adopt and what it should release."""

    kept: list[T] = dataclasses.field(default_factory=list)
    adopt: list[T] = dataclasses.field(default_factory=list)
    release: list[T] = dataclasses.field(default_factory=list)


def sort_claims(owner: Object, selector: Selector, owned: Iterable[T], orphaned: Iterable[T]) -> Claims[T]:
    """Compare what refers to the owner, and what has no controller, with the owner's selector."""
    claims: Claims[T] = Claims()
    for obj in owned:
        if selector.matches(obj.metadata.labels):
            claims.kept.append(obj)
        elif owner.metadata.deletionTimestamp is None:
            claims.release.append(obj)
    if owner.metadata.deletionTimestamp is None:
        claims.adopt = [
            obj for obj in orphaned if obj.metadata.deletionTimestamp is None and selector.matches(obj.metadata.labels)
        ]
    return claims


async def settle(
    client: Client, resource: Resource[T], owner_resource: Resource[O], owner: O, claims: Claims[T]
) -> list[T]:
    """Carry out the claims; returns all that the owner has afterwards.

    Raises ApiError: Conflict if an object changed in the meantime and the whole must be retried.
    """
    if claims.adopt and await _is_current(client, owner_resource, owner):
        for obj in claims.adopt:
            references = [*obj.metadata.ownerReferences, controller_reference(owner)]
            if (adopted := await _refer(client, resource, obj, references)) is not None:
                claims.kept.append(adopted)
    for obj in claims.release:
        references = [ref for ref in obj.metadata.ownerReferences if ref != controller_of(obj)]
        await _refer(client, resource, obj, references)
    return claims.kept


async def _is_current(client: Client, resource: Resource[O], owner: O) -> bool:
    # The informer may lag behind a deletion of the owner: what it adopted then would be collected as garbage.
    try:
        found = await client.get(resource, owner.metadata.name, owner.metadata.namespace)
    except ApiError as error:
        if error.reason == "NotFound":
            return False
        raise
    return found.metadata.uid == owner.metadata.uid and found.metadata.deletionTimestamp is None


async def _refer(client: Client, resource: Resource[T], obj: T, references: object) -> T | None:
    change = {
        "metadata": {
            "resourceVersion": obj.metadata.resourceVersion,
            "uid": obj.metadata.uid,
            "ownerReferences": msgspec.to_builtins(references),
        }
    }
    try:
        return await client.patch(resource, obj.metadata.name, obj.metadata.namespace, change)
    except ApiError as error:
        if error.reason == "NotFound":
            return None
        raise
