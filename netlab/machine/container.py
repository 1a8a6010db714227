"""What the forked child of a machine's pid 1 does to become a container, a service, or a command in a container.

Each function here runs in the child, never returns, and reports what stopped it over a pipe: a line of JSON, or
nothing when the program runs (the pipe closes on execve(2), or before a built-in image takes over).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from netlab.descriptors import close_all_but
from netlab.machine import capabilities, host, images, rootfs, roots, seccomp, security_context, signals, stdio, users
from netlab.machine.capabilities import Capabilities
from netlab.machine.cgroups.containers import ContainerCgroup
from netlab.machine.images.chosen import Chosen
from netlab.machine.members import Members
from netlab.machine.protocol import STREAMS, ContainerSpec, Mount
from netlab.machine.security_context import SecurityContext
from netlab.machine.stdio import ContainerStreams
from netlab.net import syscalls

_PATH_ALONE = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_PATH = f"{_PATH_ALONE}:{rootfs.TOOLS}"
"""With an image's file tree, and with the host's."""
_STAGE = "/tmp"  # noqa: S108 - in the template
_STAGE_OPTIONS, _STAGE_OPTIONS_ALONE = "mode=0755,size=64m", "mode=0755,size=256m"
"""For everything that a container can write, with the host's file tree and with an image's; it is memory."""
_WRITABLE = {"run": (0o755, "/run"), "shm": (0o1777, "/dev/shm"), "tmp": (0o1777, "/tmp")}  # noqa: S108
"""What a container with the host's file tree has of its own."""
_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug"),
    *("/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
)
_MASKED_FOLDERS = tuple(path for path in _MASKED if os.path.isdir(path))  # noqa: PTH112 - pid 1 stays small
_MASKED_FILES = tuple(path for path in _MASKED if os.path.isfile(path))  # noqa: PTH113
_READ_ONLY_PATHS = tuple(
    path
    for path in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
    if os.path.exists(path)  # noqa: PTH110
)
"""All as runtimes have them (runtime-spec, config-linux.md; containerd's and Docker's defaults)."""
_SHELL, _FULLER_SHELL = "/bin/sh", "/bin/bash"
_SHELL_IS_POOR = os.path.basename(os.path.realpath(_SHELL)) == "dash" and os.path.exists(_FULLER_SHELL)  # noqa: PTH119, PTH110
"""dash does not know `[[`, and hides variables whose names no shell takes, such as `data-1` of a ConfigMap. The shell
of busybox, like bash, does better."""
_MOST_PROCESSES = "1024"
_PROCESSES_LIMITED = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 14)
"""Since Linux 6.14 each pid namespace has its own pid_max; before that, it would be the host's."""
_OOM_SCORE = "/proc/self/oom_score_adj"
_SIGNALS = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
"""The signals whose handling Python and pid 1 have changed; pid 1 itself began with the defaults."""
NEW_CGROUP_NAMESPACE = syscalls.CLONE_NEWCGROUP if os.path.exists("/proc/self/ns/cgroup") else 0  # noqa: PTH110
"""In its own, a container reads nothing of the host's cgroups in /proc/PID/cgroup."""

_PLAIN = SecurityContext()

TERMINAL = "xterm"
"""TERM in containers and commands with a terminal, as containerd sets it."""

EXIT_NOT_EXECUTED = 128
"""The exit status that runtimes give a container that never ran (StartError)."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """What a container is made from: a mount namespace to copy, what its root stands on there, and network and IPC.

    Without those (None) it has the machine's.
    `pid` is where its first process is forked, as `Children.fork` has it.
    """

    mount_template: int
    base: roots.Base
    network: str | None
    ipc: int | None
    pid: int | None


def environment(spec: ContainerSpec, image: Chosen, machine_hostname: str) -> dict[str, str]:
    """The whole environment of a container's processes; HOME follows from the user, unless it is here."""
    env = {"PATH": _PATH_ALONE} if image.layers else {"PATH": _DEFAULT_PATH, "HOME": "/root"}
    env["HOSTNAME"] = spec.hostname or machine_hostname
    return env | ({"TERM": TERMINAL} if spec.terminal else {}) | dict(image.env) | spec.env


def confine() -> None:
    """Leave this process and all its descendants only the powers that a container has by default."""
    capabilities.DEFAULT.bound()
    capabilities.DEFAULT.take()
    seccomp.confine()


def _confine(context: SecurityContext, image: Chosen, env: dict[str, str]) -> None:
    """Become the user that runs the container, with the powers that it has."""
    if context == _PLAIN and not image.layers:
        confine()
        return
    powers = _powers(context)
    powers.bound()
    user = users.find(image.user)
    if context.run_as_user is not None or context.run_as_group is not None:
        uid = context.run_as_user or 0
        user = users.find(str(uid) if context.run_as_group is None else f"{uid}:{context.run_as_group}")
    if context.non_root and user.uid == 0:
        raise OSError(errno.EINVAL, "container has runAsNonRoot and image will run as root")
    user = replace(user, groups=(*user.groups, *context.supplemental_groups))
    for stream in range(len(STREAMS)):
        # As runtimes do, so that /dev/stdout can be opened; /dev/null is everybody's.
        if user.uid and not stat.S_ISCHR(os.fstat(stream).st_mode):
            with contextlib.suppress(OSError):  # whom the lab does not have, it cannot become either
                os.fchown(stream, user.uid, -1)
    users.become(user, env)
    if user.uid == 0:
        powers.take()
    seccomp.confine(filtered=context.is_filtered)


def _powers(context: SecurityContext) -> Capabilities:
    return capabilities.chosen(["ALL"] if context.privileged else context.add_capabilities, context.drop_capabilities)


def check(context: SecurityContext, *, in_user_namespace: bool) -> None:
    """Raise `ValueError` for what no container of this machine is given.

    In a lab without a user namespace, more than the default is power over the host (docs/security.md).
    """
    beyond = _powers(context).beyond_default or not context.is_filtered or context.unmasked
    if beyond and not in_user_namespace:
        raise ValueError(
            "more than the default capabilities, system calls and files of /proc needs a lab with a user namespace: "
            "`netlab up` without --privileged"
        )


def run_container(
    spec: ContainerSpec,
    image: Chosen,
    env: dict[str, str],
    *,
    namespaces: Namespaces,
    cgroup: ContainerCgroup,
    streams: ContainerStreams,
    members: Members | None,
    report: int,
) -> NoReturn:
    """Become the first process of a container; without `members`, it is pid 1 of the namespace that the fork is in."""

    def prepare() -> None:
        cgroup.enter()
        ipc = () if namespaces.ipc is None else (namespaces.ipc,)
        told = () if members is None else (members.descriptor,)
        close_all_but(report, namespaces.mount_template, *ipc, *streams.descriptors, *told)
        # Before the machine's files go out of sight.
        mounts = [_clone(each) for each in spec.mounts]
        if namespaces.network is not None:
            _join_network(namespaces.network)
        if namespaces.ipc is not None:
            syscalls.setns(namespaces.ipc, syscalls.CLONE_NEWIPC)
        syscalls.setns(namespaces.mount_template, syscalls.CLONE_NEWNS)
        close_all_but(report, *streams.descriptors, *mounts, *told)
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | NEW_CGROUP_NAMESPACE)
        if spec.hostname is not None:
            socket.sethostname(spec.hostname)
        if members is not None:
            members.tell()
        _make_file_tree(spec, image, namespaces.base, limit_processes=members is None)
        for descriptor, mount in zip(mounts, spec.mounts, strict=True):
            _mount(descriptor, mount.target, read_only=mount.read_only, recursive=mount.recursive_read_only)
        os.umask(0o022)
        cwd = spec.cwd or image.cwd
        if image.layers:
            os.makedirs(cwd, exist_ok=True)  # noqa: PTH103 - as runtimes do
        if spec.security_context.readonly_rootfs:
            _protect_root()
        streams.install()
        close_all_but(report)
        _give_oom_score(spec.oom_score_adj)
        _confine(spec.security_context, image, env)
        os.chdir(cwd)

        # Until a built-in has handlers: pid 1 would lose these signals, and run until the grace period is over.
        if _program(image, image.argv) is not None:
            signals.block((signal.SIGTERM, signal.SIGINT))

    _become(image.argv, env, report, prepare, image)


def run_service(argv: Sequence[str], env: Mapping[str, str], cwd: str | None, log: str, report: int) -> NoReturn:
    """Become a supervised process of the machine, in the machine's own namespaces."""

    def prepare() -> None:
        close_all_but(report)
        output = host.open_log_file(log)
        stdio.install({"stdout": output, "stderr": output})
        os.close(output)
        os.umask(0o077)
        os.chdir(cwd or "/")

    _become(argv, {"PATH": _DEFAULT_PATH, "HOME": "/root", **env}, report, prepare)


def run_exec(
    pidfd: int,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str,
    image: Chosen,
    context: SecurityContext,
    cgroup: ContainerCgroup,
    oom_score_adj: int,
    install: Callable[[], None],
    descriptors: Sequence[int],
    report: int,
) -> NoReturn:
    """Become a command in the container behind `pidfd`, whose pid namespace the fork has joined already.

    `install` makes the standard streams, of `descriptors`.
    """
    own_env = dict(env)

    def prepare() -> None:
        cgroup.enter()
        close_all_but(report, pidfd, *descriptors)
        namespaces = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWNS
        syscalls.setns(pidfd, namespaces | NEW_CGROUP_NAMESPACE)
        install()
        close_all_but(report)
        _give_oom_score(oom_score_adj)
        os.umask(0o022)
        _confine(context, image, own_env)
        os.chdir(cwd)

    _become(argv, own_env, report, prepare, image)


def _program(image: Chosen | None, argv: Sequence[str]) -> images.Program | None:
    """The built-in program that a command line calls, in a container that has any."""
    return images.program(argv[0]) if image is None or not image.layers else None


def _become(
    argv: Sequence[str],
    env: Mapping[str, str],
    report: int,
    prepare: Callable[[], None],
    image: Chosen | None = None,
) -> NoReturn:
    try:
        host.forget_signals(_SIGNALS)
        os.setsid()
        prepare()
        program = _program(image, argv)
        if program is None:
            _execute(argv, env)
        os.close(report)
    except BaseException as error:
        tell_failure(report, error)
        os._exit(EXIT_NOT_EXECUTED)
    images.run(program, argv, env)


def _execute(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    try:
        os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606 - no shell is the point
    except OSError as error:
        # execvpe(3) tried every folder of PATH; the file name of the last attempt does not help.
        raise OSError(error.errno, f"exec {argv[0]!r}: {error.strerror}") from error


def tell_failure(report: int, error: BaseException) -> None:
    """Write an error to `report`, for the process that waits at the other end."""
    if isinstance(error, OSError) and error.errno is not None:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        message = {"error": text, "errno": error.errno}
    else:
        message = {"error": f"{type(error).__name__}: {error}", "errno": 0}
    os.write(report, json.dumps(message).encode())


def _join_network(path: str) -> None:
    try:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise OSError(errno.ESRCH, "the sandbox's network namespace is gone", path) from None
    syscalls.setns(namespace, syscalls.CLONE_NEWNET)


def _make_file_tree(spec: ContainerSpec, image: Chosen, base: roots.Base, *, limit_processes: bool) -> None:
    """Give the container its own root, /proc, /sys, /dev/shm, /dev/pts and three files of /etc.

    One tmpfs holds everything writable.
    """
    size = _STAGE_OPTIONS_ALONE if image.layers else _STAGE_OPTIONS
    syscalls.mount("tmpfs", _STAGE, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, size)
    parts = _make_parts(spec, alone=bool(image.layers))
    if image.layers:
        roots.enter_image(image.layers, _STAGE)
    else:
        roots.enter(base, spec.image, _STAGE, [each.target for each in spec.mounts])
    rootfs.mount_proc()
    for name, value in spec.security_context.sysctls.items():
        _write(f"/proc/sys/{name.replace('.', '/')}", value)
    if limit_processes and _PROCESSES_LIMITED:
        _write("/proc/sys/kernel/pid_max", _MOST_PROCESSES)
    is_masked = not (spec.security_context.privileged or spec.security_context.unmasked)
    for path in _READ_ONLY_PATHS if is_masked else ():
        syscalls.mount(path, path, None, syscalls.MS_BIND)
        syscalls.set_read_only(path)
    rootfs.mount_sysfs()
    for path in _MASKED_FILES if is_masked else ():
        syscalls.mount("/dev/null", path, None, syscalls.MS_BIND)
    if _SHELL_IS_POOR and not image.layers and images.has_busybox(spec.image):
        syscalls.mount(_FULLER_SHELL, _SHELL, None, syscalls.MS_BIND)
    syscalls.mount("devpts", "/dev/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, "newinstance,ptmxmode=0666")
    for descriptor, target in parts:
        if is_masked or target not in _MASKED_FOLDERS:
            _mount(descriptor, target, read_only=target in _MASKED_FOLDERS)


def _protect_root() -> None:
    """Make read-only what a container would write to of its own; not volumes, /dev/shm and files of its pod."""
    for tree in ("/", "/usr", "/tmp", "/run"):  # noqa: S108
        if os.path.ismount(tree):
            syscalls.set_read_only(tree)


def _make_parts(spec: ContainerSpec, *, alone: bool) -> list[tuple[int, str]]:
    """What a container has beside its root, and where. One that stands `alone` on an image has that image's /tmp."""
    folders = {"shm": (0o1777, "/dev/shm")} if alone else _WRITABLE  # noqa: S108
    parts = []
    for name, (mode, target) in folders.items():
        os.mkdir(f"{_STAGE}/{name}", 0o700)  # noqa: PTH102
        os.chmod(f"{_STAGE}/{name}", mode)  # noqa: PTH101
        parts.append((name, target))
    os.mkdir(f"{_STAGE}/empty", 0o755)  # noqa: PTH102
    parts += [("empty", target) for target in _MASKED_FOLDERS]
    files = {
        "hosts": spec.hosts,
        "resolv.conf": spec.resolv_conf,
        "hostname": None if spec.hostname is None else f"{spec.hostname}\n",
    }
    for name, text in files.items():
        if text is not None:
            with open(f"{_STAGE}/{name}", "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(text)
            parts.append((name, f"/etc/{name}"))
    return [(syscalls.clone_mount(f"{_STAGE}/{name}"), target) for name, target in parts]


def _clone(mount: Mount) -> int:
    descriptor = syscalls.clone_mount(mount.source, inside=mount.inside, recursive=True)
    if mount.propagation != security_context.BIDIRECTIONAL:
        is_slave = mount.propagation == security_context.HOST_TO_CONTAINER
        syscalls.set_propagation(descriptor, syscalls.MS_SLAVE if is_slave else syscalls.MS_PRIVATE)
    return descriptor


def _give_oom_score(wanted: int) -> None:
    """Say how soon this process is ended when memory runs out: not later than the lab, which is a guest of its host."""
    own = os.open(_OOM_SCORE, os.O_RDONLY)
    least = int(os.read(own, 16))
    os.close(own)
    _write(_OOM_SCORE, str(max(wanted, least)))


def _mount(descriptor: int, target: str, *, read_only: bool, recursive: bool = False) -> None:
    """Put a directory or file in its place, which is made if it is not there."""
    is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    place = os.path.realpath(target)
    try:
        _make_place(place, is_directory=is_directory)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        _make_place_in_root(place, is_directory=is_directory)
    syscalls.move_mount(descriptor, place)
    if read_only:
        syscalls.set_read_only(place, recursive=recursive)


def _make_place(path: str, *, is_directory: bool) -> None:
    os.makedirs(path if is_directory else os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - pid 1 stays small
    if not is_directory and not os.path.exists(path):  # noqa: PTH110
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))


def _make_place_in_root(path: str, *, is_directory: bool) -> None:
    """The same in the lab's root file system or its /dev, where it stays, empty, for all containers.

    This container's mount of it is writable meanwhile; what is the host's stays read-only.
    """
    tree = "/dev" if path.startswith("/dev/") else "/"
    syscalls.set_read_only(tree, read_only=False)
    try:
        _make_place(path, is_directory=is_directory)
    finally:
        syscalls.set_read_only(tree)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, text.encode("ascii"))
    os.close(descriptor)
