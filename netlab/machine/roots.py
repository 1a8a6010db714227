"""Containers' root file systems: what all share lies below, and what one has written on top of it (overlayfs).

The lower layers are the lab's root file system (`rootfs`), the host's /usr and the files of the built-in image. The
upper one is a tmpfs of the container's own mount namespace, which the kernel frees with its last process.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from netlab.machine import images
from netlab.net import syscalls

_LAYERS = "/run"
"""Where a machine's template has the layers of its own; containers have another /run."""
_USR = "/usr"


@dataclass(frozen=True, slots=True)
class Base:
    """What the roots of a machine's containers stand on.

    `overlaid` are the mounts of a root that it may write to: / and, unless the kernel lays nothing over the host's /usr
    (which has mounts in it, or is a stack of overlays already), /usr. `moved` are those that it has as they are.
    """

    overlaid: tuple[str, ...]
    moved: tuple[str, ...]


def prepare(bound: Sequence[str]) -> Base:
    """Make the layers in a template's mount namespace; `bound` are the mounts of the lab's root file system.

    Raises `OSError`: ENODEV if this kernel has no overlayfs.
    """
    mask = os.umask(0o022)
    syscalls.mount("tmpfs", _LAYERS, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755,size=4m")
    _make_folders_of_usr()
    for name, image in images.IMAGES.items():
        for path, text in image.files.items():
            file = f"{_layer(name)}{path}"
            os.makedirs(os.path.dirname(file), exist_ok=True)  # noqa: PTH103, PTH120 - pid 1 stays small
            with open(file, "w", encoding="utf-8") as made:  # noqa: PTH123
                made.write(text)
    os.umask(mask)
    alone = _USR in bound and not any(path.startswith(f"{_USR}/") for path in bound)
    overlaid = ("/", _USR) if alone and _can_be_overlaid(_USR) else ("/",)
    outermost = [path for path in bound if not any(path.startswith(f"{each}/") for each in bound)]
    # What lies in a tree that the template has unmounted is not there.
    moved = [path for path in outermost if path not in overlaid and os.path.exists(path)]  # noqa: PTH110
    return Base(overlaid, ("/dev", *moved))


def enter(base: Base, image: str, stage: str, places: Sequence[str]) -> None:
    """Make the root of a container of a built-in image, and make it this process's.

    `stage` is a writable file system; it gets the upper layers. `places` are where something will be mounted. Raises
    `OSError`.
    """
    os.umask(0o022)
    root, layer = f"{stage}/root", _layer(images.name_of(image))
    os.mkdir(root)  # noqa: PTH102
    for number, tree in enumerate(base.overlaid):
        lower = [tree] if tree == "/" else [f"{_LAYERS}{tree}", tree]
        if os.path.isdir(f"{layer}{tree}"):  # noqa: PTH112
            lower.insert(0, f"{layer}{tree}")
        upper, work = f"{stage}/upper-{number}", f"{stage}/work-{number}"
        os.mkdir(upper)  # noqa: PTH102
        os.mkdir(work)  # noqa: PTH102
        for folder in _folders_to_own(places) if tree == _USR else ():
            os.makedirs(f"{upper}{folder}", exist_ok=True)  # noqa: PTH103
        options = f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work},userxattr"
        syscalls.mount("overlay", f"{root}{tree}", "overlay", syscalls.MS_NODEV, options)
    for path in base.moved:
        syscalls.mount(path, f"{root}{path}", None, syscalls.MS_MOVE)
    _change_to(root)


def enter_image(layers: Sequence[str], stage: str) -> None:
    """Make the root of a container of an image with these layers, the lowest first, and make it this process's.

    What is in it is not trusted. It gets /proc, /sys and /dev, the last with all that is in it.
    """
    os.umask(0o022)
    root, upper, work = f"{stage}/root", f"{stage}/upper", f"{stage}/work"
    for folder in (root, upper, work):
        os.mkdir(folder)  # noqa: PTH102
    devices = syscalls.clone_mount("/dev", recursive=True)
    # By descriptors: their paths would be too long for mount(2), and could have a colon.
    opened = [os.open(each, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for each in reversed(layers)]
    lower = ":".join(f"/proc/self/fd/{each}" for each in opened)
    options = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
    syscalls.mount("overlay", root, "overlay", syscalls.MS_NODEV, options)
    for each in opened:
        os.close(each)
    _change_to(root)
    for place in ("/proc", "/sys", "/dev"):
        if os.path.islink(place):  # noqa: PTH114
            raise OSError(errno.ELOOP, "a link in the image, where a container has a file system of the kernel", place)
        os.makedirs(place, exist_ok=True)  # noqa: PTH103
    syscalls.move_mount(devices, "/dev")
    os.close(devices)


def _change_to(root: str) -> None:
    """Make a directory this process's root, and that of all that joins its mount namespace.

    Not by pivot_root(2) and an unmount, which would wait for an RCU grace period. What is below holds no secret.
    """
    os.chdir(root)
    syscalls.mount(".", "/", None, syscalls.MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def _layer(name: str) -> str:
    return f"{_LAYERS}/images/{name}"


def _make_folders_of_usr() -> None:
    """A layer with the upper folders of the host's /usr: they belong to the lab's root, so containers can write there.

    Those of the host are nobody's in a user namespace, and its root may not write to them.
    """
    os.mkdir(f"{_LAYERS}{_USR}")  # noqa: PTH102
    for folder in (_USR, f"{_USR}/local"):
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for each in entries:
                if each.is_dir(follow_symlinks=False):
                    os.makedirs(f"{_LAYERS}{each.path}", exist_ok=True)  # noqa: PTH103


def _can_be_overlaid(path: str) -> bool:
    probe = "/mnt"
    try:
        syscalls.mount("overlay", probe, "overlay", syscalls.MS_RDONLY, f"lowerdir={_LAYERS}{path}:{path},userxattr")
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise OSError(error.errno, "this kernel has no overlayfs: `modprobe overlay`") from error
        return False
    syscalls.umount(probe, syscalls.MNT_DETACH)
    return True


def _folders_to_own(places: Sequence[str]) -> list[str]:
    """The folders of /usr in which a container will make a place: as the host's, they would be nobody's here."""
    found = []
    for place in places:
        real = os.path.realpath(place)
        if real.startswith(f"{_USR}/") and not os.path.lexists(real):
            found.append(os.path.dirname(real).removeprefix(_USR))  # noqa: PTH120
    return found
