"""What a probe or a hook asks a container, and what is said of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from netlab.api.core_types import Container, LifecycleHandler, Probe
from netlab.node import probes
from netlab.node.probes import Asker
from netlab.node.runtime.service import ExecResult

LOOPBACK = "127.0.0.1"


class Runtime:
    """Answers by the first word of a command."""

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:
        output, code = {"says": (b"no", 3), "fails": (b"", 1)}.get(command[0], (b"fine", 0))
        return ExecResult(exit_code=code, output=output, timed_out=command[0] == "hangs")


async def _serve(request: web.Request) -> web.Response:
    if request.path == "/slow":
        await asyncio.sleep(60)
    if request.path == "/away":
        raise web.HTTPFound("http://192.0.2.1/")
    is_right = (request.path, request.headers.get("X-Asked")) == ("/healthz", "yes")
    return web.Response(status=200 if is_right else 503)


async def _answer(action: dict[str, Any], kind: type[Probe | LifecycleHandler]) -> tuple[str, int]:
    """What is said, and the port of a server."""
    app = web.Application()
    app.router.add_get("/{path:.*}", _serve)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    port = runner.addresses[0][1]
    container = msgspec.convert({"name": "c", "ports": [{"name": "web", "containerPort": port}]}, Container)
    try:
        async with aiohttp.ClientSession() as http:
            ask = Asker(Runtime(), http, container, "u_c_0", LOOPBACK)  # type: ignore[arg-type]
            return await ask(msgspec.convert(action, kind), 0.5), port
    finally:
        await runner.cleanup()


RIGHT = {"path": "healthz", "port": "web", "httpHeaders": [{"name": "X-Asked", "value": "yes"}]}
REFUSED = "connect: connection refused"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"exec": {"command": ["true"]}}, ""),
        ({"exec": {"command": ["says", "no"]}}, "no"),
        ({"exec": {"command": ["fails", "x"]}}, '"fails x" exited with status 1'),
        ({"exec": {"command": ["hangs", "1"]}}, 'command timed out: "hangs 1" timed out after 500ms'),
        ({"httpGet": RIGHT}, ""),
        ({"httpGet": RIGHT | {"path": "/away"}}, ""),
        ({"httpGet": RIGHT | {"path": "/other"}}, "HTTP probe failed with statuscode: 503"),
        ({"httpGet": RIGHT | {"httpHeaders": []}}, "HTTP probe failed with statuscode: 503"),
        (
            {"httpGet": RIGHT | {"path": "/slow"}},
            'Get "http://127.0.0.1:PORT/slow": '
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        ),
        (
            {"httpGet": {"port": 1, "host": "127.0.0.2", "path": "/", "scheme": "HTTPS"}},
            f'Get "https://127.0.0.2:1/": dial tcp 127.0.0.2:1: {REFUSED}',
        ),
        ({"tcpSocket": {"port": "web"}}, ""),
        ({"tcpSocket": {"port": 1, "host": "127.0.0.2"}}, f"dial tcp 127.0.0.2:1: {REFUSED}"),
        ({"tcpSocket": {"port": "none"}}, "container c has no port named 'none'"),
        ({"grpc": {"port": 1}}, f'error: failed to connect service at "127.0.0.1:1": dial tcp 127.0.0.1:1: {REFUSED}'),
    ],
)
def test_what_is_said_of_an_answer(action: dict[str, Any], said: str) -> None:
    answer, port = asyncio.run(_answer(action, Probe))
    assert answer == said.replace("PORT", str(port))


@pytest.mark.parametrize("action", [{"exec": {"command": ["says"]}}, {"sleep": {"seconds": 0}}, {"httpGet": RIGHT}])
def test_hooks(action: dict[str, Any]) -> None:
    answer, _ = asyncio.run(_answer(action, LifecycleHandler))
    assert answer == ("no" if "exec" in action else "")


def test_the_first_question_comes_after_the_initial_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def ask(action: Probe | LifecycleHandler, timeout: float) -> str:
        slept.append(-timeout)
        return ""

    async def main() -> None:
        monkeypatch.setattr(asyncio, "sleep", sleep)
        probe = Probe(initialDelaySeconds=7, timeoutSeconds=3)
        await anext(probes.answers(probe, ask, quick=False, initial=None))

    asyncio.run(main())
    assert slept == [7, -3]
