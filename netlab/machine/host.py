"""What makes a process a host: its own namespaces, loopback up, and a file tree that it cannot harm.

A machine sees the lab's root file system (`rootfs`), read-only, with three exceptions: /run and /tmp are its own, and
the lab's directory is writable. The result is the same for root and for an ordinary user in a user namespace.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netlab.machine import rootfs, roots, signals
from netlab.machine.cgroups.containers import Delegated
from netlab.net import syscalls
from netlab.net.peers import GUARD

_SIOCGIFFLAGS = 0x8913  # include/uapi/linux/sockios.h
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sH22x")


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """A machine's configuration. `lab_dir` stays writable in it; `cgroups` are where it makes those of containers."""

    name: str
    socket: str
    hostname: str
    lab_dir: str
    cgroups: tuple[Delegated, ...] = ()
    trees: tuple[str, ...] = ()
    """What is bound into the lab's root file system: the host's programs, and netlab's."""
    visible: tuple[str, ...] | None = None
    """What a child machine sees of the lab's directory, besides its own socket and the guard's; None: all of it."""

    @property
    def guard(self) -> str:
        """The socket of the lab's guard."""
        return f"{self.lab_dir}/{GUARD}"


def make_host(config: MachineConfig, enter_root: Callable[[], None] | None = None) -> tuple[int, roots.Base]:
    """Turn the calling process, pid 1 of a new pid namespace, into a host.

    The lab's first machine is already in its own mount namespace, in which `enter_root` makes the file tree; the
    others copy their parent's. Returns a descriptor of the mount namespace that containers are copied from, and what
    their roots stand on there. That namespace never sees what is mounted later: a container that copied the pins of
    other pods' network namespaces would keep them alive, and unmounting them would cost each container an RCU grace
    period (1-4 ms).

    Raises `OSError` naming what could not be made.
    """
    syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
    socket.sethostname(config.hostname)
    bring_up_loopback()
    if enter_root is not None:
        enter_root()
    else:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        rootfs.renew_own_trees(config.lab_dir)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    rootfs.make_template(config.lab_dir)
    base = roots.prepare(config.trees)
    template = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(own, syscalls.CLONE_NEWNS)
    os.close(own)
    return template, base


def bring_up_loopback() -> None:
    """Set lo up in the current network namespace; the kernel gives it 127.0.0.1 and ::1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = _IFREQ.pack(b"lo", 0)
        _, flags = _IFREQ.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))


def forget_signals(numbers: Iterable[int]) -> None:
    """In a forked child: give these signals their default handling; execve(2) would keep an ignored one ignored."""
    signals.wake(-1)
    signals.handle_by_default(numbers)
    signals.unblock_all()


def open_log_file(path: str) -> int:
    """A private file to append to; its folder is made if it is missing. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120 - pid 1 stays small
        return os.open(path, flags, 0o600)
