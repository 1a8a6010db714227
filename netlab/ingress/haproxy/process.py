"""A running HAProxy: a master, whose workers follow each other without refusing or losing a connection.

A new worker takes over the listening sockets of the one before, which ends once its connections have (management.txt,
"Stopping and restarting HAProxy", `expose-fd listeners`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from netlab.errors import NetlabError, UnsupportedError
from netlab.ingress.haproxy.config import CONFIG, GENERATION

SOCKET = "commands.sock"
_CURRENT = "current"
_PATIENCE = 20.0
"""Seconds for a new worker, which takes some hundredths of one."""
_AT_ONCE = 50
"""Commands in a line, which has room for 16384 bytes (tune.bufsize)."""
_SILENT = ("", "no need to change", "changed from")
"""What begins or is in the answer to a command that did what it said."""


class HaproxyError(NetlabError):
    """HAProxy refuses a configuration or a command, or does not answer."""


class Haproxy:
    """An HAProxy whose files are in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self._process: asyncio.subprocess.Process | None = None
        self.gone = asyncio.Event()
        """Set when it has ended, asked to or not."""
        self._watching: asyncio.Task[None] | None = None
        program = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin")
        if program is None:
            raise UnsupportedError("no program 'haproxy' on the PATH: install the package haproxy")
        self._program = program

    @property
    def socket(self) -> str:
        """Where it takes commands; its configuration must say so."""
        return str(self._directory / SOCKET)

    def next_generation(self) -> int:
        """The number of the next configuration."""
        return next(self._numbers)

    async def use(self, generation: int, files: Mapping[str, str]) -> None:
        """Serve by a configuration from now on: when this returns, all new connections are served by it.

        Raises `HaproxyError` if HAProxy refuses it; then what was in force stays.
        """
        folder = self._directory / str(generation)
        folder.mkdir(mode=0o700)
        try:
            for name, text in files.items():
                (folder / name).write_text(text, encoding="ascii")
            await self._check(folder / CONFIG)
        except BaseException:
            shutil.rmtree(folder)
            raise
        self._point_to(folder)
        if self._process is None:
            argv = [self._program, "-W", "-f", str(self._directory / _CURRENT / CONFIG)]
            self._process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL)
            self._watching = asyncio.create_task(self._notice_end(self._process))
        else:
            self._process.send_signal(signal.SIGUSR2)
        await self._until_served(generation)
        for other in self._directory.iterdir():
            if other.name.isdecimal() and other != folder:
                shutil.rmtree(other)

    async def run(self, commands: Sequence[str]) -> None:
        """Tell the worker. Raises `HaproxyError` if it does not do one of them."""
        for start in range(0, len(commands), _AT_ONCE):
            some = commands[start : start + _AT_ONCE]
            answers = (await self._answer(";".join(some))).split("\n\n")
            for answer in answers:
                said = answer.strip()
                if said and not any(each in said for each in _SILENT if each):
                    raise HaproxyError(f"haproxy: {said.splitlines()[0]}")

    async def stop(self, seconds: float) -> None:
        """End it; connections that there are have some seconds."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGUSR1)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await process.wait()
        finally:
            # Also where the wait was cancelled: nothing else ends it.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
        await process.wait()

    async def _notice_end(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self.gone.set()

    def _point_to(self, folder: Path) -> None:
        link = self._directory / f"{_CURRENT}.new"
        link.symlink_to(folder.name)
        link.replace(self._directory / _CURRENT)

    async def _check(self, config: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-c", "-q", "-f", str(config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            lines = [line for line in said.decode(errors="replace").splitlines() if "ALERT" in line]
            raise HaproxyError(f"haproxy refuses its configuration: {lines[0] if lines else 'it does not say why'}")

    async def _until_served(self, generation: int) -> None:
        """The master says nothing of a reload (before 2.7), but a new worker takes over the socket for commands."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    with contextlib.suppress(OSError, HaproxyError):
                        if f"{GENERATION}={generation}" in (await self._answer(f"show env {GENERATION}")).split():
                            return
                    if self._process is not None and self._process.returncode is not None:
                        raise HaproxyError(f"haproxy ended with status {self._process.returncode}")
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise HaproxyError(f"haproxy has not taken over within {_PATIENCE:g} s") from None

    async def _answer(self, line: str) -> str:
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
        except OSError as error:
            raise HaproxyError(f"haproxy: {self.socket}: {error.strerror or error}") from None
        try:
            writer.write(f"{line}\n".encode("ascii"))
            return (await reader.read()).decode("ascii", "replace")
        except OSError as error:
            raise HaproxyError(f"haproxy: {self.socket}: {error.strerror or error}") from None
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
