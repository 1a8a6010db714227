"""Reaches kubelets, and addresses of the pod network by way of a node that is in it (an egress selector, KEP-1281)."""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from netlab.api import selectors
from netlab.api.core_types import Node
from netlab.api.discovery_types import SERVICE_NAME_LABEL, EndpointSlice
from netlab.api.errors import ApiError
from netlab.api.resources import ENDPOINTSLICES, NODES, SERVICES, Resource
from netlab.api.server import refusals
from netlab.api.server.access.authority import Authority
from netlab.api.server.connect import forwarding, locations
from netlab.api.server.connect.locations import Location
from netlab.api.server.identity import MASTERS
from netlab.api.server.registry.generic import Registry
from netlab.api.serving.kubelets import RELAY, undialled
from netlab.api.serving.secure import load_identity
from netlab.api.serving.upgrading import Streams
from netlab.net.addresses import host_port

_CONNECT = 10.0
"""Seconds in which a server has to take a connection."""
_CLIENT = "kube-apiserver-kubelet-client"
"""As what the API server asks kubelets (kubeadm's name)."""

_SERVICES: Resource[Any] = SERVICES
_NODES: Resource[Any] = NODES
_SLICES: Resource[Any] = ENDPOINTSLICES


class Tls(NamedTuple):
    """How TLS is spoken with a server, and the name that it has to have."""

    context: ssl.SSLContext
    name: str


class Reach:
    """Connections to what a cluster's objects tell of. All raises `ApiError`: 404 for what is not there, 503."""

    def __init__(self, registry: Registry, authority: Authority | None) -> None:
        self._registry = registry
        self._authority = authority

    def get(self, resource: Resource[Any], namespace: str, name: str) -> Any:
        """An object, typed."""
        return msgspec.json.decode(self._registry.get(resource, namespace, name).raw, type=resource.type)

    def find(self, resource: Resource[Any], namespace: str, name: str) -> Any:
        """The same, or None."""
        stored = self._registry.store.get(resource, namespace, name)
        return None if stored is None else msgspec.json.decode(stored.raw, type=resource.type)

    def slices(self, namespace: str, service: str) -> list[EndpointSlice]:
        """The EndpointSlices of a Service."""
        selector = selectors.parse(f"{SERVICE_NAME_LABEL}={service}")
        return [
            msgspec.json.decode(stored.raw, type=EndpointSlice)
            for stored in self._registry.store.all(_SLICES)
            if stored.namespace == namespace and selector.matches(stored.labels)
        ]

    def of_service(self, namespace: str, wanted: str, path: str, query: str) -> Location:
        """Where a request about a Service goes; `wanted` is `[scheme:]name[:port]`."""
        name = locations.name_in(wanted)
        service = self.get(_SERVICES, namespace, name)
        return locations.of_service(service, self.slices(namespace, name), wanted, path, query, random.randrange)

    async def kubelet(self, name: str) -> tuple[Streams, str]:
        """A connection to a node's kubelet, and its host and port."""
        node: Node = self.get(_NODES, "", name)
        address, port = locations.kubelet_of(node)
        return await _dial(address, port, Tls(self._kubelet_context, address)), host_port(address, port)

    async def ask_kubelet(self, node: str, path: str) -> bytes:
        """What a node's kubelet answers at a path. Raises `ApiError` when it does not, or refuses, too."""
        server, host = await self.kubelet(node)
        status, body = await forwarding.fetch(server, host, path)
        if status != 200:
            raise refusals.passed_on(status, body.decode(errors="replace"))
        return body

    async def connect(self, location: Location, tls: Tls | None = None) -> Streams:
        """A connection to an address; with `tls`, its server has to show who it is."""
        if tls is None and location.tls:
            tls = Tls(unverified(), location.host)
        if not location.node:
            return await _dial(location.host, location.port, tls)
        server, host = await self.kubelet(location.node)
        path = f"{RELAY}/{quote(location.host, safe='')}/{location.port}"
        server.writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        try:
            head = await server.reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 "):
                raise refusals.service_unavailable(await _why(server, head))
            if tls is not None:
                await server.writer.start_tls(tls.context, server_hostname=tls.name)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            server.writer.close()
            raise refusals.service_unavailable(f"error trying to reach service: {error}") from None
        except ApiError:
            server.writer.close()
            raise
        return server

    @cached_property
    def _kubelet_context(self) -> ssl.SSLContext:
        """TLS to kubelets, whose certificates the cluster's authority signed; without one, unverified."""
        if self._authority is None:
            return unverified()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self._authority.certificate.decode("ascii"))
        context.set_alpn_protocols(["http/1.1"])
        signed = self._authority.issue_client(_CLIENT, [MASTERS])
        load_identity(context, signed.certificate + signed.key)
        return context


def unverified() -> ssl.SSLContext:
    """TLS without verification of the peer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def verified(bundle: str) -> ssl.SSLContext:
    """TLS with whom an authority of a bundle (base64 of PEM; empty: the host's bundle) vouches for.

    Raises `ApiError` (503).
    """
    context = unverified()
    context.check_hostname, context.verify_mode = True, ssl.CERT_REQUIRED
    try:
        if bundle:
            context.load_verify_locations(cadata=base64.b64decode(bundle).decode("ascii"))
        else:
            context.load_default_certs()
    except (ssl.SSLError, ValueError) as error:
        raise refusals.service_unavailable(f"unable to load root certificates: {error}") from None
    return context


async def _dial(host: str, port: int, tls: Tls | None) -> Streams:
    context, name = tls if tls is not None else (None, None)
    try:
        async with asyncio.timeout(_CONNECT):
            return Streams(*await asyncio.open_connection(host, port, ssl=context, server_hostname=name))
    except ssl.SSLError as error:
        raise refusals.service_unavailable(f"error trying to reach service: tls: {error}") from None
    except OSError as error:
        raise refusals.service_unavailable(f"error trying to reach service: {undialled(host, port, error)}") from None


async def _why(server: Streams, head: bytes) -> str:
    length = next(
        (line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b"0"
    )
    body = await server.reader.read(min(int(length), 4096))
    return f"error trying to reach service: {body.decode(errors='replace')}"
