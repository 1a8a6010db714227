"""Kubernetes' REST form over the registry: which path is answered by what, and a Status for every refusal.

What is below a group's version is taken apart in `requests` at once: matching routes would cost more than many a
request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from netlab.api.errors import ApiError
from netlab.api.resources import PROGRESS, REVIEWS, SCALE, SNAPSHOT
from netlab.api.server import discovery, health, openapi, refusals
from netlab.api.server.access import issuing
from netlab.api.server.access.authentication import Authentication, Components
from netlab.api.server.access.authority import Authority
from netlab.api.server.access.authorization import Authorization, Authorizer
from netlab.api.server.access.reviews import Reviews
from netlab.api.server.access.tokens import Tokens
from netlab.api.server.aggregation.aggregator import Aggregator
from netlab.api.server.connect.connector import CONNECTED, Connector
from netlab.api.server.connect.reaching import Reach
from netlab.api.server.metrics import CONTENT_TYPE, Metrics
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.registry.catalog import Catalog
from netlab.api.server.registry.generic import Registry
from netlab.api.server.rest import lists, requests, responses, streaming
from netlab.api.server.rest.negotiation import (
    FORMATS_OF_CUSTOM,
    FORMS,
    OF_AN_ANSWER,
    format_of_refusal,
    media_type,
    negotiate,
)
from netlab.api.server.rest.requests import Call, Target
from netlab.api.server.rest.views import view_of
from netlab.api.server.storage import snapshots
from netlab.api.server.usage.measured import Measured
from netlab.api.server.verbs import Verbs
from netlab.api.server.webhooks import connections
from netlab.api.server.webhooks.webhooks import Webhooks
from netlab.errors import UsageError

log = logging.getLogger(__name__)


class Application(NamedTuple):
    """An application of ASGI, and what is to be done beside it until it ends."""

    asgi: ASGIApp
    upkeep: tuple[Coroutine[Any, Any, None], ...] = ()


_Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    registry: Registry,
    authority: Authority | None = None,
    components: Components | None = None,
    address: str = "kubernetes.default.svc",
) -> Application:
    """The whole server; with an `authority`, it knows its callers by their credentials.

    The cluster's own components have tokens that are good as long as the server knows them. `address` is where the
    cluster's clients reach the server over TLS.
    """

    # Coroutines throughout: Starlette gives plain functions to a thread.
    def document(content: Callable[[], dict[str, Any]]) -> _Endpoint:
        async def answer(_: Request) -> Response:
            return responses.document(msgspec.json.encode(content()))

        return answer

    checks: dict[str, health.Check] = {"ping": lambda: None, "database": registry.store.check}

    def healthy(endpoint: str) -> _Endpoint:
        async def answer(request: Request) -> Response:
            name = request.path_params.get("check", "")
            if not name:
                return health.answer(endpoint, checks, request.query_params)
            if name not in checks:
                return responses.refusal(refusals.no_such_path(request.url.path))
            return health.answer_for(name, checks[name])

        return answer

    async def measured(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def group(request: Request) -> Response:
        name = request.path_params["group"]
        if name not in catalog.groups():
            return responses.refusal(refusals.no_such_path(request.url.path))
        return responses.document(msgspec.json.encode(discovery.group(catalog, name)))

    async def progress(_: Request) -> Response:
        return responses.document(msgspec.json.encode({"resourceVersion": str(registry.store.hub.progress())}))

    async def snapshot(_: Request) -> Response:
        content = snapshots.lines(registry.store.revision, registry.store.contents())
        return Response(b"".join(content), media_type="application/json-seq")

    catalog = registry.catalog
    tokens = Tokens(authority, registry.store) if authority is not None else None
    authorizer = Authorizer(registry)
    metrics = Metrics(catalog, registry.store.count, registry.store.hub.open_watches)
    reach = Reach(registry, authority)
    reviews, connector = Reviews(registry, tokens, authorizer), Connector(reach)
    webhooks = Webhooks(registry, reach)
    api = _ResourceEndpoint(registry, metrics, reviews, webhooks, connector, Measured(registry, reach.ask_kubelet))
    router = Router(
        [
            Route("/api/{version}", api),
            Route("/apis/{group}/{version}", api),
            *_with_slash("/api", _groups(catalog, core=True)),
            *_with_slash("/apis", _groups(catalog, core=False)),
            *_with_slash("/apis/{group}", group),
            *_with_slash("/version", document(discovery.version)),
            *openapi.Documents(catalog).routes(),
            *(issuing.routes(authority, address) if authority is not None else ()),
            Route(SNAPSHOT, snapshot),
            Route(PROGRESS, progress, methods=["POST"]),
            Route("/metrics", measured),
            *(route for each in health.ENDPOINTS for route in _with_slash(f"/{each}", healthy(each))),
            *(Route(f"/{each}/{{check}}", healthy(each)) for each in health.ENDPOINTS),
        ],
        default=_no_such_path,
        redirect_slashes=False,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (api if _is_about_resources(scope["path"]) else router)(scope, receive, send)

    if tokens is None or authority is None:
        return Application(app)
    aggregator = Aggregator(registry, reach, authority)

    async def aggregated(scope: Scope, receive: Receive, send: Send) -> None:
        other = aggregator.find(scope["path"])
        if other is None:
            await app(scope, receive, send)
            return
        try:
            await aggregator.answer(scope, receive, send, other)
        except ApiError as error:
            await responses.refusal(error)(scope, receive, send)

    verifiers = [tokens.user] if components is None else [components.user, tokens.user]
    return Application(Authentication(Authorization(aggregated, authorizer), verifiers), (aggregator.keep(),))


def _is_about_resources(path: str) -> bool:
    # The least that there is in such a path: the version, and behind it a slash.
    return path.startswith(("/api/", "/apis/")) and path.count("/") > (3 if path.startswith("/apis/") else 2)


def _groups(catalog: Catalog, *, core: bool) -> _Endpoint:
    """What groups there are: their names, or with `APIGroupDiscoveryList` all that is in them."""

    async def answer(request: Request) -> Response:
        try:
            wanted = negotiate(request.headers.get("accept", ""), discovery.AGGREGATED)
        except ApiError as error:
            return responses.refusal(error)
        if wanted.form is None:
            names = discovery.core_versions() if core else discovery.groups(catalog)
            response = responses.document(msgspec.json.encode(names), format=wanted.format)
        else:
            found = discovery.aggregated(catalog, wanted, core=core)
            is_known = found.tag in request.headers.get("if-none-match", "")
            response = Response(b"" if is_known else found.raw, 304 if is_known else 200, media_type=found.media_type)
            response.headers["ETag"] = found.tag
        response.headers["Vary"] = "Accept"
        return response

    return answer


def _with_slash(path: str, endpoint: _Endpoint) -> tuple[Route, Route]:
    return Route(path, endpoint), Route(f"{path}/", endpoint)


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    await responses.refusal(refusals.no_such_path(scope["path"]))(scope, receive, send)


class _ResourceEndpoint:
    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        reviews: Reviews,
        webhooks: Webhooks,
        connector: Connector,
        measured: Measured,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._connector = connector
        self._reviews = reviews
        self._webhooks = webhooks
        self._verbs = Verbs(registry, reviews, webhooks, measured)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request = Request(scope, receive)
        known: tuple[str, Target] | None = None
        try:
            target = requests.parse(scope, self._registry.catalog)
            if isinstance(target, Target):
                params = requests.params_of(scope)
                verb = requests.verb_of(request, target, params)
                known = verb, target
                if target.subresource in CONNECTED:
                    await self._webhooks.admit(connections.attributes(target, params, self._reviews.caller_of(scope)))
                    self._metrics.answered("connect", target, 200, 0.0)
                    await self._connector.answer(scope, receive, send, target, params)
                    return
                call = await self._read(request, target, verb, params)
                if verb == "watch":
                    options = lists.read_options(target.resource, target.namespace, params, watch=True)
                    self._metrics.answered(verb, target, 200, 0.0)
                    await streaming.serve(self._registry, call, options, receive, send)
                    return
                response = await self._verbs.answer(call)
                if isinstance(target.resource, CustomResource) and target.resource.deprecation:
                    responses.warn(response, [target.resource.deprecation])
            else:
                response = self._resource_list(request, *target)
        except ClientDisconnect:
            return  # In the middle of its request: nothing was done, and there is no one to answer.
        except ApiError as error:
            response = _refuse(request, error)
        except UsageError as error:
            # A selector or a parameter that cannot be read.
            response = _refuse(request, refusals.bad_request(str(error)))
        except Exception as error:
            log.exception("%s %s", request.method, request.url.path)
            response = _refuse(request, refusals.internal(error))
        await response(scope, receive, send)
        if known is not None:
            # Of what nobody offers nothing is counted: the names in it would be anyone's.
            self._metrics.answered(*known, response.status_code, time.perf_counter() - began)

    async def _read(self, request: Request, target: Target, verb: str, params: QueryParams) -> Call:
        accept = request.headers.get("accept", "")
        if isinstance(target.resource, CustomResource) and target.subresource != SCALE:
            answer = negotiate(accept, plain=FORMATS_OF_CUSTOM)
        else:
            answer = negotiate(accept, OF_AN_ANSWER if target.resource in REVIEWS else FORMS)
        of_list = verb in ("list", "deletecollection")
        view = view_of(answer, target.resource, params, of_list=of_list, subresource=target.subresource)
        if request.method == "GET":
            return Call(request, target, verb, params, answer, view)
        body = await requests.read_body(request)
        return Call(
            request, target, verb, params, answer, view, body, media_type(request.headers.get("content-type", ""))
        )

    def _resource_list(self, request: Request, group: str, version: str) -> Response:
        if request.method != "GET":
            raise refusals.no_such_path(request.url.path)
        return responses.document(
            msgspec.json.encode(discovery.listed(self._registry.catalog.resources(group, version)))
        )


def _refuse(request: Request, error: ApiError) -> Response:
    return responses.refusal(error, format_of_refusal(request.headers.get("accept", "")))
