"""Asks a webhook: over TLS, at a Service of the cluster or at a URL."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import msgspec

from netlab.api.admission_types import WebhookClientConfig
from netlab.api.errors import ApiError
from netlab.api.media_types import JSON
from netlab.api.server.connect import forwarding, reaching
from netlab.api.server.connect.locations import Location
from netlab.api.server.connect.reaching import Reach, Tls
from netlab.api.server.objects.schema import JSONObject
from netlab.api.serving.upgrading import Streams

_LONGEST = 3 * 1024 * 1024
"""Bytes of an answer: as many as a request may have."""
_HTTPS = 443


class CallError(Exception):
    """A webhook cannot be asked, or gives no answer."""


async def ask(reach: Reach, config: WebhookClientConfig, seconds: int, asked: JSONObject) -> Any:
    """Post something to a webhook; the JSON value that it answers. Raises `CallError`."""
    target = f"{_path(config)}?timeout={seconds}s"
    host = _host(config)
    try:
        async with asyncio.timeout(seconds):
            server = await _connect(reach, config)
            body = msgspec.json.encode(asked)
            headers = [(b"content-type", JSON.encode()), (b"accept", JSON.encode())]
            status, answer = await forwarding.fetch(server, host, target, headers, _LONGEST, body)
        if not 200 <= status < 300:
            raise CallError(f"the server answered {status}: {answer[:200].decode(errors='replace')}")
        return msgspec.json.decode(answer)
    except TimeoutError:
        why = "context deadline exceeded"
    except (ApiError, CallError, OSError, ValueError) as error:
        why = str(error)
    raise CallError(f'Post "https://{host}{target}": {why}')


def _host(config: WebhookClientConfig) -> str:
    if config.service is None:
        return urlsplit(config.url or "").netloc
    return f"{_name(config)}:{config.service.port}"


def _name(config: WebhookClientConfig) -> str:
    """The name that the server's certificate has to have."""
    if config.service is None:
        return urlsplit(config.url or "").hostname or ""
    return f"{config.service.name}.{config.service.namespace}.svc"


def _path(config: WebhookClientConfig) -> str:
    path = urlsplit(config.url or "").path if config.service is None else config.service.path
    return path or "/"


async def _connect(reach: Reach, config: WebhookClientConfig) -> Streams:
    tls = Tls(reaching.verified(config.caBundle), _name(config))
    service = config.service
    if service is not None:
        return await reach.connect(
            reach.of_service(service.namespace, f"https:{service.name}:{service.port}", "/", ""), tls
        )
    port = urlsplit(config.url or "").port or _HTTPS
    return await reach.connect(Location(_name(config), port, "/", "", tls=True), tls)
