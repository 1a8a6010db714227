"""A Docker engine of this host, by its socket, and what in it is a lab's: labels say so, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from netlab.errors import UnsupportedError
from netlab.machine.server import Refusal

if TYPE_CHECKING:
    from docker import APIClient

T = TypeVar("T")

DEFAULT = "unix:///var/run/docker.sock"

LAB = "dev.netlab.lab"
"""The label with the lab's directory: on all that is made, so that it can be removed."""
NODE = "dev.netlab.node"
SANDBOX = "dev.netlab.sandbox"
"""The label with the sandbox that a container is in; a sandbox's own container has its own id there."""
ID = "dev.netlab.id"
"""The label with the id that the kubelet gave a container or sandbox."""
IMAGE_ID = "dev.netlab.image-id"
"""The label with what the image of a container really is (`protocol.ImageStatus`); empty of a built-in one."""
LOG = "dev.netlab.log"
"""The label with the file to which a container's output goes."""

_PATIENCE = 60
"""Seconds for an answer of the engine: it makes one container after the other when it has many to make."""
_AT_ONCE = 8


def address() -> str:
    """Where the engine is, by DOCKER_HOST or as Docker has it."""
    return os.environ.get("DOCKER_HOST") or DEFAULT


def connect(where: str) -> APIClient:
    """A client of the engine, for any number of threads.

    Raises `UnsupportedError` when there is none, or it is not on this host: it has to see the lab's namespaces.
    """
    if not where.startswith("unix://"):
        raise UnsupportedError(f"the Docker engine at {where} is not on this host: set DOCKER_HOST to a unix:// socket")
    try:
        from docker import APIClient
        from docker.errors import DockerException
    except ImportError as error:
        raise UnsupportedError("Docker's library is missing: `pip install 'netlab[docker]'`") from error
    try:
        return APIClient(base_url=where, version="auto", timeout=_PATIENCE)
    except DockerException as error:
        raise UnsupportedError(
            f"no Docker engine answers at {where} ({_reason(error)}): start it (`dockerd`), or set DOCKER_HOST"
        ) from error


def _reason(error: BaseException) -> str:
    """The kernel's words for why a connection failed, which libraries wrap many times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def name_of(identity: str) -> str:
    """The engine's name for a container or sandbox: pods' uids make it one of all labs."""
    return f"netlab-{identity}"


@contextlib.contextmanager
def refusals(what: str) -> Iterator[None]:
    """Have an error of the engine's be the answer to a request about `what`."""
    import requests
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        number = {404: errno.ENOENT, 409: errno.EBUSY}.get(error.status_code or 0, errno.EIO)
        raise Refusal(number, f"{what}: {said(error)}") from error
    except requests.RequestException as error:
        raise Refusal(errno.EIO, f"{what}: the Docker engine does not answer: {_reason(error)}") from error


def said(error: Any) -> str:
    """What the engine said, in one line."""
    return " ".join(str(error.explanation or error).split())


def containers_of(client: APIClient, lab: str, *labels: str, state: str | None = None) -> list[dict[str, Any]]:
    """The lab's containers, in that state or in any, as the engine lists them."""
    wanted: dict[str, Any] = {"label": [f"{LAB}={lab}", *labels]} | ({} if state is None else {"status": state})
    listed: list[dict[str, Any]] = client.containers(all=True, filters=wanted)
    return listed


def of_each(ask: Callable[[str], T], identities: Iterable[str]) -> list[T]:
    """The answers of an engine about each, in that order: it has no call for many, but takes several at once."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="engine-each") as askers:
        return list(askers.map(ask, identities))


def remove_all(client: APIClient, lab: str) -> None:
    """Remove all that is a lab's, and wait until it is gone."""
    with refusals("Docker"):
        of_each(lambda each: remove(client, each), [each["Id"] for each in containers_of(client, lab)])
        for image in client.images(filters={"label": f"{LAB}={lab}"}):
            client.remove_image(image["Id"], force=True)


def remove(client: APIClient, container: str) -> None:
    """Remove a container, whether it runs or not; it may be gone already. Raises what the library does."""
    from docker.errors import NotFound

    with contextlib.suppress(NotFound):
        client.remove_container(container, force=True, v=True)
