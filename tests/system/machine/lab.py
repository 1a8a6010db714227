"""A lab of two machines for tests: the first, and a node within it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from netlab.lab import ids
from netlab.machine import crilog, protocol
from netlab.machine.cgroups import labs
from netlab.machine.cgroups.labs import LabCgroup
from netlab.machine.cgroups.limits import Limits
from netlab.machine.client import Machine
from netlab.machine.join import join
from netlab.machine.protocol import ContainerSpec, ContainerStatus, RunningContainer

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[3]


class Node(Machine):
    """A machine whose containers are started and ended from a test that needs no event loop for it."""

    def create_sandbox(self, sandbox_id: str) -> str:
        path: str = self._call(protocol.SANDBOX_CREATE, {"id": sandbox_id})["path"]
        return path

    def remove_sandbox(self, sandbox_id: str) -> None:
        self._call(protocol.SANDBOX_REMOVE, {"id": sandbox_id})

    def run_container(self, spec: ContainerSpec) -> RunningContainer:
        return RunningContainer(**self._call(protocol.CONTAINER_RUN, spec.as_request()))

    def kill(self, container_id: str, signal: int) -> None:
        self._call(protocol.CONTAINER_KILL, {"id": container_id, "signal": int(signal)})

    def stop(self, container_id: str) -> None:
        self._call(protocol.CONTAINER_KILL, {"id": container_id})

    def remove(self, container_id: str) -> None:
        self._call(protocol.CONTAINER_REMOVE, {"id": container_id})


class Lab:
    """A running lab; everything of it is gone when the context ends."""

    def __init__(self, home: Path | None = None, limits: Limits | None = None) -> None:
        """`home` is where its directory is made. With limits for memory and processes, it has a cgroup."""
        self._home = home
        self._limits = [] if limits is None else [str(limits.memory), str(limits.pids)]

    def __enter__(self) -> Self:
        # Not pytest's tmp_path: a Unix socket's path has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="netlab-", dir=self._home))
        self._stderr = tempfile.TemporaryFile()
        self.monitor = subprocess.Popen(
            [sys.executable, "-m", "tests.system.machine.monitor", str(self.directory), *self._limits],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        assert self.monitor.stdout is not None
        self.pid, cgroups = json.loads(self.monitor.stdout.readline())
        self.cgroups = [LabCgroup(**each) for each in cgroups]
        self.fabric = Machine(self.directory / "fabric.sock")
        self.fabric.spawn_machine("node-1", self.directory / "node-1.sock", "node-1")
        self.node = Node(self.directory / "node-1.sock")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.fabric.close()
        self.node.close()
        self.monitor.kill()
        self.monitor.communicate()
        wait_until(lambda: not Path(f"/proc/{self.pid}").exists(), "the lab's pid 1 ends")
        sys.stderr.write(self.said())
        self._stderr.close()
        labs.remove([each.path for each in self.cgroups])
        shutil.rmtree(self.directory)
        ids.give_back(self.directory)

    def said(self) -> str:
        """What the monitor and its machines wrote to standard error."""
        # Not by the offset, which the writers share.
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), size, 0).decode(errors="replace")

    def spec(self, name: str, *command: str, **fields: Any) -> ContainerSpec:
        """A container that runs a command of the host, or an image that `fields` name."""
        values: dict[str, Any] = {"image": "host", "log": str(self.log(name)), "command": list(command)}
        return ContainerSpec(id=name, **{**values, **fields})

    def log(self, name: str) -> Path:
        """Where the output of a container goes."""
        return self.directory / "logs" / f"{name}.log"

    def printed(self, name: str) -> str:
        """What a container has written."""
        return crilog.text(self.log(name).read_bytes()).decode()

    def run(self, name: str, *command: str, **fields: Any) -> ContainerStatus:
        """Run a container of the node to its end."""
        self.node.run_container(self.spec(name, *command, **fields))
        return self.ended(name)

    def status(self, name: str) -> ContainerStatus:
        """The state of a container of the node."""
        return next(each for each in self.node.state().containers if each.id == name)

    def ended(self, name: str) -> ContainerStatus:
        """The state of a container of the node, once it has exited."""
        wait_until(lambda: not self.status(name).running, f"container {name} ends")
        return self.status(name)

    def on_node(self, *command: str) -> str:
        """The output of a command run in the node's namespaces."""
        return within(
            self.node.open(), lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )

    def on_fabric(self, *command: str) -> str:
        """The output of a command run in the first machine's namespaces."""
        return within(
            self.fabric.open(), lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )

    def descendants(self) -> set[int]:
        """Every process of the lab."""
        found, todo = set(), [self.pid]
        while todo:
            pid = todo.pop()
            found.add(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo.extend(int(child) for child in (task / "children").read_text().split())
        return found


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what must happen; the limit is for a test that fails."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"did not happen: {what}")


def within(pidfd: int, action: Callable[[], T]) -> T:
    """The result of `action` in the namespaces behind `pidfd`, which is closed."""

    def enter_and_act() -> T:
        join(pidfd)
        return forked(action)

    try:
        return forked(enter_and_act)
    finally:
        os.close(pidfd)


def forked(action: Callable[[], T]) -> T:
    """The result of `action` in a child process."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outcome: tuple[bool, Any] = (True, action())
        except BaseException as error:
            outcome = (False, error if type(error).__module__.startswith("netlab") else traceback.format_exc())
        with os.fdopen(write_end, "wb") as pipe:
            pickle.dump(outcome, pipe)
        sys.stdout.flush()
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        succeeded, result = pickle.load(pipe)
    os.waitpid(child, 0)
    if succeeded:
        value: T = result
        return value
    raise result if isinstance(result, BaseException) else AssertionError(result)


def environment(text: str) -> Mapping[str, str]:
    """What env(1) printed."""
    return dict(line.split("=", 1) for line in text.splitlines())
