"""Commands run as root of a machine, to inspect its network and to break it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from netlab.descriptors import readable
from netlab.errors import NetlabError
from netlab.machine.join import join
from netlab.machine.userns import leave_callers_credentials

_CHUNK = 65536
_REFUSED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127


class Namespaces(NamedTuple):
    """Some namespaces (syscalls.CLONE_NEW*) of the process behind a pidfd."""

    pidfd: int
    kinds: int


class Ended(NamedTuple):
    """How a command ended: its exit status (-n by signal n; None: it timed out), and what it printed."""

    status: int | None
    text: str


def run(namespaces: Sequence[Namespaces], argv: Sequence[str], env: Mapping[str, str], timeout: float) -> Ended:
    """Run a command in `namespaces`, entered one after another; it has all rights there.

    `env` is its whole environment. It has no standard input, and the terminal's signals do not reach it: Ctrl-C, which
    makes a fault be undone, must not interrupt the undoing. The command is killed after `timeout` seconds.
    """
    sys.stdout.flush()  # otherwise the child would write the buffer too
    sys.stderr.flush()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _be_command(namespaces, argv, env, theirs)
    os.close(theirs)
    said: bytes | None = None
    try:
        said = _read(ours, time.monotonic() + timeout)
    finally:
        os.close(ours)
        if said is None:
            _kill_group(child)
        _, status = os.waitpid(child, 0)
    if said is None:
        return Ended(None, "")
    return Ended(os.waitstatus_to_exitcode(status), said.decode(errors="replace").strip())


def _read(pipe: int, deadline: float) -> bytes | None:
    """Everything written to the pipe until its end; None if the end does not come in time."""
    said = b""
    while True:
        if not readable(pipe, timeout=max(0.0, deadline - time.monotonic())):
            return None
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            return said
        said += chunk


def _kill_group(leader: int) -> None:
    # Until the child has made its group, it is alone.
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _be_command(namespaces: Sequence[Namespaces], argv: Sequence[str], env: Mapping[str, str], pipe: int) -> NoReturn:
    """The child. It must leave by _exit, because it is a copy of its parent."""
    status = _REFUSED
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(pipe, 1)
        os.dup2(pipe, 2)
        try:
            for each in namespaces:
                join(each.pidfd, each.kinds)
            leave_callers_credentials()
            # Fork again, because only children enter the pid namespace: `kill` must mean the machine's processes.
            status = subprocess.run(argv, env=env, cwd="/", stdin=subprocess.DEVNULL, check=False).returncode
        except NetlabError as error:
            os.write(2, str(error).encode())
        except OSError as error:
            os.write(2, f"{argv[0]}: {error.strerror}".encode())
            status = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        if status < 0:
            status = 128 - status
    finally:
        os._exit(status)
