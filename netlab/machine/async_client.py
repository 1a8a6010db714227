"""The asyncio client of a machine, used by the kubelet. `netlab.machine.replies` defines its errors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from netlab.machine import protocol
from netlab.machine.async_descriptors import readable
from netlab.machine.protocol import (
    ContainerExit,
    ContainerSpec,
    ExecResult,
    ImageStatus,
    MachineState,
    RunningContainer,
)
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

    async def create_sandbox(self, sandbox_id: str, *, shared_pids: bool = False, network: int | None = None) -> str:
        """Make a network namespace with lo up; its path, valid in this machine's mount namespace.

        With `shared_pids` its containers can share a pid namespace (`security_context.POD`). `network` is a descriptor
        of a namespace that is there already, and is closed.
        """
        request = {"id": sandbox_id, "shared_pids": shared_pids}
        line, _ = await self._call_with(protocol.SANDBOX_CREATE, request, [] if network is None else [network])
        path: str = decode(line)["path"]
        return path

    async def hold_sandbox(self, sandbox_id: str, hostname: str) -> int:
        """Have an engine make a sandbox; a descriptor of its network namespace, for the caller to close."""
        line, descriptors = await self._call_with(protocol.SANDBOX_CREATE, {"id": sandbox_id, "hostname": hostname}, [])
        decode(line)
        return descriptors[0]

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox, if it exists; one with running containers is an error (EBUSY)."""
        await self._call(protocol.SANDBOX_REMOVE, {"id": sandbox_id})

    async def run_container(self, spec: ContainerSpec) -> RunningContainer:
        """Start a container; its command runs when this returns.

        MachineError's errno: ENOENT there is no such command, ESRCH there is no such sandbox, EACCES the command
        cannot be executed, EEXIST the id is taken, ENOPKG no such image and no command, ENOSPC a full disk.
        """
        return RunningContainer(**(await self._call(protocol.CONTAINER_RUN, spec.as_request())))

    async def kill(self, container_id: str, signal: int | None) -> None:
        """Send a signal to a container's pid 1, unless it has exited; None: what its image is stopped by."""
        await self._call(protocol.CONTAINER_KILL, {"id": container_id, "signal": signal})

    async def remove(self, container_id: str) -> None:
        """Forget a container that has exited, if it is known; a running one is an error (EBUSY)."""
        await self._call(protocol.CONTAINER_REMOVE, {"id": container_id})

    async def state(self) -> MachineState:
        """Everything the machine runs."""
        return MachineState.from_json(await self._call(protocol.STATE))

    async def counters(self, container_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """What the kernel counts of the cgroups of those containers that run: the files' texts, by id and by name.

        Of a container without a cgroup there are none.
        """
        found: dict[str, dict[str, str]] = await self._call(protocol.CONTAINER_COUNTERS, {"ids": list(container_ids)})
        return found

    async def image_status(self, image: str, command: Sequence[str]) -> ImageStatus | None:
        """The image that a container with that command would have; None if an engine does not have it."""
        found = await self._call(protocol.IMAGE_STATUS, {"image": image, "command": list(command)})
        return None if found is None else ImageStatus(**found)

    async def pull(self, image: str) -> None:
        """Have an engine bring an image. MachineError's errno is ENOPKG when it cannot; it may take minutes."""
        await self._call(protocol.IMAGE_PULL, {"image": image})

    async def exec(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:  # noqa: ASYNC109 - the machine keeps the time
        """Run a command in a container and wait for it; after `timeout` seconds it is killed (`timed_out`)."""
        arguments = {"id": container_id, "command": list(command), "timeout": timeout}
        return exec_result(await self._call(protocol.CONTAINER_EXEC, arguments))

    async def stream(self, container_id: str, command: Sequence[str], streams: Mapping[str, int]) -> int:
        """Run a command in a container with descriptors as its streams (protocol.STREAMS). Returns its exit status.

        The descriptors are closed. A cancelled call does not end the command.
        """
        arguments = {"id": container_id, "command": list(command), "streams": list(streams)}
        line, _ = await self._call_with(protocol.CONTAINER_STREAM, arguments, list(streams.values()))
        return int(decode(line)["exit_code"])

    async def stream_terminal(self, container_id: str, command: Sequence[str], opened: Callable[[int], None]) -> int:
        """Run a command in a container on a new terminal. Returns its exit status.

        `opened` is called with the terminal's other end, which is then the caller's.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()

        def receive() -> None:
            loop.remove_reader(ours)
            for descriptor in socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)[1]:
                opened(descriptor)

        with ours:
            loop.add_reader(ours, receive)
            try:
                arguments = {"id": container_id, "command": list(command), "terminal": True}
                line, _ = await self._call_with(protocol.CONTAINER_STREAM, arguments, [theirs.detach()])
            finally:
                loop.remove_reader(ours)
        return int(decode(line)["exit_code"])

    async def attach(self, container_id: str, streams: Sequence[str]) -> list[int]:
        """The other ends of a container's streams, in that order; of a terminal, stdin is the terminal itself."""
        arguments = {"id": container_id, "streams": list(streams)}
        line, descriptors = await self._call_with(protocol.CONTAINER_ATTACH, arguments, [])
        decode(line)
        return descriptors

    async def _call_with(self, op: str, arguments: Mapping[str, Any], given: list[int]) -> tuple[bytes, list[int]]:
        """A call that passes descriptors on, and closes them here, or receives some; on a connection of its own."""
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        descriptors: list[int] = []
        with connection:
            try:
                try:
                    await loop.sock_connect(connection, str(self._path))
                    request = encode(op, arguments)
                    sent = socket.send_fds(connection, [request], given) if given else 0
                finally:
                    for each in given:
                        os.close(each)
                await loop.sock_sendall(connection, request[sent:])
                line = b""
                while not line.endswith(b"\n"):
                    await readable(connection.fileno())
                    chunk, received, _, _ = socket.recv_fds(
                        connection, 65536, len(protocol.STREAMS), socket.MSG_CMSG_CLOEXEC
                    )
                    descriptors += received
                    line += chunk
                    if not chunk:
                        raise_unavailable(self._path, None)
            except OSError as error:
                raise_unavailable(self._path, error)
        return line, descriptors

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
