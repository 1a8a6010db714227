"""Readiness, liveness and startup probes: what they ask, and when the answer counts."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from netlab.api.core_types import (
    Container,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    LifecycleHandler,
    Probe,
    TCPSocketAction,
)
from netlab.backoff import Backoff
from netlab.errors import NetlabError
from netlab.net.addresses import host_port
from netlab.node import grpchealth, wording
from netlab.node.runtime.service import RuntimeService

_QUICK = Backoff(first=0.01, last=1)
"""The pauses between the probes of a container that has only just started.

A server listens some milliseconds after its process starts. With only the normal period (10 s), the first probe would
come too early and make the pod ready 10 s late. These extra probes can only help: their failures do not count.
"""


@dataclasses.dataclass
class Verdict:
    """A probe's consecutive answers, judged by its thresholds."""

    success_threshold: int
    failure_threshold: int
    ok: bool | None = None
    """The verdict so far; None before there is one."""
    _last: bool | None = None
    _streak: int = 0

    def count(self, ok: bool) -> bool:
        """Add one answer. Returns whether it changed the verdict."""
        self._streak = self._streak + 1 if ok == self._last else 1
        self._last = ok
        needed = self.success_threshold if ok else self.failure_threshold
        if self._streak < needed or self.ok == ok:
            return False
        self.ok = ok
        return True


Ask = Callable[[Probe | LifecycleHandler, float], Awaitable[str]]
"""Asks once, for at most so many seconds: what is wrong, or "" when all is well."""


@dataclasses.dataclass(frozen=True)
class Asker:
    """Asks one container: over the network from its node, or by a command inside it."""

    runtime: RuntimeService
    http: aiohttp.ClientSession
    container: Container
    container_id: str
    pod_ip: str

    async def __call__(self, action: Probe | LifecycleHandler, timeout: float) -> str:  # noqa: ASYNC109
        """What is wrong, in upstream's words (pkg/probe), or "" when all is well."""
        try:
            if action.exec is not None:
                return await self._exec(action.exec, timeout)
            if action.httpGet is not None:
                return await self._http(action.httpGet, timeout)
            if action.tcpSocket is not None:
                return await self._tcp(action.tcpSocket, timeout)
            if isinstance(action, Probe) and action.grpc is not None:
                return await self._grpc(action.grpc, timeout)
            if isinstance(action, LifecycleHandler) and action.sleep is not None:
                await asyncio.sleep(min(action.sleep.seconds, timeout))
        except (OSError, ValueError, NetlabError) as error:
            return str(error) or type(error).__name__
        return ""

    async def _exec(self, action: ExecAction, timeout: float) -> str:  # noqa: ASYNC109
        result = await self.runtime.exec_sync(self.container_id, action.command, timeout)
        command = json.dumps(" ".join(action.command), ensure_ascii=False)
        if result.timed_out:
            return f"command timed out: {command} timed out after {wording.duration(timeout)}"
        if not result.exit_code:
            return ""
        # Of a command that says nothing, upstream's event has nothing to say.
        return result.output.decode(errors="replace") or f"{command} exited with status {result.exit_code}"

    async def _http(self, action: HTTPGetAction, timeout: float) -> str:  # noqa: ASYNC109
        host, port = action.host or self.pod_ip, port_number(self.container, action.port)
        path = action.path if action.path.startswith("/") else f"/{action.path}"
        url = f"{action.scheme.lower()}://{host_port(host, port)}{path}"
        headers = {each.name: each.value for each in action.httpHeaders}
        try:
            # Kubernetes does not verify certificates in probes, and counts a redirect to another host as a success.
            async with (
                asyncio.timeout(timeout),
                self.http.get(url, headers=headers, ssl=False, allow_redirects=False) as response,
            ):
                if 200 <= response.status < 400:
                    return ""
                return f"HTTP probe failed with statuscode: {response.status}"
        except TimeoutError:
            why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        except aiohttp.ClientConnectorError as error:
            why = _not_dialed(host, port, error.os_error)
        except aiohttp.ServerDisconnectedError:
            why = "EOF"
        except aiohttp.ClientError as error:
            why = str(error) or type(error).__name__
        return f'Get "{url}": {why}'

    async def _tcp(self, action: TCPSocketAction, timeout: float) -> str:  # noqa: ASYNC109
        host, port = action.host or self.pod_ip, port_number(self.container, action.port)
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return f"dial tcp {host_port(host, port)}: i/o timeout"
        except OSError as error:
            return _not_dialed(host, port, error)
        writer.close()
        return ""

    async def _grpc(self, action: GRPCAction, timeout: float) -> str:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(timeout):
                return await grpchealth.check(self.pod_ip, action.port, action.service or "")
        except TimeoutError:
            return f"timeout: health rpc did not complete within {wording.duration(timeout)}"
        except OSError as error:
            where = host_port(self.pod_ip, action.port)
            why = _not_dialed(self.pod_ip, action.port, error)
            return f'error: failed to connect service at "{where}": {why}'


def _not_dialed(host: str, port: int, error: OSError) -> str:
    """Why there is no connection, as Go's net package says it."""
    why = error.strerror or str(error) if error.errno is None else os.strerror(error.errno)
    return f"dial tcp {host_port(host, port)}: connect: {why.lower()}"


def port_number(container: Container, port: int | str) -> int:
    """A port by number or by the name that the container gives it. Raises `ValueError`."""
    if isinstance(port, int):
        return port
    if port.isdecimal():
        return int(port)
    for each in container.ports:
        if each.name == port:
            return each.containerPort
    raise ValueError(f"container {container.name} has no port named {port!r}")


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer that counts: what is wrong ("" when all is well), and whether it changed the verdict."""

    wrong: str
    changed: bool


async def answers(probe: Probe, ask: Ask, *, quick: bool, initial: bool | None) -> AsyncIterator[Answer]:
    """Probe endlessly. Yields the answers that count.

    With `quick`, a container that has just started is asked more often until its first success. `initial` is the
    verdict that holds before the first answer.
    """
    verdict = Verdict(probe.successThreshold, probe.failureThreshold, ok=initial)
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(probe.initialDelaySeconds)
    pause, due, scheduled = _QUICK.failed(), clock(), True
    while True:
        wrong = await ask(probe, probe.timeoutSeconds)
        if scheduled or not wrong:
            yield Answer(wrong, verdict.count(not wrong))
            due = clock() + probe.periodSeconds
        quick = quick and wrong != ""
        until_due = max(0.0, due - clock())
        scheduled = not quick or pause.delay >= until_due
        await asyncio.sleep(until_due if scheduled else pause.delay)
        pause = pause.failed()
