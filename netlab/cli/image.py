"""netlab image load, pull, list and rm."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from netlab.cli.output import say, table
from netlab.errors import UsageError
from netlab.lab.paths import images_dir
from netlab.oci.records import Record
from netlab.oci.store import Store

_ID = 12
"""Digits of an image's id that people see."""


@click.group()
def image() -> None:
    """Bring container images to this user's labs, whether they are up or not.

    Pods then run them by name. Names are as elsewhere: busybox is docker.io/library/busybox:latest.
    """


@image.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--name", metavar="IMAGE", help="What to call the one image in it, instead of the names that it has.")
def load(file: Path, name: str | None) -> None:
    """Load the images in FILE, or - for standard input.

    It is what `docker save` or `podman save` writes, or an OCI layout in a tar file, compressed or not.
    """
    try:
        with _readable(file) as path:
            _tell(Store(images_dir()).load(path, name))
    except UsageError as error:
        raise UsageError(f"{'standard input' if str(file) == '-' else file}: {error}") from None


@image.command()
@click.argument("reference", metavar="IMAGE")
def pull(reference: str) -> None:
    """Pull IMAGE from its registry, by skopeo and with its credentials."""
    from netlab.oci import registries

    _tell([registries.pull(Store(images_dir()), reference)])


@image.command("list")
def list_images() -> None:
    """List the images of this user's labs. The built-in ones are not among them."""
    rows = [
        (name, record.id[:_ID], f"{record.size / 1e6:.1f}MB")
        for record, names in Store(images_dir()).images()
        for name in names
    ]
    table(["NAME", "ID", "SIZE"], rows)


@image.command()
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
def rm(references: tuple[str, ...]) -> None:
    """Remove images that no container of a lab runs."""
    for each in references:
        Store(images_dir()).remove(each)
        say(f"image {each} removed")


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[Path]:
    """The file, or a copy of standard input while it lasts: an archive is read more than once."""
    if str(file) == "-":
        with tempfile.NamedTemporaryFile(prefix="netlab-load-") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
            yield Path(copy.name)
        return
    try:
        file.open("rb").close()
    except OSError as error:
        raise UsageError(error.strerror) from None
    yield file


def _tell(images: Iterable[tuple[Record, list[str]]]) -> None:
    for record, names in images:
        say(f"image {', '.join(names)} loaded (id {record.id[:_ID]}, {record.size / 1e6:.1f} MB)")
