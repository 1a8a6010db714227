"""The store of images that a user's labs share: content-addressed, and changed under a lock (`records` reads it).

What is half made is in tmp/, from where it is renamed whole; the next change removes what a crash has left. A layer
belongs to the images whose records name it, and goes with the last of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from netlab import files as whole
from netlab.errors import ConflictError, NetlabError, NotFoundError, UsageError, write_failure
from netlab.oci import archives, config, layers, records
from netlab.oci import reference as references
from netlab.oci.records import Record
from netlab.similar import did_you_mean


class Store:
    """The images in a directory, which is made when the first is added."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unfinished = directory / records.UNFINISHED

    def images(self) -> list[tuple[Record, list[str]]]:
        """Every image, and its names, by the first of these."""
        named: dict[str, list[str]] = {}
        for name, image in sorted(records.names(str(self._directory)).items()):
            named.setdefault(image, []).append(name)
        return [(records.read(str(self._directory), image), names) for image, names in named.items()]

    def load(self, archive: Path, name: str | None = None) -> list[tuple[Record, list[str]]]:
        """Add the images of an archive, under `name` or the names in it. Raises `NetlabError`: then nothing changes."""
        with self._changing():
            return self._add(archives.unpacked(archive, self._scratch()), name)

    def load_folder(self, folder: Path, name: str, digest: str) -> list[tuple[Record, list[str]]]:
        """Add the image in a folder of skopeo's, whose manifest has that digest in its registry."""
        with self._changing():
            found = {each.name: each for each in folder.iterdir() if each.is_file() and not each.is_symlink()}
            return self._add(found, name, digest)

    def remove(self, reference: str) -> None:
        """Remove a name and, if it was an image's last, the image.

        Raises `NotFoundError`, and `ConflictError` for an image that a lab runs.
        """
        with self._changing():
            known = records.names(str(self._directory))
            wanted = full_name(reference)
            if wanted not in known:
                raise NotFoundError(f"there is no image {reference!r}{did_you_mean(wanted, list(known))}")
            image = known.pop(wanted)
            path = self._record(image)
            if image not in known.values():
                with path.open("rb") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        raise ConflictError(
                            f"image {reference} is in use: a container of a lab runs it; end it (`netlab down`) first"
                        ) from None
                    self._write_names(known)
                    path.unlink()
            else:
                self._write_names(known)

    def _add(self, found: Mapping[str, Path], name: str | None, digest: str = "") -> list[tuple[Record, list[str]]]:
        added = []
        images = archives.images(found)
        if name is not None and len(images) != 1:
            raise UsageError(f"it holds {len(images)} images, so they cannot all be called {name}")
        for image in images:
            names = [full_name(each) for each in ([name] if name is not None else image.names)]
            if not names:
                raise UsageError("the image in it has no name: give it one with --name")
            added.append((self._keep(image, digest or image.digest), names))
        known = records.names(str(self._directory))
        self._write_names(known | {each: record.id for record, names in added for each in names})
        return added

    def _keep(self, image: archives.Image, digest: str) -> Record:
        diff_ids, process = config.parse(image.configuration)
        if len(diff_ids) != len(image.layers):
            raise UsageError(f"the image has {len(image.layers)} layers, and its configuration {len(diff_ids)}")
        size = sum(self._unpacked(layer, diff_id) for layer, diff_id in zip(image.layers, diff_ids, strict=True))
        record = Record(hashlib.sha256(image.configuration).hexdigest(), diff_ids, size, digest, **process)
        if not self._record(record.id).exists():  # a lab may hold it: the file stays the same
            # Machines read it as another user, who sees the store as the lab's root.
            whole.replace(self._record(record.id), json.dumps(dataclasses.asdict(record)))
        return record

    def _unpacked(self, layer: Path, diff_id: str) -> int:
        """Unpack a layer, unless the store has it; the bytes of its files."""
        kept = self._directory / records.LAYERS / diff_id
        if not kept.exists():
            made = self._scratch()
            (made / "tree").mkdir(mode=0o755)
            (made / "size").write_text(f"{layers.unpack(layer, made / 'tree', diff_id)}\n")
            made.chmod(0o755)
            made.rename(kept)
        return int((kept / "size").read_text(encoding="ascii"))

    def _scratch(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._unfinished))

    def _record(self, image: str) -> Path:
        return self._directory / records.IMAGES / f"{image}.json"

    def _write_names(self, names: Mapping[str, str]) -> None:
        whole.replace(self._directory / records.NAMES, json.dumps(names))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Let nobody else change the store meanwhile."""
        home = self._directory.parent
        is_new = not home.exists()
        try:
            used = records.use(str(self._directory))
            try:
                with (self._directory / records.LOCK).open("w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    try:
                        yield
                    finally:
                        self._sweep()
            finally:
                os.close(used)
                records.remove_unused(str(self._directory))
                if is_new:
                    with contextlib.suppress(OSError):
                        home.rmdir()
        except OSError as error:
            raise write_failure(error)(f"{error.filename or self._directory}: {error.strerror}") from None

    def _sweep(self) -> None:
        """Remove images without a name, layers that no image has, and what is half made."""
        named = set(records.names(str(self._directory)).values())
        used: set[str] = set()
        for path in (self._directory / records.IMAGES).glob("*.json"):
            if path.stem in named or _is_held(path):
                used.update(records.read(str(self._directory), path.stem).layers)
            else:
                path.unlink()
        for layer in (self._directory / records.LAYERS).iterdir():
            if layer.name not in used:
                layer.rename(self._unfinished / layer.name)
        for each in self._unfinished.iterdir():
            _remove_tree(each)


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def full_name(reference: str) -> str:
    """A reference in full. Raises `UsageError`."""
    try:
        return references.full(reference)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _remove_tree(path: Path) -> None:
    """Remove a folder, also of an image that forbids its owner to write to its own folders. Raises `NetlabError`."""
    for folder, below, _ in os.walk(path):
        for each in (Path(folder, name) for name in below):
            if not each.is_symlink():
                each.chmod(0o700)
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise NetlabError(f"{error.filename}: {error.strerror}") from None
