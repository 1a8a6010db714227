"""A Docker engine of the host as runtime: its containers, and the network namespaces of its sandboxes on the node."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from netlab.machine.async_client import AsyncMachine
from netlab.machine.replies import MachineError
from netlab.node.runtime.machines import MachineRuntime, refused
from netlab.node.runtime.service import Image, ImageNotPresentError, ImageStatus, RefusedError


class DockerRuntime(MachineRuntime):
    """The engine is asked as machines are; the node's machine keeps the network namespaces for CNI and for captures."""

    def __init__(self, containers: Path, machine: Path) -> None:
        super().__init__(containers)
        self.images = self
        self._node = AsyncMachine(machine)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, tb)
        self._node.close()

    async def run_pod_sandbox(self, sandbox_id: str, hostname: str, *, shared_pids: bool = False) -> str:
        # A sandbox's own container is there always, so that others can share its pid namespace.
        with refused():
            network = await self._machine.hold_sandbox(sandbox_id, hostname)
            return await self._node.create_sandbox(sandbox_id, network=network)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        with refused():
            await self._node.remove_sandbox(sandbox_id)
            await self._machine.remove_sandbox(sandbox_id)

    async def list_images(self) -> list[Image]:
        """None: an engine's are not the node's, and netlab's store is not asked."""
        return []

    async def image_status(self, image: str, command: Sequence[str]) -> ImageStatus:
        with refused():
            found = await self._machine.image_status(image, command)
        if found is None:
            raise ImageNotPresentError("it is neither built in nor in the Docker engine")
        return found

    async def pull_image(self, image: str) -> None:
        try:
            await self._machine.pull(image)
        except MachineError as error:
            kind = ImageNotPresentError if error.errno == errno.ENOPKG else RefusedError
            raise kind(str(error)) from error

    async def list_pod_sandbox(self) -> list[str]:
        with refused():
            held, pinned = await self._machine.state(), await self._node.state()
        return [*dict.fromkeys((*held.sandboxes, *pinned.sandboxes))]
