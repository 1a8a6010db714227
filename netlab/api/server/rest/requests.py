"""A request about resources, taken apart: what its path names, its parameters and its body."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.types import Scope

from netlab.api.media_types import APPLY_PATCH, JSON, MERGE_PATCH, STRATEGIC_MERGE_PATCH, YAML
from netlab.api.meta_types import Object
from netlab.api.resources import NAMESPACES, SCALE, Resource
from netlab.api.server import refusals
from netlab.api.server.objects import schema
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import FieldValidation, Mode
from netlab.api.server.registry.catalog import Catalog
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.rest import applied_bodies
from netlab.api.server.rest.lists import is_true, number
from netlab.api.server.rest.negotiation import FORMATS, FORMATS_OF_CUSTOM, Answer, format_of_body
from netlab.api.server.rest.views import View

BODY_LIMIT = 3 * 1024 * 1024
"""Bytes: apiserver's own limit for a request's body (server.Config.MaxRequestBodyBytes)."""

_VERBS = {
    "collection": {"GET": "list", "POST": "create", "DELETE": "deletecollection"},
    "object": {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"},
}
_WATCH = "watch"

_LONGEST_MANAGER = 128
"""Bytes of a field manager's name (FieldManagerMaxLength)."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What a path names: a collection, an object, or a part of one."""

    resource: Resource[Object]
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    path: str = ""
    """What follows the subresource `proxy`, as it came; it begins with a slash."""

    @property
    def scope(self) -> str:
        """How much it is about, as upstream's metrics call it."""
        return "resource" if self.name else "namespace" if self.namespace else "cluster"


@dataclasses.dataclass(slots=True)
class Call:
    """A request that is to be answered: what is to be done with what, and how the answer is to look."""

    request: Request
    target: Target
    verb: str
    params: QueryParams
    answer: Answer
    view: View
    body: bytes = b""
    content_type: str = ""
    """The media type of the body; empty if it was not given."""

    def value(self) -> Any:
        """The body as a JSON value. Raises `ApiError` (400, 415)."""
        if self.content_type == YAML:
            return applied_bodies.read(self.body, self.field_validation.mode)[0]
        formats = FORMATS_OF_CUSTOM if self.is_custom else FORMATS
        return format_of_body(self.content_type, formats).decode(self.body)

    @property
    def is_custom(self) -> bool:
        """Whether it is about objects as a CustomResourceDefinition has them, whole or by their status."""
        return isinstance(self.target.resource, CustomResource) and self.target.subresource != SCALE

    def object(self) -> schema.JSONObject:
        """The body as an object. Raises `ApiError` (400, 415)."""
        sent = self.value()
        if not isinstance(sent, dict):
            raise refusals.bad_request("the body of the request is not a JSON object")
        return sent

    @property
    def field_validation(self) -> FieldValidation:
        """What is to be done about unknown fields, and about those that stand twice. Raises `ApiError` (422)."""
        asked = self.params.get("fieldValidation") or Mode.WARN
        problems = Problems()
        problems.one_of("fieldValidation", asked, (Mode.IGNORE, Mode.WARN, Mode.STRICT))
        self._refuse(problems)
        is_patch = self.content_type in (MERGE_PATCH, STRATEGIC_MERGE_PATCH)
        # The fields of a JSON patch are not the object's.
        has_fields = is_patch or self.content_type in ("", JSON)
        return FieldValidation(Mode(asked), self.body if has_fields else b"", is_patch)

    @property
    def manager(self) -> str:
        """Who writes, for managedFields: as it says itself, or the first word of its User-Agent.

        Raises `ApiError` (422).
        """
        given = self.params.get("fieldManager", "")
        applies = self.content_type == APPLY_PATCH
        problems = Problems()
        if applies and not given:
            problems.required("fieldManager", "is required for apply patch")
        if not applies and "force" in self.params:
            problems.forbidden("force", "may not be specified for non-apply patch")
        if len(given.encode()) > _LONGEST_MANAGER:
            problems.too_long("fieldManager", _LONGEST_MANAGER)
        for place, letter in enumerate(given):
            if not letter.isprintable():
                problems.invalid("fieldManager", given, f"invalid character U+{ord(letter):04X} (at position {place})")
        self._refuse(problems)
        if given:
            return given
        word = self.request.headers.get("user-agent", "").partition("/")[0]
        printable = "".join(filter(str.isprintable, word)).encode()[:_LONGEST_MANAGER]
        return printable.decode(errors="ignore")

    def _refuse(self, problems: Problems) -> None:
        if problems:
            verb = self.verb.removesuffix("collection")
            raise refusals.invalid_options(f"{verb.capitalize()}Options", problems)

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored. Raises `ApiError` (422)."""
        asked = [value for value in self.params.getlist("dryRun") if value]
        problems = Problems()
        for value in asked:
            problems.one_of("dryRun", value, ("All",))
        self._refuse(problems)
        return bool(asked)

    def delete_options(self) -> DeleteOptions:
        """What is said of a deletion in the body and the query. Raises `ApiError` (400, 422)."""
        options = read_delete_options(self.value() if self.body else {})
        params = self.params
        if "gracePeriodSeconds" in params:
            options.gracePeriodSeconds = number(params, "gracePeriodSeconds")
        if policy := params.get("propagationPolicy"):
            options.propagationPolicy = policy
        if orphan := params.get("orphanDependents"):
            options.orphanDependents = is_true(orphan)
        if self.dry_run:
            options.dryRun = ["All"]
        return options


def read_delete_options(value: Any) -> DeleteOptions:
    """Raises `ApiError` (400)."""
    try:
        return msgspec.convert(value, DeleteOptions)
    except msgspec.ValidationError as error:
        raise refusals.bad_request(f"DeleteOptions: {error}") from None


def parse(scope: Scope, catalog: Catalog) -> Target | tuple[str, str]:
    """What the path of a resource names; for a whole group and version, their names. Raises `ApiError` (400, 404).

    Taken apart before it is decoded, so that no name can hold a slash; and nothing is passed over: a request about an
    object without a name must not become one about the whole collection.
    """
    group, version, parts = _parts(scope)
    parts, path = _proxied(scope, parts)
    if parts and not parts[-1] and scope["method"] == "GET":
        parts.pop()  # with a slash at its end
    if not parts:
        if not catalog.has_version(group, version):
            raise refusals.no_such_path(scope["path"])
        return group, version
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and (len(parts) > 3 or NAMESPACES.subresource(parts[2]) is None):
        namespace, parts = parts[1], parts[2:]
        if not namespace:
            raise refusals.no_such_path(scope["path"])
    resource = catalog.find(group, version, parts[0])
    well_formed = len(parts) <= 3 and all(parts)
    if resource is None or not well_formed or (namespace and not resource.namespaced):
        raise refusals.no_such_path(scope["path"])
    if resource.namespaced and len(parts) > 1 and not namespace:
        raise refusals.no_such_path(scope["path"])
    name, subresource = (*parts[1:], "", "")[:2]
    return Target(resource, namespace, name, subresource, path)


def _proxied(scope: Scope, parts: list[str]) -> tuple[list[str], str]:
    """The parts of a path up to `proxy`, and what follows, as it came; it means something to another server alone."""
    at = 4 if parts[:1] == ["namespaces"] else 2
    if len(parts) <= at + 1 or parts[at] != "proxy":
        return parts, ""
    raw = scope["raw_path"].decode("ascii", errors="replace").split("/")
    return parts[: at + 1], "/" + "/".join(raw[len(raw) - len(parts) + at + 1 :])


_NONE = QueryParams()


def params_of(scope: Scope) -> QueryParams:
    """The parameters of a request: most have none."""
    return QueryParams(scope["query_string"]) if scope["query_string"] else _NONE


def verb_of(request: Request, target: Target, params: QueryParams) -> str:
    """What is to be done, as discovery calls it. Raises `ApiError` (404, 405)."""
    resource, method = target.resource, request.method
    verb = _VERBS["object" if target.name else "collection"].get(method, "")
    if target.subresource:
        subresource = resource.subresource(target.subresource)
        if subresource is None:
            raise refusals.no_such_path(request.url.path)
        offered = subresource.verbs
        if target.subresource == "proxy":
            verb = verb or "get"  # HEAD and OPTIONS are passed on as well
    elif target.name:
        offered = tuple(each for each in resource.verbs if each != "create")
    else:
        offered = resource.verbs
        # In all namespaces one can only look.
        if resource.namespaced and not target.namespace and method != "GET":
            offered = ()
        if verb == "list" and is_true(params.get(_WATCH)):
            verb = _WATCH
    if verb not in offered:
        raise refusals.method_not_allowed(method, resource)
    return verb


def _parts(scope: Scope) -> tuple[str, str, list[str]]:
    """The group, the version and the rest of a path."""
    _, root, *parts = scope["raw_path"].decode("ascii", errors="replace").split("/")
    try:
        parts = [unquote(part, errors="strict") if "%" in part else part for part in parts]
    except UnicodeDecodeError:
        raise refusals.bad_request("the path of the request is not UTF-8") from None
    first = {"api": 0, "apis": 1}.get(root)
    if first is None or len(parts) <= first:
        raise refusals.no_such_path(scope["path"])
    return parts[0] if first else "", parts[first], parts[first + 1 :]


async def read_body(request: Request) -> bytes:
    """The whole body. Raises `ApiError` (413)."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise refusals.too_large(BODY_LIMIT)
    return bytes(body)
