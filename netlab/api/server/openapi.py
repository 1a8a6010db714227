"""/openapi/v2 and /openapi/v3: what the server has, described for clients that check, merge and explain by it.

The documents are made when they are first asked for, from the discovery documents, and stay the same while the server
runs.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
from email.utils import formatdate
from time import time
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from netlab.api.kinds import openapi, openapi_wire
from netlab.api.media_types import JSON
from netlab.api.resources import SERVED
from netlab.api.server import discovery, refusals
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


def routes() -> list[Route]:
    """The paths of the documents."""
    return [
        Route("/openapi/v2", _version_2),
        Route("/openapi/v3", _index),
        Route("/openapi/v3/{path:path}", _version_3),
    ]


async def _version_2(request: Request) -> Response:
    offered = {JSON: JSON, PROTOBUF: PROTOBUF, _OLDER_PROTOBUF: PROTOBUF}
    wanted = _wanted(request, offered)
    if wanted is None:
        return _not_acceptable(offered)
    return _answer(request, _as_protobuf() if wanted == PROTOBUF else _as_json())


async def _index(request: Request) -> Response:
    return _answer(request, _index_of_versions())


async def _version_3(request: Request) -> Response:
    path = request.path_params["path"]
    if path not in _versions():
        return responses.refusal(refusals.no_such_path(request.url.path))
    if _wanted(request, {JSON: JSON}) is None:
        return _not_acceptable({JSON: JSON})
    content = _of_version(path)
    asked = request.query_params.get("hash")
    if asked and asked != content.digest:
        return RedirectResponse(_address(path, content), 301)
    response = _answer(request, content)
    if asked:
        response.headers["Cache-Control"] = "public, immutable"
        response.headers["Expires"] = formatdate(time() + _YEAR, usegmt=True)
    return response


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


@functools.cache
def _versions() -> dict[str, openapi.Document]:
    """The discovery documents, by the path of their group and version."""
    served = dict.fromkeys((resource.group, resource.version) for resource in SERVED)
    return {
        f"apis/{group}/{version}" if group else f"api/{version}": discovery.resources(group, version)
        for group, version in served
    }


def _content(body: bytes, media_type: str) -> Content:
    digest = hashlib.sha512(body).hexdigest().upper()
    return Content(body, media_type, gzip.compress(body, 5, mtime=0), digest)


def _describe_all() -> openapi.Document:
    return openapi.version_2(list(_versions().values()), discovery.version()["gitVersion"])


@functools.cache
def _as_json() -> Content:
    return _content(msgspec.json.encode(_describe_all()), JSON)


@functools.cache
def _as_protobuf() -> Content:
    return _content(openapi_wire.encode(_describe_all()), PROTOBUF)


@functools.cache
def _of_version(path: str) -> Content:
    document = openapi.version_3(_versions()[path], discovery.version()["gitVersion"])
    return _content(msgspec.json.encode(document), JSON)


@functools.cache
def _index_of_versions() -> Content:
    paths = {path: {"serverRelativeURL": _address(path, _of_version(path))} for path in _versions()}
    return _content(msgspec.json.encode({"paths": paths}), JSON)


def _address(path: str, content: Content) -> str:
    return f"/openapi/v3/{quote(path)}?hash={content.digest}"
