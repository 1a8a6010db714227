"""/openapi/v2 and /openapi/v3: what the server has, described for clients that check, merge and explain by it."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import hashlib
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from time import time
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from netlab.api.kinds import openapi, openapi_wire
from netlab.api.kinds.custom import CustomKind
from netlab.api.media_types import JSON
from netlab.api.resources import Resource
from netlab.api.server import discovery, refusals
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.registry.catalog import Catalog
from netlab.api.server.rest import responses

PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_OLDER_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What clients ask for; it is no media type by RFC 6838, and so the other one is answered."""

_YEAR = 365 * 24 * 3600


@dataclasses.dataclass(frozen=True)
class Content:
    """A document as it is sent."""

    body: bytes
    media_type: str
    compressed: bytes
    digest: str


_Resources = tuple[Resource[Any], ...]


class Documents:
    """The documents of what a catalog has. They are made when they are asked for, and again when it has changed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._of_versions: dict[str, tuple[_Resources, Content]] = {}
        self._whole: dict[str, tuple[int, Content]] = {}

    def routes(self) -> list[Route]:
        """The paths of the documents."""
        return [
            Route("/openapi/v2", self._answer_2),
            Route("/openapi/v3", self._answer_index),
            Route("/openapi/v3/{path:path}", self._answer_3),
        ]

    async def _answer_2(self, request: Request) -> Response:
        offered = {JSON: JSON, PROTOBUF: PROTOBUF, _OLDER_PROTOBUF: PROTOBUF}
        wanted = _wanted(request, offered)
        if wanted is None:
            return _not_acceptable(offered)
        changes, content = self._whole.get(wanted, (-1, None))
        if content is None or changes != self._catalog.changes:
            changes, versions = self._catalog.changes, self._versions()
            delegated = [each.swagger for each in self._catalog.delegated.values() if each.swagger is not None]
            content = await asyncio.to_thread(_version_2, versions, wanted, delegated)
            self._whole[wanted] = changes, content
        return _answer(request, content)

    async def _answer_index(self, request: Request) -> Response:
        paths = {}
        for path, resources in self._versions().items():
            paths[path] = {"serverRelativeURL": _address(path, (await self._version_3(path, resources)).digest)}
        for (group, version), other in self._catalog.delegated.items():
            path = f"apis/{group}/{version}"
            paths.pop(path, None)
            if other.document:
                paths[path] = {"serverRelativeURL": _address(path, other.document)}
        return _answer(request, _content(msgspec.json.encode({"paths": paths}), JSON))

    async def _answer_3(self, request: Request) -> Response:
        path = request.path_params["path"]
        resources = self._versions().get(path)
        if resources is None:
            return responses.refusal(refusals.no_such_path(request.url.path))
        if _wanted(request, {JSON: JSON}) is None:
            return _not_acceptable({JSON: JSON})
        content = await self._version_3(path, resources)
        asked = request.query_params.get("hash")
        if asked and asked != content.digest:
            return RedirectResponse(_address(path, content.digest), 301)
        response = _answer(request, content)
        if asked:
            response.headers["Cache-Control"] = "public, immutable"
            response.headers["Expires"] = formatdate(time() + _YEAR, usegmt=True)
        return response

    async def _version_3(self, path: str, resources: _Resources) -> Content:
        made_of, content = self._of_versions.get(path, ((), None))
        if content is None or made_of != resources:
            content = await asyncio.to_thread(_version_3, resources)
            self._of_versions[path] = resources, content
        return content

    def _versions(self) -> dict[str, _Resources]:
        """What there is, by the path of its group and version."""
        found: dict[str, list[Resource[Any]]] = {}
        for each in self._catalog.all():
            path = f"apis/{each.group}/{each.version}" if each.group else f"api/{each.version}"
            found.setdefault(path, []).append(each)
        for path in self._of_versions.keys() - found.keys():
            del self._of_versions[path]
        return {path: tuple(resources) for path, resources in found.items()}


# --- negotiation ---------------------------------------------------------------------------------------------------


def _wanted(request: Request, offered: dict[str, str]) -> str | None:
    """The first media type of the Accept header that is offered; None if none is."""
    for clause in request.headers.get("accept", "*/*").split(","):
        wanted = clause.partition(";")[0].strip().lower()
        for name, given in offered.items():
            if wanted in ("*/*", "application/*", name):
                return given
    return None


def _not_acceptable(offered: dict[str, str]) -> Response:
    return responses.refusal(refusals.not_acceptable(tuple(offered)))


def _answer(request: Request, content: Content) -> Response:
    tag = f'"{content.digest}"'
    headers = {"ETag": tag, "Vary": "Accept, Accept-Encoding", "Cache-Control": "no-cache, private"}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in known.split(",")):
        return Response(b"", 304, headers=headers)
    body = content.body
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        body, headers["Content-Encoding"] = content.compressed, "gzip"
    return Response(body, media_type=content.media_type, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    for clause in accepted.split(","):
        name, _, quality = clause.replace(" ", "").partition(";q=")
        if name in ("gzip", "*"):
            return quality not in ("0", "0.0", "0.00", "0.000")
    return False


# --- documents -----------------------------------------------------------------------------------------------------


def _version_2(versions: dict[str, _Resources], media_type: str, delegated: Sequence[JSONObject]) -> Content:
    lists = [discovery.listed(resources) for resources in versions.values()]
    custom = _custom(each for resources in versions.values() for each in resources)
    document = openapi.version_2(lists, discovery.version()["gitVersion"], custom)
    for other in delegated:
        document["paths"] |= other["paths"]
        document["definitions"] = other["definitions"] | document["definitions"]
    encode = openapi_wire.encode if media_type == PROTOBUF else msgspec.json.encode
    return _content(encode(document), media_type)


def _version_3(resources: _Resources) -> Content:
    document = openapi.version_3(discovery.listed(resources), discovery.version()["gitVersion"], _custom(resources))
    return _content(msgspec.json.encode(document), JSON)


def _custom(resources: Iterable[Resource[Any]]) -> openapi.CustomKinds:
    kinds = (
        CustomKind(each.group, each.version, each.kind, each.list_kind, each.schema, each.selectable)
        for each in resources
        if isinstance(each, CustomResource)
    )
    return {each[:3]: each for each in kinds}


def _content(body: bytes, media_type: str) -> Content:
    digest = hashlib.sha512(body).hexdigest().upper()
    return Content(body, media_type, gzip.compress(body, 5, mtime=0), digest)


def _address(path: str, digest: str) -> str:
    return f"/openapi/v3/{quote(path)}?hash={quote(digest)}"
