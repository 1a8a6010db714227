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


async def _answer(action: dict[str, Any], kind: type[Probe | LifecycleHandler]) -> str:
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
            return await ask(msgspec.convert(action, kind), 0.5)
    finally:
        await runner.cleanup()


RIGHT = {"path": "healthz", "port": "web", "httpHeaders": [{"name": "X-Asked", "value": "yes"}]}


@pytest.mark.parametrize(
    ("action", "is_well"),
    [
        ({"exec": {"command": ["true"]}}, True),
        ({"exec": {"command": ["says", "no"]}}, False),
        ({"exec": {"command": ["hangs", "1"]}}, False),
        ({"httpGet": RIGHT}, True),
        ({"httpGet": RIGHT | {"path": "/away"}}, True),
        ({"httpGet": RIGHT | {"path": "/other"}}, False),
        ({"httpGet": RIGHT | {"httpHeaders": []}}, False),
        ({"httpGet": RIGHT | {"path": "/slow"}}, False),
        ({"httpGet": RIGHT | {"host": "127.0.0.2"}}, False),
        ({"httpGet": RIGHT | {"scheme": "HTTPS"}}, False),
        ({"tcpSocket": {"port": "web"}}, True),
        ({"tcpSocket": {"port": "web", "host": "127.0.0.2"}}, False),
        ({"tcpSocket": {"port": "none"}}, False),
        ({"grpc": {"port": 1}}, False),
    ],
)
def test_answers(action: dict[str, Any], is_well: bool) -> None:
    assert (asyncio.run(_answer(action, Probe)) == "") is is_well


@pytest.mark.parametrize("action", [{"exec": {"command": ["says"]}}, {"sleep": {"seconds": 0}}, {"httpGet": RIGHT}])
def test_hooks(action: dict[str, Any]) -> None:
    answer = asyncio.run(_answer(action, LifecycleHandler))
    assert ("no" in answer) is ("exec" in action)


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
