"""Writing files that can be removed again: the digest of each is recorded beside it, so that exactly those files go."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from netlab import files
from netlab.errors import ConflictError, NetlabError, NotFoundError, UnsupportedError, write_failure

RECORD = ".netlab-installed"
"""What was installed in a folder, in the format of sha256sum(1). Runtimes ignore dot files."""
READABLE = 0o644
"""Like everything in /etc/cni/net.d: it holds no secret, and rootless engines and `netlab cni` read it too."""


def note(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Add the digests of what is going to be written to a folder to its record. Raises `NetlabError`."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    lines = [f"{digest}  {name}\n" for name, digest in (_recorded(folder) | digests).items()]
    write(folder / RECORD, "".join(lines).encode(), READABLE)


def write(path: Path, content: bytes, mode: int) -> Path:
    """Write a file atomically, and its folder if needed; its path. Raises `NetlabError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, content, mode)
    except OSError as error:
        raise _refused(path, error) from error
    return path


def remove(folder: Path) -> tuple[list[Path], list[Path]]:
    """Remove what is recorded in a folder; returns what was removed, and what was kept because it has changed since.

    Raises `NotFoundError` if nothing is recorded there.
    """
    found = _recorded(folder)
    if not found:
        raise NotFoundError(f"{folder}: netlab installed nothing there (there is no {RECORD})")
    removed, kept = [], []
    try:
        for name, digest in found.items():
            path = folder / name
            if _digest(path) == digest:
                path.unlink()
                removed.append(path)
            elif path.exists():
                kept.append(path)
        (folder / RECORD).unlink()
    except OSError as error:
        raise _refused(folder, error) from error
    return removed, kept


def refuse_foreign(paths: Sequence[Path]) -> None:
    """Refuse to replace files of one folder that are not as they were recorded. Raises `ConflictError`."""
    known = _recorded(paths[0].parent)
    for path in paths:
        if path.is_symlink() or (path.exists() and known.get(path.name) != _digest(path)):
            raise ConflictError(
                f"{path}: exists, and is not what netlab installed; remove it, or replace it with --force"
            )


def _recorded(folder: Path) -> dict[str, str]:
    """The digest of each file installed in a folder, by name."""
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NetlabError(f"{folder / RECORD}: {error}; remove it and the files it lists") from error
    found = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        if not name or "/" in name:
            raise NetlabError(f"{folder / RECORD}: {line!r} is not a line of sha256sum(1); remove it by hand")
        found[name] = digest
    return found


def _refused(path: Path, error: OSError) -> NetlabError:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return UnsupportedError(f"{error.filename or path}: {error.strerror}: become root, or choose another folder")
    return write_failure(error)(f"{error.filename or path}: {error.strerror}")


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
