"""A lab as the command line sees it: brought up, looked at, taken down."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from netlab import files
from netlab.api.blocking import BlockingClient
from netlab.api.core_types import NETWORK_UNAVAILABLE
from netlab.api.errors import ApiUnavailableError
from netlab.api.resources import NODES, PODS
from netlab.errors import (
    ConflictError,
    ExhaustedError,
    NetlabError,
    NotFoundError,
    TimedOutError,
    UnavailableError,
    UnsupportedError,
)
from netlab.lab import process
from netlab.lab.paths import FABRIC, LabPaths, home
from netlab.lab.spec import LabSpec
from netlab.machine.client import Machine

UP_TIMEOUT = 60.0
"""Seconds for all nodes to become Ready; it takes about one."""

_GRACE = 10.0
_POLL = 0.01
_LOOK = 1.0
"""Seconds without news of nodes until it is looked whether something has failed."""


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
        """Whether there is anything of this lab, up or not."""
        return self.paths.directory.is_dir()

    def is_up(self) -> bool:
        """Whether the lab's processes live: whether its lock is held."""
        try:
            descriptor = os.open(self.paths.lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        with os.fdopen(descriptor, "rb"):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def spec(self) -> LabSpec:
        """What the lab was asked to be."""
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
            raise NotFoundError(f"lab {self.name} has no machine {name!r}: it has {', '.join(known)}")
        return Machine(self.paths.machine_socket(name))

    def require_up(self) -> None:
        """Raise `NotFoundError` for a lab that is not there, `UnavailableError` for one whose processes are gone."""
        if not self.exists():
            others = ", ".join(lab.name for lab in all_labs())
            raise NotFoundError(
                f"there is no lab {self.name!r}{f' (there is {others})' if others else ''}: `netlab up` makes one"
            )
        if not self.is_up():
            raise UnavailableError(
                f"lab {self.name} is down: its processes have ended; "
                "`netlab up` starts it again with its objects, `netlab down` removes it"
            )

    def up(self, spec: LabSpec | None, progress: Callable[[str], None]) -> LabSpec:
        """Bring the lab up and wait until all nodes are Ready; what it is made of comes back.

        A lab whose processes have ended is started again from its stored objects; `spec` None takes what is stored,
        or the defaults. A first start that fails, or is interrupted, leaves nothing behind.

        Raises `ConflictError` when it is up already or was another lab before, `UnsupportedError` when the machine
        lacks something, `ExhaustedError` when the disk is full, `TimedOutError` when nodes do not become Ready.
        """
        fresh = self._prepare(spec)
        try:
            progress("starting machines")
            self._start_monitor()
            wanted = self.spec()
            self._wait_ready(wanted, progress)
        except BaseException as error:
            if fresh:
                with contextlib.suppress(NetlabError):
                    self.down()
            if isinstance(error, OSError):
                raise _named(error, self.paths.directory) from error
            raise
        return wanted

    def _prepare(self, spec: LabSpec | None) -> bool:
        """Write the lab down; whether it is a new one."""
        if self.is_up():
            raise ConflictError(f"lab {self.name} is up already: take another --name, or `netlab down` first")
        try:
            if self.paths.spec.exists():
                if spec is not None and spec != self.spec():
                    raise ConflictError(
                        f"lab {self.name} is down but was made otherwise: `netlab up` without options starts it again "
                        "with its objects, `netlab down` removes it"
                    )
                return False
            wanted = spec or LabSpec()
            self.paths.make(wanted.node_names)
            files.replace(self.paths.spec, msgspec.json.encode(wanted).decode())
        except OSError as error:
            shutil.rmtree(self.paths.directory, ignore_errors=True)
            raise _named(error, self.paths.directory) from error
        return True

    def _start_monitor(self) -> None:
        read_end, write_end = os.pipe()
        log = os.open(self.paths.logs / "monitor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            monitor = subprocess.Popen(
                [sys.executable, "-m", "netlab.lab.monitor", str(self.paths.directory), str(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write_end],
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(write_end)
            os.close(log)
        try:
            with os.fdopen(read_end, "rb") as ready:
                answer = ready.read()
        except BaseException:
            # It may not have told anybody its pid yet: only we know of it. It ends with all that it has started.
            monitor.terminate()
            monitor.wait()
            raise
        if answer == process.READY:
            return
        if not answer:
            raise UnavailableError(f"lab {self.name}: its monitor died at the start: {self._last_words('monitor')}")
        failure = json.loads(answer)
        error = NetlabError(failure["error"])
        error.exit_status = failure["exit_status"]
        raise error

    def _wait_ready(self, spec: LabSpec, progress: Callable[[str], None]) -> None:
        deadline = time.monotonic() + UP_TIMEOUT
        boot_id = self.paths.boot_id.read_text(encoding="ascii")
        ready: set[str] = set()
        while time.monotonic() < deadline:
            if not self.is_up():
                raise UnavailableError(f"lab {self.name}: ended while it started: {self._last_words('daemon')}")
            try:
                for node in self._nodes():
                    _raise_unsupported_network(node)
                    (ready.add if _is_ready(node, boot_id) else ready.discard)(node["metadata"]["name"])
                    progress(f"{len(ready)} of {spec.nodes} nodes ready")
                    if len(ready) == spec.nodes:
                        return
            except ApiUnavailableError:
                time.sleep(_POLL)
            except TimeoutError:
                self._raise_failed_daemon()
        raise TimedOutError(
            f"lab {self.name}: {len(ready)} of {spec.nodes} nodes ready after {UP_TIMEOUT:.0f} s: "
            f"{self._last_words('daemon')}; see {self.paths.logs}"
        )

    def _nodes(self) -> Iterator[dict[str, Any]]:
        client = BlockingClient(self.paths.api_socket)
        listed = client.request("GET", NODES.path())
        yield from listed["items"]
        params = {"resourceVersion": listed["metadata"]["resourceVersion"]}
        for event in client.watch(NODES.path(), params=params, idle_timeout=_LOOK):
            if event["type"] != "BOOKMARK":
                yield event["object"]

    def _raise_failed_daemon(self) -> None:
        """Raise what ended the daemon, if anything has: it is started again and again, but nothing will change."""
        with self.machine(FABRIC) as fabric:
            daemon = next((s for s in fabric.services() if s.name == "daemon"), None)
        if daemon is not None and daemon.restarts and daemon.last_exit_code:
            failure = NetlabError(f"lab {self.name}: its daemon failed: {self._last_words('daemon')}")
            failure.exit_status = max(daemon.last_exit_code, NetlabError.exit_status)
            raise failure

    def _last_words(self, component: str) -> str:
        try:
            lines = (self.paths.logs / f"{component}.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else f"its {component} said nothing"

    def down(self) -> bool:
        """Take the lab down: no process, namespace, mount or file of it is left. Whether there was anything.

        Raises `NetlabError` when something cannot be ended or removed, naming it.
        """
        if not self.exists():
            return False
        deadline = time.monotonic() + _GRACE
        self._end_recorded()
        while self.is_up():
            # Between the monitor's first breath and its pid on disk: it is there any moment, or fails.
            self._end_recorded()
            if time.monotonic() > deadline:
                raise NetlabError(f"lab {self.name}: its lock {self.paths.lock} is still held; by whom tells `fuser`")
            time.sleep(_POLL)
        shutil.rmtree(self.paths.directory, onerror=_raise_unless_gone)
        if "NETLAB_HOME" not in os.environ:
            # The default home is netlab's own; one that the user chose is the user's.
            with contextlib.suppress(OSError):
                home().rmdir()
        return True

    def _end_recorded(self) -> None:
        """End the monitor, and wait for the machine, which dies with it whatever became of the monitor."""
        machine = process.open_recorded(self.paths.machine_pid)
        monitor = process.open_recorded(self.paths.monitor_pid)
        for pidfd in (monitor, machine):
            if pidfd is not None:
                with contextlib.closing(os.fdopen(pidfd, "rb")):
                    process.end(pidfd, _GRACE)

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
            "components": [],
            "nodes": [],
        }
        if up:
            found["components"] = self._component_status()
            found["nodes"] = self._node_status()
        return found

    def _component_status(self) -> list[dict[str, Any]]:
        with self.machine(FABRIC) as fabric:
            services = fabric.services()
        listed = [
            {"name": s.name, "machine": FABRIC, "running": s.pid is not None, "restarts": s.restarts} for s in services
        ]
        with contextlib.suppress(OSError, ValueError):
            listed += json.loads(self.paths.components.read_text(encoding="utf-8"))
        return listed

    def _node_status(self) -> list[dict[str, Any]]:
        client = self.client()
        pods = client.request("GET", PODS.path())["items"]
        boot_id = self.paths.boot_id.read_text(encoding="ascii")
        return [
            {
                "name": node["metadata"]["name"],
                "ready": _is_ready(node, boot_id),
                "addresses": [a["address"] for a in node["status"].get("addresses", []) if a["type"] == "InternalIP"],
                "podCIDRs": node["spec"].get("podCIDRs", []),
                "pods": sum(pod["spec"].get("nodeName") == node["metadata"]["name"] for pod in pods),
            }
            for node in client.request("GET", NODES.path())["items"]
        ]


def all_labs() -> list[Lab]:
    """Every lab of this user, up or not, by name."""
    try:
        return [Lab(LabPaths(path)) for path in sorted(home().iterdir()) if (path / "lab.json").exists()]
    except OSError:
        return []


def _is_ready(node: dict[str, Any], boot_id: str) -> bool:
    """Whether a node is Ready in this boot of the lab: the stored objects of a lab that ended still say so too."""
    status = node.get("status", {})
    if status.get("nodeInfo", {}).get("bootID") != boot_id:
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))


def _raise_unsupported_network(node: dict[str, Any]) -> None:
    """Raise what keeps a node from having a pod network, if it is a lack of the machine's: waiting would not help."""
    for condition in node.get("status", {}).get("conditions", []):
        lacking = condition.get("reason") == UnsupportedError.__name__
        if lacking and (condition["type"], condition["status"]) == (NETWORK_UNAVAILABLE, "True"):
            raise UnsupportedError(f"{node['metadata']['name']}: {condition['message']}")


def _named(error: OSError, directory: Path) -> NetlabError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ExhaustedError(f"{directory}: no space is left: free some, or set NETLAB_HOME to another file system")
    return NetlabError(f"{error.filename or directory}: {error.strerror}")


def _raise_unless_gone(_function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    # A process that is just ending may remove its own file meanwhile.
    if not isinstance(info[1], FileNotFoundError):
        raise NetlabError(f"{path}: cannot be removed: {getattr(info[1], 'strerror', info[1])}") from info[1]
