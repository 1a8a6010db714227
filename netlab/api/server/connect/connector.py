"""Answers the requests that are passed on."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import Receive, Scope, Send

from netlab.api.resources import NODES, PODS, Resource
from netlab.api.server.connect import forwarding, locations
from netlab.api.server.connect.links import Links
from netlab.api.server.connect.reaching import Reach
from netlab.api.server.rest.requests import Target
from netlab.net.addresses import host_port

CONNECTED = frozenset(("log", "exec", "attach", "portforward", "proxy"))
"""The subresources whose requests are passed on."""

_PODS: Resource[Any] = PODS


class Connector:
    """Finds out where a request goes, and passes it on."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def answer(self, scope: Scope, receive: Receive, send: Send, target: Target, params: QueryParams) -> None:
        """Answer a request. Raises `ApiError` as long as nothing has been sent."""
        if target.subresource == "proxy":
            await self._proxy(scope, receive, send, target)
            return
        pod = self._reach.get(_PODS, target.namespace, target.name)
        if target.subresource == "log":
            path = locations.of_log(pod, params)
            if path is None:
                await PlainTextResponse("")(scope, receive, send)
                return
        elif target.subresource == "portforward":
            path = locations.of_ports(pod, params)
        else:
            path = locations.of_command(target.subresource, pod, params)
        await self._to_kubelet(scope, receive, send, pod.spec.nodeName, path, worded=target.subresource == "log")

    async def _proxy(self, scope: Scope, receive: Receive, send: Send, target: Target) -> None:
        query = scope["query_string"].decode("latin-1")
        if not target.path:
            # A page's relative links would lead elsewhere.
            address = scope["path"] + "/" + (f"?{query}" if query else "")
            if scope["method"] in ("GET", "HEAD"):
                await RedirectResponse(address, 301)(scope, receive, send)
                return
        path = target.path or "/"
        name = locations.name_in(target.name)
        if target.resource is NODES:
            await self._to_kubelet(scope, receive, send, name, path + (f"?{query}" if query else ""))
            return
        if target.resource is PODS:
            location = locations.of_pod(self._reach.get(_PODS, target.namespace, name), target.name, path, query)
        else:
            location = self._reach.of_service(target.namespace, target.name, path, query)
        server = await self._reach.connect(location)
        target_of = location.path + (f"?{location.query}" if location.query else "")
        host = host_port(location.host, location.port)
        changed = Links.of(scope["raw_path"].decode("latin-1"), target.path, host, Headers(scope=scope).get("host", ""))
        await forwarding.forward(scope, receive, send, server, host, target_of, changed=changed)

    async def _to_kubelet(
        self, scope: Scope, receive: Receive, send: Send, node: str, path: str, *, worded: bool = False
    ) -> None:
        server, host = await self._reach.kubelet(node)
        await forwarding.forward(scope, receive, send, server, host, path, worded=worded)
