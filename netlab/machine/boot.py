"""The first machine of a lab: made by an ordinary process of the host, and ended with it."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

from netlab.errors import NetlabError, UnsupportedError
from netlab.machine import privileges
from netlab.machine.children import READY
from netlab.machine.host import MachineConfig
from netlab.net import syscalls


def start(name: str, socket: str | os.PathLike[str], *, hostname: str, lab_dir: str | os.PathLike[str]) -> int:
    """Start a machine on this host and return the pid of its pid 1; it serves `socket` by then.

    The machine dies with the calling thread (PR_SET_PDEATHSIG), and everything in it with the machine. The caller
    must be single-threaded, and is changed: as an ordinary user it moves into a new user namespace, in which it is
    root over nothing but the lab; its future children land in the machine's pid namespace, so it starts nothing else.

    Raises `UnsupportedError` when the kernel refuses the namespaces, `NetlabError` when anything else fails.
    """
    config = MachineConfig(name, os.fspath(socket), hostname, os.path.realpath(lab_dir))
    ordinary = os.geteuid() != 0
    if ordinary:
        enter_user_namespace()
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        allow = privileges.remedy(ordinary=ordinary)
        raise UnsupportedError(f"pid namespaces are refused here ({error.strerror}): {allow}") from error
    # Loaded by the parent: the child is short of nothing, and an import that fails is the caller's to see.
    from netlab.machine import init

    lifeline_read, lifeline_write = os.pipe()
    report_read, report_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(lifeline_write)
        os.close(report_read)
        syscalls.set_parent_death_signal(signal.SIGKILL)
        # A parent that died before the line above sends no signal: then nobody holds the other end.
        if not os.read(lifeline_read, 1):
            os._exit(1)
        init.main(config, report_write)
    os.close(lifeline_read)
    os.close(report_write)
    try:
        os.write(lifeline_write, b"\0")
        os.close(lifeline_write)
        with os.fdopen(report_read, "rb") as report:
            answer = report.read()
    except BaseException:
        # A signal's handler that raises must not leave a machine that nobody knows of.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if answer == READY:
        return pid
    os.waitpid(pid, 0)
    failure = json.loads(answer) if answer else {"error": "its pid 1 died at the start", "errno": 0}
    if failure["errno"] in (errno.EPERM, errno.EACCES):
        allow = privileges.remedy(ordinary=ordinary)
        raise UnsupportedError(f"machine {name}: {failure['error']}: {allow}; `netlab doctor` shows more")
    kind = UnsupportedError if failure["errno"] == errno.ENODEV else NetlabError
    raise kind(f"machine {name}: {failure['error']}; `netlab doctor` tells what this host lacks")


def enter_user_namespace() -> None:
    """Become root of a new user namespace, in which root is the present user and nobody else exists.

    Raises `UnsupportedError` when the kernel refuses.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        # user_namespaces(7): an unprivileged writer of gid_map must give up setgroups(2) first.
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    except OSError as error:
        allow = privileges.remedy(ordinary=True)
        raise UnsupportedError(
            f"user namespaces are refused here ({error.strerror}), so netlab cannot run as an ordinary user: {allow}"
        ) from error
