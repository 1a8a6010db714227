"""A whole server: its Corefile, which may change, the API, DNS, and the ports that say how it fares."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from netlab.api import kubeconfig
from netlab.api.client import Client
from netlab.dns import corefile
from netlab.dns.cluster import ClusterNames
from netlab.dns.corefile import Address, Corefile
from netlab.dns.instance import Instance
from netlab.dns.metrics import Metrics
from netlab.dns.server import Server
from netlab.errors import UsageError
from netlab.machine.images import http, netexec
from netlab.machine.images.http import Request, Response

_PATIENCE = 5.0
"""Seconds for the API to answer, after which a new Corefile is in force without what the API knows, as in CoreDNS."""

log = logging.getLogger("netlab.dns")


async def serve(path: str, env: Mapping[str, str]) -> int:
    """Serve by a Corefile until told to end; the exit status."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="[%(levelname)s] %(message)s", force=True)
    ended = asyncio.Event()
    netexec.on_end_signals(asyncio.get_running_loop(), ended.set)
    try:
        text = _text(path)
        wanted = corefile.parse(text, _text)
        async with contextlib.AsyncExitStack() as stack:
            client = None
            if wanted.kubernetes is not None:
                client = await stack.enter_async_context(Client(kubeconfig.in_cluster(env), user_agent="coredns"))
            await _Service(path, text, client).run(wanted, ended)
    except UsageError as error:
        print(f"coredns: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"coredns: {error.filename or path}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


class _Service:
    """The server of one file."""

    def __init__(self, path: str, text: str, client: Client | None) -> None:
        self._path = path
        self._text = text
        self._client = client
        self._metrics = Metrics()
        self._own = _own_addresses()
        self._server: Server
        self._following: asyncio.Task[None]

    async def run(self, wanted: Corefile, ended: asyncio.Event) -> None:
        """Serve until the event."""
        first = self._instance(wanted)
        self._server = Server(first, self._metrics)
        await self._server.open(first)
        self._following = asyncio.create_task(first.follow())
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._server.close)
            stack.callback(self._stop_following)
            await self._answer_http(wanted, stack)
            reloading = asyncio.create_task(self._reload())
            stack.callback(reloading.cancel)
            log.info("netlab's cluster DNS, by %s", self._path)
            await ended.wait()
            # Who had this address a moment ago still asks here.
            await asyncio.sleep(self._server.instance.corefile.lameduck)

    def _stop_following(self) -> None:
        self._following.cancel()

    def _instance(self, wanted: Corefile) -> Instance:
        cluster = None
        if wanted.kubernetes is not None:
            if self._client is None:
                raise UsageError("Corefile: `kubernetes` is new in it: only a restart brings it")
            cluster = ClusterNames(self._client, wanted.kubernetes, self._own)
        return Instance(wanted, cluster, self._metrics)

    async def _answer_http(self, wanted: Corefile, stack: contextlib.AsyncExitStack) -> None:
        async def health(_: Request) -> Response:
            return Response("OK")

        async def ready(_: Request) -> Response:
            return Response("OK") if self._server.instance.is_ready() else Response("kubernetes", 503)

        async def metrics(_: Request) -> Response:
            entries = sum(map(len, self._server.instance.kept.values()))
            return Response(self._metrics.text(entries), headers={"Content-Type": "text/plain; version=0.0.4"})

        for address, path, handler in (
            (wanted.health, "/health", health),
            (wanted.ready, "/ready", ready),
            (wanted.prometheus, "/metrics", metrics),
        ):
            if address is not None:
                stack.callback((await _listen(address, path, handler)).close)

    async def _reload(self) -> None:
        """Look whether the file has changed, for as long as it says how often to look."""
        while (seconds := self._server.instance.corefile.reload) is not None:
            await asyncio.sleep(seconds)
            try:
                text = _text(self._path)
                if text != self._text:
                    self._text = text
                    await self._replace(corefile.parse(text, _text))
                    log.info("%s has changed, and is in force", self._path)
            except (UsageError, OSError) as error:
                self._metrics.failed_reloads += 1
                log.error("plugin/reload: %s: the last one stays in force", error)

    async def _replace(self, wanted: Corefile) -> None:
        """Another instance takes over, once it knows as much as the one before. Raises `UsageError` and `OSError`."""
        new = self._instance(wanted)
        following = asyncio.create_task(new.follow())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await new.synced()
            await self._server.open(new)
        except BaseException:
            following.cancel()
            raise
        self._stop_following()
        self._following = following


async def _listen(address: Address, path: str, handler: Callable[[Request], Awaitable[Response]]) -> asyncio.Server:
    """An HTTP server that answers at one path."""

    async def answer(request: Request) -> Response:
        return await handler(request) if request.path == path else Response("404 page not found\n", 404)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await http.serve_connection(reader, writer, "", answer)

    host = "127.0.0.1" if address.host == "localhost" else address.host
    return await asyncio.start_server(serve, sock=netexec.listen(socket.SOCK_STREAM, address.port, host))


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _own_addresses() -> list[str]:
    """The pod's addresses, as its /etc/hosts has them."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_DGRAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))
