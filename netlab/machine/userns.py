"""User namespaces: they make a lab's root an unprivileged user on this host."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from netlab.errors import UnsupportedError
from netlab.machine import privileges
from netlab.net import syscalls


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids of this host that belong to one lab alone: `first` is its root, `count` how many it has."""

    first: int
    count: int = 65536


def enter_user_namespace() -> None:
    """Become root of a new user namespace, in which root is the current user and there are no other users.

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
    """Move into a new user namespace without users so far. Raises `UnsupportedError` when the kernel refuses."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError as error:
        raise _refused(error) from error


def map_ids(pid: int, ids: IdRange) -> None:
    """Map users and groups into a process's user namespace. Raises `OSError` if the caller is not root."""
    for kind in ("uid", "gid"):
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {ids.first} {ids.count}", encoding="ascii")


def descriptor_of(ids: IdRange) -> int:
    """A descriptor of a user namespace with these users and groups, and no process. Only root can make one."""
    alive_read, alive_write = os.pipe()
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(alive_write)
            unshare()
            os.write(ready_write, b"\0")
            os.read(alive_read, 1)
        finally:
            os._exit(0)
    try:
        os.close(ready_write)
        os.read(ready_read, 1)
        map_ids(child, ids)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for each in (alive_read, alive_write, ready_read):
            os.close(each)
        os.waitpid(child, 0)


def leave_callers_credentials() -> None:
    """Leave the caller's session keyring and supplementary groups.

    Root of an ordinary user's lab cannot leave that user's groups (user_namespaces(7)): they stay.
    """
    with contextlib.suppress(PermissionError):
        os.setgroups([])
    try:
        syscalls.join_new_session_keyring()
    except OSError as error:
        # The kernel has no keyrings, or a container engine's seccomp filter refuses these calls.
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES):
            raise


def become_root() -> None:
    """Become root of the user namespace that this process has entered from outside, with root's group only."""
    # user_namespaces(7): if an outer user namespace has disabled setgroups(2), root here cannot change its groups.
    with contextlib.suppress(PermissionError):
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # After the change of user, /proc/PID of this process and of its forks belongs to the host's root.
    syscalls.set_dumpable(True)


def _refused(error: OSError) -> UnsupportedError:
    if os.geteuid() == 0:
        allow = f"{privileges.remedy(ordinary=False)}; `netlab up --privileged` does without"
        return UnsupportedError(f"user namespaces are refused here ({error.strerror}), and a lab runs in one: {allow}")
    allow = privileges.remedy(ordinary=True)
    return UnsupportedError(
        f"user namespaces are refused here ({error.strerror}), so netlab cannot run as an ordinary user: {allow}"
    )


def is_inside() -> bool:
    """Whether this process is in another user namespace than the host's first, which maps every id to itself."""
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", str(2**32 - 1)]
