"""pid 1's children: it forks them into namespaces, reads whether they have started, and reaps them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

from netlab.machine.loop import Loop, guarded
from netlab.net import syscalls

READY = b"ready"
"""What a machine's pid 1 reports to the process that made it, once its socket answers."""

NEW_PID_NAMESPACE = -1

Failure = dict[str, Any]
"""Why a child could not start: `error` and `errno`."""


class Children:
    """Every process that pid 1 has forked, or inherited."""

    def __init__(self, events: Loop) -> None:
        self._loop = events
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._on_exit: dict[int, Callable[[int], None]] = {}
        self._on_report: dict[int, Callable[[], None]] = {}
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._loop.watch(self._wake_read.fileno(), self._reap)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_read.recv(4096):
                pass
        for pid, status in reaped():
            on_report = self._on_report.get(pid)
            if on_report is not None:
                guarded(on_report)
            on_exit = self._on_exit.pop(pid, None)
            if on_exit is not None:
                guarded(partial(on_exit, status))

    def fork(
        self,
        become: Callable[[int], NoReturn],
        *,
        on_start: Callable[[], None],
        on_failure: Callable[[Failure], None],
        on_exit: Callable[[int], None],
        pid_namespace: int | None = None,
    ) -> int:
        """Fork; the child calls `become` with the pipe for its report.

        If the program runs, `on_start` is called, and `on_exit` with its wait status when it ends. If it could not
        start, only `on_failure` is called, once the child is gone. `pid_namespace` is a pidfd in whose pid namespace
        the child starts, or NEW_PID_NAMESPACE.
        """
        report_read, report_write = os.pipe()
        os.set_blocking(report_read, False)
        try:
            if pid_namespace == NEW_PID_NAMESPACE:
                syscalls.unshare(syscalls.CLONE_NEWPID)
            elif pid_namespace is not None:
                syscalls.setns(pid_namespace, syscalls.CLONE_NEWPID)
            try:
                pid = os.fork()
            finally:
                # The child runs this too; the kernel refuses it, so that the child's children stay in its namespace.
                if pid_namespace is not None:
                    with contextlib.suppress(OSError):
                        syscalls.setns(self._own_pid_namespace, syscalls.CLONE_NEWPID)
        except OSError:
            os.close(report_read)
            os.close(report_write)
            raise
        if pid == 0:
            try:
                become(report_write)
            finally:
                os._exit(1)
        os.close(report_write)

        def read_report() -> None:
            del self._on_report[pid]
            self._loop.unwatch(report_read)
            try:
                answer = os.read(report_read, select.PIPE_BUF)  # a report is written at once, and fits
            except BlockingIOError:
                answer = b""  # it died without a report, and another child just forked holds the pipe for a moment
            os.close(report_read)
            if answer in (b"", READY):
                on_start()
            else:
                failure = json.loads(answer)
                self._on_exit[pid] = lambda status: on_failure(failure)

        self._on_report[pid] = read_report
        self._on_exit[pid] = on_exit
        self._loop.watch(report_read, read_report)
        return pid

    def open_pidfd(self, pid: int) -> int:
        """A pidfd of a child just forked. Without one (EMFILE) the child is killed."""
        try:
            return os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            self._on_report.pop(pid)
            self._on_exit.pop(pid)
            raise


def reaped() -> Iterator[tuple[int, int]]:
    """Reap this process's children that have ended: pid and wait status of each."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def kill_group(pid: int) -> None:
    """Kill a process group, if it exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def decode_status(status: int) -> tuple[int, int | None]:
    """Exit code and signal of a wait status, as shells and Kubernetes give them."""
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (128 - code, -code)
