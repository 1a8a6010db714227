"""What makes a process a host: namespaces of its own, loopback up, and a file tree that it cannot harm.

A machine sees the host's file tree read-only, with three exceptions: /run and /tmp are its own, and the lab's
directory is writable. As root and as an ordinary user in a user namespace the result is the same.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from netlab.machine import signals
from netlab.net import syscalls

_SIOCGIFFLAGS = 0x8913  # include/uapi/linux/sockios.h
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sH22x")

_OWN_TREES = (("/run", "mode=0755"), ("/tmp", "mode=1777"), ("/dev/shm", "mode=1777"))  # noqa: S108


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """What a machine is told when it is made. `lab_dir` stays writable within it."""

    name: str
    socket: str
    hostname: str
    lab_dir: str


def make_host(config: MachineConfig) -> int:
    """Turn the calling process, pid 1 of a new pid namespace, into a host of its own.

    Returns a descriptor of the mount namespace that containers are copied from. It never sees what is mounted later:
    a container that copied the pins of other pods' network namespaces would keep them alive, and to unmount them
    costs each container a grace period of RCU (1-4 ms).

    Raises `OSError` naming what could not be made.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
    socket.sethostname(config.hostname)
    bring_up_loopback()
    _make_file_tree(config.lab_dir)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    _make_containers_devices()
    template = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(own, syscalls.CLONE_NEWNS)
    os.close(own)
    return template


def bring_up_loopback() -> None:
    """Set lo up in the current network namespace; the kernel gives it 127.0.0.1 and ::1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = _IFREQ.pack(b"lo", 0)
        _, flags = _IFREQ.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))


def forget_signals(numbers: Iterable[int]) -> None:
    """In a forked child: handle these signals as a new process does; an ignored one stays so over execve(2)."""
    signals.wake(-1)
    signals.handle_by_default(numbers)
    signals.unblock_all()


def open_log(path: str) -> None:
    """In a forked child: append standard output and error to a private file, and read nothing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    try:
        log = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120 - pid 1 stays small
        log = os.open(path, flags, 0o600)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def mount_sysfs() -> None:
    """Show the current network namespace in /sys, read-only, where it is allowed.

    The kernel refuses when something is mounted over parts of the /sys at hand (as container engines do): then the
    old one stays, and only /sys/class/net is not this namespace's.
    """
    try:
        syscalls.mount("sysfs", "/sys", "sysfs", _QUIET | syscalls.MS_RDONLY)
    except OSError:
        return


def mount_proc() -> None:
    """A /proc of the current pid namespace."""
    syscalls.mount("proc", "/proc", "proc", _QUIET)


_QUIET = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def _make_file_tree(lab_dir: str) -> None:
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.set_read_only("/", recursive=True)
    # Opened before /run and /tmp are replaced: the lab, or netlab itself, may live beneath them.
    kept = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _kept_paths(lab_dir)}
    for path, options in _OWN_TREES:
        if os.path.isdir(path):  # noqa: PTH112
            syscalls.mount("tmpfs", path, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    mount_proc()
    for path, descriptor in kept.items():
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
        syscalls.mount(f"/proc/self/fd/{descriptor}", path, None, syscalls.MS_BIND | syscalls.MS_REC)
        os.close(descriptor)
    syscalls.set_read_only(lab_dir, read_only=False, recursive=True)
    mount_sysfs()


def _make_containers_devices() -> None:
    """A /dev of the devices that every container may have, as runtimes make it; the host's disks are not there."""
    stage = "/tmp"  # noqa: S108
    syscalls.mount("tmpfs", stage, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, "mode=0755")
    for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx"):
        os.close(os.open(f"{stage}/{name}", os.O_WRONLY | os.O_CREAT, 0o666))
        syscalls.mount(f"/dev/{name}", f"{stage}/{name}", None, syscalls.MS_BIND)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"{stage}/{name}")  # noqa: PTH211
    for name in ("pts", "shm"):
        os.mkdir(f"{stage}/{name}")  # noqa: PTH102
    syscalls.mount("/dev/pts", f"{stage}/pts", None, syscalls.MS_BIND)
    syscalls.mount(stage, "/dev", None, syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.set_read_only("/dev")
    syscalls.umount(stage, syscalls.MNT_DETACH)


def _kept_paths(lab_dir: str) -> list[str]:
    """The lab's directory, and netlab's own files if /run or /tmp hold them; the outer before the inner."""
    code = (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]))
    hidden = {path for path in code if any(path.startswith(f"{tree}/") for tree, _ in _OWN_TREES)}
    return sorted({lab_dir} | hidden, key=len)
