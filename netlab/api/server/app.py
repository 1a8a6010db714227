"""Kubernetes' REST form over the registry: paths, verbs, media types, watches, and Status for every refusal.

The resource paths are two parametrised routes, taken apart here: with a route for each resource and verb, matching
would cost more than the request.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from netlab.api import selectors
from netlab.api.errors import ApiError
from netlab.api.kinds import table
from netlab.api.media_types import JSON, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from netlab.api.meta_types import Object, Status, StatusDetails
from netlab.api.resources import ALL, NAMESPACES, PODS, PROGRESS, SNAPSHOT, Resource
from netlab.api.server import bodies, discovery, field_selectors, patch, refusals, schema, snapshots
from netlab.api.server.registry import FINALIZE, STATUS, DeleteOptions, Draft, Outcome, Registry, patched_object
from netlab.api.server.watch import Selection, Stored, Watch, encode_line
from netlab.errors import UsageError

BODY_LIMIT = 3 * 1024 * 1024
"""Bytes: apiserver's own limit for a request's body (server.Config.MaxRequestBodyBytes)."""

AT_ONCE = 64 * 1024
"""Bytes, of a request's body and the object that it is about, of a write that is done between two other requests. A
larger one is prepared in a thread."""

ATTEMPTS = 5
"""How often a write is prepared anew because its object changed meanwhile, as upstream's patches."""

BOOKMARK_INTERVAL = 60.0
"""Seconds between the bookmarks of a watch that asks for them, as upstream."""

log = logging.getLogger(__name__)

_RESOURCES = {(resource.group, resource.version, resource.plural): resource for resource in ALL}


@dataclasses.dataclass(frozen=True)
class Target:
    """What a path names: a collection, an object, or a part of one."""

    resource: Resource[Object]
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def create_app(registry: Registry) -> ASGIApp:
    """The whole server as an ASGI application."""

    # Coroutines throughout: Starlette gives plain functions to a thread.
    def document(content: Callable[[], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(_: Request) -> Response:
            return _json(msgspec.json.encode(content()))

        return answer

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def group(request: Request) -> Response:
        name = request.path_params["group"]
        if not any(resource.group == name for resource in ALL):
            return _refuse(refusals.no_such_path(request.url.path))
        return _json(msgspec.json.encode(discovery.group(name)))

    async def progress(_: Request) -> Response:
        return _json(msgspec.json.encode({"resourceVersion": str(registry.store.hub.progress())}))

    async def snapshot(_: Request) -> Response:
        content = snapshots.lines(registry.store.revision, registry.store.contents())
        return Response(b"".join(content), media_type="application/json-seq")

    api = _ResourceEndpoint(registry)
    return Router(
        [
            Route("/api/{version}/{path:path}", api),
            Route("/apis/{group}/{version}/{path:path}", api),
            Route("/api/{version}", api),
            Route("/apis/{group}/{version}", api),
            Route("/api", document(discovery.core_versions)),
            Route("/apis", document(discovery.groups)),
            Route("/apis/{group}", group),
            Route("/version", document(discovery.version)),
            Route(SNAPSHOT, snapshot),
            Route(PROGRESS, progress, methods=["POST"]),
            *(Route(path, healthy) for path in ("/healthz", "/livez", "/readyz")),
        ],
        default=_no_such_path,
        redirect_slashes=False,
    )


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    await _refuse(refusals.no_such_path(scope["path"]))(scope, receive, send)


class _ResourceEndpoint:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            target = _parse(scope)
            if target is None:
                response = _resource_list(request)
            elif _is_watch(request, target):
                bookmark = functools.partial(_bookmark, target.resource) if _wants_bookmarks(request) else None
                watch, seconds = self._open_watch(target, request.query_params, bookmark)
                await self._serve_watch(target, watch, bookmark, seconds, receive, send)
                return
            else:
                body = await _read_body(request) if request.method != "GET" else b""
                response = await self._answer(request, target, body)
        except ClientDisconnect:
            return  # In the middle of its request: nothing was done, and there is no one to answer.
        except ApiError as error:
            response = _refuse(error)
        except UsageError as error:
            # A selector or a parameter that cannot be read.
            response = _refuse(refusals.bad_request(str(error)))
        except Exception as error:
            log.exception("%s %s", request.method, request.url.path)
            response = _refuse(refusals.internal(error))
        await response(scope, receive, send)

    async def _answer(self, request: Request, target: Target, body: bytes) -> Response:
        verbs: dict[str, Callable[[Request, Target, bytes], Response | Awaitable[Response]]]
        if not target.name:
            verbs = {"GET": self._list, "POST": self._create, "DELETE": self._delete_collection}
        elif not target.subresource:
            verbs = {"GET": self._get, "PUT": self._update, "PATCH": self._patch, "DELETE": self._delete}
        elif target.subresource == STATUS and target.resource.has_status:
            verbs = {"GET": self._get, "PUT": self._update, "PATCH": self._patch}
        elif target.subresource == "binding" and target.resource is PODS:
            verbs = {"POST": self._bind}
        elif target.subresource == FINALIZE and target.resource is NAMESPACES:
            verbs = {"PUT": self._update}
        else:
            raise refusals.no_such_path(request.url.path)
        if request.method not in verbs:
            raise refusals.method_not_allowed(request.method)
        response = verbs[request.method](request, target, body)
        return response if isinstance(response, Response) else await response

    # --- the verbs -------------------------------------------------------------------------------------------------

    def _get(self, request: Request, target: Target, body: bytes) -> Response:
        return _json(self._registry.get(target.resource, target.namespace, target.name).raw)

    def _list(self, request: Request, target: Target, body: bytes) -> Response:
        found = self._registry.list(target.resource, _selection(target, request.query_params))
        return self._json_list(target.resource, [stored.raw for stored in found])

    async def _create(self, request: Request, target: Target, body: bytes) -> Response:
        if target.resource.namespaced and not target.namespace:
            raise refusals.method_not_allowed("POST")

        def draft() -> Draft:
            return self._registry.draft_of_new(target.resource, target.namespace, _decode(request, body))

        return _answer_with(await self._write(request, target, draft, aside=len(body) > AT_ONCE), 201)

    async def _update(self, request: Request, target: Target, body: bytes) -> Response:
        return await self._change(request, target, body, lambda present: _decode(request, body))

    async def _patch(self, request: Request, target: Target, body: bytes) -> Response:
        message = table.message_of(target.resource.api_version, target.resource.kind)
        assert message is not None
        ways: dict[str, Callable[[schema.JSONObject, Any], Any]] = {
            MERGE_PATCH: patch.json_merge,
            JSON_PATCH: patch.json_patch,
            STRATEGIC_MERGE_PATCH: lambda present, change: patch.strategic_merge(present, change, message),
        }
        kind = _media_type(request)
        if kind not in ways:
            raise refusals.unsupported_media_type(kind, tuple(ways))

        def patched(present: Stored) -> schema.JSONObject:
            change = bodies.decode(body)
            return patched_object(target.resource, present, lambda obj: ways[kind](obj, change))

        # How long a JSON patch takes is not to be seen from its length.
        return await self._change(request, target, body, patched, aside=kind == JSON_PATCH)

    async def _change(
        self,
        request: Request,
        target: Target,
        body: bytes,
        make: Callable[[Stored], schema.JSONObject],
        *,
        aside: bool = False,
    ) -> Response:
        """Update an object with what is made of the present one."""
        place = (target.resource, target.namespace, target.name)

        def draft() -> Draft:
            present = self._registry.get(*place)
            return self._registry.draft_of_changed(target.resource, present, make(present), target.subresource)

        aside = aside or len(body) + len(self._registry.get(*place).raw) > AT_ONCE
        return _answer_with(await self._write(request, target, draft, aside=aside))

    async def _write(self, request: Request, target: Target, draft: Callable[[], Draft], *, aside: bool) -> Outcome:
        """Commit what `draft` prepares; `aside` from the event loop, so that others are served meanwhile."""
        dry_run = _dry_run(request)
        if not aside:
            return self._registry.commit(draft(), dry_run=dry_run)
        for _ in range(ATTEMPTS):
            made = await asyncio.to_thread(draft)
            if self._registry.is_current(made):
                return self._registry.commit(made, dry_run=dry_run)
        raise refusals.modified(target.resource, target.name)

    def _delete(self, request: Request, target: Target, body: bytes) -> Response:
        options = _delete_options(request, body)
        outcome, gone = self._registry.delete(target.resource, target.namespace, target.name, options)
        if not gone or target.resource is PODS:
            return _json(outcome.raw)
        uid = msgspec.json.decode(outcome.raw)["metadata"]["uid"]
        resource = target.resource
        details = StatusDetails(name=target.name, group=resource.group, kind=resource.plural, uid=uid)
        return _status(Status(status="Success", details=details, code=200))

    def _delete_collection(self, request: Request, target: Target, body: bytes) -> Response:
        if target.resource.namespaced and not target.namespace:
            raise refusals.method_not_allowed("DELETE")
        options = _delete_options(request, body)
        found = self._registry.list(target.resource, _selection(target, request.query_params))
        deleted = [self._registry.delete(target.resource, item.namespace, item.name, options)[0] for item in found]
        return self._json_list(target.resource, [outcome.raw for outcome in deleted])

    def _bind(self, request: Request, target: Target, body: bytes) -> Response:
        node = _decode(request, body).get("target")
        name = node.get("name") if isinstance(node, dict) else None
        if not isinstance(name, str) or not name:
            raise refusals.bad_request("a Binding needs the name of a Node as its target.name")
        self._registry.bind(target.namespace, target.name, name)
        return _status(Status(status="Success", code=201))

    def _json_list(self, resource: Resource[Object], items: list[bytes]) -> Response:
        head = b'{"kind":"%bList","apiVersion":"%b","metadata":{"resourceVersion":"%d"},"items":[' % (
            resource.kind.encode(),
            resource.api_version.encode(),
            self._registry.store.revision,
        )
        return _json(b"%b%b]}\n" % (head, b",".join(items)))

    # --- watches ---------------------------------------------------------------------------------------------------

    def _open_watch(
        self, target: Target, params: Mapping[str, str], bookmark: Callable[[int], bytes] | None
    ) -> tuple[Watch, float | None]:
        selection = _selection(target, params)
        since = _number(params, "resourceVersion")
        seconds = _number(params, "timeoutSeconds")
        hub = self._registry.store.hub
        if since:
            watch = hub.watch(target.resource.plural, selection, since, bookmark)
        else:
            present = self._registry.list(target.resource, selection)
            watch = hub.watch_from_now(target.resource.plural, selection, present, bookmark)
        return watch, seconds or None

    async def _serve_watch(
        self,
        target: Target,
        watch: Watch,
        bookmark: Callable[[int], bytes] | None,
        seconds: float | None,
        receive: Receive,
        send: Send,
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds if seconds else None

        async def until_disconnected() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            watch.close()

        reader = asyncio.create_task(until_disconnected())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", JSON.encode())]})
            await send(_chunk(b""))  # The client goes on when it has the headers.
            while not watch.closed and (end is None or loop.time() < end):
                pause = BOOKMARK_INTERVAL if end is None else min(BOOKMARK_INTERVAL, end - loop.time())
                try:
                    async with asyncio.timeout(pause):
                        lines = await watch.take()
                except TimeoutError:
                    lines = b""
                await send(_chunk(lines or (bookmark(self._registry.store.revision) if bookmark else b"")))
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            pass  # The client is gone.
        finally:
            reader.cancel()
            self._registry.store.hub.forget(target.resource.plural, watch)


def _bookmark(resource: Resource[Object], revision: int) -> bytes:
    obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {"resourceVersion": str(revision)}}
    return encode_line(b"BOOKMARK", msgspec.json.encode(obj))


def _chunk(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


# --- requests ------------------------------------------------------------------------------------------------------


def _parse(scope: Scope) -> Target | None:
    """What the path of a resource names; None for a whole group and version.

    Taken apart before it is decoded, so that no name can hold a slash; and nothing is passed over: a request about an
    object without a name must not become one about the whole collection.
    """
    group, version, parts = _parts(scope)
    if parts and not parts[-1] and scope["method"] == "GET":
        parts.pop()  # with a slash at its end
    if not parts:
        return None
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and (len(parts) > 3 or parts[2] not in (STATUS, FINALIZE)):
        namespace, parts = parts[1], parts[2:]
        if not namespace:
            raise refusals.no_such_path(scope["path"])
    resource = _RESOURCES.get((group, version, parts[0]))
    well_formed = len(parts) <= 3 and all(parts)
    if resource is None or not well_formed or (namespace and not resource.namespaced):
        raise refusals.no_such_path(scope["path"])
    if resource.namespaced and len(parts) > 1 and not namespace:
        raise refusals.no_such_path(scope["path"])
    return Target(resource, namespace, *parts[1:])


def _parts(scope: Scope) -> tuple[str, str, list[str]]:
    """The group, the version and the rest of a path."""
    _, root, *parts = scope["raw_path"].decode("ascii", errors="replace").split("/")
    try:
        parts = [unquote(part, errors="strict") for part in parts]
    except UnicodeDecodeError:
        raise refusals.bad_request("the path of the request is not UTF-8") from None
    first = {"api": 0, "apis": 1}.get(root)
    if first is None or len(parts) <= first:
        raise refusals.no_such_path(scope["path"])
    return parts[0] if first else "", parts[first], parts[first + 1 :]


def _resource_list(request: Request) -> Response:
    group, version, _ = _parts(request.scope)
    if not any((resource.group, resource.version) == (group, version) for resource in ALL):
        raise refusals.no_such_path(request.url.path)
    return _json(msgspec.json.encode(discovery.resources(group, version)))


def _is_true(value: str | None) -> bool:
    return value in ("1", "true", "True", "")


def _is_watch(request: Request, target: Target) -> bool:
    return request.method == "GET" and not target.name and _is_true(request.query_params.get("watch"))


def _wants_bookmarks(request: Request) -> bool:
    return _is_true(request.query_params.get("allowWatchBookmarks"))


_MOST_DIGITS = 19
"""Of a number of 63 bits."""


def _number(params: Mapping[str, str], name: str) -> int:
    text = params.get(name, "") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS):
        raise refusals.bad_request(f'{name}: Invalid value: "{text}": must be a whole number')
    return int(text)


def _selection(target: Target, params: Mapping[str, str]) -> Selection:
    labels = selectors.parse(params.get("labelSelector", ""))
    fields = field_selectors.parse(params.get("fieldSelector", ""), target.resource.plural)
    return Selection(target.namespace, labels, fields)


def _dry_run(request: Request) -> bool:
    asked = request.query_params.getlist("dryRun")
    if any(value not in ("All", "") for value in asked):
        raise refusals.bad_request(f'dryRun: Unsupported value: "{asked[0]}": supported values: "All"')
    return "All" in asked


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower()


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise refusals.too_large(BODY_LIMIT)
    return bytes(body)


def _decode(request: Request, body: bytes) -> schema.JSONObject:
    if (kind := _media_type(request)) != JSON:
        raise refusals.unsupported_media_type(kind, (JSON,))
    sent = bodies.decode(body)
    if not isinstance(sent, dict):
        raise refusals.bad_request("the body of the request is not a JSON object")
    return sent


def _delete_options(request: Request, body: bytes) -> DeleteOptions:
    try:
        options = msgspec.convert(bodies.decode(body) if body else {}, DeleteOptions)
    except msgspec.ValidationError as error:
        raise refusals.bad_request(f"DeleteOptions: {error}") from None
    if "gracePeriodSeconds" in request.query_params:
        options.gracePeriodSeconds = _number(request.query_params, "gracePeriodSeconds")
    if policy := request.query_params.get("propagationPolicy"):
        options.propagationPolicy = policy
    if orphan := request.query_params.get("orphanDependents"):
        options.orphanDependents = _is_true(orphan)
    if _dry_run(request):
        options.dryRun = ["All"]
    return options


# --- responses -----------------------------------------------------------------------------------------------------


def _json(body: bytes, code: int = 200, warnings: tuple[str, ...] = ()) -> Response:
    response = Response(body, code, media_type=JSON)
    for warning in warnings:
        # RFC 7234 5.5: code 299, an agent (none), a quoted text.
        text = warning.encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
        response.headers.append("Warning", f'299 - "{text}"')
    return response


def _answer_with(outcome: Outcome, code: int = 200) -> Response:
    return _json(outcome.raw, code, outcome.warnings)


def _status(status: Status) -> Response:
    return _json(refusals.encoded(status), status.code)


def _refuse(error: ApiError) -> Response:
    return _status(error.status)
