"""Users as an image names them: found in the container's own /etc/passwd and /etc/group, which it may have written."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

_LARGEST = 4 << 20  # bytes of a file that are read


@dataclass(frozen=True, slots=True)
class User:
    """Who runs a process: its user, group and further groups, and its home."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"


def find(name: str) -> User:
    """The user of an image's `User`: "", USER or USER:GROUP, each a name or a number (image-spec, config.md).

    Raises `OSError` (ENOENT) for a name that the container does not know.
    """
    wanted, _, group = name.partition(":")
    wanted = wanted or "0"
    # Of passwd(5): name, password, uid, gid, comment, home.
    entry = next((each for each in _lines("/etc/passwd", 6) if wanted in (each[0], each[2])), None)
    if entry is None and not wanted.isdecimal():
        raise OSError(errno.ENOENT, f"the image runs as {wanted!r}, whom its /etc/passwd does not have")
    uid, gid = (int(wanted), 0) if entry is None else (int(entry[2]), int(entry[3]))
    home = "/" if entry is None else entry[5]
    if group:
        return User(uid, _group(group), home=home or "/")
    # Of group(5): name, password, gid, members.
    groups = tuple(int(each[2]) for each in _lines("/etc/group", 4) if entry and entry[0] in each[3].split(","))
    return User(uid, gid, groups, home or "/")


def become(user: User, env: MutableMapping[str, str]) -> None:
    """Make this process that user's, and say in its environment where home is, unless that says so already.

    Raises `OSError`: EINVAL for one whom the lab's user namespace does not have.
    """
    env.setdefault("HOME", user.home)
    if not (user.uid or user.gid or user.groups):
        return
    try:
        # An ordinary user's lab cannot change its groups (user_namespaces(7)).
        with contextlib.suppress(PermissionError):
            os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise OSError(
            errno.EINVAL,
            f"the container is to run as user {user.uid} and group {user.gid}, whom this lab does not have: "
            "an ordinary user's has one id alone, root's have 65,536",
        ) from None


def _group(name: str) -> int:
    if name.isdecimal():
        return int(name)
    found = next((int(each[2]) for each in _lines("/etc/group", 4) if each[0] == name), None)
    if found is None:
        raise OSError(errno.ENOENT, f"the image runs with the group {name!r}, which its /etc/group does not have")
    return found


def _lines(path: str, fields: int) -> Iterator[list[str]]:
    """The entries of a file of users or groups that are whole, with numbers where they belong."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            text = os.read(descriptor, _LARGEST).decode(errors="replace")
        finally:
            os.close(descriptor)
        for line in text.splitlines():
            entry = line.split(":")
            numbers = entry[2:4] if fields > 4 else entry[2:3]
            if len(entry) >= fields and all(each.isdecimal() and len(each) <= 10 for each in numbers):
                yield entry
