"""The supervised processes of a machine: restarted, with a growing delay, whenever they end."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from netlab.backoff import RESTART, Backoff
from netlab.machine import container
from netlab.machine.children import Children, Failure, decode_status, kill_group
from netlab.machine.loop import Loop
from netlab.machine.protocol import InvalidRequestError, Request, ServiceStatus
from netlab.machine.server import Refusal, Reply


@dataclass(slots=True)
class _Service:
    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: str | None
    log: str
    pid: int | None = None
    restarts: int = 0
    started_at: float = 0.0
    last_exit_code: int | None = None
    backoff: Backoff = RESTART

    def status(self) -> ServiceStatus:
        return ServiceStatus(
            name=self.name,
            pid=self.pid,
            restarts=self.restarts,
            started_at=self.started_at,
            last_exit_code=self.last_exit_code,
        )


class Services:
    """The services of a machine, and the requests about them."""

    def __init__(self, events: Loop, children: Children) -> None:
        self._loop = events
        self._children = children
        self._services: dict[str, _Service] = {}

    def status(self) -> list[ServiceStatus]:
        """Every service."""
        return [each.status() for each in self._services.values()]

    def run(self, request: Request, reply: Reply) -> None:
        """Answer `service.run`."""
        name = request.name("name")
        if name in self._services:
            raise Refusal(errno.EEXIST, f"service {name} already exists")
        argv = request.texts("argv")
        if not argv:
            raise InvalidRequestError("argv: expected a program")
        service = _Service(
            name,
            argv,
            request.environment("env"),
            None if request.optional_text("cwd") is None else request.path("cwd"),
            request.path("log"),
        )

        def failed(failure: Failure) -> None:
            del self._services[name]
            reply.fail(failure["errno"], f"service {name}: {failure['error']}")

        self._start_service(service, lambda: reply.ok({"pid": service.pid}), failed)
        self._services[name] = service

    def _start_service(
        self, service: _Service, on_start: Callable[[], None], on_failure: Callable[[Failure], None]
    ) -> None:
        service.started_at = time.time()
        service.pid = self._children.fork(
            lambda report: container.run_service(service.argv, service.env, service.cwd, service.log, report),
            on_start=on_start,
            on_failure=on_failure,
            on_exit=lambda status: self._service_ended(service, status),
        )

    def _service_ended(self, service: _Service, status: int) -> None:
        assert service.pid is not None
        # Processes that a service leaves behind would run beside its successor.
        kill_group(service.pid)
        service.pid = None
        service.last_exit_code, _ = decode_status(status)
        service.backoff = service.backoff.failed(time.time() - service.started_at)
        self._loop.after(service.backoff.delay, lambda: self._restart_service(service))

    def _restart_service(self, service: _Service) -> None:
        def failed(failure: Failure) -> None:
            print(f"service {service.name}: {failure['error']}", file=sys.stderr, flush=True)
            self._service_ended(service, container.EXIT_NOT_EXECUTED << 8)

        service.restarts += 1
        try:
            self._start_service(service, lambda: None, failed)
        except OSError:
            self._loop.after(RESTART.last, lambda: self._restart_service(service))
            raise
