"""The built-in runtime: a machine's pid 1, which starts containers by forking itself."""

from __future__ import annotations

import contextlib
import errno
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from netlab.machine import images, rootfs
from netlab.machine.async_client import AsyncMachine
from netlab.machine.images import chosen
from netlab.machine.replies import MachineError
from netlab.node.runtime.service import (
    AlreadyExistsError,
    ContainerConfig,
    ContainerExit,
    ContainerStatus,
    ExecResult,
    Image,
    ImageNotPresentError,
    ImageService,
    ImageStatus,
    RefusedError,
    RunningContainer,
    StartError,
)
from netlab.oci import records

_NOT_EXECUTABLE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.E2BIG
}  # fmt: skip


class MachineRuntime:
    """The `RuntimeService` of a machine. Use it as an asynchronous context manager."""

    images: ImageService | None = None

    def __init__(self, socket: Path) -> None:
        self._machine = AsyncMachine(socket)
        self._created: dict[str, ContainerConfig] = {}
        """What a machine does not know before it starts it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._machine.close()

    async def run_pod_sandbox(self, sandbox_id: str, hostname: str, *, shared_pids: bool = False) -> str:
        with refused():
            return await self._machine.create_sandbox(sandbox_id, shared_pids=shared_pids)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        with refused():
            await self._machine.remove_sandbox(sandbox_id)

    async def list_pod_sandbox(self) -> list[str]:
        with refused():
            return (await self._machine.state()).sandboxes

    async def list_images(self) -> list[Image]:
        """Those of the store. The built-in ones are no files of their own."""
        named: dict[str, list[str]] = {}
        for name, image in records.names(rootfs.IMAGES).items():
            named.setdefault(image, []).append(name)
        found = []
        for image, names in named.items():
            with contextlib.suppress(FileNotFoundError):  # removed at this very moment
                found.append(Image(sorted(names), records.read(rootfs.IMAGES, image).size))
        return found

    async def image_status(self, image: str, command: Sequence[str]) -> ImageStatus:
        try:
            found = chosen.choose(rootfs.IMAGES, image, command, ())
        except images.ImageNotPresentError as error:
            raise ImageNotPresentError(str(error)) from error
        found.release()
        return ImageStatus(id=found.id, built_in=not found.id, user=found.user)

    async def create_container(self, config: ContainerConfig) -> None:
        self._created[config.id] = config

    async def start_container(self, container_id: str) -> RunningContainer:
        config = self._created.pop(container_id)
        try:
            return await self._machine.run_container(config)
        except MachineError as error:
            if error.errno == errno.ENOPKG:
                raise ImageNotPresentError(str(error)) from error
            kind = StartError if error.errno in _NOT_EXECUTABLE else RefusedError
            raise kind(str(error)) from error

    async def stop_container(self, container_id: str, timeout: float) -> None:  # noqa: ASYNC109
        with refused():
            await self._machine.kill(container_id, None if timeout else signal.SIGKILL)

    async def remove_container(self, container_id: str) -> None:
        with refused():
            await self._machine.remove(container_id)

    async def list_containers(self) -> list[ContainerStatus]:
        with refused():
            return (await self._machine.state()).containers

    async def list_container_stats(self, container_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        with refused():
            return await self._machine.counters(container_ids)

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:  # noqa: ASYNC109
        with refused():
            return await self._machine.exec(container_id, command, timeout)

    async def exec(self, container_id: str, command: Sequence[str], streams: Mapping[str, int]) -> int:
        with refused():
            return await self._machine.stream(container_id, command, streams)

    async def exec_terminal(self, container_id: str, command: Sequence[str], opened: Callable[[int], None]) -> int:
        with refused():
            return await self._machine.stream_terminal(container_id, command, opened)

    async def attach(self, container_id: str, streams: Sequence[str]) -> list[int]:
        with refused():
            return await self._machine.attach(container_id, streams)

    def container_events(self) -> AsyncIterator[ContainerExit]:
        return self._machine.events()


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Tell of what a machine refuses as the interface has it."""
    try:
        yield
    except MachineError as error:
        kind = AlreadyExistsError if error.errno == errno.EEXIST else RefusedError
        raise kind(str(error)) from error
