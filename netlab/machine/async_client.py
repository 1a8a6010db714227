"""The asyncio client of a machine, used by the kubelet. `netlab.machine.replies` defines its errors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from netlab.machine import protocol
from netlab.machine.protocol import ContainerExit, ContainerSpec, ExecResult, MachineState, RunningContainer
from netlab.machine.replies import decode, encode, exec_result, raise_unavailable


class AsyncMachine:
    """Connections to one machine for asyncio. Use it as an asynchronous context manager.

    Calls may be concurrent: each uses its own connection, which is kept for the next call. A cancelled call closes
    its connection; the machine may have carried it out.
    """

    def __init__(self, socket_path: str | os.PathLike[str]) -> None:
        self._path = Path(socket_path)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def create_sandbox(self, sandbox_id: str) -> str:
        """Make a network namespace with lo up; its path, valid in this machine's mount namespace."""
        path: str = (await self._call(protocol.SANDBOX_CREATE, {"id": sandbox_id}))["path"]
        return path

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox, if it exists; one with running containers is an error (EBUSY)."""
        await self._call(protocol.SANDBOX_REMOVE, {"id": sandbox_id})

    async def run_container(self, spec: ContainerSpec) -> RunningContainer:
        """Start a container; its command runs when this returns.

        MachineError's errno: ENOENT there is no such command, ESRCH there is no such sandbox, EACCES the command
        cannot be executed, EEXIST the id is taken, ENOPKG no such image and no command, ENOSPC a full disk.
        """
        return RunningContainer(**(await self._call(protocol.CONTAINER_RUN, spec.as_request())))

    async def kill(self, container_id: str, signal: int) -> None:
        """Send a signal to a container's pid 1, unless the container has already exited."""
        await self._call(protocol.CONTAINER_KILL, {"id": container_id, "signal": int(signal)})

    async def remove(self, container_id: str) -> None:
        """Forget a container that has exited, if it is known; a running one is an error (EBUSY)."""
        await self._call(protocol.CONTAINER_REMOVE, {"id": container_id})

    async def state(self) -> MachineState:
        """Everything the machine runs."""
        return MachineState.from_json(await self._call(protocol.STATE))

    async def exec(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:  # noqa: ASYNC109 - the machine keeps the time
        """Run a command in a container and wait for it; after `timeout` seconds it is killed (`timed_out`)."""
        arguments = {"id": container_id, "command": list(command), "timeout": timeout}
        return exec_result(await self._call(protocol.CONTAINER_EXEC, arguments))

    async def events(self) -> AsyncIterator[ContainerExit]:
        """The exits of containers, as an endless stream. Raises `UnavailableError` when the machine is gone.

        It begins with the containers that have exited and are not yet removed, so that a new reader misses none.
        """
        reader, writer = await self._open_connection()
        try:
            writer.write(encode(protocol.EVENTS, {}))
            while True:
                line = await reader.readline()
                if not line.endswith(b"\n"):
                    raise_unavailable(self._path, None)
                yield ContainerExit(**decode(line))
        except OSError as error:
            raise_unavailable(self._path, error)
        finally:
            writer.close()

    async def _call(self, op: str, arguments: Mapping[str, Any] | None = None) -> Any:
        request = encode(op, arguments or {})
        reader, writer = self._idle.pop() if self._idle else await self._open_connection()
        reusable = False
        try:
            writer.write(request)
            line = await reader.readline()
            reusable = line.endswith(b"\n")
        except OSError as error:
            raise_unavailable(self._path, error)
        finally:
            if reusable:
                self._idle.append((reader, writer))
            else:
                writer.close()
        if not reusable:
            raise_unavailable(self._path, None)
        return decode(line)

    async def _open_connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(str(self._path), limit=protocol.LINE_LIMIT)
        except OSError as error:
            raise_unavailable(self._path, error)
