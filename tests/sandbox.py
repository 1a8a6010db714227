"""Namespaces of a test's own, for root and for an ordinary user alike."""

from __future__ import annotations

import functools
import gc
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import pytest

from netlab.net import syscalls

P = ParamSpec("P")

_SKIPPED = 77

_home = Path("/proc/self/ns/mnt").readlink()


def entered() -> bool:
    """Whether this process has mounts of its own: whatever it mounts, the host does not see."""
    return Path("/proc/self/ns/mnt").readlink() != _home


def enter(*, user: bool = False) -> None:
    """Move this single-threaded process into new network and mount namespaces.

    If it is not root, or with `user`, it is in a user namespace of its own, too.
    """
    uid, gid = os.geteuid(), os.getegid()
    kinds = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS
    if uid == 0 and not user:
        syscalls.unshare(kinds)
    else:
        syscalls.unshare(kinds | syscalls.CLONE_NEWUSER)
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1\n")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1\n")
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def isolated(test: Callable[P, Any]) -> Callable[P, None]:
    """Run a test in a child process in namespaces of its own; they vanish with it, whatever it did.

    Fixtures and parameters arrive as usual. A failure in the child fails the test with the child's traceback.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            # A collection that looks at every object of the parent would copy all its memory.
            gc.freeze()
            os.close(read_end)
            _child(test, write_end, *args, **kwargs)
        os.close(write_end)
        with os.fdopen(read_end, "r", errors="replace") as pipe:
            report = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == _SKIPPED:
            pytest.skip(report)
        if status != 0:
            pytest.fail(f"in its namespaces (status {status}):\n{report}", pytrace=False)

    return run


def _child(test: Callable[P, Any], write_end: int, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
    status, report = 0, ""
    try:
        enter()
        test(*args, **kwargs)
    except pytest.skip.Exception as skipped:
        status, report = _SKIPPED, str(skipped)
    except BaseException:
        status, report = 1, traceback.format_exc()
    with os.fdopen(write_end, "w") as pipe:
        pipe.write(report)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
