"""The lab monitor: the one process of a lab in the host's pid namespace.

It holds the lab's lock, starts the first machine and the services in it, and waits. The machine dies with it, and
everything in the lab dies with the machine: ending this process, even by SIGKILL, ends the lab.

Every container of the lab descends from it by forks, and pays for each library that it has mapped. What the first
machine does not need is therefore loaded later.

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
from netlab.lab import cgroups, ids, process
from netlab.lab.paths import FABRIC, LabPaths, images_dir
from netlab.machine import boot, signals
from netlab.net.peers import Guard
from netlab.oci import records

if TYPE_CHECKING:
    from netlab.lab.relay import Relay
    from netlab.lab.spec import LabSpec
    from netlab.machine.userns import IdRange


class _Ended(BaseException):
    """SIGTERM: the lab should end."""


def main() -> None:
    """Run the monitor until the lab ends; writes the outcome of the start to READY_FD."""
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
        owner = range_of_ids.first if range_of_ids is not None else os.geteuid()
        bounds = cgroups.take(paths, owner)
        machine = boot.start(
            FABRIC,
            paths.machine_socket(FABRIC),
            hostname=f"netlab-{paths.name}",
            lab_dir=paths.directory,
            ids=range_of_ids,
            cgroups=bounds,
            images=_make_images(),
        )
        alive = os.pidfd_open(machine)
        process.record(paths.machine_pid, machine)
        guard.start(machine)
        spec = paths.read_spec()
        _forget_nodes(paths, spec)
        # Only now: the lab's processes descend from this one and must not have a socket of the host's network.
        relays = _of_joined(paths, owner) if spec.joins is not None else _of_own_server(paths, spec, owner)
        if range_of_ids is not None:
            ids.hand_over(paths.directory, range_of_ids)
        for each in relays:
            each.start()
        if spec.runtime == "docker":
            from netlab.lab import docker

            docker.start(paths, spec)
        _start_services(paths, spec)
        os.write(ready, process.READY)
        os.close(ready)
        process.ended(alive, None)
    except BaseException as error:
        if alive >= 0:
            # Do not leave this to our own death: a process that waits for this one expects the whole lab to be gone.
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
    # Never closed: this process and its children hold the lock until the last of them has ended.
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError("it is already up; use another --name, or run `netlab down` first") from None


def _begin_boot(paths: LabPaths) -> None:
    """Remove what is left of an earlier boot, and set a new boot id."""
    paths.make([])
    for socket in paths.machines.iterdir():
        socket.unlink()
    paths.components.unlink(missing_ok=True)
    files.replace(paths.boot_id, Path("/proc/sys/kernel/random/uuid").read_text(encoding="ascii").strip())


def _forget_nodes(paths: LabPaths, spec: LabSpec) -> None:
    """Remove the nodes' configuration of an earlier boot, as a reboot would."""
    import shutil

    shutil.rmtree(paths.nodes, ignore_errors=True)
    paths.make(spec.node_names)


def _end_on_signal() -> None:
    def end(_signal: int, _frame: object) -> None:
        raise _Ended

    # Signals that the caller of `netlab up` ignores, as under nohup(1), do not concern the lab's processes.
    signals.handle_by_default(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE})
    signals.unblock_all()
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _take_ids(paths: LabPaths) -> IdRange | None:
    """The ids for root's lab, which get its files; None for an ordinary user's lab, or a privileged one."""
    if os.geteuid() != 0 or paths.privileged.exists():
        return None
    taken = ids.take(paths.directory)
    ids.hand_over(paths.directory, taken)
    return taken


def _of_own_server(paths: LabPaths, spec: LabSpec, owner: int) -> list[Relay]:
    """The lab's API server, reached from the host; its configuration, and its way to an etcd of the user's."""
    from netlab.lab import etcd, external_etcd, relay

    listener = relay.listen(spec.apiAddress, _remembered_port(paths))
    files.replace(paths.api_port, f"{listener.getsockname()[1]}\n")
    _write_api_config(paths, spec)
    inward = relay.Relay(listener, relay.into(paths.tls_socket, owner))
    external = external_etcd.read(paths)
    if spec.store == "etcd":
        paths.etcd.mkdir(mode=0o700, exist_ok=True)
    if external is None:
        return [inward]
    return [inward, relay.Relay(relay.listen_within(etcd.socket_of(paths.etcd)), external.connect)]


def _of_joined(paths: LabPaths, owner: int) -> list[Relay]:
    """The node's kubelet, reached by the cluster that it has joined, and that cluster's API server, by the node."""
    from netlab.lab import joined, relay

    joins = joined.read(paths)
    kubelet = relay.listen_at(joins.address, joins.port)
    outward = relay.listen_within(paths.server_socket)
    return [
        relay.Relay(kubelet, relay.into(paths.kubelet_socket, owner)),
        relay.Relay(outward, relay.out_to(*joins.server)),
    ]


def _write_api_config(paths: LabPaths, spec: LabSpec) -> None:
    from netlab.lab import credentials

    configuration = {
        "serviceCIDRs": spec.serviceCIDRs,
        "nodePortRange": "30000-32767",
        "secure": {
            "directory": str(paths.pki),
            "socket": str(paths.tls_socket),
            "names": ["localhost", "127.0.0.1", "::1", spec.apiAddress],
            "advertise": spec.fabric_addresses,
            "components": {"socket": str(paths.components_socket), "users": credentials.make(paths, spec)},
        },
    }
    files.replace(paths.api_config, json.dumps(configuration))


def _make_images() -> Path:
    """The store of images, which each of the user's labs shows to its machines."""
    store = images_dir()
    # Never closed: it stays as long as the lab is up.
    records.use(str(store))
    return store


def _remembered_port(paths: LabPaths) -> int:
    """The port of an earlier boot, so that kubeconfigs stay valid. The lab may have written anything there."""
    try:
        return int(paths.api_port.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _start_services(paths: LabPaths, spec: LabSpec) -> None:
    from netlab.lab import etcd, external_etcd
    from netlab.machine.client import Machine

    # This interpreter's folder first: CNI plugins start `python3`, and a version manager's shim costs 20 ms per call.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {"PATH": path, "LANG": "C.UTF-8"}
    python = [sys.executable, "-m"]
    with Machine(paths.machine_socket(FABRIC)) as machine:
        external = external_etcd.read(paths)
        store = ["--etcd", etcd.url(paths.etcd)] if spec.store == "etcd" or external is not None else []
        if external is not None:
            store += ["--etcd-prefix", external.prefix]
        elif spec.store == "etcd":
            machine.run_service(
                "etcd", etcd.command(paths.etcd), env=environment, log=paths.logs / "etcd.log", cwd=paths.etcd
            )
        machine.run_service(
            "daemon",
            [*python, "netlab.lab.daemon", str(paths.directory)],
            env=environment,
            log=paths.logs / "daemon.log",
        )
        if spec.joins is not None:
            return
        machine.run_service(
            "apiserver",
            [
                *python,
                "netlab.api.server",
                *("--socket", str(paths.api_socket)),
                *("--database", str(paths.database)),
                *store,
                *("--config", str(paths.api_config)),
                *("--guard", str(paths.guard)),
            ],
            env=environment,
            log=paths.logs / "apiserver.log",
        )


if __name__ == "__main__":
    main()
