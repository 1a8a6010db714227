"""The system calls that Python 3.11 has no functions for: namespaces, mounts, process control.

Each raises `OSError` with the kernel's errno and the name of the object. Constants are the kernel's
(include/uapi/linux/sched.h, mount.h, prctl.h). Imports stay minimal: pid 1 of every node and every CNI call load this.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than joining a hundred namespaces
    from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000

MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 0x01, 0x02

_OPEN_TREE_CLONE = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4

_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_ATTR_IDMAP = 0x100000
_AT_EMPTY_PATH = 0x1000
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429  # the same on every architecture since Linux 5.2
_SYS_OPENAT2 = 437  # the same on every architecture since Linux 5.6
_SYS_MOUNT_SETATTR = 442  # the same on every architecture since Linux 5.12
_SYS_PIVOT_ROOT = {"x86_64": 155}.get(os.uname().machine, 41)  # asm-generic/unistd.h; the C library has no function
_SYS_KEYCTL = {"x86_64": 250}.get(os.uname().machine, 219)
_KEYCTL_JOIN_SESSION_KEYRING = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _check(result: int, subject: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)


def _path(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def unshare(flags: int) -> None:
    """Move the calling process into new namespaces (unshare(2)); CLONE_NEWPID applies to its next child."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare {flags:#x}")


def setns(fd: int, kinds: int = 0) -> None:
    """Join the namespace behind `fd`, or with a pidfd (Linux 5.8) those namespaces of the process in `kinds`."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kinds)), f"setns {kinds:#x}")


def mount(
    source: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    kind: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """mount(2)."""
    result = _libc.mount(
        _path(source),
        _path(target),
        _path(kind),
        ctypes.c_ulong(flags),
        _path(data),
    )
    _check(result, str(target))


def umount(target: str | os.PathLike[str], flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(_path(target), ctypes.c_int(flags)), str(target))


def pivot_root(new: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.syscall(ctypes.c_long(_SYS_PIVOT_ROOT), _path(new), _path(put_old)), new)


def set_read_only(target: str | os.PathLike[str], *, read_only: bool = True, recursive: bool = False) -> None:
    """Make a mount, and with `recursive` all mounts below it, read-only or writable (mount_setattr(2))."""
    change = _MountAttr()
    if read_only:
        change.attr_set = _MOUNT_ATTR_RDONLY
    else:
        change.attr_clr = _MOUNT_ATTR_RDONLY
    flags = _AT_RECURSIVE if recursive else 0
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        _path(target),
        ctypes.c_uint(flags),
        ctypes.byref(change),
        ctypes.c_size_t(ctypes.sizeof(change)),
    )
    _check(result, str(target))


def set_propagation(fd: int, propagation: int) -> None:
    """Who sees what is mounted later in a mount that no namespace has yet, and below it: MS_PRIVATE or MS_SLAVE."""
    change = _MountAttr(propagation=propagation)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(fd),
        ctypes.c_char_p(b""),
        ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE),
        ctypes.byref(change),
        ctypes.c_size_t(ctypes.sizeof(change)),
    )
    _check(result, f"mount propagation {propagation:#x}")


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open what is at a relative path, which no link leads out of the directory (openat2(2), RESOLVE_BENEATH).

    EXDEV if one does.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    fd: int = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(directory),
        _path(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    _check(fd, path)
    return fd


def clone_mount(source: str, *, inside: str = "", recursive: bool = False) -> int:
    """A descriptor of a copy of what is mounted at a path, which no namespace has yet (open_tree(2)).

    With `inside`, of what is at that path below it, by no link that leads out of it. With `recursive`, of what is
    mounted below it too.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    if not inside:
        return _open_tree(_AT_FDCWD, source, flags)
    root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = open_beneath(root, inside, os.O_PATH)
    finally:
        os.close(root)
    try:
        return _open_tree(place, "", flags | _AT_EMPTY_PATH)
    finally:
        os.close(place)


def _open_tree(directory: int, path: str, flags: int) -> int:
    fd: int = _libc.syscall(ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(directory), _path(path), ctypes.c_uint(flags))
    _check(fd, path)
    return fd


def map_ids_of_mount(fd: int, user_namespace: int) -> None:
    """Show the owners of files as those that a user namespace maps them to, in a mount that no namespace has yet.

    EINVAL if its file system cannot (mount_setattr(2), MOUNT_ATTR_IDMAP).
    """
    change = _MountAttr(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=user_namespace)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(fd),
        ctypes.c_char_p(b""),
        ctypes.c_uint(_AT_EMPTY_PATH),
        ctypes.byref(change),
        ctypes.c_size_t(ctypes.sizeof(change)),
    )
    _check(result, "idmapped mount")


def move_mount(fd: int, target: str) -> None:
    """Mount what `clone_mount` gave at a path of this mount namespace (move_mount(2))."""
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOVE_MOUNT),
        ctypes.c_int(fd),
        ctypes.c_char_p(b""),
        ctypes.c_int(_AT_FDCWD),
        _path(target),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )
    _check(result, target)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give a part of a file back to the file system; it reads as zeros (fallocate(2))."""
    mode = ctypes.c_int(_FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE)
    result = _libc.fallocate64(ctypes.c_int(fd), mode, ctypes.c_int64(offset), ctypes.c_int64(length))
    _check(result, f"fallocate {offset}+{length}")


def set_socket_option(fd: int, level: int, option: int, value: bytes) -> None:
    """setsockopt(2) that lets other threads run meanwhile, unlike that of Python's sockets."""
    size = ctypes.c_uint(len(value))
    result = _libc.setsockopt(ctypes.c_int(fd), ctypes.c_int(level), ctypes.c_int(option), value, size)
    _check(result, f"setsockopt {option}")


def set_parent_death_signal(signal: int) -> None:
    """Make the kernel send `signal` to this process when its parent thread ends (PR_SET_PDEATHSIG)."""
    _prctl(PR_SET_PDEATHSIG, signal)


def set_process_name(name: str) -> None:
    """The name that ps and top show for this process: at most 15 bytes (PR_SET_NAME)."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(os.fsencode(name)[:15]))


def set_dumpable(dumpable: bool) -> None:
    """Keep /proc/PID/environ, mem and fd of this process from all without CAP_SYS_PTRACE, until execve(2); or not."""
    _prctl(PR_SET_DUMPABLE, int(dumpable))


def join_new_session_keyring() -> None:
    """Have a session keyring of its own, with no key, instead of the caller's (keyctl(2))."""
    _check(
        _libc.syscall(ctypes.c_long(_SYS_KEYCTL), ctypes.c_int(_KEYCTL_JOIN_SESSION_KEYRING), None), "session keyring"
    )


def _prctl(option: int, value: Any) -> None:
    zero = ctypes.c_ulong(0)
    argument = ctypes.c_ulong(value) if isinstance(value, int) else value
    _check(_libc.prctl(ctypes.c_int(option), argument, zero, zero, zero), f"prctl {option}")
