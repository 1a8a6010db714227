"""The files of a volume, of which a reader has all of one version or all of another (pkg/volume/util, AtomicWriter).

    key -> ..data/key                  what a container opens
    ..data -> ..2026_03_01_12_00_00.x  replaced by one rename(2)
    ..2026_03_01_12_00_00.x/key        this version's files

A mount of one file (subPath) stays with the version that it was made of.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from netlab.errors import UsageError

_DATA, _NEXT = "..data", "..data_tmp"
_OWN = ".."
"""What names that are not the volume's own files begin with."""


@dataclass(frozen=True)
class File:
    """What a file of a volume holds; `owner` is None for root."""

    content: bytes
    mode: int
    owner: int | None = None


def write(directory: Path, contents: Mapping[str, File], group: int | None = None) -> None:
    """Have a directory hold these files, by their relative paths, and no others.

    With a group, it may read them (pkg/volume, SetVolumeOwnership). Raises `UsageError` for a path that is not in the
    directory, and `OSError`.
    """
    bad = next((path for path in contents if not _is_inside(path)), None)
    if bad is not None:
        raise UsageError(f"{bad!a} is not inside of it")
    directory.mkdir(parents=True, exist_ok=True)
    _give(directory, group, 0o755)
    if not _holds(directory / _DATA, contents, group):
        _replace(directory, contents, group)
    _show(directory, {path.partition("/")[0] for path in contents})


def _is_inside(path: str) -> bool:
    return bool(path) and not path.startswith(("/", _OWN)) and ".." not in path.split("/")


def _holds(current: Path, contents: Mapping[str, File], group: int | None) -> bool:
    found = {str(path.relative_to(current)): path for path in current.rglob("*") if not path.is_dir()}
    return found.keys() == contents.keys() and all(
        _is_same(path, contents[name], group) for name, path in found.items()
    )


def _is_same(path: Path, file: File, group: int | None) -> bool:
    status = path.stat()
    owned = status.st_uid == (os.geteuid() if file.owner is None else file.owner) and group in (None, status.st_gid)
    return owned and stat.S_IMODE(status.st_mode) == _mode(file, group) and path.read_bytes() == file.content


def _mode(file: File, group: int | None) -> int:
    return file.mode if group is None else file.mode | 0o440


def _replace(directory: Path, contents: Mapping[str, File], group: int | None) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()), dir=directory))
    try:
        for path, file in contents.items():
            for parent in reversed((fresh / path).relative_to(fresh).parents[:-1]):
                (fresh / parent).mkdir(exist_ok=True)
                _give(fresh / parent, group, 0o755)
            _create(fresh / path, file, group)
        _give(fresh, group, 0o755)
        # One is left if a kubelet was killed between the two.
        (directory / _NEXT).unlink(missing_ok=True)
        (directory / _NEXT).symlink_to(fresh.name)
        (directory / _NEXT).rename(directory / _DATA)
    except (OSError, UsageError):
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    for old in directory.glob(f"{_OWN}*"):
        if old.name not in (_DATA, fresh.name):
            shutil.rmtree(old, ignore_errors=True)


def _create(path: Path, file: File, group: int | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as made:  # noqa: PTH123 - a descriptor, not a path
        made.write(file.content)
        _own(descriptor, file.owner, group)
        os.fchmod(descriptor, _mode(file, group))


def _give(directory: Path, group: int | None, mode: int) -> None:
    if group is not None:
        _own(directory, None, group)
        mode |= 0o2550
    directory.chmod(mode)


def _own(file: Path | int, owner: int | None, group: int | None) -> None:
    if owner is None and group is None:
        return
    try:
        os.chown(file, -1 if owner is None else owner, -1 if group is None else group)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        whose = f"group {group}" if owner is None else f"user {owner}"
        only = "an ordinary user's has one id alone, root's have 65,536"
        raise UsageError(f"it is to belong to {whose}, whom this lab does not have: {only}") from None


def _show(directory: Path, names: set[str]) -> None:
    """Have links to what is in `..data`, and to nothing else."""
    for name in names:
        with contextlib.suppress(FileExistsError):
            (directory / name).symlink_to(f"{_DATA}/{name}")
    for path in directory.iterdir():
        if path.name not in names and not path.name.startswith(_OWN):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
