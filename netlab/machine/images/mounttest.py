"""agnhost's mounttest: it says what a volume's files are like, and writes new ones."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence

from netlab.machine.images import flags

INITIAL = "mount-tester new file\n"

_POLL = 2.0  # seconds
_LETTERS = ((stat.S_ISUID, "u"), (stat.S_ISGID, "g"), (stat.S_ISVTX, "t"))
_NEW = (0o644, 0o666, 0o660, 0o777)


def run(arguments: Sequence[str]) -> int:
    """Do what the flags ask for, in the order of the real one; returns the exit status."""
    paths = (
        "fs_type",
        *(f"new_file_{mode:04o}" for mode in _NEW),
        "file_mode",
        "file_perm",
        "file_owner",
        "file_content",
    )
    values, _ = flags.parse(
        arguments,
        dict.fromkeys((*paths, "file_content_in_loop"), (str, ""))
        | {"retry_time": (int, 180), "break_on_expected_content": (flags.boolean, True)},
    )
    os.umask(0)
    steps: dict[str, Callable[[str], str]] = {
        "fs_type": lambda path: f'mount type of "{path}": {_type_at(path)}',
        **{f"new_file_{mode:04o}": _writer(mode) for mode in _NEW},
        "file_mode": lambda path: f'mode of file "{path}": {mode_text(os.stat(path).st_mode)}',  # noqa: PTH116
        "file_perm": lambda path: f'perms of file "{path}": {mode_text(stat.S_IMODE(os.stat(path).st_mode) & 0o777)}',  # noqa: PTH116
        "file_owner": _owner,
        "file_content": content,
    }
    failed = False
    for name in paths:
        if values[name]:
            failed |= not _say(steps[name], values[name])
    if path := values["file_content_in_loop"]:
        failed |= not _loop(path, values["retry_time"], until_expected=values["break_on_expected_content"])
    return int(failed)


def _say(step: Callable[[str], str], path: str, otherwise: str = "") -> bool:
    try:
        print(step(path), flush=True)
    except OSError as error:
        reason = otherwise or f'error of "{path}"'
        print(f"{reason}: {error.strerror}", flush=True)
        return False
    return True


def _loop(path: str, seconds: int, *, until_expected: bool) -> bool:
    end, is_read = time.monotonic() + seconds, False
    while time.monotonic() < end:
        # Tests look for these words.
        is_read = _say(content, path, otherwise=f"Error reading file {path}")
        if until_expected and is_read and _read(path) == INITIAL:
            break
        time.sleep(_POLL)
    return is_read


def content(path: str) -> str:
    """What is in a file, as the real one says it."""
    return f'content of file "{path}": {_read(path)}'


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return file.read()


def _writer(mode: int) -> Callable[[str], str]:
    def write(path: str) -> str:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        os.write(descriptor, INITIAL.encode())
        os.close(descriptor)
        return content(path)

    return write


def _owner(path: str) -> str:
    found = os.stat(path)  # noqa: PTH116
    return f'owner UID of "{path}": {found.st_uid}\nowner GID of "{path}": {found.st_gid}'


def mode_text(mode: int) -> str:
    """A mode as Go writes it: what kind of file, then the nine permissions."""
    kind = ("d" if stat.S_ISDIR(mode) else "") + "".join(letter for bit, letter in _LETTERS if mode & bit)
    return (kind or "-") + "".join(
        letter if mode >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx")
    )


def _type_at(path: str) -> str:
    """The type of the file system, as the kernel calls it."""
    device = os.stat(path).st_dev  # noqa: PTH116
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:  # noqa: PTH123
        for line in mounts:
            if line.split()[2] == wanted:
                return line.rpartition(" - ")[2].split()[0]
    return "unknown"
