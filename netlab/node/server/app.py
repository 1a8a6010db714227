"""What a kubelet answers (pkg/kubelet/server of upstream): paths, who may ask for them, and pods as they are here."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from netlab.api.core_types import Pod
from netlab.api.server.access.authentication import set_caller
from netlab.api.serving import upgrading
from netlab.api.serving.kubelets import is_true
from netlab.errors import NetlabError, NotFoundError, UsageError
from netlab.node import logs
from netlab.node.podstate import PodState
from netlab.node.podstatus import container_id
from netlab.node.runtime.service import RuntimeService, network_namespace
from netlab.node.server import commands, containerlogs, portforward, relaying, sessions, websocket
from netlab.node.server.authentication import Authenticator
from netlab.node.server.authorization import Authorizer
from netlab.node.server.statistics import Statistics

_LOG_PROTOCOLS = ("binary.k8s.io", "base64.binary.k8s.io")

Endpoint = Callable[[Request], Awaitable[Response | None]]
"""Answers a request; None if it has taken over the connection."""


class Pods(Protocol):
    """The pods of a node."""

    def all(self) -> list[tuple[Pod, PodState]]:
        """Those that are bound to it, each with what the kubelet knows about it."""

    def find(self, namespace: str, name: str) -> tuple[Pod, PodState] | None:
        """One of them, and what the kubelet knows about it."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A container of a pod of this node."""

    pod: Pod
    state: PodState
    container: str

    @property
    def running(self) -> str:
        """The runtime's name for its current run. Raises `UsageError` when it does not run."""
        run = self.state.run(self.container)
        if not run.running:
            raise UsageError(f"container {self.container} of pod {self.pod.metadata.name} is not running")
        return container_id(self.pod.metadata.uid, self.container, run.attempt)


def create_app(
    pods: Pods,
    runtime: RuntimeService,
    log_dir: Path,
    authenticator: Authenticator,
    authorizer: Authorizer,
    statistics: Statistics,
) -> ASGIApp:
    """The kubelet's server as an ASGI application."""

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def listed(_: Request) -> Response:
        told = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod for pod, _ in pods.all()]}
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def printed(request: Request) -> Response | None:
        place, params = _place(pods, request), request.query_params
        options = containerlogs.read_options(params, datetime.datetime.now(datetime.UTC))
        run = place.state.run(place.container)
        previous = is_true(params.get("previous"))
        attempt = run.attempt - 1 if previous else run.attempt
        path = logs.log_path(log_dir, place.pod, place.container, attempt)

        def ended() -> bool:
            return previous or run.attempt != attempt or not run.running

        if not path.exists():
            what = "previous terminated container" if previous else "container"
            raise UsageError(
                f'{what} "{place.container}" in pod "{place.pod.metadata.name}" '
                + ("not found" if previous else f"is waiting to start: {_waits(place)}")
            )
        chunks = containerlogs.chunks(path, options, ended)
        if not upgrading.wants_upgrade(request.scope):
            return StreamingResponse(chunks, media_type="text/plain")
        socket = await websocket.accept(request.scope, _LOG_PROTOCOLS)
        if socket is not None:
            async for chunk in chunks:
                await socket.send(chunk)
            await socket.close()
        return None

    async def executed(request: Request) -> None:
        place, command = _place(pods, request), request.query_params.getlist("command")
        if not command:
            raise UsageError("you must specify at least 1 command for the container")
        options, container = _options(request.query_params), place.running
        client = await _session(request, options)
        if client is not None:
            await commands.run(runtime, container, command, options, client)

    async def attached(request: Request) -> None:
        place = _place(pods, request)
        spec = next(each for each in place.pod.spec.all_containers() if each.name == place.container)
        # A terminal is the container's, or nobody's.
        options = dataclasses.replace(_options(request.query_params), terminal=spec.tty)
        container = place.running
        client = await _session(request, options)
        if client is not None:
            await commands.attach(runtime, container, options, client)

    async def forwarded(request: Request) -> None:
        pod, state = _pod(pods, request)
        if state.sandbox is None:
            raise UsageError(f"pod {pod.metadata.name} has no network (yet)")
        ports = [int(each) for part in request.query_params.getlist("ports") for each in part.split(",")]
        netns = None if state.sandbox.id is None else network_namespace(state.sandbox.id)
        _needs_upgrade(request)
        await portforward.forward(request.scope, portforward.Dialer(netns, pod.metadata.name), ports)

    async def relayed(request: Request) -> None:
        _needs_upgrade(request)
        await relaying.relay(request.scope, request.path_params["host"], request.path_params["port"])

    routes = []
    for path, endpoint, methods in (
        ("/healthz", healthy, ["GET"]),
        ("/pods", listed, ["GET"]),
        ("/containerLogs/{namespace}/{pod}/{container}", printed, ["GET"]),
        ("/exec/{namespace}/{pod}/{container}", executed, ["GET", "POST"]),
        ("/exec/{namespace}/{pod}/{uid}/{container}", executed, ["GET", "POST"]),
        ("/attach/{namespace}/{pod}/{container}", attached, ["GET", "POST"]),
        ("/attach/{namespace}/{pod}/{uid}/{container}", attached, ["GET", "POST"]),
        ("/portForward/{namespace}/{pod}", forwarded, ["GET", "POST"]),
        ("/portForward/{namespace}/{pod}/{uid}", forwarded, ["GET", "POST"]),
        (relaying.PATH, relayed, ["GET"]),
        *((path, endpoint, ["GET"]) for path, endpoint in statistics.endpoints().items()),
    ):
        routes.append(Route(path, _Answering(endpoint, authenticator, authorizer), methods=methods))
    return Router(routes, redirect_slashes=False)


class _Answering:
    """An endpoint, before it the questions who asks and whether they may, and an answer for what it refuses."""

    def __init__(self, endpoint: Endpoint, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._endpoint = endpoint
        self._authenticator = authenticator
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response: Response | None
        try:
            response = await self._refused(scope) or await self._endpoint(request)
        except NotFoundError as error:
            response = PlainTextResponse(str(error), 404)
        except UsageError as error:
            response = PlainTextResponse(str(error), 400)
        except NetlabError as error:
            response = PlainTextResponse(str(error), 500)
        if response is not None:
            await response(scope, receive, send)

    async def _refused(self, scope: Scope) -> Response | None:
        user = await self._authenticator.user(scope)
        if user is None:
            return PlainTextResponse("Unauthorized", 401)
        set_caller(scope, user)
        refusal = await self._authorizer.why_not(scope)
        return PlainTextResponse(refusal, 403) if refusal else None


def _pod(pods: Pods, request: Request) -> tuple[Pod, PodState]:
    namespace, name = request.path_params["namespace"], request.path_params["pod"]
    found = pods.find(namespace, name)
    if found is None or request.path_params.get("uid", found[0].metadata.uid) != found[0].metadata.uid:
        raise NotFoundError(f'pod "{name}" not found in namespace "{namespace}" of this node')
    return found


def _place(pods: Pods, request: Request) -> Place:
    pod, state = _pod(pods, request)
    name = request.path_params["container"]
    if name not in (each.name for each in pod.spec.all_containers()):
        raise NotFoundError(f'container "{name}" not found in pod "{pod.metadata.name}"')
    return Place(pod, state, name)


def _waits(place: Place) -> str:
    run = place.state.run(place.container)
    return run.waiting[0] if run.waiting is not None else "ContainerCreating"


def _options(params: QueryParams) -> commands.Options:
    """Which streams are wanted, under the kubelet's names or the API's. Raises `UsageError` when none is."""

    def wants(*names: str) -> bool:
        return any(is_true(params.get(name)) for name in names)

    options = commands.Options(
        stdin=wants("input", "stdin"),
        stdout=wants("output", "stdout"),
        stderr=wants("error", "stderr"),
        terminal=wants("tty"),
    )
    if not (options.stdin or options.stdout or options.stderr):
        raise UsageError("you must specify at least 1 of stdin, stdout, stderr")
    return options


async def _session(request: Request, options: commands.Options) -> sessions.Session | None:
    _needs_upgrade(request)
    return await sessions.accept(request.scope, options.streams)


def _needs_upgrade(request: Request) -> None:
    if not upgrading.wants_upgrade(request.scope):
        raise UsageError("Upgrade request required")
