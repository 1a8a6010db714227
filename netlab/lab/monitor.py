"""The lab monitor: the one process of a lab in the host's pid namespace.

It holds the lab's lock, starts the first machine and the services in it, and waits. The machine dies with it, and
everything in the lab with the machine: ending this process, even by SIGKILL, is how a lab ends.

Every container of the lab is a fork of a fork of it, and pays for each library that it has mapped: what is not needed
before the first machine is loaded after it.

    python -m netlab.lab.monitor DIRECTORY READY_FD
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from netlab import files
from netlab.errors import ConflictError, NetlabError
from netlab.lab import ids, process
from netlab.lab.paths import FABRIC, LabPaths
from netlab.machine import boot, signals
from netlab.net.peers import Guard

if TYPE_CHECKING:
    from netlab.lab.spec import LabSpec
    from netlab.machine.userns import IdRange


class _Ended(BaseException):
    """SIGTERM: the lab is to end."""


def main() -> None:
    """Run the monitor until the lab ends; the outcome of the start goes to READY_FD."""
    paths = LabPaths(Path(sys.argv[1]))
    ready = int(sys.argv[2])
    os.set_inheritable(ready, False)
    _end_on_signal()
    alive = -1
    try:
        _hold_lock(paths)
        process.record(paths.monitor_pid, os.getpid())
        _begin_boot(paths)
        guard = Guard(str(paths.guard))
        range_of_ids = _take_ids(paths)
        machine = boot.start(
            FABRIC,
            paths.machine_socket(FABRIC),
            hostname=f"netlab-{paths.name}",
            lab_dir=paths.directory,
            ids=range_of_ids,
        )
        alive = os.pidfd_open(machine)
        process.record(paths.machine_pid, machine)
        guard.start(machine)
        spec = paths.read_spec()
        _forget_nodes(paths, spec)
        _write_api_config(paths, spec)
        if range_of_ids is not None:
            ids.hand_over(paths.directory, range_of_ids)
        _start_services(paths)
        os.write(ready, process.READY)
        os.close(ready)
        process.ended(alive, None)
    except BaseException as error:
        if alive >= 0:
            # Not left to our own death: whoever waits for this process waits for all of the lab.
            process.end(alive, 0.0)
            process.ended(alive, None)
        _fail(paths, ready, error)


def _fail(paths: LabPaths, ready: int, error: BaseException) -> NoReturn:
    if isinstance(error, _Ended):
        sys.exit(0)
    if isinstance(error, NetlabError):
        message, exit_status = str(error), error.exit_status
    elif isinstance(error, OSError):
        from netlab.lab.startup import explained

        cause = explained(error, paths.directory)
        message, exit_status = str(cause), cause.exit_status
    else:
        raise error
    os.write(ready, json.dumps({"error": f"lab {paths.name}: {message}", "exit_status": exit_status}).encode())
    sys.exit(exit_status)


def _hold_lock(paths: LabPaths) -> None:
    # Never closed: the lock is held by this process, and by its children, until the last of them is gone.
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError("it is already up; use another --name, or run `netlab down` first") from None


def _begin_boot(paths: LabPaths) -> None:
    """Drop what tells of an earlier boot, and name the time that begins."""
    paths.make([])
    for socket in paths.machine_socket(FABRIC).parent.iterdir():
        socket.unlink()
    paths.components.unlink(missing_ok=True)
    files.replace(paths.boot_id, Path("/proc/sys/kernel/random/uuid").read_text(encoding="ascii").strip())


def _forget_nodes(paths: LabPaths, spec: LabSpec) -> None:
    """Drop the configuration of nodes that are gone, as their reboot would."""
    import shutil

    shutil.rmtree(paths.nodes, ignore_errors=True)
    paths.make(spec.node_names)


def _end_on_signal() -> None:
    def end(_signal: int, _frame: object) -> None:
        raise _Ended

    # What the caller of `netlab up` ignores, as nohup(1) has it, is no matter of the lab's processes.
    signals.handle_by_default(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE})
    signals.unblock_all()
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _take_ids(paths: LabPaths) -> IdRange | None:
    """The ids of root's lab, whose files are handed over to them; None of an ordinary user's, or a privileged one."""
    if os.geteuid() != 0 or paths.privileged.exists():
        return None
    taken = ids.take(paths.directory)
    ids.hand_over(paths.directory, taken)
    return taken


def _write_api_config(paths: LabPaths, spec: LabSpec) -> None:
    files.replace(
        paths.api_config,
        json.dumps({"serviceCIDRs": spec.serviceCIDRs, "nodePortRange": "30000-32767"}),
    )


def _start_services(paths: LabPaths) -> None:
    from netlab.machine.client import Machine

    # This interpreter's folder first: the CNI plugins start `python3`, and a version manager's shim costs 20 ms a call.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {"PATH": path, "LANG": "C.UTF-8"}
    python = [sys.executable, "-m"]
    with Machine(paths.machine_socket(FABRIC)) as machine:
        machine.run_service(
            "daemon",
            [*python, "netlab.lab.daemon", str(paths.directory)],
            env=environment,
            log=paths.logs / "daemon.log",
        )
        machine.run_service(
            "apiserver",
            [
                *python,
                "netlab.api.server",
                *("--socket", str(paths.api_socket)),
                *("--database", str(paths.database)),
                *("--config", str(paths.api_config)),
                *("--guard", str(paths.guard)),
            ],
            env=environment,
            log=paths.logs / "apiserver.log",
        )


if __name__ == "__main__":
    main()
