"""Commands run as root of a machine, to look at its network and to break it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

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
    """How a command ended: its exit status (-n by signal n; None: killed after its time), and what it printed."""

    status: int | None
    text: str


def run(namespaces: Sequence[Namespaces], argv: Sequence[str], env: Mapping[str, str], timeout: float) -> Ended:
    """Run a command where `namespaces`, entered one after another, lead to; it has all rights there.

    `env` is its whole environment. It has no standard input, and the terminal's signals do not reach it: what undoes a
    fault is not broken off by the Ctrl-C that is the reason for it. Killed after `timeout` seconds.
    """
    sys.stdout.flush()  # what is buffered would be the child's to write, too
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
    """Everything that is written to the pipe until its end; None if that does not come in time."""
    said = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            return said
        said += chunk


def _kill_group(leader: int) -> None:
    # Before the child has made its group there is only itself.
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _be_command(namespaces: Sequence[Namespaces], argv: Sequence[str], env: Mapping[str, str], pipe: int) -> NoReturn:
    """The child: it must leave by _exit, for it is a copy of everything its parent holds."""
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
            # A child of its own, for only children are in the pid namespace: `kill` means the machine's processes.
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
