"""Answers the requests that are passed on."""

from __future__ import annotations

import asyncio
import random
import ssl
from functools import cached_property
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import Receive, Scope, Send

from netlab.api import selectors
from netlab.api.core_types import Node
from netlab.api.errors import ApiError
from netlab.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES, Resource
from netlab.api.server import refusals
from netlab.api.server.access.authority import Authority
from netlab.api.server.connect import forwarding, locations
from netlab.api.server.connect.locations import Location
from netlab.api.server.identity import MASTERS
from netlab.api.server.registry.generic import Registry
from netlab.api.server.rest.requests import Target
from netlab.api.serving.kubelets import RELAY, undialled
from netlab.api.serving.secure import load_identity
from netlab.api.serving.upgrading import Streams
from netlab.net.addresses import host_port

CONNECTED = frozenset(("log", "exec", "attach", "portforward", "proxy"))
"""The subresources whose requests are passed on."""

_CONNECT = 10.0
"""Seconds in which a server has to take a connection."""
_CLIENT = "kube-apiserver-kubelet-client"
"""As what the API server asks kubelets (kubeadm's name)."""

_PODS: Resource[Any] = PODS
_SERVICES: Resource[Any] = SERVICES
_NODES: Resource[Any] = NODES
_SLICES: Resource[Any] = ENDPOINTSLICES


class Connector:
    """Finds out where a request goes, and passes it on."""

    def __init__(self, registry: Registry, authority: Authority | None) -> None:
        self._registry = registry
        self._authority = authority

    async def answer(self, scope: Scope, receive: Receive, send: Send, target: Target, params: QueryParams) -> None:
        """Answer a request. Raises `ApiError` as long as nothing has been sent."""
        if target.subresource == "proxy":
            await self._proxy(scope, receive, send, target)
            return
        pod = self._get(_PODS, target.namespace, target.name)
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

    async def ask_kubelet(self, node: str, path: str) -> bytes:
        """What a node's kubelet answers at a path. Raises `ApiError` when it does not, or refuses."""
        server, host = await self._kubelet(node)
        status, body = await forwarding.fetch(server, host, path)
        if status != 200:
            raise refusals.passed_on(status, body.decode(errors="replace"))
        return body

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
            found = self._get(_PODS, target.namespace, name)
            location = locations.of_pod(found, target.name, path, query)
        else:
            service = self._get(_SERVICES, target.namespace, name)
            selector = selectors.parse(f"kubernetes.io/service-name={name}")
            slices = [
                msgspec.json.decode(stored.raw, type=ENDPOINTSLICES.type)
                for stored in self._registry.store.all(_SLICES)
                if stored.namespace == target.namespace and selector.matches(stored.labels)
            ]
            location = locations.of_service(service, slices, target.name, path, query, random.randrange)
        server = await self._reach(location)
        target_of = location.path + (f"?{location.query}" if location.query else "")
        await forwarding.forward(scope, receive, send, server, host_port(location.host, location.port), target_of)

    async def _to_kubelet(
        self, scope: Scope, receive: Receive, send: Send, node: str, path: str, *, worded: bool = False
    ) -> None:
        server, host = await self._kubelet(node)
        await forwarding.forward(scope, receive, send, server, host, path, worded=worded)

    async def _kubelet(self, name: str) -> tuple[Streams, str]:
        node: Node = self._get(_NODES, "", name)
        address, port = locations.kubelet_of(node)
        return await _dial(address, port, self._kubelet_context), host_port(address, port)

    async def _reach(self, location: Location) -> Streams:
        """A connection to an address of the pod network, by way of a node that is in it."""
        if not location.node:
            return await _dial(location.host, location.port, _unverified() if location.tls else None)
        server, host = await self._kubelet(location.node)
        path = f"{RELAY}/{quote(location.host, safe='')}/{location.port}"
        server.writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        try:
            head = await server.reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 "):
                raise refusals.service_unavailable(await _why(server, head))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            server.writer.close()
            raise refusals.service_unavailable(f"error trying to reach service: {error}") from None
        except ApiError:
            server.writer.close()
            raise
        if location.tls:
            await server.writer.start_tls(_unverified(), server_hostname=location.host)
        return server

    def _get(self, resource: Resource[Any], namespace: str, name: str) -> Any:
        return msgspec.json.decode(self._registry.get(resource, namespace, name).raw, type=resource.type)

    @cached_property
    def _kubelet_context(self) -> ssl.SSLContext:
        """TLS to kubelets. Their certificates are their own, as with kubeadm: they are not verified."""
        context = _unverified()
        if self._authority is not None:
            signed = self._authority.issue_client(_CLIENT, [MASTERS])
            load_identity(context, signed.certificate + signed.key)
        return context


async def _dial(host: str, port: int, context: ssl.SSLContext | None) -> Streams:
    try:
        async with asyncio.timeout(_CONNECT):
            return Streams(*await asyncio.open_connection(host, port, ssl=context))
    except OSError as error:
        raise refusals.service_unavailable(f"error trying to reach service: {undialled(host, port, error)}") from None


async def _why(server: Streams, head: bytes) -> str:
    length = next(
        (line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b"0"
    )
    body = await server.reader.read(min(int(length), 4096))
    return f"error trying to reach service: {body.decode(errors='replace')}"


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
