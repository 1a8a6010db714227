"""API servers over TCP and TLS in the test's own event loop, netlab's and an old one; and certificates for them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from netlab.api.server.app import create_app
from netlab.api.server.registry.allocators import Ranges
from netlab.api.server.registry.generic import Registry
from netlab.api.server.storage.sqlite import Sqlite
from netlab.api.server.storage.store import Store
from tests.system.api.serving import CONFIG, START_TIMEOUT, Json


class Authority:
    """A certificate authority; what it issues lies in its folder as NAME.crt and NAME.key."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self.certificate = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        _openssl(
            "req",
            "-x509",
            *_NEW_KEY,
            "-keyout",
            self._key,
            "-out",
            self.certificate,
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        )

    def issue(self, name: str, *names: str) -> tuple[Path, Path]:
        """A certificate for a client `name`, or for a server that has the subject alternative names `names`."""
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        extensions = [f"subjectAltName={','.join(names)}"] if names else ["extendedKeyUsage=clientAuth"]
        options = [part for extension in extensions for part in ("-addext", extension)]
        signer: list[str | Path] = [
            "-CA",
            self.certificate,
            "-CAkey",
            self._key,
            "-days",
            "2",
            "-subj",
            f"/O=test/CN={name}",
        ]
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", key, "-out", certificate, *signer, *options)
        return certificate, key


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@dataclasses.dataclass
class Tls:
    """How a server presents itself, and whose client certificates it demands."""

    certificate: Path
    key: Path
    clients: Path | None = None


class Guard:
    """An API server that knows its clients by their tokens, and remembers what they asked."""

    def __init__(self, app: ASGIApp, tokens: set[str] | None = None) -> None:
        self._app = app
        self.tokens = tokens
        """Whom it lets in now; None: everybody."""
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        """Path, parameters and headers of each request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["path"], parameters(scope), headers))
        shown = headers.get("authorization", "")
        if self.tokens is not None and shown.removeprefix("Bearer ") not in self.tokens:
            await answer(
                send, {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}, 401
            )
        else:
            await self._app(scope, receive, send)

    def queries(self, plural: str) -> list[dict[str, str]]:
        """The parameters of the requests for a resource."""
        return [params for path, params, _ in self.asked if path.endswith(f"/{plural}")]


def parameters(scope: Scope) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}


async def answer(send: Send, body: Any, status: int = 200, **headers: str) -> None:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    listed = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": raw})


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[ASGIApp]:
    """netlab's own server as an application."""
    store = Store(Sqlite(folder / "cluster.db"))
    try:
        yield create_app(Registry(store, Ranges.parse(CONFIG["serviceCIDRs"], CONFIG["nodePortRange"]))).asgi  # type: ignore[arg-type]
    finally:
        store.hub.close()
        store.close()


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The test's signals are the test's."""
        yield


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, tls: Tls | None = None, port: int = 0) -> AsyncIterator[int]:
    """Serve on a port of 127.0.0.1 until the end of the context, which ends every connection."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=0,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        ssl_ca_certs=str(tls.clients) if tls and tls.clients else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and tls.clients else ssl.CERT_NONE,
    )
    server = _Uvicorn(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(START_TIMEOUT):
            while not server.started:
                await asyncio.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


class OldServer:
    """Kubernetes 1.20 as a proxy sees it: discovery.k8s.io/v1beta1 only, pages, nulls, a history that is short."""

    GROUP = "/apis/discovery.k8s.io"

    def __init__(self, version: str = "v1beta1") -> None:
        self.version = version
        self.revision = 10
        self.items: dict[str, Json] = {}
        self.pages_expire = False
        """The next page of a list is gone (410)."""
        self.refuse: list[tuple[int, bytes, dict[str, str]]] = []
        """Answers to the next requests, whatever they are."""
        self._lines: list[tuple[int, Json]] = []
        self._told = asyncio.Condition()

    async def tell(self, kind: str, item: Json) -> None:
        """Something happened to an object, or (ERROR) to the watches."""
        async with self._told:
            self.revision += 1
            if kind != "ERROR":
                item["metadata"]["resourceVersion"] = str(self.revision)
                self.items[item["metadata"]["name"]] = item
            if kind == "DELETED":
                del self.items[item["metadata"]["name"]]
            self._lines.append((self.revision, {"type": kind, "object": item}))
            self._told.notify_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        params = parameters(scope)
        if self.refuse:
            code, body, headers = self.refuse.pop(0)
            await answer(send, body, code, **headers)
        elif not scope["path"].startswith(f"{self.GROUP}/{self.version}/"):
            await answer(send, b"404 page not found\n", 404)
        elif "watch" in params:
            await self._watch(int(params["resourceVersion"]), receive, send)
        else:
            await self._list(params, send)

    async def _list(self, params: dict[str, str], send: Send) -> None:
        if self.pages_expire and "continue" in params:
            self.pages_expire = False
            await answer(send, {"kind": "Status", "code": 410, "reason": "Expired"}, 410)
            return
        names = sorted(self.items)
        start = int(params.get("continue", 0))
        end = start + int(params.get("limit", len(names)))
        meta = {"resourceVersion": str(self.revision)} | ({"continue": str(end)} if end < len(names) else {})
        await answer(send, {"metadata": meta, "items": [self.items[name] for name in names[start:end]] or None})

    async def _watch(self, since: int, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.create_task(_until_gone(receive))
        try:
            while not gone.done():
                async with self._told:
                    due = [each for each in self._lines if each[0] > since or each[1]["type"] == "ERROR"]
                    if not due:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._told.wait(), 0.1)
                        continue
                for revision, line in due:
                    since = revision
                    body = msgspec.json.encode(line) + b"\n"
                    # In two pieces: nobody promises that a line is one.
                    await send({"type": "http.response.body", "body": body[:7], "more_body": True})
                    await send({"type": "http.response.body", "body": body[7:], "more_body": True})
                    if line["type"] == "ERROR":
                        self._lines.remove((revision, line))  # It is of this watch, and no part of the history.
                        await send({"type": "http.response.body", "body": b""})
                        return
        finally:
            gone.cancel()


async def _until_gone(receive: Receive) -> None:
    message: Message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()


def encoded(path: Path) -> str:
    """A file as the -data field of a kubeconfig."""
    return base64.b64encode(path.read_bytes()).decode()


def kubeconfig(path: Path, cluster: Json, user: Json | None = None) -> Path:
    """A kubeconfig with one context, called `test`."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "test",
    }
    path.write_bytes(msgspec.json.encode(config))
    return path
