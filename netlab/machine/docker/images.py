"""Images of a Docker engine: which it has, and that it brings others from their registries."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netlab.machine import images
from netlab.machine.docker import engine
from netlab.machine.protocol import ImageStatus
from netlab.machine.server import Refusal
from netlab.oci import reference as references

if TYPE_CHECKING:
    from docker import APIClient


def inspect(client: APIClient, reference: str) -> dict[str, Any] | None:
    """What the engine knows of an image; None if it does not have it. Raises what the library does."""
    from docker.errors import APIError

    try:
        found: dict[str, Any] = client.inspect_image(reference)  # type: ignore[no-untyped-call]
    except APIError as error:
        if error.status_code in (400, 404):
            return None
        raise
    return found


def status(client: APIClient, reference: str, command: Sequence[str]) -> ImageStatus | None:
    """The image of that name, of the engine or, for a container with that command, built in. Raises `Refusal`."""
    with engine.refusals(f"image {reference}"):
        found = inspect(client, reference)
    if found is not None:
        return ImageStatus(id=identity(reference, found), user=str(found["Config"].get("User") or ""))
    try:
        images.built_in(reference, command)
    except images.ImageNotPresentError:
        return None
    return ImageStatus(id="", built_in=True)


def identity(reference: str, inspected: dict[str, Any]) -> str:
    """The image's name and digest in the registry from where it came; else the digest of its configuration."""
    try:
        own = references.repository(references.full(reference))
    except ValueError:  # an id
        return str(inspected["Id"])
    for each in inspected.get("RepoDigests") or ():
        full = references.full(each)
        if references.repository(full) == own:
            return full
    return str(inspected["Id"])


def pull(client: APIClient, reference: str) -> None:
    """Have the engine bring an image, with the credentials that `docker login` has left.

    Raises `Refusal`, with ENOPKG when the registry does not give it.
    """
    from docker.errors import APIError

    try:
        name = references.full(reference)
        with engine.refusals(f"image {reference}"):
            try:
                client.reload_config()
                for told in client.pull(name, stream=True, decode=True):
                    if "error" in told:
                        raise Refusal(errno.ENOPKG, f"image {reference}: the Docker engine: {told['error']}")
            except APIError as error:
                raise Refusal(errno.ENOPKG, f"image {reference}: the Docker engine: {engine.said(error)}") from error
    except ValueError as error:
        raise Refusal(errno.ENOPKG, str(error)) from error
