"""Runs a command in a container for a client, or attaches a client to a container."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec

from netlab.api.meta_types import Status, StatusCause, StatusDetails
from netlab.errors import NetlabError
from netlab.machine.async_descriptors import chunks, write
from netlab.node.runtime.service import RuntimeService
from netlab.node.server.sessions import RESIZE, STDERR, STDIN, STDOUT, Session

_NAMES = {STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr"}
_LINGER = 1.0
"""Seconds without output after which a command that has ended is over: what it left running can hold its streams."""


@dataclass(frozen=True)
class Options:
    """Which of a command's streams a client wants."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    terminal: bool = False

    @property
    def streams(self) -> list[int]:
        """Those that the client opens. A terminal has no stderr of its own."""
        wanted = {
            STDIN: self.stdin,
            STDOUT: self.stdout,
            STDERR: self.stderr and not self.terminal,
            RESIZE: self.terminal,
        }
        return [stream for stream, is_wanted in wanted.items() if is_wanted]


class _Size(msgspec.Struct):
    """A terminal's size, as clients send it."""

    Width: int = 0
    Height: int = 0


class _Ends:
    """Our ends of a container's streams; closed when the block ends, if not before."""

    def __init__(self, streams: Mapping[int, int], terminal: int | None = None) -> None:
        self._open = {*streams.values(), *(() if terminal is None else (terminal,))}
        self.streams = streams
        self.terminal = terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for each in list(self._open):
            self.close(each)

    def close(self, descriptor: int) -> None:
        """Close one of them."""
        if descriptor in self._open:
            self._open.remove(descriptor)
            os.close(descriptor)


async def run(
    runtime: RuntimeService, container: str, command: Sequence[str], options: Options, client: Session
) -> None:
    """Run a command in a container, and tell the client how it ended."""
    begin = _on_terminal if options.terminal else _with_pipes
    with contextlib.suppress(ConnectionError):
        try:
            running, ends = await begin(runtime, container, command, options)
            with ends:
                gone = await _converse(client, ends, options, running)
                if not gone:
                    await client.finish(status_of(running.result()))
        except NetlabError as error:
            await client.finish(_failure(error))


async def attach(runtime: RuntimeService, container: str, options: Options, client: Session) -> None:
    """Give a client the streams of a running container, until the container ends or the client goes."""
    # stdout too if the client does not want it: its end is the container's.
    streams = [STDIN, STDOUT] if options.terminal or options.stdin else [STDOUT]
    streams += [STDERR] if options.stderr and not options.terminal else []
    with contextlib.suppress(ConnectionError):
        try:
            given = dict(zip(streams, await runtime.attach(container, [_NAMES[each] for each in streams]), strict=True))
            with _Ends(given, given[STDIN] if options.terminal else None) as ends:
                if not await _converse(client, ends, options, None):
                    await client.finish(Status(status="Success"))
        except NetlabError as error:
            await client.finish(_failure(error))


async def _with_pipes(
    runtime: RuntimeService, container: str, command: Sequence[str], options: Options
) -> tuple[asyncio.Task[int], _Ends]:
    ours: dict[int, int] = {}
    theirs: dict[str, int] = {}
    for stream in options.streams:
        reading, writing = os.pipe()
        ours[stream], theirs[_NAMES[stream]] = (writing, reading) if stream == STDIN else (reading, writing)

    return asyncio.create_task(runtime.exec(container, command, theirs)), _Ends(ours)


async def _on_terminal(
    runtime: RuntimeService, container: str, command: Sequence[str], options: Options
) -> tuple[asyncio.Task[int], _Ends]:
    opened = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(runtime.exec_terminal(container, command, opened.set_result))
    await asyncio.wait({running, opened}, return_when=asyncio.FIRST_COMPLETED)
    if not opened.done():
        running.result()  # it could not be started
    terminal: int = await opened
    streams = {STDOUT: terminal} | ({STDIN: terminal} if options.stdin else {})
    return running, _Ends(streams, terminal)


async def _converse(client: Session, ends: _Ends, options: Options, running: asyncio.Task[int] | None) -> bool:
    """Carry what the client and the container say to each other. Returns whether the client went before the end.

    Raises what `running`, the command, raises if it cannot be started.
    """
    wanted = options.streams
    progress: list[int] = []
    hearing = asyncio.create_task(_hear(client, ends))
    saying = {
        asyncio.create_task(_say(client, stream, descriptor, progress, is_wanted=stream in wanted))
        for stream, descriptor in ends.streams.items()
        if stream != STDIN
    }
    over = asyncio.create_task(_end(saying, running, progress))
    try:
        await asyncio.wait({hearing, over}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            return True
        over.result()
        return False
    finally:
        for task in (hearing, over, *saying):
            task.cancel()
        await asyncio.wait({hearing, over, *saying})


async def _hear(client: Session, ends: _Ends) -> None:
    """Pass on the client's input, until it has gone."""
    stdin = ends.streams.get(STDIN)
    async for stream, data in client.received():
        if stream == RESIZE and data is not None and ends.terminal is not None:
            _resize(ends.terminal, data)
        elif stream == STDIN and stdin is not None:
            if data is None:
                if ends.terminal is None:
                    ends.close(stdin)
                stdin = None
                continue
            try:
                await write(stdin, data)
            except OSError:
                stdin = None  # the command reads no more


async def _say(client: Session, stream: int, descriptor: int, progress: list[int], *, is_wanted: bool) -> None:
    async for data in chunks(descriptor):
        progress.append(len(data))
        if is_wanted:
            await client.send(stream, data)


async def _end(saying: set[asyncio.Task[None]], running: asyncio.Task[int] | None, progress: list[int]) -> None:
    """Wait until the command has ended and all of its output is sent; without one, until the output ends."""
    if running is None:
        await asyncio.wait(saying)
        return
    await running
    while saying:
        progress.clear()
        done, saying = await asyncio.wait(saying, timeout=_LINGER)
        for task in done:
            task.result()
        if not done and not progress:
            return


def _resize(terminal: int, data: bytes) -> None:
    try:
        size = msgspec.json.decode(data, type=_Size)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.Height, size.Width, 0, 0))
    except (msgspec.MsgspecError, struct.error, OSError):
        return  # a client's terminal can have sizes that make no sense


def _failure(error: NetlabError) -> Status:
    return Status(reason="InternalError", message=f"Internal error occurred: {error}", code=500)


def status_of(code: int) -> Status:
    """What a client is told about a command that ended (kubelet pkg/cri/streaming/remotecommand)."""
    if code == 0:
        return Status(status="Success")
    return Status(
        reason="NonZeroExitCode",
        message=f"command terminated with non-zero exit code: exit status {code}",
        details=StatusDetails(causes=[StatusCause(reason="ExitCode", message=str(code))]),
    )
