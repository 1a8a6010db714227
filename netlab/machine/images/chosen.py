"""What a container is made from: an image of the store, else a built-in one, else the host's file tree."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from netlab.machine import images
from netlab.oci import records
from netlab.oci import reference as references

_NO_STORE = (
    "this lab sees no images of `netlab image`, because the file system of NETLAB_HOME has no idmapped mounts: "
    "use ext4, xfs, btrfs or tmpfs (Linux 6.3)"
)


@dataclass(slots=True)
class Chosen:
    """An image, and what it says of a container's process.

    `layers` are directories, the lowest first; without any, the container has the host's file tree. `user` is as
    `machine.users` reads it. `held` keeps the image in the store as long as it is open. `id` is as in
    `protocol.ImageStatus`.
    """

    argv: list[str]
    layers: list[str] = field(default_factory=list)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = ""
    stop_signal: int = signal.SIGTERM
    held: int | None = None
    id: str = ""

    def release(self) -> None:
        """Let the store remove the image."""
        if self.held is not None:
            os.close(self.held)
            self.held = None


def choose(store: str, reference: str, command: Sequence[str], args: Sequence[str]) -> Chosen:
    """The image that a reference names. Raises `images.ImageNotPresentError`."""
    record = records.find(store, reference)
    held = None if record is None else records.hold(store, record.id)
    if record is None or held is None:
        try:
            image = images.built_in(reference, command)
        except images.ImageNotPresentError as error:
            if os.path.isdir(f"{store}/{records.IMAGES}"):  # noqa: PTH112 - pid 1 stays small
                raise
            raise images.ImageNotPresentError(f"{error}; {_NO_STORE}") from None
        return Chosen(images.command_line(image.entrypoint, image.cmd, command, args))
    return Chosen(
        images.command_line(record.entrypoint, record.cmd, command, args),
        [records.layer(store, each) for each in record.layers],
        record.env,
        record.cwd,
        record.user,
        record.stop_signal,
        held,
        _id(reference, record),
    )


def _id(reference: str, record: records.Record) -> str:
    if not record.digest:
        return f"sha256:{record.id}"
    return f"{references.repository(references.full(reference))}@{record.digest}"
