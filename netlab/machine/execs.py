"""Commands in running containers: with their output kept, as probes need it, or with streams of the caller's."""

from __future__ import annotations

import contextlib
import functools
import os
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from netlab.machine import container, protocol, stdio
from netlab.machine.cgroups.containers import ContainerCgroup
from netlab.machine.children import Children, Failure, decode_status, kill_group
from netlab.machine.images.chosen import Chosen
from netlab.machine.loop import Loop
from netlab.machine.protocol import ContainerSpec, InvalidRequestError, Request
from netlab.machine.server import Reply


class Running(Protocol):
    """A container that runs."""

    @property
    def spec(self) -> ContainerSpec:
        """What it was made from."""

    @property
    def image(self) -> Chosen:
        """What it was made from, too."""

    @property
    def env(self) -> dict[str, str]:
        """Its whole environment."""

    @property
    def cgroup(self) -> ContainerCgroup:
        """Of all its processes."""

    @property
    def pidfd(self) -> int:
        """Of its pid 1."""


@dataclass(slots=True)
class _Kept:
    source: int
    output: bytearray = field(default_factory=bytearray)
    timed_out: bool = False


class Execs:
    """Answers the requests that run a command."""

    def __init__(self, loop: Loop, children: Children, find: Callable[[str], Running]) -> None:
        """`find` returns a running container, or raises `Refusal`."""
        self._loop = loop
        self._children = children
        self._find = find

    def run(self, request: Request, reply: Reply) -> None:
        """Answer `container.exec`: run a command, keep its output and wait for it, but not longer than asked for."""
        record, argv = self._command(request)
        limit = request.seconds("timeout")
        output_read, output_write = os.pipe()
        os.set_blocking(output_read, False)
        kept = _Kept(output_read)

        def expired() -> None:
            kept.timed_out = True
            kill_group(pid)

        def close() -> None:
            timer.cancel()
            self._loop.unwatch(output_read)
            os.close(output_read)

        def failed(failure: Failure) -> None:
            close()
            reply.fail(failure["errno"], f"container {record.spec.id}: {failure['error']}")

        def ended(status: int) -> None:
            kill_group(pid)  # processes that a probe leaves running must not pile up
            self._read(kept)
            close()
            code, _ = decode_status(status)
            output = b2a_base64(kept.output, newline=False).decode()
            reply.ok({"exit_code": code, "output": output, "timed_out": kept.timed_out})

        try:
            streams = {"stdout": output_write, "stderr": output_write}
            install = functools.partial(stdio.install, streams)
            pid = self._fork(record, argv, record.env, install, (output_write,), failed, ended)
        except OSError:
            os.close(output_read)
            raise
        finally:
            os.close(output_write)
        self._loop.watch(output_read, lambda: self._read(kept))
        timer = self._loop.after(limit, expired)

    def stream(self, request: Request, reply: Reply) -> None:
        """Answer `container.stream`: run a command with the caller's descriptors, and say how it ended.

        They are the command's `streams`, in that order; or, with `terminal`, one socket, to which the terminal is sent.
        """
        record, argv = self._command(request)
        given = tuple(request.descriptors)
        terminal = request.flag("terminal")
        install = _terminal(given) if terminal else _streams(request.texts("streams"), given)
        env = {"TERM": container.TERMINAL} | record.env if terminal else record.env

        def failed(failure: Failure) -> None:
            reply.fail(failure["errno"], f"container {record.spec.id}: {failure['error']}")

        def ended(status: int) -> None:
            reply.ok({"exit_code": decode_status(status)[0]})

        self._fork(record, argv, env, install, given, failed, ended)

    def _command(self, request: Request) -> tuple[Running, list[str]]:
        record, argv = self._find(request.name("id")), request.texts("command")
        if not argv:
            raise InvalidRequestError("command: expected a program")
        return record, argv

    def _fork(
        self,
        record: Running,
        argv: list[str],
        env: Mapping[str, str],
        install: Callable[[], None],
        descriptors: tuple[int, ...],
        failed: Callable[[Failure], None],
        ended: Callable[[int], None],
    ) -> int:
        return self._children.fork(
            lambda report: container.run_exec(
                record.pidfd,
                argv,
                env,
                cwd=record.spec.cwd or record.image.cwd,
                image=record.image,
                context=record.spec.security_context,
                cgroup=record.cgroup,
                oom_score_adj=record.spec.oom_score_adj,
                install=install,
                descriptors=descriptors,
                report=report,
            ),
            on_start=lambda: None,
            on_failure=failed,
            on_exit=ended,
            pid_namespace=record.pidfd,
        )

    def _read(self, kept: _Kept) -> None:
        """Read once, as much as a pipe can hold: a command that writes endlessly must not block the loop."""
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(kept.source, 65536)
            kept.output += chunk[: max(0, protocol.OUTPUT_LIMIT - len(kept.output))]
            if not chunk:
                # A command may close its output and keep running: the pipe would be readable forever.
                self._loop.unwatch(kept.source)


def _streams(names: list[str], given: tuple[int, ...]) -> Callable[[], None]:
    if len(names) != len(given) or not set(names) <= set(protocol.STREAMS):
        raise InvalidRequestError("streams: expected the names of the descriptors that come with the request")
    streams = dict(zip(names, given, strict=True))
    return lambda: stdio.install(streams)


def _terminal(given: tuple[int, ...]) -> Callable[[], None]:
    if len(given) != 1:
        raise InvalidRequestError("terminal: expected a socket with the request")
    return lambda: stdio.install_terminal(given[0])
