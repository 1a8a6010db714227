"""The managers of an object's fields: metadata.managedFields, and what updates and applies make of it.

The behaviours and names are those of apimachinery's util/managedfields, and of structured-merge-diff's merge.Updater.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from netlab.api.meta_types import now
from netlab.api.server.fieldmanager import comparing, fieldsets, merging
from netlab.api.server.fieldmanager.comparing import Comparison
from netlab.api.server.fieldmanager.fieldsets import FieldSet, Path
from netlab.api.server.fieldmanager.structure import Structure
from netlab.api.server.objects.schema import JSONObject

APPLY, UPDATE = "Apply", "Update"

MOST_UPDATERS = 10
"""Entries of operation Update; of more, the oldest are put together."""

_ANCIENT = "ancient-changes"
_BEFORE_FIRST_APPLY = "before-first-apply"
_UNKNOWN = "unknown"
_FIELDS_V1 = "FieldsV1"

_OF_NOBODY = ("apiVersion", "kind")
_METADATA_OF_NOBODY = (
    *("name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation"),
    *("managedFields", "resourceVersion"),
)
"""Fields that are never owned (stripMetaManager)."""

_NEVER_OWNED = fieldsets.of(
    *((f"f:{name}",) for name in (*_OF_NOBODY, "metadata")),
    *(("f:metadata", f"f:{name}") for name in _METADATA_OF_NOBODY),
)


class Manager(NamedTuple):
    """Who sets fields: what tells one entry of managedFields from the others."""

    name: str
    operation: str
    api_version: str
    """Of an update; who applies has one entry, whatever version it applies."""
    subresource: str = ""


class Owned(NamedTuple):
    """What a manager set, in which version and when."""

    api_version: str
    time: str | None
    fields: FieldSet


Managers = dict[Manager, Owned]


class Version(NamedTuple):
    """A version in which a kind's objects can be had."""

    structure: Structure
    convert: Callable[[JSONObject], JSONObject]
    """Of the form in which objects are handed to this module."""
    restore: Callable[[JSONObject], JSONObject]
    """Back to that form."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A write: in which version of the kind, and of which part of the object."""

    api_version: str
    versions: Mapping[str, Version]
    """By apiVersion, that of the write among them."""
    ignored: FieldSet
    """Fields that this write cannot change (GetResetFields)."""
    subresource: str = ""
    shown_version: str = ""
    """What updates are said to have used, in conflicts; empty: what they have."""

    @property
    def version(self) -> Version:
        """That of the write."""
        return self.versions[self.api_version]


class Conflict(NamedTuple):
    """A field that is to be changed by who applies, and is another's."""

    manager: Manager
    api_version: str
    path: Path

    @property
    def who(self) -> str:
        """The manager, as upstream names it."""
        name = f'"{self.manager.name}"'
        if self.manager.subresource:
            name = f'{name} with subresource "{self.manager.subresource}"'
        return f"{name} using {self.api_version}" if self.manager.operation == UPDATE else name


class ConflictsError(Exception):
    """Others own fields that were applied with another value."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = sorted(conflicts, key=lambda each: each.who)
        super().__init__(self._message())

    def _message(self) -> str:
        first = self.conflicts[0]
        if len(self.conflicts) == 1:
            return f"Apply failed with 1 conflict: conflict with {first.who}: {fieldsets.text(first.path)}"
        lines = []
        for who in dict.fromkeys(each.who for each in self.conflicts):
            lines.append(f"conflicts with {who}:")
            lines += [f"- {fieldsets.text(each.path)}" for each in self.conflicts if each.who == who]
        return f"Apply failed with {len(self.conflicts)} conflicts: " + "\n".join(lines)


# --- managedFields -------------------------------------------------------------------------------------------------


def read(entries: Any, *, trusted: bool = False) -> Managers:
    """Of metadata.managedFields; what the server has written itself is `trusted`. Raises `ValueError`."""
    found: Managers = {}
    for number, entry in enumerate(entries):
        operation, api_version, fields = entry.get("operation"), entry.get("apiVersion"), entry.get("fieldsV1") or {}
        if operation not in (APPLY, UPDATE):
            raise ValueError("operation must be `Apply` or `Update`")
        if not api_version:
            raise ValueError("apiVersion must not be empty")
        if entry.get("fieldsType") != _FIELDS_V1:
            raise ValueError(f"invalid fieldsType in managed fields entry {number}")
        manager = Manager(
            entry.get("manager", ""),
            operation,
            api_version if operation == UPDATE else "",
            entry.get("subresource", ""),
        )
        found[manager] = Owned(api_version, entry.get("time"), fields if trusted else fieldsets.read(fields))
    return found


def entries(managers: Managers) -> list[JSONObject]:
    """As metadata.managedFields has them: who applies first, then by time."""
    return [_entry(manager, managers[manager]) for manager in sorted(managers, key=lambda each: _order(each, managers))]


def _order(manager: Manager, managers: Managers) -> tuple[str, ...]:
    owned = managers[manager]
    return manager.operation, owned.time or "", manager.name, owned.api_version, manager.subresource


def _entry(manager: Manager, owned: Owned) -> JSONObject:
    entry: JSONObject = {}
    if manager.name:
        entry["manager"] = manager.name
    entry |= {"operation": manager.operation, "apiVersion": owned.api_version}
    if owned.time:
        entry["time"] = owned.time
    entry |= {"fieldsType": _FIELDS_V1, "fieldsV1": owned.fields}
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry


def is_reset(sent: Any) -> bool:
    """Whether a client asks for managedFields to be forgotten: an empty list, or one with an empty entry."""
    return sent in ([], [{}])


# --- updates -------------------------------------------------------------------------------------------------------


def created(obj: JSONObject, request: Request, name: str) -> list[JSONObject]:
    """The managedFields of an object that is made by a manager, but not by an apply."""
    version = request.version
    meta = {field: value for field, value in obj["metadata"].items() if field not in _METADATA_OF_NOBODY}
    ownable = {
        field: value
        for field, value in version.convert(obj).items()
        if field not in _OF_NOBODY and request.ignored.get(f"f:{field}") != {}
    }
    fields = comparing.created(ownable | {"metadata": meta}, version.structure)
    if not fields:
        return []
    manager = Manager(name or _UNKNOWN, UPDATE, request.api_version, request.subresource)
    return [_entry(manager, Owned(request.api_version, now(), fieldsets.ordered(fields)))]


def updated(old: JSONObject, new: JSONObject, managers: Managers, request: Request, name: str) -> Managers:
    """The managers after an update that is no apply. Whatever it wrote is its own, and nobody else's.

    Of an object without any nothing is noted until it is applied for the first time.
    """
    if not managers:
        return {}
    changes = _Changes(old, new, request)
    change = changes.of(request.api_version)
    manager = Manager(name or _UNKNOWN, UPDATE, request.api_version, request.subresource)
    written = fieldsets.difference(change.written, _NEVER_OWNED)
    if not written:
        return dict(_rest(managers, changes))
    before = managers.get(manager, Owned(request.api_version, None, {})).fields
    after = dict(_rest({each: owned for each, owned in managers.items() if each != manager}, changes))
    fields = fieldsets.union(fieldsets.difference(before, change.removed), written)
    # Most updates write the same fields as the one before.
    after[manager] = Owned(request.api_version, now(), before if fields == before else fieldsets.ordered(fields))
    return _capped(after)


def _rest(managers: Managers, changes: _Changes) -> Iterator[tuple[Manager, Owned]]:
    """The managers, each with what a change has left to it."""
    for manager, owned in managers.items():
        change = changes.known(owned.api_version)
        if change is None:
            continue  # Of a version that is no more.
        fields = fieldsets.difference(fieldsets.difference(owned.fields, change.written), change.removed)
        if fields is owned.fields:
            yield manager, owned
        elif fields:
            yield manager, owned._replace(fields=fields)


class _Changes:
    """What a write does, in the fields of each version."""

    def __init__(self, old: JSONObject, new: JSONObject, request: Request) -> None:
        self._old = old
        self._new = new
        self._request = request
        self._found: dict[str, Comparison] = {}

    def known(self, api_version: str) -> Comparison | None:
        """None for a version that the kind does not have."""
        return self.of(api_version) if api_version in self._request.versions else None

    def of(self, api_version: str) -> Comparison:
        """In a version that it has."""
        if api_version not in self._found:
            version, ignored = self._request.versions[api_version], self._request.ignored
            found = comparing.compare(version.convert(self._old), version.convert(self._new), version.structure)
            parts = (fieldsets.without(found.written, ignored), fieldsets.without(found.removed, ignored))
            self._found[api_version] = Comparison(*parts)
        return self._found[api_version]


def _capped(managers: Managers) -> Managers:
    """At most so many updaters: the oldest of a version become one."""
    updaters = [manager for manager in managers if manager.operation == UPDATE]
    surplus = len(updaters) - MOST_UPDATERS
    if surplus <= 0:
        return managers
    left = dict(managers)
    first: dict[str, Manager] = {}
    for manager in sorted(updaters, key=lambda each: (managers[each].time or "", each)):
        if surplus <= 0:
            break
        owned = managers[manager]
        version = owned.api_version
        bucket = Manager(_ANCIENT, UPDATE, version)
        if first.setdefault(version, manager) == manager or manager == bucket:
            continue
        if first[version] in left and bucket not in left:
            left[bucket] = left.pop(first[version])
        fields = fieldsets.ordered(fieldsets.union(left[bucket].fields, owned.fields))
        left[bucket] = Owned(version, owned.time, fields)
        del left[manager]
        surplus -= 1
    return left


# --- applies -------------------------------------------------------------------------------------------------------


class Applied(NamedTuple):
    """What an apply comes to."""

    obj: JSONObject
    managers: Managers


def apply(
    live: JSONObject, config: JSONObject, managers: Managers, request: Request, name: str, force: bool
) -> Applied:
    """Merge an applied object, which is in the version of the request, into the present one.

    Of what its manager applied before and does not any more, all goes that nobody else owns. Raises `ConflictsError` if
    others own what would be changed, unless it is forced: then they lose it.
    """
    if live and not managers:
        managers = read(created(live, request, _BEFORE_FIRST_APPLY), trusted=True)
    manager = Manager(name, APPLY, "", request.subresource)
    last = managers.get(manager)
    version = request.version
    wanted = fieldsets.without(comparing.applied(config, version.structure), request.ignored)
    mine = Owned(request.api_version, now(), fieldsets.ordered(fieldsets.difference(wanted, _NEVER_OWNED)))
    others = {each: owned for each, owned in managers.items() if each != manager}
    merged = version.restore(merging.merge(version.convert(live), config, version.structure))
    if last is not None and not _is_same(last, mine):
        merged = _pruned(merged, last, [*others.values(), mine._replace(fields=wanted)], request)
    changes = _Changes(live, merged, request)
    if not force and (conflicts := list(_conflicts(others, changes, request))):
        raise ConflictsError(conflicts)
    after = dict(_rest(others, changes))
    if mine.fields:
        after[manager] = last if last is not None and merged == live and _is_same(last, mine) else mine
    return Applied(merged, after)


def _is_same(one: Owned, other: Owned) -> bool:
    return (one.fields, one.api_version) == (other.fields, other.api_version)


def _conflicts(others: Managers, changes: _Changes, request: Request) -> Iterator[Conflict]:
    for manager, owned in others.items():
        change = changes.known(owned.api_version)
        if change is not None:
            shown = request.shown_version or owned.api_version
            lost = fieldsets.intersection(owned.fields, change.written)
            yield from (Conflict(manager, shown, path) for path in fieldsets.paths(lost))


def _pruned(merged: JSONObject, last: Owned, owners: Sequence[Owned], request: Request) -> JSONObject:
    """Without what was applied last, and is nobody's now.

    First all goes that was applied, with what is in it; then what another manager owns comes back, and then what was
    never applied, unless it was in an item or field that has gone.
    """
    if last.api_version not in request.versions:
        return merged
    structure, convert, restore = request.versions[last.api_version]
    whole, applied = convert(merged), comparing.with_named_fields(last.fields, structure)
    pruned = restore(merging.taken_out(whole, applied, structure))
    # Those of the same version first: what they own may be needed by a conversion.
    for api_version in sorted({each.api_version for each in owners}, key=lambda each: each != last.api_version):
        if api_version in request.versions:
            owned = _united(each.fields for each in owners if each.api_version == api_version)
            pruned = _with_owned(merged, pruned, owned, request.versions[api_version])
    gone = fieldsets.difference(_all_fields(whole, structure), _all_fields(convert(pruned), structure))
    return restore(merging.taken_out(whole, fieldsets.intersection(gone, applied), structure))


def _with_owned(merged: JSONObject, pruned: JSONObject, owned: FieldSet, version: Version) -> JSONObject:
    """What is left of an object, and what other managers own."""
    structure, whole = version.structure, version.convert(merged)
    left = _all_fields(version.convert(pruned), structure)
    kept = fieldsets.union(left, comparing.with_named_fields(owned, structure))
    gone = fieldsets.difference(_all_fields(whole, structure), kept)
    return version.restore(merging.taken_out(whole, gone, structure))


def _all_fields(obj: JSONObject, structure: Structure) -> FieldSet:
    return comparing.with_named_fields(comparing.applied(obj, structure), structure)


def _united(sets: Iterable[FieldSet]) -> FieldSet:
    return functools.reduce(fieldsets.union, sets, {})
