"""The first machine of a lab: an ordinary process of the host starts it, and it ends with that process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import stat
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn

from netlab.descriptors import close_all_but
from netlab.errors import NetlabError, UnsupportedError
from netlab.machine import privileges, rootfs, userns
from netlab.machine.cgroups.containers import Delegated
from netlab.machine.cgroups.labs import LabCgroup
from netlab.machine.children import READY
from netlab.machine.host import MachineConfig
from netlab.machine.userns import IdRange
from netlab.net import syscalls


def start(
    name: str,
    socket: str | os.PathLike[str],
    *,
    hostname: str,
    lab_dir: str | os.PathLike[str],
    ids: IdRange | None = None,
    cgroups: Sequence[LabCgroup] = (),
    images: str | os.PathLike[str] | None = None,
) -> int:
    """Start a machine on this host and return the pid of its pid 1, once it serves `socket`.

    It is in a user namespace. Root there is the first of `ids`, which only root can give, or else the current user.
    Root without `ids` starts it without a user namespace. `cgroups` are those of the caller, if the lab has its own.
    `images` is the store that its machines take images from.

    The machine dies with the calling thread (PR_SET_PDEATHSIG), and everything in it with the machine. A child of the
    caller enters the namespaces and forks the machine, because a process cannot leave them again. The caller must be
    single-threaded.

    Raises `UnsupportedError` when the kernel refuses the namespaces, `NetlabError` when anything else fails.
    """
    config = MachineConfig(name, os.fspath(socket), hostname, os.path.realpath(lab_dir))
    wanted = rootfs.plan(os.fspath(lab_dir))
    if ids is not None and ids.first:
        _require_readable()
    # Loaded by the parent, so that the child need not, and the caller sees an import that fails.
    from netlab.machine import init  # noqa: F401

    lifeline_read, lifeline_write = os.pipe()
    report_read, report_write = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(lifeline_write)
        os.close(report_read)
        store = None if images is None else os.path.realpath(images)
        _keep(config, wanted, ids, cgroups, store, lifeline_read, report_write)
    os.close(lifeline_read)
    os.close(report_write)
    try:
        with os.fdopen(report_read, "rb") as report:
            if ids is not None and report.read(1) == _UNSHARED:
                userns.map_ids(keeper, ids)
                os.write(lifeline_write, b"\0")
            pid, _, answer = report.read().partition(b"\n")
    except BaseException:
        # A signal handler that raises must not leave a machine that nothing can end.
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
        raise
    finally:
        os.close(lifeline_write)
    if answer == READY:
        return int(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)
    if pid == _REFUSED:
        raise UnsupportedError(answer.decode())
    failure = json.loads(answer) if answer else {"error": "its pid 1 died at the start", "errno": 0}
    if failure["errno"] in (errno.EPERM, errno.EACCES):
        allow = privileges.remedy(ordinary=os.geteuid() != 0)
        if ids is not None:
            allow += "; `netlab up --privileged` does without user namespaces"
        raise UnsupportedError(f"machine {name}: {failure['error']}: {allow}; `netlab doctor` shows more")
    kind = UnsupportedError if failure["errno"] == errno.ENODEV else NetlabError
    raise kind(f"machine {name}: {failure['error']}; `netlab doctor` shows what this host lacks")


def _require_readable() -> None:
    """Raise `NetlabError` if only its owner can read netlab's code: a lab's root is another user."""
    for path in rootfs.code():
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(path).st_mode  # noqa: PTH116
            needed = 0o5 if stat.S_ISDIR(mode) else 0o4
            if mode & needed != needed:
                raise NetlabError(
                    f"{path} is not readable by others, and a lab's root is another user on this host: "
                    f"`chmod -R o+rX {path}`, or `netlab up --privileged`"
                )


_MOST_PROCESSES = 16384
"""The limit of a lab's processes and threads: several times what a thousand pods have."""
_UNSHARED = b"u"
_REFUSED = b"refused"
"""Reported instead of a pid, before the reason why there can be no user namespace."""


def _keep(
    config: MachineConfig,
    wanted: rootfs.Plan,
    ids: IdRange | None,
    cgroups: Sequence[LabCgroup],
    images: str | None,
    lifeline: int,
    report: int,
) -> NoReturn:
    """Enter the lab's namespaces, fork the machine, and wait for its end."""
    from netlab.machine import container, init

    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        syscalls.set_process_name("lab keeper")
        _die_with_parent(lifeline)
        ordinary = os.geteuid() != 0
        if ordinary:
            userns.enter_user_namespace()
        syscalls.unshare(syscalls.CLONE_NEWNS)
        # Mounts of their own, from which no way leads to the host's cgroups; and before all mounts become read-only.
        delegated = [
            Delegated(syscalls.clone_mount(each.delegated), each.version, each.controllers) for each in cgroups
        ]
        if images is not None and ids is not None:
            images = _shown_as_own(images, ids)
        rootfs.protect_host(config.lab_dir)
        # In a user namespace below, even root cannot make these mounts writable again (mount_namespaces(7)).
        if ordinary:
            userns.enter_user_namespace()
        elif ids is not None:
            userns.unshare()
            os.write(report, _UNSHARED)
            os.read(lifeline, 1)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        # Before this process becomes another user, who may have no access to these paths.
        sources = rootfs.open_sources(wanted, config.lab_dir, images)
        if ids is not None:
            userns.become_root()
            _die_with_parent(lifeline)  # again: the kernel clears it when the user changes
        userns.leave_callers_credentials()
        syscalls.unshare(syscalls.CLONE_NEWPID)
        alive_read, alive_write = os.pipe()
        machine = os.fork()
        if machine == 0:
            os.close(alive_write)
            os.read(alive_read, 1)  # the parent reports the pid first
            _die_with_parent(alive_read)
            _limit_processes()
            init.main(
                replace(config, cgroups=tuple(delegated), trees=tuple(wanted.bound)),
                report,
                partial(rootfs.enter, wanted, sources, config.lab_dir, images),
            )
        os.write(report, f"{machine}\n".encode())
        os.write(alive_write, b"\0")
        close_all_but(alive_write)
        os.waitpid(machine, 0)
        os._exit(0)
    except UnsupportedError as error:
        os.write(report, _REFUSED + b"\n" + str(error).encode())
    except BaseException as error:
        os.write(report, b"0\n")
        container.tell_failure(report, error)
    os._exit(1)


def _shown_as_own(images: str, ids: IdRange) -> str | None:
    """Mount the store of images over itself, its owners shown as those of the lab.

    None if its file system cannot, or does not belong to this root, which is that of a user namespace.
    """
    mount, owners = syscalls.clone_mount(images), userns.descriptor_of(ids)
    try:
        syscalls.map_ids_of_mount(mount, owners)
        syscalls.move_mount(mount, images)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            raise
        return None
    finally:
        os.close(mount)
        os.close(owners)
    return images


def _limit_processes() -> None:
    """Limit the processes of the lab as a whole; the host's do not count (per user namespace since Linux 5.14).

    A lab without a user namespace has no such limit (getrlimit(2): root's processes are not counted).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = min(each for each in (soft, hard, _MOST_PROCESSES) if each != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _die_with_parent(lifeline: int) -> None:
    """Have the kernel end this process when its parent ends. Only the parent holds the other end of `lifeline`."""
    syscalls.set_parent_death_signal(signal.SIGKILL)
    # There is no signal if the parent died before the call above.
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):
        os._exit(1)
