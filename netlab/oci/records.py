"""The store of images, made and read (`store` changes it). Each machine's pid 1 reads it, so this imports little.

names.json          full references, and the ids of the images that they name
images/ID.json      what is known of an image (Record); locked (flock) as long as a container runs it
layers/DIFF_ID/     its layers: tree/ is a layer unpacked, size its bytes
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, field

from netlab.oci import reference as references

NAMES, LOCK, IMAGES, LAYERS, UNFINISHED = "names.json", "lock", "images", "layers", "tmp"


@dataclass(frozen=True, slots=True)
class Record:
    """An image as its containers need it. `layers` are diff ids, the lowest first; `size` is their bytes, unpacked.

    `digest` is that of its manifest in a registry, or "". The rest is the image's configuration (image-spec,
    config.md), checked.
    """

    id: str
    layers: list[str]
    size: int
    digest: str = ""
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    cwd: str = "/"
    stop_signal: int = 15


def use(store: str) -> int:
    """A descriptor of the store, which is made if it is not there, and stays until that is closed. Raises `OSError`."""
    while True:
        for path, mode in ((store, 0o700), *((f"{store}/{name}", 0o755) for name in (IMAGES, LAYERS, UNFINISHED))):
            os.makedirs(path, mode=mode, exist_ok=True)  # noqa: PTH103
        used = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(used, fcntl.LOCK_SH)
        if os.fstat(used).st_nlink and os.path.isdir(f"{store}/{IMAGES}"):  # noqa: PTH112
            return used
        os.close(used)  # another process was about to remove it


def remove_unused(store: str) -> None:
    """Remove a store that has no image and that nobody uses."""
    try:
        used = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not names(store):
            for name in (IMAGES, LAYERS, UNFINISHED):
                os.rmdir(f"{store}/{name}")  # noqa: PTH106
            for name in (NAMES, LOCK):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{store}/{name}")  # noqa: PTH108
            os.rmdir(store)  # noqa: PTH106
    except OSError:
        pass  # it is used, or holds what a crash has left: the next change removes that
    finally:
        os.close(used)


def names(store: str) -> dict[str, str]:
    """The ids of the images, by full reference."""
    try:
        with open(f"{store}/{NAMES}", encoding="utf-8") as file:  # noqa: PTH123 - pid 1 stays small
            found: dict[str, str] = json.load(file)
            return found
    except FileNotFoundError:
        return {}


def read(store: str, image: str) -> Record:
    """What is known of an image. Raises `FileNotFoundError`."""
    with open(f"{store}/{IMAGES}/{image}.json", encoding="utf-8") as file:  # noqa: PTH123
        return Record(**json.load(file))


def find(store: str, reference: str) -> Record | None:
    """The image that a reference names, or None."""
    try:
        wanted = references.full(reference)
    except ValueError:
        return None
    known = names(store)
    image = known.get(wanted)
    try:
        if image is None and "@" in wanted:
            ours, digest = references.repository(wanted), wanted.partition("@")[2]
            of_repository = {known[each] for each in known if references.repository(each) == ours}
            return next((each for each in (read(store, i) for i in of_repository) if each.digest == digest), None)
        return None if image is None else read(store, image)
    except FileNotFoundError:
        return None  # removed at this very moment


def hold(store: str, image: str) -> int | None:
    """A descriptor that keeps an image from being removed until it is closed; None if it is being removed."""
    try:
        held = os.open(f"{store}/{IMAGES}/{image}.json", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(held).st_nlink:
            return held
    except BlockingIOError:
        pass
    os.close(held)
    return None


def layer(store: str, diff_id: str) -> str:
    """The directory of a layer, unpacked."""
    return f"{store}/{LAYERS}/{diff_id}/tree"
