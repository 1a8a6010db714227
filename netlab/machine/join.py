"""Enters a machine or a container from outside, for `netlab exec` and the components of a node."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from netlab.descriptors import close_all_but
from netlab.errors import ExhaustedError, NotFoundError, UnsupportedError
from netlab.machine import container, images, signals, userns, users
from netlab.machine.cgroups import labs
from netlab.net import syscalls

ALL_BUT_USER = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWPID
)
_TERMINALS_SIGNALS = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}
"""If the caller ignores these, the command does too."""

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def join(pidfd: int, kinds: int = ALL_BUT_USER) -> None:
    """Move this process into the namespaces of the process behind `pidfd`; its pid namespace holds future children.

    `kinds` are syscalls.CLONE_NEW* flags. The user namespace is joined too if the others need it, and always with the
    mount namespace: this process is then root in that namespace only.
    The process must be single-threaded. Its root and working directory become those of the mount namespace.
    Raises `NotFoundError` when the process has ended, `UnsupportedError` when the kernel refuses.
    """
    try:
        if kinds & syscalls.CLONE_NEWNS or not _joined(pidfd, kinds):
            joined = _join_user_namespace(pidfd)
            syscalls.setns(pidfd, kinds)
            # The host's root is an unknown user in the user namespace of a lab, and loses its rights on execve(2).
            if joined and os.geteuid() != 0:
                userns.become_root()
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise NotFoundError("the container or machine ended in the meantime") from error
        raise UnsupportedError(
            f"cannot enter its namespaces ({error.strerror}); become root, or the user who started the lab"
        ) from error


def run_joined(
    pidfd: int,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    user: str | None = None,
    contained: bool = False,
) -> int:
    """Join a container or machine, run a command there on the current terminal, and return its exit status.

    The status is 128+n when signal n ended it, 127 when there is no such program, 126 when it cannot be executed.
    `env` is the whole environment; on a terminal, TERM is added. The command has the resource limits of the container
    or machine. From the caller it has only the standard streams, the terminal, and whether to ignore the terminal's
    signals, as under nohup(1). `user` is who runs it, as a container's image says; without, root does, and finds the
    built-in programs. With `contained` it has only the powers of a container. This process stays in the
    namespaces. Raises what `join` raises, and `ExhaustedError` where there may be no more processes.
    """
    environment = dict(env)
    if os.isatty(0) or os.isatty(1):
        environment.setdefault("TERM", os.environ.get("TERM", "dumb"))
    limits = _limits(pidfd)
    labs.follow(_pid_of(pidfd))
    # Before joining: netlab's files may not be visible there, as a container has its own /tmp.
    program = images.program(argv[0]) if user is None else None
    join(pidfd, ALL_BUT_USER | container.NEW_CGROUP_NAMESPACE if contained else ALL_BUT_USER)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        child = os.fork()
    except BlockingIOError:
        raise ExhaustedError(
            "the lab has as many processes as it may have, so no command can run in it: end some, as by deleting a pod"
        ) from None
    if child == 0:
        try:
            if contained:
                # Until execve(2), which a built-in image never calls, /proc shows the caller's own environment.
                syscalls.set_dumpable(False)
            syscalls.set_parent_death_signal(signal.SIGKILL)
            _leave_behind(limits)
            if contained:
                container.confine()
            _become(program, argv, environment, cwd, user)
        finally:
            os._exit(_NOT_EXECUTABLE)
    return _wait(child)


def _limits(pidfd: int) -> dict[int, tuple[int, int]]:
    """The resource limits, soft and hard, of the process behind a pidfd, without those that the kernel hides."""
    found = {}
    for name in (name for name in dir(resource) if name.startswith("RLIMIT_")):
        number = getattr(resource, name)
        with contextlib.suppress(OSError, ValueError):
            found[number] = resource.prlimit(_pid_of(pidfd), number)
    return found


def _pid_of(pidfd: int) -> int:
    fields = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines()
    return int(next(line.removeprefix("Pid:") for line in fields if line.startswith("Pid:")))


def _leave_behind(limits: Mapping[int, tuple[int, int]]) -> None:
    """In the child: drop what belongs to the caller and not to the command."""
    close_all_but()
    userns.leave_callers_credentials()
    os.umask(0o022)
    for number, wanted in limits.items():
        _set_limit(number, wanted)
    signals.wake(-1)
    signals.handle_by_default(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - _TERMINALS_SIGNALS)
    signals.unblock_all()


def _set_limit(number: int, wanted: tuple[int, int]) -> None:
    try:
        resource.setrlimit(number, wanted)
    except (OSError, ValueError):
        # An ordinary user cannot raise the hard limit.
        _, most = resource.getrlimit(number)
        beyond = most != resource.RLIM_INFINITY and not 0 <= wanted[0] <= most
        soft = most if beyond else wanted[0]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(number, (soft, most))


def _joined(pidfd: int, kinds: int) -> bool:
    """Join namespaces with this process's own rights; the host's root has the right, and keeps all its rights."""
    try:
        syscalls.setns(pidfd, kinds)
    except PermissionError:
        return False
    return True


def _join_user_namespace(pidfd: int) -> bool:
    """Join the user namespace. Returns False if this process is in it already."""
    try:
        syscalls.setns(pidfd, syscalls.CLONE_NEWUSER)
    except OSError as error:
        # setns(2): EINVAL if it is the caller's own user namespace, as with a privileged lab.
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _become(
    program: images.Program | None, argv: Sequence[str], env: dict[str, str], cwd: str | None, user: str | None
) -> None:
    try:
        if user is not None:
            users.become(users.find(user), env)
        os.chdir(cwd or "/")
        if program is not None:
            images.run(program, argv, env)
        os.execvpe(argv[0], list(argv), env)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode(errors="backslashreplace"))
        os._exit(_NOT_FOUND if error.errno == errno.ENOENT else _NOT_EXECUTABLE)


def _wait(child: int) -> int:
    """Wait as a shell does: the terminal's signals go to the command, and those sent to us are passed on."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)

    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGQUIT)}
    heard = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]
    before |= {each: signal.signal(each, hand_on) for each in heard}
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
