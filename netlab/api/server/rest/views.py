"""How a client sees objects: as they are, their metadata alone, or as rows of a table. All in JSON."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from netlab.api.meta_types import Object
from netlab.api.printers import Printer
from netlab.api.resources import Kind, Resource
from netlab.api.server import refusals
from netlab.api.server.objects import versions
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.rest.negotiation import METADATA, METADATA_LIST, TABLE, Answer
from netlab.api.server.storage.watch import Change

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""The annotation of the bookmark behind the objects with which a watch begins."""


class ListMeta(msgspec.Struct, omit_defaults=True):
    """metav1.ListMeta."""

    resourceVersion: str  # noqa: N815
    more: str = msgspec.field(name="continue", default="")
    remainingItemCount: int | None = None  # noqa: N815


class View(Protocol):
    """A way to see the objects of one resource."""

    def object(self, raw: bytes) -> bytes:
        """One object, from its JSON."""

    def list(self, raws: Sequence[bytes], meta: ListMeta) -> bytes:
        """A list of objects."""

    def event(self, raw: bytes) -> bytes:
        """An object in an event of a watch: of one watch, in order."""


def view_of(
    answer: Answer, resource: Resource[Object], params: Mapping[str, str], *, of_list: bool, subresource: str = ""
) -> View:
    """The view that was negotiated; `params` are those of the request. Raises `ApiError` (400, 406)."""
    form = answer.form
    part = resource.subresource(subresource)
    is_other_kind = part is not None and part.kind is not None
    if form is None and isinstance(resource, CustomResource):
        return AsStored(resource) if is_other_kind else Converted(resource)
    if form is None:
        return _as_stored(resource) if resource.stored_as is None else Converted(resource)
    if form.kind == TABLE:
        printer = part.printer if part and part.printer else resource.printer
        custom = resource if isinstance(resource, CustomResource) and not is_other_kind else None
        return AsTable(resource, printer, form, params.get("includeObject", ""), custom)
    if (form.kind == METADATA_LIST) is not of_list:
        raise refusals.not_of_that_form(form.kind, is_list=of_list)
    return AsMetadata(form)


def writer(answer: Answer, view: View) -> Callable[[Change], bytes]:
    """What turns a change into an event of a watch."""
    frame = answer.format.frame
    if isinstance(view, AsStored):
        return frame
    # An error is a Status in every view.
    return lambda change: frame(change if change.type == b"ERROR" else Change(change.type, view.event(change.raw)))


class AsStored:
    """The objects as they are."""

    def __init__(self, resource: Resource[Object]) -> None:
        self._resource = resource

    def object(self, raw: bytes) -> bytes:
        """One object, from its JSON."""
        return raw

    event = object

    def list(self, raws: Sequence[bytes], meta: ListMeta) -> bytes:
        """A list of objects."""
        kind = Kind(self._resource.group, self._resource.version, self._resource.list_kind)
        return _list(kind, raws, meta)


_as_stored = functools.cache(AsStored)


class Converted:
    """The objects as another version than that of their storage, or their present definition, has them."""

    def __init__(self, resource: Resource[Object]) -> None:
        self._resource = resource
        self._plain = AsStored(resource)

    def object(self, raw: bytes) -> bytes:
        """One object, from its JSON."""
        return versions.raw_from_storage(self._resource, raw)

    def event(self, raw: bytes) -> bytes:
        """An object in an event of a watch; of a bookmark there is nothing to convert."""
        is_bookmark = not msgspec.json.decode(raw, type=_WithName).metadata.name
        return raw if is_bookmark else self.object(raw)

    def list(self, raws: Sequence[bytes], meta: ListMeta) -> bytes:
        """A list of objects."""
        return self._plain.list([self.object(raw) for raw in raws], meta)


class AsMetadata:
    """metav1.PartialObjectMetadata, or a list of them."""

    def __init__(self, form: Kind) -> None:
        self._form = form

    def object(self, raw: bytes) -> bytes:
        """One object, from its JSON."""
        return _partial(self._form, raw)

    event = object

    def list(self, raws: Sequence[bytes], meta: ListMeta) -> bytes:
        """A list of objects."""
        return _list(self._form, [_partial(self._form, raw) for raw in raws], meta)


class AsTable:
    """metav1.Table: each object a row of the columns that `kubectl get` prints."""

    def __init__(
        self,
        resource: Resource[Object],
        printer: Printer,
        form: Kind,
        include: str,
        custom: CustomResource | None = None,
    ) -> None:
        """`custom` is the resource again, if objects of one are shown."""
        if include not in ("", "None", "Metadata", "Object"):
            raise refusals.bad_request(f'unrecognized includeObject value: "{include}"')
        self._resource = resource
        self._printer = printer
        self._form = form
        self._custom = custom
        self._include = include or "Metadata"
        self._has_columns = False

    def object(self, raw: bytes) -> bytes:
        """One object, from its JSON."""
        now = time.time()
        obj = self._read(raw)
        meta = ListMeta(obj["metadata"].get("resourceVersion", ""))
        return self._table([self._row(obj, raw, now)], meta, columns=True)

    def event(self, raw: bytes) -> bytes:
        """An object in an event of a watch, the first of which has the columns."""
        now = time.time()
        obj = msgspec.json.decode(raw)
        meta = obj["metadata"]
        columns, self._has_columns = not self._has_columns, True
        is_bookmark = "name" not in meta
        obj = obj if is_bookmark else self._read(raw)
        row = self._row_of_bookmark(obj) if is_bookmark else self._row(obj, raw, now)
        return self._table([row], ListMeta(meta.get("resourceVersion", "")), columns=columns)

    def list(self, raws: Sequence[bytes], meta: ListMeta) -> bytes:
        """A list of objects."""
        now = time.time()
        rows = [self._row(self._read(raw), raw, now) for raw in raws]
        return self._table(rows, meta, columns=True)

    def _read(self, raw: bytes) -> JSONObject:
        obj: JSONObject = msgspec.json.decode(raw)
        # The printers of built-in kinds know the form that is stored.
        return versions.from_storage(self._custom, obj) if self._custom is not None else obj

    def _row(self, obj: JSONObject, raw: bytes, now: float) -> JSONObject:
        row: JSONObject = {"cells": self._printer.cells(obj, now)}
        if completed := self._printer.completed(obj):
            row["conditions"] = [completed]
        if self._include == "Object":
            row["object"] = obj if self._custom is not None else self._raw(raw)
        else:
            row["object"] = self._about(obj)
        return row

    def _raw(self, raw: bytes) -> msgspec.Raw:
        return msgspec.Raw(versions.raw_from_storage(self._resource, raw))

    def _row_of_bookmark(self, obj: JSONObject) -> JSONObject:
        cells = ["" if column.type == "string" else 0 for column in self._printer.columns]
        # What marks the end of the first events is there whatever was asked for.
        is_end = INITIAL_EVENTS_END in obj["metadata"].get("annotations", {})
        return {"cells": cells, "object": _partial_of(self._form, obj) if is_end else self._about(obj)}

    def _about(self, obj: JSONObject) -> JSONObject | None:
        return None if self._include == "None" else _partial_of(self._form, obj)

    def _table(self, rows: Sequence[JSONObject], meta: ListMeta, *, columns: bool) -> bytes:
        definitions = [_definition(column._asdict()) for column in self._printer.columns] if columns else None
        table = {
            "kind": TABLE,
            "apiVersion": f"{self._form.group}/{self._form.version}",
            "metadata": meta,
            "columnDefinitions": definitions,
            "rows": rows,
        }
        return msgspec.json.encode(table)


def _definition(column: dict[str, Any]) -> dict[str, Any]:
    order = ("name", "type", "format", "description", "priority")
    return {name: column[name] for name in order}


class _Name(msgspec.Struct):
    name: str = ""


class _WithName(msgspec.Struct):
    metadata: _Name


class _WithMetadata(msgspec.Struct):
    metadata: msgspec.Raw


def _partial(form: Kind, raw: bytes) -> bytes:
    metadata = msgspec.json.decode(raw, type=_WithMetadata).metadata
    return b'{"kind":"%b","apiVersion":"%b/%b","metadata":%b}' % (
        METADATA.encode(),
        form.group.encode(),
        form.version.encode(),
        metadata,
    )


def _partial_of(form: Kind, obj: JSONObject) -> JSONObject:
    return {"kind": METADATA, "apiVersion": f"{form.group}/{form.version}", "metadata": obj["metadata"]}


def _list(kind: Kind, raws: Sequence[bytes], meta: ListMeta) -> bytes:
    api_version = f"{kind.group}/{kind.version}" if kind.group else kind.version
    return b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[%b]}\n' % (
        kind.kind.encode(),
        api_version.encode(),
        msgspec.json.encode(meta),
        b",".join(raws),
    )
