"""Connections from the API server to pods and Services, through the kubelet of a node.

The API server is not part of the pod network, as in clusters with an egress selector (KEP-1281): what it proxies
(pods/proxy, services/proxy) goes over the node of the pod, which has a route to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress

from starlette.types import Scope

from netlab.api.serving import upgrading
from netlab.api.serving.kubelets import RELAY, undialled
from netlab.errors import UnavailableError, UsageError

PATH = RELAY + "/{host}/{port:int}"
PROTOCOL = b"tcp"
"""What the request upgrades to: bytes of a TCP connection."""

_CONNECT = 10.0


async def relay(scope: Scope, host: str, port: int) -> None:
    """Answer a request for a connection, until either side has closed it. Raises `NetlabError` if it does not come."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(f"{host!r} is not an address") from None
    try:
        async with asyncio.timeout(_CONNECT):
            reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise UnavailableError(undialled(host, port, error)) from error
    with contextlib.closing(writer):
        streams = upgrading.take(scope)
        streams.writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        await upgrading.splice(streams, upgrading.Streams(reader, writer))
