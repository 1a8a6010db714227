"""The built-in images on a Docker engine: an image of the lab's root file system, as machines make one of tmpfs.

The image holds little: folders, links, and copies of some files of /etc. The host's programs, and netlab's code, come
into its containers by read-only mounts.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.machine import images, rootfs
from netlab.machine.docker import engine

if TYPE_CHECKING:
    from docker import APIClient

_REPOSITORY = "netlab-builtin"
_PROGRAM = """
import os, sys
sys.path.insert(0, {root!r})
from netlab.machine import images
images.run(images.program(sys.argv[1]), sys.argv[1:], os.environ)
"""


@dataclass(frozen=True)
class BuiltIn:
    """The image's reference, and what its containers have of the host: paths, and one that must appear empty."""

    image: str
    bound: Sequence[str]
    masked: str | None


def make(client: APIClient, lab: str) -> BuiltIn:
    """Make the image for a lab. Raises `Refusal`."""
    wanted = rootfs.plan(lab)
    tag = hashlib.sha256(lab.encode()).hexdigest()[:12]
    with engine.refusals("the built-in image"):
        client.import_image_from_data(
            _archive(wanted), repository=_REPOSITORY, tag=tag, changes=[f'LABEL {engine.LAB}="{lab}"']
        )
    return BuiltIn(f"{_REPOSITORY}:{tag}", wanted.bound, wanted.masked)


def _archive(wanted: rootfs.Plan) -> bytes:
    written = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=written, mode="w") as archive:
        rootfs.make_skeleton(wanted, folder)
        Path(folder, "tmp").chmod(0o1777)
        for image in images.IMAGES.values():
            for path, text in image.files.items():
                file = Path(f"{folder}{path}")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
        for entry in Path(folder).iterdir():
            archive.add(entry, entry.name)
    return written.getvalue()


def executable(argv: Sequence[str]) -> list[str]:
    """How a container executes what may be a built-in program, which machines run without execve(2)."""
    if images.program(argv[0]) is None:
        return list(argv)
    root = Path(images.__file__).parents[3]
    return [sys.executable, "-I", "-c", _PROGRAM.format(root=str(root)), *argv]
