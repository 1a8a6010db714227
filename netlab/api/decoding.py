"""What API servers answer, as typed values: an object that cannot be read does not affect the others.

Servers other than netlab's are written in Go: absent values may be null, and newer ones may have a type that netlab
does not expect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import msgspec

from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.meta_types import ListMeta, Object, ObjectMeta, Status
from netlab.api.resources import Resource

T = TypeVar("T", bound=Object)

LINE_LIMIT = 64 * 1024 * 1024
"""The longest watch event read, in bytes; etcd's own limit for an object is 1.5 MiB, unless it was raised."""


class Unreadable(Object, kw_only=True):
    """An object whose metadata alone can be read."""

    reason: str
    """What is wrong, in one line that names the object."""


class _List(msgspec.Struct, Generic[T]):
    items: list[T] | None = None
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


def prepare(resource: Resource[Any]) -> None:
    """Have msgspec look into a resource's types now, which takes milliseconds, and not at their first object."""
    msgspec.json.decode(b"{}", type=_List[resource.type])  # type: ignore[name-defined]
    msgspec.json.decode(b'{"type":"","object":{}}', type=_Event)


def one(resource: Resource[T], body: bytes | msgspec.Raw) -> T:
    """One object. Raises ApiError when it cannot be read."""
    obj = _one(resource, body)
    if isinstance(obj, Unreadable):
        raise ApiError.unreadable(obj.reason)
    return obj


def listed(resource: Resource[T], body: bytes) -> tuple[list[T], list[Unreadable], ListMeta]:
    """A list: its objects, those that cannot be read, and its metadata. Raises ApiError if it is not a list at all."""
    try:
        # All at once, which is faster; nearly always nothing is wrong.
        whole = msgspec.json.decode(body, type=_List[resource.type])  # type: ignore[name-defined]
    except msgspec.ValidationError:
        return _listed_singly(resource, body)
    except msgspec.DecodeError as error:
        raise ApiError.unreadable(f"{resource.plural}: the API server's list is not JSON: {error}") from None
    items: list[T] = whole.items or []
    for item in items:
        item.apiVersion, item.kind = resource.api_version, resource.kind
    return items, [], whole.metadata


def _listed_singly(resource: Resource[T], body: bytes) -> tuple[list[T], list[Unreadable], ListMeta]:
    try:
        raw = msgspec.json.decode(body, type=_List[msgspec.Raw])  # type: ignore[type-var]
    except msgspec.ValidationError as error:
        raise ApiError.unreadable(f"{resource.plural}: the API server's answer is not a list: {error}") from None
    items: list[T] = []
    unreadable: list[Unreadable] = []
    for each in raw.items or []:
        obj = _one(resource, each)
        if isinstance(obj, Unreadable):
            unreadable.append(obj)
        else:
            items.append(obj)
    return items, unreadable, raw.metadata


def event(resource: Resource[T], line: bytes) -> tuple[str, T]:
    """A line of a watch: the event's type, and its object, or an `Unreadable` in its place.

    Raises ApiError for an event of type ERROR, and for a line that is not an event.
    """
    try:
        raw = msgspec.json.decode(line, type=_Event)
        if raw.type == "ERROR":
            raise ApiError(msgspec.json.decode(raw.object, type=Status))
        if raw.type == "BOOKMARK":
            # A bookmark's object carries nothing but its metadata: required fields are absent.
            return "BOOKMARK", msgspec.json.decode(raw.object, type=Object)  # type: ignore[return-value]
    except msgspec.MsgspecError as error:
        raise ApiError.unreadable(f"{resource.plural}: the API server did not send an event: {error}") from None
    return raw.type, _one(resource, raw.object)  # type: ignore[return-value]


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a stream. Raises ApiUnavailableError if it ends within one, ApiError if one is too long."""
    begun = bytearray()
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield bytes(begun) + line
            begun.clear()
        begun += rest
        if len(begun) > LINE_LIMIT:
            raise ApiError.unreadable(f"the API server sent an event of more than {LINE_LIMIT >> 20} MiB")
    if begun:
        raise ApiUnavailableError("the API server broke off a watch in the middle of an event")


def _one(resource: Resource[T], body: bytes | msgspec.Raw) -> T | Unreadable:
    try:
        obj = msgspec.json.decode(body, type=resource.type)
    except msgspec.ValidationError:
        return _one_of_go(resource, body)
    except msgspec.DecodeError as error:
        raise ApiError.unreadable(f"{resource.singular}: the API server's answer is not JSON: {error}") from None
    obj.apiVersion, obj.kind = resource.api_version, resource.kind
    return obj


def _one_of_go(resource: Resource[T], body: bytes | msgspec.Raw) -> T | Unreadable:
    """The same from Go, which writes an empty list as null unless the field is declared as optional."""
    plain = _without_nulls(msgspec.json.decode(body))
    if not isinstance(plain, dict):
        return _unreadable(resource, {}, "it is not an object")
    for field in resource.nullable:
        plain.setdefault(field, [])
    try:
        obj = msgspec.convert(plain, resource.type)
    except msgspec.ValidationError as error:
        return _unreadable(resource, plain, str(error))
    obj.apiVersion, obj.kind = resource.api_version, resource.kind
    return obj


def _unreadable(resource: Resource[T], plain: dict[str, Any], problem: str) -> Unreadable:
    try:
        meta = msgspec.convert(plain.get("metadata", {}), ObjectMeta)
    except msgspec.ValidationError:
        meta = ObjectMeta()
    found = Unreadable(metadata=meta, reason="")
    found.reason = f"{resource.kind} {found.key or 'without a name'}: it cannot be read: {problem}"
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
