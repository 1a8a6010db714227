"""What a kubelet asks of a container runtime, in the words of CRI (k8s.io/cri-api, runtime/v1).

Two things are the kubelet's own, though CRI gives them to the runtime. It calls CNI plugins itself, and so
RunPodSandbox makes a network namespace with nothing but lo, and StopPodSandbox has nothing to take down. And a port is
forwarded by a connection that the kubelet makes in the pod's network namespace, which is at the same place whatever the
runtime (`network_namespace`).

The values are those of a machine's protocol, which needs no more of its runtime than CRI does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from netlab.errors import NetlabError
from netlab.machine.protocol import ContainerExit, ContainerStatus, ExecResult, ImageStatus, Mount, RunningContainer
from netlab.machine.protocol import ContainerSpec as ContainerConfig
from netlab.machine.security_context import (
    BIDIRECTIONAL,
    CONTAINER,
    HOST_TO_CONTAINER,
    NODE,
    POD,
    PRIVATE,
    RUNTIME_DEFAULT,
    TARGET,
    UNCONFINED,
    NamespaceOption,
    SecurityContext,
)

__all__ = [
    "BIDIRECTIONAL",
    "CONTAINER",
    "HOST_TO_CONTAINER",
    "NODE",
    "POD",
    "PRIVATE",
    "RUNTIME_DEFAULT",
    "TARGET",
    "UNCONFINED",
    "ContainerConfig",
    "ContainerExit",
    "ContainerStatus",
    "ExecResult",
    "ImageStatus",
    "Mount",
    "NamespaceOption",
    "RunningContainer",
    "SecurityContext",
]


@dataclass(frozen=True)
class Image:
    """An image of a runtime: its names, in full, and its bytes."""

    names: list[str]
    size: int


class RefusedError(NetlabError):
    """A runtime did not do what it was asked for."""


class AlreadyExistsError(RefusedError):
    """There is one of that id."""


class StartError(RefusedError):
    """A container's command cannot be executed (containerd's reason StartError)."""


class ImageNotPresentError(RefusedError):
    """The runtime does not have the image."""


class RuntimeService(Protocol):
    """Sandboxes and containers of one node, which outlive the kubelet.

    Every call raises `RefusedError` if the runtime refuses, and `UnavailableError` if it does not answer.
    """

    images: ImageService | None
    """What brings images; None if they are brought by hand."""

    async def run_pod_sandbox(self, sandbox_id: str, hostname: str, *, shared_pids: bool = False) -> str:
        """Make a sandbox for a pod of that hostname; the path of its network namespace. Raises `AlreadyExistsError`.

        With `shared_pids` it has a pid namespace, which its containers can share (NamespaceMode POD).
        """

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox, if it exists, in which no container runs."""

    async def list_pod_sandbox(self) -> list[str]:
        """The ids of the sandboxes that exist."""

    async def list_images(self) -> list[Image]:
        """The images that can be run without a pull (CRI's ImageService)."""

    async def image_status(self, image: str, command: Sequence[str]) -> ImageStatus:
        """The image that a container with that command would have by that name. Raises `ImageNotPresentError`."""

    async def create_container(self, config: ContainerConfig) -> None:
        """Make a container ready to be started. Raises `ImageNotPresentError`."""

    async def start_container(self, container_id: str) -> RunningContainer:
        """Start a container that was created.

        One that cannot be started is gone. Raises `StartError`, and `ImageNotPresentError` from a runtime that notices
        so late.
        """

    async def stop_container(self, container_id: str, timeout: float) -> None:  # noqa: ASYNC109 - CRI's name
        """Ask a container to end, if it has not ended, or end it at once if `timeout` is 0.

        Unlike CRI's it does not wait, nor kill once the time is over: the kubelet may shorten it, and asks again.
        """

    async def remove_container(self, container_id: str) -> None:
        """Forget a container that has ended, if it is known."""

    async def list_containers(self) -> list[ContainerStatus]:
        """The containers that were started and are not yet removed, with their status."""

    async def list_container_stats(self, container_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """The texts of the files of containers' cgroups, by id and by name, of those that run."""

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:  # noqa: ASYNC109
        """Run a command in a container and wait for it, but not longer than `timeout` seconds."""

    async def exec(self, container_id: str, command: Sequence[str], streams: Mapping[str, int]) -> int:
        """Run a command with descriptors as its streams (`stdin` and so on). Returns its exit status.

        The descriptors are closed. A cancelled call does not end the command.
        """

    async def exec_terminal(self, container_id: str, command: Sequence[str], opened: Callable[[int], None]) -> int:
        """The same on a new terminal, whose other end `opened` is given, for keeps."""

    async def attach(self, container_id: str, streams: Sequence[str]) -> list[int]:
        """The other ends of a container's streams, in that order; of a terminal, stdin is the terminal itself."""

    def container_events(self) -> AsyncIterator[ContainerExit]:
        """The ends of containers, from those that have ended and are not yet removed; endless.

        The end of a sandbox, which is then of no use, is among them, under its id.
        """


class ImageService(Protocol):
    """Images of a runtime that fetches them itself. Raises what `RuntimeService` does."""

    async def pull_image(self, image: str) -> None:
        """Bring the image of that name, or what has that name now. Raises `ImageNotPresentError`, with the reason."""


def network_namespace(sandbox_id: str) -> str:
    """Where on its node a sandbox's network namespace is pinned."""
    return f"/run/netns/cni-{sandbox_id}"
