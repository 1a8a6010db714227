"""User namespaces: what makes root of a lab nobody on this host."""

from __future__ import annotations

import contextlib
import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

from netlab.errors import UnsupportedError
from netlab.machine import privileges
from netlab.net import syscalls

_PR_SET_DUMPABLE = 4


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids of this host that belong to nothing but one lab: `first` is its root, `count` how many it has."""

    first: int
    count: int = 65536


def enter_user_namespace() -> None:
    """Become root of a new user namespace, in which root is the present user and nobody else exists.

    Raises `UnsupportedError` when the kernel refuses.
    """
    user, group = os.geteuid(), os.getegid()
    unshare()
    try:
        # user_namespaces(7): an unprivileged writer of gid_map must give up setgroups(2) first.
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    except OSError as error:
        raise _refused(error) from error


def unshare() -> None:
    """Move into a new user namespace, in which nobody exists yet. Raises `UnsupportedError` when the kernel refuses."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError as error:
        raise _refused(error) from error


def map_ids(pid: int, ids: IdRange) -> None:
    """Give the user namespace of a process its users and groups. Raises `OSError` if the caller is not root."""
    for kind in ("uid", "gid"):
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {ids.first} {ids.count}", encoding="ascii")


def become_root() -> None:
    """Be root of the user namespace that this process has entered from outside, and in no group but root's."""
    # user_namespaces(7): where an outer user namespace has given up setgroups(2), root here may not change its groups.
    with contextlib.suppress(PermissionError):
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # The change of user has made /proc/PID of this process, and of all its forks, the host's root's.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *map(ctypes.c_ulong, (1, 0, 0, 0)))


def _refused(error: OSError) -> UnsupportedError:
    if os.geteuid() == 0:
        allow = f"{privileges.remedy(ordinary=False)}; `netlab up --privileged` does without"
        return UnsupportedError(f"user namespaces are refused here ({error.strerror}), and a lab runs in one: {allow}")
    allow = privileges.remedy(ordinary=True)
    return UnsupportedError(
        f"user namespaces are refused here ({error.strerror}), so netlab cannot run as an ordinary user: {allow}"
    )
