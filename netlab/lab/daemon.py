"""The lab's daemon: builds the topology, then forks the components and restarts those that end.

It loads everything once and forks, because most of a component's start is importing. The fabric machine runs and
supervises it: when it is killed its components die with it, pods keep running, and its successor finds machines and
wires in place.

    python -m netlab.lab.daemon DIRECTORY
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from netlab import files
from netlab.backoff import RESTART, Backoff
from netlab.descriptors import close_all_but
from netlab.errors import NetlabError, innermost
from netlab.lab import components, logfiles
from netlab.lab.components import Component
from netlab.lab.paths import FABRIC, LabPaths
from netlab.lab.spec import LabSpec
from netlab.machine.children import decode_status, reaped
from netlab.machine.client import Machine
from netlab.net import syscalls

_JOINED = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC

log = logging.getLogger("netlab.daemon")


def main() -> None:
    """Run the daemon until it is ended."""
    paths = LabPaths(Path(sys.argv[1]))
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    try:
        spec = paths.read_spec()
        pidfds = _ensure_machines(paths, spec)
        supervisor = Supervisor(paths, pidfds)
        components.preload_cni()
        for node in spec.node_names:
            supervisor.start(components.resident_cni(node))
        components.preload()
        if spec.joins is None:
            supervisor.start(components.controller_manager(paths, spec))
        _build(spec, pidfds)
        if spec.joins is not None:
            supervisor.start(components.gateway(paths, spec))
        if spec.loadBalancerProtocol == "bgp":
            supervisor.start(components.router(spec))
        for component in components.of_nodes(paths, spec):
            supervisor.start(component)
        supervisor.run()
    except NetlabError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)


def _ensure_machines(paths: LabPaths, spec: LabSpec) -> dict[str, int]:
    """Start the machines that are missing. Returns a pidfd of each machine's pid 1."""
    pidfds = {}
    with Machine(paths.machine_socket(FABRIC)) as fabric:
        present = fabric.state().machines
        for name in spec.machine_names:
            if name not in present:
                visible = paths.visible_to(name) if name in spec.node_names else []
                fabric.spawn_machine(name, paths.machine_socket(name), hostname=name, visible=visible)
        pidfds[FABRIC] = fabric.open()
    for name in spec.machine_names:
        with Machine(paths.machine_socket(name)) as machine:
            pidfds[name] = machine.open()
    return pidfds


def _build(spec: LabSpec, pidfds: dict[str, int]) -> None:
    from netlab.lab import topology
    from netlab.net.namespaces import network_namespace_of

    with contextlib.ExitStack() as stack:
        namespaces = {}
        for name, pidfd in pidfds.items():
            namespaces[name] = network_namespace_of(pidfd)
            stack.callback(os.close, namespaces[name])
        topology.build(topology.plan(spec), namespaces)


@dataclass
class _Child:
    component: Component
    started: float
    restarts: int = 0
    backoff: Backoff = RESTART
    pid: int | None = None
    last_exit_code: int = 0
    """The exit code as in a shell: 128+n when signal n ended it."""
    due: float = 0.0
    """When to restart it, on the monotonic clock; only meaningful while `pid` is None."""


@dataclass
class Supervisor:
    """Forks components into their machines and restarts those that end."""

    paths: LabPaths
    pidfds: dict[str, int]
    _children: list[_Child] = field(default_factory=list)
    _published: list[dict[str, Any]] | None = None

    def start(self, component: Component) -> None:
        """Start a component for the first time."""
        # Exclude what is loaded from garbage collection: children share these pages until one of them writes to them.
        gc.freeze()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        child = _Child(component, time.monotonic())
        self._children.append(child)
        self._fork(child)

    def run(self) -> None:
        """Restart what ends, forever."""
        self._publish()
        pace = logfiles.Pace(looked=time.monotonic(), free=0)
        while True:
            due = min((child.due for child in self._children if child.pid is None), default=math.inf)
            signal.sigtimedwait({signal.SIGCHLD}, min(max(0.0, due - time.monotonic()), logfiles.GLANCE))
            self._bound_logs(pace)
            self._reap()
            for child in self._children:
                if child.pid is None and child.due <= time.monotonic():
                    child.restarts += 1
                    self._fork(child)
            self._publish()

    def _reap(self) -> None:
        for pid, status in reaped():
            child = next((c for c in self._children if c.pid == pid), None)
            if child is None:
                continue
            now, name = time.monotonic(), child.component.name
            child.backoff = child.backoff.failed(now - child.started)
            child.pid, child.due = None, now + child.backoff.delay
            child.last_exit_code, _ = decode_status(status)
            log.warning("%s ended (%s); restarting it in %.1f s", name, child.last_exit_code, child.backoff.delay)

    def _fork(self, child: _Child) -> None:
        component = child.component
        pidfd = self.pidfds[component.machine]
        home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        # Joining a pid namespace affects only future children: this process stays where it is.
        syscalls.setns(pidfd, syscalls.CLONE_NEWPID)
        child.pid = os.fork()
        if child.pid == 0:
            self._become(component, pidfd)
        syscalls.setns(home, syscalls.CLONE_NEWPID)
        os.close(home)
        child.started = time.monotonic()

    def _become(self, component: Component, pidfd: int) -> NoReturn:
        status = 1
        try:
            syscalls.set_parent_death_signal(signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            syscalls.set_process_name(component.name)
            output = os.open(
                self.paths.logs / f"{component.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            os.dup2(output, 1)
            os.dup2(output, 2)
            syscalls.setns(pidfd, _JOINED)
            # Close the pidfds of all other machines too: otherwise every component would have one for each node.
            close_all_but()
            component.body()
            status = 0
        except KeyboardInterrupt:
            status = 130
        except BaseException as error:
            cause = innermost(error)
            if not isinstance(cause, NetlabError):
                traceback.print_exc()
            # The last line is what `netlab up` quotes.
            print(cause if isinstance(cause, NetlabError) else f"{type(cause).__name__}: {cause}", file=sys.stderr)
            status = getattr(cause, "exit_status", status)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _bound_logs(self, pace: logfiles.Pace) -> None:
        try:
            if pace.is_due(time.monotonic(), logfiles.free(self.paths.logs)):
                logfiles.bound(self.paths.logs)
        except OSError as error:
            log.warning("cannot shorten the logs: %s", error)

    def _publish(self) -> None:
        listed = [
            {
                "name": child.component.name,
                "machine": child.component.machine,
                "running": child.pid is not None,
                "restarts": child.restarts,
                "lastExitCode": child.last_exit_code,
            }
            for child in self._children
        ]
        if listed == self._published:
            return
        try:
            files.replace(self.paths.components, json.dumps(listed))
            self._published = listed
        except OSError as error:
            log.warning("cannot write the components' state: %s", error)


if __name__ == "__main__":
    main()
