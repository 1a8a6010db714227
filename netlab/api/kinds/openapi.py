"""OpenAPI documents of what a server has, made from its own discovery documents and the table.

A document describes the paths with their verbs and parameters, and the definitions of all that is sent and returned:
version 2 of everything at once, version 3 of one group's version.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from netlab.api.kinds import table
from netlab.api.kinds.custom import CustomKind
from netlab.api.kinds.definitions import CUSTOM, PATCH, V2, V3, Dialect, Schema, definitions, reference
from netlab.api.media_types import APPLY_PATCH, JSON, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH

Document = dict[str, Any]

CustomKinds = Mapping[tuple[str, str, str], CustomKind]
"""By group, version and kind."""

NONE: CustomKinds = {}

PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)
PATCHES_OF_CUSTOM = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)


class Parameter(NamedTuple):
    """A parameter of a request."""

    name: str
    place: str
    """`query` or `path`."""
    type: str
    description: str


def _query(*named: tuple[str, str, str]) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, "query", kind, text) for name, kind, text in named)


_DRY_RUN = ("dryRun", "string", "All: the request is checked and answered, and nothing is stored.")
_OF_LISTS = _query(
    ("allowWatchBookmarks", "boolean", "A watch may tell resourceVersions without a change."),
    ("continue", "string", "Where the list before this one ended."),
    ("fieldSelector", "string", "Which objects, by their fields."),
    ("labelSelector", "string", "Which objects, by their labels."),
    ("limit", "integer", "The most objects that the list is to have."),
    ("resourceVersion", "string", "The state to answer with, or after which to watch."),
    ("resourceVersionMatch", "string", "Exact or NotOlderThan: how resourceVersion is meant."),
    ("sendInitialEvents", "boolean", "A watch begins with the present objects and a bookmark."),
    ("timeoutSeconds", "integer", "After how many seconds a watch ends."),
)
_WATCH = _query(("watch", "boolean", "Tell the changes instead of a list."))
_OF_WRITES = _query(
    _DRY_RUN,
    ("fieldManager", "string", "The name of the client, for managedFields."),
    ("fieldValidation", "string", "Strict, Warn or Ignore: what is done about unknown and duplicate fields."),
)
_OF_PATCHES = _query(("force", "boolean", "Take over fields of other managers, when applied."))
_OF_DELETES = _query(
    _DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds until the object is removed."),
    ("orphanDependents", "boolean", "Whether dependents are kept; older than propagationPolicy."),
    ("propagationPolicy", "string", "Orphan, Background or Foreground: what becomes of dependents."),
)
_NAMESPACE = Parameter("namespace", "path", "string", "The namespace.")
_NAME = Parameter("name", "path", "string", "The name of the object.")


class Verb(NamedTuple):
    """How a verb of the API is said in HTTP."""

    method: str
    action: str
    parameters: tuple[Parameter, ...]
    on_collection: bool


VERBS = {
    "get": Verb("get", "get", (), on_collection=False),
    "list": Verb("get", "list", (*_OF_LISTS, *_WATCH), on_collection=True),
    "create": Verb("post", "post", _OF_WRITES, on_collection=True),
    "update": Verb("put", "put", _OF_WRITES, on_collection=False),
    "patch": Verb("patch", "patch", (*_OF_WRITES, *_OF_PATCHES), on_collection=False),
    "delete": Verb("delete", "delete", _OF_DELETES, on_collection=False),
    "deletecollection": Verb("delete", "deletecollection", (*_OF_DELETES, *_OF_LISTS), on_collection=True),
}
"""A watch is a list with a parameter."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """What can be done at a path."""

    path: str
    verb: Verb
    kind: table.Kind
    identity: str
    body: str
    """The message that is sent; empty: none."""
    answer: str
    """The message that is returned."""

    @property
    def consumes(self) -> tuple[str, ...]:
        """The media types of the body."""
        if not self.body:
            return ()
        patches = PATCHES_OF_CUSTOM if self.kind.message.startswith(CUSTOM) else PATCHES
        return patches if self.body == PATCH else (JSON,)

    @property
    def kind_as_extension(self) -> dict[str, str]:
        """x-kubernetes-group-version-kind."""
        return {"group": self.kind.group, "kind": self.kind.kind, "version": self.kind.version}


def operations(resources: Document, custom: CustomKinds) -> Iterator[Operation]:
    """The operations of an APIResourceList; of kinds that neither the table nor a definition has there are none."""
    group, _, version = resources["groupVersion"].rpartition("/")
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    for entry in resources["resources"]:
        kind = table.Kind(entry.get("group", group), entry.get("version", version), entry["kind"], "")
        listed = table.message_of(kind.api_version, f"{kind.kind}List")
        if added := custom.get(kind[:3]):
            yield from _operations(root, entry, added.as_kind, added.list_message)
        elif message := table.message_of(kind.api_version, kind.kind):
            kind = kind._replace(message=message.name)
            yield from _operations(root, entry, kind, listed.name if listed else kind.message)


def _operations(root: str, entry: Document, kind: table.Kind, listed: str) -> Iterator[Operation]:
    plural, _, part = entry["name"].partition("/")
    scope = "/namespaces/{namespace}" if entry["namespaced"] else ""
    collection = f"{root}{scope}/{plural}"
    for name in entry["verbs"]:
        verb = VERBS.get(name)
        if verb is None:
            continue
        path = f"{collection}/{{name}}/{part}" if part else collection
        if not part and not verb.on_collection:
            path = f"{collection}/{{name}}"
        yield _operation(path, name, verb, kind, listed)
        if name == "list" and scope:
            yield _operation(f"{root}/{plural}", name, verb, kind, listed)


def _operation(path: str, name: str, verb: Verb, kind: table.Kind, listed: str) -> Operation:
    words = [part.strip("{}").replace(".", "-") for part in path.split("/") if part]
    bodies = {"create": kind.message, "update": kind.message, "patch": PATCH}
    body = bodies.get(name, "meta.v1.DeleteOptions" if name.startswith("delete") else "")
    answer = "meta.v1.Status" if name.startswith("delete") else kind.message
    if name == "list":
        answer = listed
    return Operation(path, verb, kind, "-".join([verb.action, *words]), body, answer)


def _kinds_of(every: Sequence[Operation], resources: Iterable[Document]) -> dict[str, list[Schema]]:
    """For each message that is a kind here, what kinds it is."""
    found: dict[str, list[Schema]] = {}
    for operation in every:
        for message in (operation.body, operation.answer):
            kind = _kind_of_message(message)
            if kind is not None and message not in found:
                found[message] = [{"group": kind.group, "kind": kind.kind, "version": kind.version}]
    versions = [each["groupVersion"].rpartition("/") for each in resources]
    found["meta.v1.Status"] = [{"group": "", "kind": "Status", "version": "v1"}]
    for name in ("DeleteOptions", "WatchEvent"):
        found[f"meta.v1.{name}"] = [
            {"group": group, "kind": name, "version": version} for group, _, version in versions
        ]
    return found


def _kind_of_message(message: str) -> table.Kind | None:
    return next((kind for kind in table.kinds() if kind.message == message), None)


def _definitions(
    every: Sequence[Operation], resources: Iterable[Document], dialect: Dialect, custom: CustomKinds
) -> dict[str, Schema]:
    roots = {name for operation in every for name in (operation.body, operation.answer) if name}
    roots |= {"meta.v1.WatchEvent"}
    described: dict[str, Schema] = {}
    for each in custom.values():
        if each.as_kind.message in roots:
            described |= each.definitions(dialect)
    if described:
        roots |= {"meta.v1.ObjectMeta", "meta.v1.ListMeta"}
    return definitions(roots, dialect, _kinds_of(every, resources), described)


def _common(operation: Operation) -> Document:
    return {
        "operationId": operation.identity,
        "x-kubernetes-action": operation.verb.action,
        "x-kubernetes-group-version-kind": operation.kind_as_extension,
    }


def _of_path(path: str) -> list[Parameter]:
    return [each for each in (_NAME, _NAMESPACE) if f"{{{each.name}}}" in path]


# --- version 2 -----------------------------------------------------------------------------------------------------


def version_2(resources: Sequence[Document], version: str, custom: CustomKinds = NONE) -> Document:
    """The document of all groups' APIResourceLists; `version` is the server's."""
    every = [operation for each in resources for operation in operations(each, custom)]
    paths: dict[str, Document] = {}
    for operation in every:
        at = paths.setdefault(operation.path, {})
        at[operation.verb.method] = _operation_2(operation)
        if parameters := _of_path(operation.path):
            at["parameters"] = [_parameter_2(each) for each in parameters]
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": dict(sorted(paths.items())),
        "definitions": _definitions(every, resources, V2, custom),
    }


def _operation_2(operation: Operation) -> Document:
    parameters = [_parameter_2(each) for each in operation.verb.parameters]
    if operation.body:
        schema = reference(operation.body, V2)
        is_required = operation.body != "meta.v1.DeleteOptions"
        parameters.insert(0, {"in": "body", "name": "body", "schema": schema} | _required(is_required))
    return {
        "consumes": list(operation.consumes or ("*/*",)),
        "produces": [JSON],
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "schema": reference(operation.answer, V2)}},
        **_common(operation),
    }


def _parameter_2(parameter: Parameter) -> Document:
    return {
        "description": parameter.description,
        "in": parameter.place,
        "name": parameter.name,
        "type": parameter.type,
        "uniqueItems": True,
        **_required(parameter.place == "path"),
    }


def _required(is_required: bool) -> Document:
    return {"required": True} if is_required else {}


# --- version 3 -----------------------------------------------------------------------------------------------------


def version_3(resources: Document, version: str, custom: CustomKinds = NONE) -> Document:
    """The document of one APIResourceList."""
    every = list(operations(resources, custom))
    paths: dict[str, Document] = {}
    for operation in every:
        at = paths.setdefault(operation.path, {})
        at[operation.verb.method] = _operation_3(operation)
        if parameters := _of_path(operation.path):
            at["parameters"] = [_parameter_3(each) for each in parameters]
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": _definitions(every, [resources], V3, custom)},
    }


def _operation_3(operation: Operation) -> Document:
    answer = {JSON: {"schema": reference(operation.answer, V3)}}
    described: Document = {
        "responses": {"200": {"description": "OK", "content": answer}},
        **_common(operation),
    }
    if operation.verb.parameters:
        described["parameters"] = [_parameter_3(each) for each in operation.verb.parameters]
    if operation.body:
        schema = {"schema": reference(operation.body, V3)}
        described["requestBody"] = {
            "content": dict.fromkeys(operation.consumes, schema),
            **_required(operation.body != "meta.v1.DeleteOptions"),
        }
    return described


def _parameter_3(parameter: Parameter) -> Document:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": {"type": parameter.type, "uniqueItems": True},
        **_required(parameter.place == "path"),
    }
