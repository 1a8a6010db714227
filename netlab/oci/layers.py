"""Unpacks a layer, an untrusted tar file, into a directory that overlayfs takes as a lower one.

A whiteout (image-spec, layer.md) becomes a character device 0/0, which an ordinary user may make too (Linux 5.8), an
opaque folder one with the attribute user.overlay.opaque. Nothing is written outside the directory: each component of
each path is opened without following links. Extended attributes are not kept; file capabilities would do nothing, as
containers have no_new_privs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from netlab.errors import UnsupportedError, UsageError
from netlab.oci.streams import CHUNK, Plain

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_RESERVED = ".wh..wh."
"""AUFS' own files (image-spec, layer.md)."""
_MOST_MEMBERS = 1_000_000
_MOST_IDS = (1 << 32) - 1
_LATEST = 15_032_385_536
"""Seconds since the epoch that every file system can keep (ext4's in the year 2446)."""
_DEVICES_OF_CONTAINERS = "dev"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(layer: Path, target: Path, diff_id: str) -> int:
    """Unpack a layer into an empty directory; the bytes of its files.

    Raises `UsageError` for a layer that is damaged, malicious or not the one of that diff id, and `UnsupportedError`.
    """
    with Plain(layer) as plain:
        try:
            size = _Unpacking(target).all_of(plain)
        except tarfile.TarError as error:
            raise UsageError(f"layer {diff_id[:12]} is damaged: {error}") from None
        except _MemberError as error:
            raise UsageError(f"layer {diff_id[:12]}: {error}, and is refused") from None
        if (found := plain.digest()) != diff_id:
            raise UsageError(f"layer {diff_id[:12]} is not what the image says: its digest is {found[:12]}")
    return size


class _MemberError(Exception):
    """A member of a layer that no honest one has."""


class _Unpacking:
    def __init__(self, target: Path) -> None:
        self._target = target
        self._owned = os.geteuid() == 0
        self._folders: dict[str, tuple[int, float]] = {}
        """Their modes and times, which are set last: an ordinary user cannot write into each."""

    def all_of(self, plain: Plain) -> int:
        size = 0
        with tarfile.open(fileobj=plain, mode="r:", errors="surrogateescape", bufsize=CHUNK) as tar:  # type: ignore[call-overload]
            for number, member in enumerate(tar):
                if number >= _MOST_MEMBERS:
                    raise _MemberError("it has too many files")
                tar.members = []  # which tarfile keeps
                self._one(tar, member)
                size += member.size if member.isreg() else 0
        for path, (mode, when) in self._folders.items():
            with self._folder(_parts(path)) as folder:
                os.fchmod(folder, mode)
                os.utime(folder, (when, when))
        return size

    def _one(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            self._folders["."] = (stat.S_IMODE(member.mode), _time(member))
            self._own(".", member, os.open(self._target, _FOLDER))
            return
        name = parts[-1]
        with self._folder(parts[:-1]) as parent:
            if name == _OPAQUE:
                self._make_opaque(parent)
            elif name.startswith(_RESERVED):
                return
            elif name.startswith(_WHITEOUT):
                hidden = _parts(name.removeprefix(_WHITEOUT))
                if len(hidden) != 1:
                    raise _MemberError(f"{member.name!r} is no whiteout")
                _remove(parent, hidden[0])
                os.mknod(hidden[0], stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            elif member.isdir():
                self._make_folder(parent, name, member)
            elif member.ischr() or member.isblk():
                if parts[0] != _DEVICES_OF_CONTAINERS:
                    raise _MemberError(f"{member.name!r} is a device")
            else:
                self._make_file(tar, member, parent, name)

    def _make_folder(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                _remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        self._folders["/".join(_parts(member.name))] = (stat.S_IMODE(member.mode), _time(member))
        self._own(name, member, os.open(name, _FOLDER, dir_fd=parent))

    def _make_file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        _remove(parent, name)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
            if self._owned:
                os.chown(name, *_owner(member), dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            self._link(member, parent, name)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
            self._own(name, member, os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=parent))
        elif member.isreg() and not member.issparse():
            made = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
            content = tar.extractfile(member)
            assert content is not None
            while chunk := content.read(CHUNK):
                os.write(made, chunk)
            self._own(name, member, made)
        else:
            raise _MemberError(f"{member.name!r} is of an unknown kind")

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        target = _parts(member.linkname)
        if not target:
            raise _MemberError(f"{member.name!r} is a hard link to nothing")
        with self._folder(target[:-1], make=False) as folder:
            try:
                if stat.S_ISDIR(os.stat(target[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                    raise _MemberError(f"{member.name!r} is a hard link to a folder")
                os.link(target[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                raise _MemberError(f"{member.name!r} is a hard link to what is not in the layer") from None

    def _own(self, name: str, member: tarfile.TarInfo, descriptor: int) -> None:
        """Give a file, which is closed, its owner, mode and time; of a folder, the owner alone."""
        try:
            if self._owned:
                os.fchown(descriptor, *_owner(member))
            if not member.isdir():
                os.fchmod(descriptor, stat.S_IMODE(member.mode))
                os.utime(descriptor, (_time(member), _time(member)))
        finally:
            os.close(descriptor)

    @staticmethod
    def _make_opaque(folder: int) -> None:
        try:
            os.setxattr(folder, "user.overlay.opaque", b"y")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            raise UnsupportedError(
                "the images' file system has no extended attributes, which layers need: "
                "set NETLAB_HOME to a directory of another (ext4, xfs, btrfs; tmpfs since Linux 6.6)"
            ) from None

    @contextlib.contextmanager
    def _folder(self, parts: list[str], *, make: bool = True) -> Iterator[int]:
        """A folder of the layer, made if the layer has not said anything of it."""
        here = os.open(self._target, _FOLDER)
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=here)
                try:
                    below = os.open(part, _FOLDER, dir_fd=here)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
                        raise
                    raise _MemberError(f"{'/'.join(parts)!r} leads through what is no folder") from None
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


def _owner(member: tarfile.TarInfo) -> tuple[int, int]:
    if not (0 <= member.uid < _MOST_IDS and 0 <= member.gid < _MOST_IDS):
        raise _MemberError(f"{member.name!r} belongs to nobody that there can be")
    return member.uid, member.gid


def _time(member: tarfile.TarInfo) -> float:
    return member.mtime if 0 <= member.mtime < _LATEST else 0


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise _MemberError(f"{name!r} leads out of it")
    return parts


def _remove(parent: int, name: str) -> None:
    """Remove what an earlier member made there: of two with one name the later counts."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            raise _MemberError(f"{name!r} is a folder and something else") from error
