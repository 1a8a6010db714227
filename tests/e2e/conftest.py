"""Labs brought up through the command line, in a home of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import netlab as package


class Netlab:
    """The `netlab` program with a NETLAB_HOME of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {"NETLAB_HOME": str(home)}

    def argv(self, *arguments: str) -> list[str]:
        """The command line of a call."""
        return [sys.executable, "-m", "netlab", *arguments]

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Call it; nothing is said about how it ends."""
        given: dict[str, Any] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            self.argv(*arguments),
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout,
            check=False,
            **given,
        )

    def ok(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Call it, and it succeeds; what it printed."""
        done = self.run(*arguments, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"netlab {' '.join(arguments)}: status {done.returncode}\n{done.stderr}"
        return done.stdout

    @staticmethod
    def had_begun(errors: str) -> bool:
        """Whether a call that was interrupted was netlab already: the interpreter's own start ends with a traceback."""
        return "Traceback" not in errors or f"{Path(package.__file__).parent}/" in errors

    def json(self, *arguments: str) -> Any:
        """Call it with -o json."""
        return json.loads(self.ok(*arguments, "-o", "json"))

    def fails(self, status: int, *arguments: str, stdin: str | None = None) -> str:
        """Call it, and it fails with this status and one line that is no traceback; the line."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == status, f"status {done.returncode}, not {status}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("netlab: ")]
        assert len(lines) == 1, done.stderr
        return lines[0]

    def wait_available(self, deployment: str, replicas: int, *options: str) -> None:
        """Wait until a Deployment has so many available pods."""
        eventually(
            lambda: (
                self.json("get", "deployment", deployment, *options).get("status", {}).get("availableReplicas")
                == replicas
            )
        )

    def processes(self) -> dict[int, str]:
        """The processes of labs in this home, by pid: those with its path on their command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if str(self.home) in line and int(entry.name) != os.getpid():
                    found[int(entry.name)] = line
        return found

    def until_ended(self) -> None:
        """Wait until no process of its labs is left; fail with those that stay."""
        try:
            eventually(lambda: self.processes() == {})
        except AssertionError:
            raise AssertionError(f"still there: {self.processes()}") from None

    def pid_of(self, module: str) -> int:
        """The process that was started as `python -m MODULE`; its forks have its command line too."""
        # Not the lowest number: they begin again after pid_max, which is 32768 on many machines.
        kin = {pid for pid, line in self.processes().items() if f"-m {module}" in line}
        (found,) = (pid for pid in kin if _parent(pid) not in kin)
        return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])


def eventually(holds: Callable[[], bool], seconds: float = 180) -> None:
    """Wait until it holds; fail when it does not within a time that no machine is too slow for."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def netlab() -> Iterator[Netlab]:
    """A netlab with a home of its own; whatever labs a test leaves are taken down, and nothing may be left."""
    # Not pytest's own temporary directory: its paths are too long for a Unix socket's.
    home = Path(tempfile.mkdtemp(prefix="netlab-"))
    program = Netlab(home)
    yield program
    program.ok("down", "--all")
    assert program.processes() == {}
    assert list(home.iterdir()) == []
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def lab(netlab: Netlab) -> Netlab:
    """A lab of two nodes, up, without the pod of cluster DNS: what is in it is the test's own."""
    netlab.ok("up", "--nodes", "2", "--no-dns")
    return netlab
