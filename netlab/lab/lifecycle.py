"""A lab brought up and taken down, from outside: by the monitor that it starts and ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from netlab import files
from netlab.errors import ConflictError, ExhaustedError, NetlabError, UnavailableError, UsageError
from netlab.lab import cgroups, docker, external_etcd, ids, joined, limits, process, readiness, startup
from netlab.lab.external_etcd import ExternalEtcd
from netlab.lab.lab import Lab
from netlab.lab.paths import home, images_dir
from netlab.lab.spec import LabSpec
from netlab.oci import records

_MONITORS_ENVIRONMENT = ("PATH", "LANG", "NETLAB_HOME")
_GRACE = 10.0
_POLL = 0.01


def up(
    lab: Lab,
    spec: LabSpec | None,
    progress: Callable[[str], None],
    *,
    privileged: bool | None = None,
    equip: Callable[[], None] = lambda: None,
    external: ExternalEtcd | None = None,
) -> LabSpec:
    """Bring the lab up and wait until all nodes are Ready. Returns its specification.

    A lab whose processes have ended is restarted from its stored objects; with `spec` None it has the stored
    specification, or the defaults. A start that fails, or is interrupted, leaves what was there before: nothing, or
    a lab that is down. With `privileged`, root's lab runs without a user namespace, as root of this host; None
    keeps the lab's setting. `equip` adds to the lab's files before it starts. An `external` etcd keeps a new lab's
    objects.

    Raises `ConflictError` when it is up already or has another specification, `UnsupportedError` when the machine
    lacks something, `ExhaustedError` when the disk is full, `TimedOutError` when nodes do not become Ready,
    `UnavailableError` when its etcd does not answer.
    """
    if privileged and os.geteuid() != 0:
        raise UsageError("--privileged: a lab without a user namespace is for root; leave it out, or be root")
    fresh = _prepare(lab, spec, external)
    try:
        if privileged or lab.spec().runtime == "docker":
            # A user namespace cannot enter the network namespaces that the engine makes for the host's root.
            lab.paths.privileged.touch(mode=0o600)
        elif privileged is False:
            lab.paths.privileged.unlink(missing_ok=True)
        equip()
        if lab.spec().runtime == "docker":
            docker.prepare(lab.paths)
        progress("starting machines")
        _start_monitor(lab)
        wanted = lab.spec()
        if wanted.joins is not None:
            from netlab.lab import joining

            joining.wait_ready(lab, progress)
        else:
            readiness.wait_ready(lab.paths, wanted, progress, lab.is_up)
        if wanted.joins is None:
            _furnish(lab, wanted)
    except BaseException as error:
        with contextlib.suppress(NetlabError):
            if fresh:
                down(lab)
            else:
                _end(lab)
        if isinstance(error, OSError):
            raise startup.explained(error, lab.paths.directory) from error
        raise
    return wanted


def _furnish(lab: Lab, wanted: LabSpec) -> None:
    """Make the objects that a lab begins with. Pods among them become ready in their own time: `up` does not wait."""
    from netlab.lab import cluster_dns, definitions, ingress

    definitions.ensure(lab.client())
    if wanted.dns:
        cluster_dns.ensure(lab.client(), wanted)
    if wanted.ingress:
        ingress.ensure(lab.client(), wanted)


def _prepare(lab: Lab, spec: LabSpec | None, external: ExternalEtcd | None) -> bool:
    """Create the lab's files, unless it exists. Returns whether it is new."""
    if lab.is_up():
        raise ConflictError(f"lab {lab.name} is up already: take another --name, or `netlab down` first")
    ids.require_intact(lab.paths.directory)
    try:
        if lab.paths.spec.exists():
            present = external_etcd.read(lab.paths)
            if spec is not None and (spec != lab.spec() or not _is_same(external, present)):
                raise ConflictError(
                    f"lab {lab.name} is down and has other options: `netlab up` without options starts it again "
                    "with its objects, `netlab down` removes it"
                )
            limits.require(lab.spec().nodes)
            startup.require_room(lab.paths.directory, lab.spec().nodes)
            if present is not None:
                present.require()
            return False
    except OSError as error:
        raise startup.explained(error, lab.paths.directory) from error
    create(lab, spec or LabSpec(), external)
    return True


def create(lab: Lab, wanted: LabSpec, external: ExternalEtcd | None = None) -> None:
    """Make the files of a lab that does not exist; it is down. Raises as `up`."""
    try:
        _require_own(lab)
    except OSError as error:
        raise startup.explained(error, lab.paths.directory) from error
    limits.require(wanted.nodes)
    if external_etcd.read(lab.paths) is not None:
        raise ConflictError(f"objects of an earlier lab {lab.name} are still in its etcd: `netlab down` removes them")
    if external is not None:
        external.require()
    try:
        lab.paths.make(wanted.node_names)
        if external is not None:
            external_etcd.write(lab.paths, external)
        startup.require_room(lab.paths.directory, wanted.nodes)
        files.replace(lab.paths.spec, msgspec.json.encode(wanted).decode())
    except (OSError, ExhaustedError) as error:
        shutil.rmtree(lab.paths.directory, ignore_errors=True)
        external_etcd.note_of(lab.paths).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise startup.explained(error, lab.paths.directory) from error
        raise


def _is_same(asked: ExternalEtcd | None, present: ExternalEtcd | None) -> bool:
    return asked is present is None or (asked is not None and present is not None and asked.is_same(present))


def _require_own(lab: Lab) -> None:
    """Raise `UsageError` if the directory exists and is not a lab: netlab must not remove it."""
    if os.path.lexists(lab.paths.directory) and not lab.paths.is_labs():
        raise UsageError(
            f"{lab.paths.directory} exists but is not a lab, and is left alone; use another --name, or set "
            "NETLAB_HOME to a directory of netlab's own"
        )


def _start_monitor(lab: Lab) -> None:
    read_end, write_end = os.pipe()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(lab.paths.logs / "monitor.log", flags, 0o600)
    try:
        monitor = subprocess.Popen(
            [sys.executable, "-m", "netlab.lab.monitor", str(lab.paths.directory), str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[write_end],
            start_new_session=True,
            cwd="/",
            # Containers are forks of it and show its environment in /proc: leave the caller's secrets out.
            env={name: os.environ[name] for name in _MONITORS_ENVIRONMENT if name in os.environ},
        )
    finally:
        os.close(write_end)
        os.close(log)
    try:
        with os.fdopen(read_end, "rb") as ready:
            answer = ready.read()
    except BaseException:
        # It may not have recorded its pid yet, so only this process can end it, and everything that it started.
        monitor.terminate()
        monitor.wait()
        raise
    if answer == process.READY:
        return
    if not answer:
        reason = startup.last_words(lab.paths, "monitor") or "it left no message"
        raise UnavailableError(f"lab {lab.name}: its monitor died at the start: {reason}")
    failure = json.loads(answer)
    error = NetlabError(failure["error"])
    error.exit_status = failure["exit_status"]
    raise error


def down(lab: Lab) -> bool:
    """Take the lab down: no process, namespace, mount, file or key of it remains. Returns whether there was anything.

    Raises `NetlabError` naming what cannot be ended or removed, and `UsageError` if the directory is not a lab.
    """
    external = external_etcd.read(lab.paths)
    if lab.exists():
        _remove(lab)
    elif external is None:
        return False
    if external is not None:
        note = external_etcd.note_of(lab.paths)
        try:
            external.forget()
        except NetlabError as error:
            raise UnavailableError(
                f"lab {lab.name} is down, but its objects remain: {error} `netlab down` again removes them; remove "
                f"{note} to leave them there"
            ) from None
        note.unlink()
    if "NETLAB_HOME" not in os.environ:
        # The default home belongs to netlab; one that the user chose belongs to the user.
        with contextlib.suppress(OSError):
            home().rmdir()
    return True


def _remove(lab: Lab) -> None:
    """End the lab's processes and remove its files."""
    try:
        _require_own(lab)
    except OSError as error:
        raise startup.explained(error, lab.paths.directory) from error
    _end(lab)
    docker.clear(lab.paths)
    if os.path.lexists(lab.paths.kubeconfig):
        from netlab.lab import access

        access.remove(lab.paths)
    shutil.rmtree(lab.paths.directory, onerror=_raise_unless_gone)
    joined.note_of(lab.paths).unlink(missing_ok=True)
    ids.give_back(lab.paths.directory)
    records.remove_unused(str(images_dir()))


def _end(lab: Lab) -> None:
    """End the lab's processes; its files stay."""
    deadline = time.monotonic() + _GRACE
    _end_recorded(lab)
    while lab.is_up():
        # The monitor has just started, and will record its pid at any moment, or fail.
        _end_recorded(lab)
        if time.monotonic() > deadline:
            raise NetlabError(
                f"lab {lab.name}: its lock {lab.paths.lock} is still held; `fuser` shows by which process"
            )
        time.sleep(_POLL)
    cgroups.give_back(lab.paths)


def _end_recorded(lab: Lab) -> None:
    """End the monitor and the machine, which dies with the monitor, and wait for both."""
    machine = process.open_recorded(lab.paths.machine_pid)
    monitor = process.open_recorded(lab.paths.monitor_pid)
    for pidfd in (monitor, machine):
        if pidfd is not None:
            with contextlib.closing(os.fdopen(pidfd, "rb")):
                process.end(pidfd, _GRACE)


def _raise_unless_gone(_function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    # A process that is ending may have removed its own file.
    if not isinstance(info[1], FileNotFoundError):
        raise NetlabError(f"{path}: cannot be removed: {getattr(info[1], 'strerror', info[1])}") from info[1]
