"""A lab as the command line sees it: bring it up, look at it, take it down."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from netlab import files
from netlab.api.blocking import BlockingClient
from netlab.api.resources import NODES, PODS
from netlab.errors import (
    ConflictError,
    ExhaustedError,
    NetlabError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from netlab.lab import ids, limits, process, readiness, startup
from netlab.lab.paths import FABRIC, LabPaths, home, require_home
from netlab.lab.spec import LabSpec
from netlab.machine.client import Machine

_MONITORS_ENVIRONMENT = ("PATH", "LANG", "NETLAB_HOME")
_GRACE = 10.0
_POLL = 0.01
_SYNC = 1.0
"""Seconds for the nodes to catch up before they are reported as lagging; it takes milliseconds."""


@dataclasses.dataclass(frozen=True)
class Lab:
    """One lab of this user, by name; it need not exist."""

    paths: LabPaths

    @classmethod
    def of(cls, name: str) -> Lab:
        """The lab of that name. Raises `UsageError` for a name that cannot be one."""
        return cls(LabPaths.of(name))

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.paths.name

    def exists(self) -> bool:
        """Whether anything of this lab exists, up or not."""
        try:
            return self.paths.directory.is_dir()
        except OSError as error:
            raise startup.explained(error, self.paths.directory) from error

    def is_up(self) -> bool:
        """Whether the lab's processes are alive: whether its lock is held."""
        try:
            descriptor = os.open(self.paths.lock, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise startup.explained(error, self.paths.directory) from error
        with os.fdopen(descriptor, "rb"):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def spec(self) -> LabSpec:
        """The lab's specification."""
        return self.paths.read_spec()

    def client(self) -> BlockingClient:
        """A client of the lab's API. Raises `NotFoundError` or `UnavailableError` when the lab is not up."""
        self.require_up()
        return BlockingClient(self.paths.api_socket)

    def machine(self, name: str) -> Machine:
        """A connection to one of the lab's machines. Raises `NotFoundError` or `UnavailableError`."""
        self.require_up()
        if not self.paths.machine_socket(name).exists():
            known = sorted(path.stem for path in self.paths.machine_socket(FABRIC).parent.glob("*.sock"))
            raise NotFoundError(f"lab {self.name} has no machine {name!r}; it has {', '.join(known)}")
        return Machine(self.paths.machine_socket(name))

    def require_up(self) -> None:
        """Raise `NotFoundError` if the lab does not exist, `UnavailableError` if its processes have ended."""
        if not self.exists():
            others = ", ".join(lab.name for lab in all_labs())
            raise NotFoundError(
                f"there is no lab {self.name!r}{f' (there is {others})' if others else ''}; `netlab up` starts one"
            )
        if not self.is_up():
            raise UnavailableError(
                f"lab {self.name} is down: its processes have ended; "
                "`netlab up` starts it again with its objects, `netlab down` removes it"
            )

    def up(self, spec: LabSpec | None, progress: Callable[[str], None], *, privileged: bool | None = None) -> LabSpec:
        """Bring the lab up and wait until all nodes are Ready. Returns its specification.

        A lab whose processes have ended is restarted from its stored objects; with `spec` None it has the stored
        specification, or the defaults. A start that fails, or is interrupted, leaves what was there before: nothing, or
        a lab that is down. With `privileged`, root's lab runs without a user namespace, as root of this host; None
        keeps the lab's setting.

        Raises `ConflictError` when it is up already or has another specification, `UnsupportedError` when the machine
        lacks something, `ExhaustedError` when the disk is full, `TimedOutError` when nodes do not become Ready.
        """
        if privileged and os.geteuid() != 0:
            raise UsageError("--privileged: a lab without a user namespace is for root; leave it out, or be root")
        fresh = self._prepare(spec)
        try:
            if privileged:
                self.paths.privileged.touch(mode=0o600)
            elif privileged is False:
                self.paths.privileged.unlink(missing_ok=True)
            progress("starting machines")
            self._start_monitor()
            wanted = self.spec()
            readiness.wait_ready(self.paths, wanted, progress, self.is_up)
        except BaseException as error:
            with contextlib.suppress(NetlabError):
                if fresh:
                    self.down()
                else:
                    self._end()
            if isinstance(error, OSError):
                raise startup.explained(error, self.paths.directory) from error
            raise
        return wanted

    def _prepare(self, spec: LabSpec | None) -> bool:
        """Create the lab's files, unless it exists. Returns whether it is new."""
        if self.is_up():
            raise ConflictError(f"lab {self.name} is up already: take another --name, or `netlab down` first")
        ids.require_intact(self.paths.directory)
        try:
            if self.paths.spec.exists():
                if spec is not None and spec != self.spec():
                    raise ConflictError(
                        f"lab {self.name} is down and has other options: `netlab up` without options starts it again "
                        "with its objects, `netlab down` removes it"
                    )
                limits.require(self.spec().nodes)
                startup.require_room(self.paths.directory, self.spec().nodes)
                return False
            self._require_own()
        except OSError as error:
            raise startup.explained(error, self.paths.directory) from error
        wanted = spec or LabSpec()
        limits.require(wanted.nodes)
        try:
            self.paths.make(wanted.node_names)
            startup.require_room(self.paths.directory, wanted.nodes)
            files.replace(self.paths.spec, msgspec.json.encode(wanted).decode())
        except (OSError, ExhaustedError) as error:
            shutil.rmtree(self.paths.directory, ignore_errors=True)
            if isinstance(error, OSError):
                raise startup.explained(error, self.paths.directory) from error
            raise
        return True

    def _require_own(self) -> None:
        """Raise `UsageError` if the directory exists and is not a lab: netlab must not remove it."""
        if os.path.lexists(self.paths.directory) and not self.paths.is_labs():
            raise UsageError(
                f"{self.paths.directory} exists but is not a lab, and is left alone; use another --name, or set "
                "NETLAB_HOME to a directory of netlab's own"
            )

    def _start_monitor(self) -> None:
        read_end, write_end = os.pipe()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(self.paths.logs / "monitor.log", flags, 0o600)
        try:
            monitor = subprocess.Popen(
                [sys.executable, "-m", "netlab.lab.monitor", str(self.paths.directory), str(write_end)],
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
            reason = startup.last_words(self.paths, "monitor") or "it left no message"
            raise UnavailableError(f"lab {self.name}: its monitor died at the start: {reason}")
        failure = json.loads(answer)
        error = NetlabError(failure["error"])
        error.exit_status = failure["exit_status"]
        raise error

    def down(self) -> bool:
        """Take the lab down: no process, namespace, mount or file of it remains. Returns whether there was anything.

        Raises `NetlabError` naming what cannot be ended or removed, and `UsageError` if the directory is not a lab.
        """
        if not self.exists():
            return False
        try:
            self._require_own()
        except OSError as error:
            raise startup.explained(error, self.paths.directory) from error
        self._end()
        shutil.rmtree(self.paths.directory, onerror=_raise_unless_gone)
        ids.give_back(self.paths.directory)
        if "NETLAB_HOME" not in os.environ:
            # The default home belongs to netlab; one that the user chose belongs to the user.
            with contextlib.suppress(OSError):
                home().rmdir()
        return True

    def _end(self) -> None:
        """End the lab's processes; its files stay."""
        deadline = time.monotonic() + _GRACE
        self._end_recorded()
        while self.is_up():
            # The monitor has just started, and will record its pid at any moment, or fail.
            self._end_recorded()
            if time.monotonic() > deadline:
                raise NetlabError(
                    f"lab {self.name}: its lock {self.paths.lock} is still held; `fuser` shows by which process"
                )
            time.sleep(_POLL)

    def _end_recorded(self) -> None:
        """End the monitor and the machine, which dies with the monitor, and wait for both."""
        machine = process.open_recorded(self.paths.machine_pid)
        monitor = process.open_recorded(self.paths.monitor_pid)
        for pidfd in (monitor, machine):
            if pidfd is not None:
                with contextlib.closing(os.fdopen(pidfd, "rb")):
                    process.end(pidfd, _GRACE)

    def wait_synced(self, timeout: float = 60.0) -> int:
        """Wait until everything so far is in force on all nodes. Returns the API's revision in force.

        This includes what controllers do as a result (a Deployment's pods, a Service's EndpointSlices). Raises
        `TimedOutError` naming the nodes and components that lag after `timeout` seconds, and how far they are.
        """
        from netlab.lab import barrier

        return barrier.wait(self, timeout)

    def status(self) -> dict[str, Any]:
        """The lab's state as plain values: what it is, its machines, components, nodes and pods."""
        spec = self.spec()
        up = self.is_up()
        found: dict[str, Any] = {
            "name": self.name,
            "state": "up" if up else "down",
            "directory": str(self.paths.directory),
            "network": spec.network,
            "proxy": spec.proxy,
            "families": list(spec.families),
            "mtu": spec.pod_mtu,
            "podCIDRs": spec.podCIDRs,
            "serviceCIDRs": spec.serviceCIDRs,
            "outside": spec.outside_addresses,
            "revision": None,
            "lagging": [],
            "components": [],
            "nodes": [],
        }
        if up:
            found["components"] = self._component_status()
            found["nodes"] = self._node_status()
            self._add_progress(found)
        return found

    def _add_progress(self, found: dict[str, Any]) -> None:
        """Add the API's revision that each node has put in force, and what lags."""
        from netlab.lab import barrier, revisions

        outcome = barrier.look(self, _SYNC)
        found["revision"] = outcome.revision
        found["lagging"] = [lag._asdict() for lag in outcome.lags]
        behind = {lag.node for lag in outcome.lags}
        for node in found["nodes"]:
            name = node["name"]
            node["synced"] = name not in behind
            node["revisions"] = {
                "kubeProxy": outcome.standings.get(revisions.kube_proxy(name), revisions.Standing()).revision,
                "podNetwork": outcome.standings.get(revisions.network_agent(name), revisions.Standing()).revision,
            }

    def _component_status(self) -> list[dict[str, Any]]:
        with self.machine(FABRIC) as fabric:
            services = fabric.services()
        listed = [
            {"name": s.name, "machine": FABRIC, "running": s.pid is not None, "restarts": s.restarts} for s in services
        ]
        listed += startup.component_states(self.paths)
        return listed

    def _node_status(self) -> list[dict[str, Any]]:
        client = self.client()
        pods = client.request("GET", PODS.path())["items"]
        boot_id = self.paths.boot_id.read_text(encoding="ascii")
        return [
            {
                "name": node["metadata"]["name"],
                "ready": readiness.is_ready(node, boot_id),
                "addresses": [a["address"] for a in node["status"].get("addresses", []) if a["type"] == "InternalIP"],
                "podCIDRs": node["spec"].get("podCIDRs", []),
                "pods": sum(pod["spec"].get("nodeName") == node["metadata"]["name"] for pod in pods),
            }
            for node in client.request("GET", NODES.path())["items"]
        ]


def all_labs() -> list[Lab]:
    """Every lab of this user, up or not, by name. Raises what `require_home` raises."""
    try:
        folders = sorted(require_home().iterdir())
    except OSError:
        return []
    # A dangling link is a damaged lab; a folder without access is another user's lab.
    return [lab for lab in map(Lab, map(LabPaths, folders)) if os.path.lexists(lab.paths.spec)]


def _raise_unless_gone(_function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    # A process that is ending may have removed its own file.
    if not isinstance(info[1], FileNotFoundError):
        raise NetlabError(f"{path}: cannot be removed: {getattr(info[1], 'strerror', info[1])}") from info[1]
